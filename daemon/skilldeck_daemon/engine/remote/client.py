"""The connections to another model server: no proxy of this machine's settings, noticed when its machine is gone."""

from __future__ import annotations

import socket

import httpx

from skilldeck_shared.coding import ACCEPTED

KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
"""A machine that vanished is noticed after 35 seconds of silence; one that is only slow answers the probes."""


def connection(api_key: str | None, connect_s: float, idle_s: float) -> httpx.AsyncClient:
    """A client for one server; `idle_s`: seconds of silence after which an answer is given up."""
    return httpx.AsyncClient(
        headers={"accept-encoding": ACCEPTED} | ({"authorization": f"Bearer {api_key}"} if api_key else {}),
        timeout=httpx.Timeout(idle_s, connect=connect_s),
        transport=httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            trust_env=False,
            socket_options=KEEP_ALIVE,
        ),
        trust_env=False,
    )

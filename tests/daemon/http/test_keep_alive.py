"""Connections that clients keep for their next request."""

from __future__ import annotations

import asyncio
import socket

import httpx

from skilldeck_daemon.app import _listen
from support.daemon import running


async def test_the_server_keeps_an_idle_connection_for_longer_than_its_clients_do() -> None:
    async with running() as daemon:
        kept = daemon.daemon._uvicorn().timeout_keep_alive
        client = httpx.Limits().keepalive_expiry
        assert client is not None
        assert kept > 2 * client


async def test_small_pieces_leave_at_once_whichever_loop_serves() -> None:
    """Held back, the body of an answer waits 40 ms for the client to acknowledge its head."""
    connected = asyncio.get_running_loop().create_future()
    listener = _listen("127.0.0.1", 0)
    server = await asyncio.start_server(lambda _, writer: connected.set_result(writer), sock=listener)
    async with server:
        _, client = await asyncio.open_connection(*listener.getsockname())
        served = await connected
        assert served.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        served.close()
        client.close()

"""Connections that clients keep for their next request."""

from __future__ import annotations

import httpx

from support.daemon import running


async def test_the_server_keeps_an_idle_connection_for_longer_than_its_clients_do() -> None:
    async with running() as daemon:
        kept = daemon.daemon._uvicorn().timeout_keep_alive
        client = httpx.Limits().keepalive_expiry
        assert client is not None
        assert kept > 2 * client

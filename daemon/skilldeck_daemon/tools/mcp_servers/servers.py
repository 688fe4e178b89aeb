"""Who connects to which MCP server: the operator's share one lasting connection each, a request's own last one run.

A shared server is started at its first use and again when it has died. Only the settings name programs; a request
names URLs, and those lead to public addresses unless the operator excepts a host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from pydantic import SecretStr

from skilldeck_daemon.settings import McpServer
from skilldeck_daemon.tools.mcp_servers.connection import McpConnection
from skilldeck_shared.errors import Unavailable

CLOSE_SECONDS = 10.0


class McpServers:
    """The connections of one daemon. `close` it when no run is left."""

    def __init__(self, configured: Mapping[str, McpServer], exceptions: Collection[str] = ()) -> None:
        self._configured = configured
        self._exceptions = exceptions
        self._shared: dict[str, McpConnection] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def labels(self) -> list[str]:
        """The operator's servers."""
        return sorted(self._configured)

    async def shared(self, label: str) -> McpConnection:
        """The connection to a server of the operator's. Raises McpFailed."""
        async with self._locks.setdefault(label, asyncio.Lock()):
            connection = self._shared.get(label)
            if connection is None or not connection.alive:
                server = self._configured[label]
                connection = await self._open(label, server, _own_host(server.url))
                self._shared[label] = connection
            return connection

    async def dial(self, label: str, url: str, headers: Mapping[str, str]) -> McpConnection:
        """A new connection for one run, which stops it. Raises McpFailed."""
        server = McpServer(url=url, headers={name: SecretStr(value) for name, value in headers.items()})
        return await self._open(label, server, set())

    async def _open(self, label: str, server: McpServer, own: Collection[str]) -> McpConnection:
        if self._closed:
            raise Unavailable("The daemon is shutting down.", "Try again when it is back.")
        connection = McpConnection(label, server, {*self._exceptions, *own})
        self._tasks.add(connection.task)
        connection.task.add_done_callback(self._tasks.discard)
        await connection.open()
        return connection

    async def close(self) -> None:
        """End every connection, and with it the programs that were started."""
        self._closed = True
        for connection in self._shared.values():
            connection.stop()
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _own_host(url: str) -> set[str]:
    """The operator named this host, so it may be private."""
    if not url:
        return set()
    parts = urlsplit(url)
    return {f"{(parts.hostname or '').lower()}:{parts.port or (443 if parts.scheme == 'https' else 80)}"}

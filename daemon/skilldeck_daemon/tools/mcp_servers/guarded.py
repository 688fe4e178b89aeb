"""The HTTP client of MCP connections: the address guard of `attachments/fetch.py` under the `mcp` package's client.

Names are resolved once and the connection goes to the checked address; redirects leave no origin (the package sees to
that); an answer that never ends is cut. The proxy variables of the environment are not heeded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import Any

import httpcore2
import httpx2

from skilldeck_daemon.attachments.fetch import checked_address
from skilldeck_daemon.tools.mcp_servers.whole import WholeBody

ANSWER_BYTES = 32 * 1024 * 1024
"""Of one HTTP answer, an event stream included."""


class _Backend(httpcore2.AsyncNetworkBackend):
    def __init__(self, exceptions: Collection[str]) -> None:
        self._exceptions = exceptions
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        address = await checked_address(host, port, self._exceptions, timeout)
        return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Body(httpx2.AsyncByteStream):
    """A body of bounded length; `plain` when it is not compressed, then its characters are made whole."""

    def __init__(self, inner: httpx2.AsyncByteStream, plain: bool) -> None:
        self._inner = inner
        self._plain = plain

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        whole = WholeBody()
        async for chunk in self._inner:
            size += len(chunk)
            if size > ANSWER_BYTES:
                raise httpx2.ReadError(f"The answer is larger than {ANSWER_BYTES // 1024 // 1024} MiB.")
            yield whole.feed(chunk) if self._plain else chunk
        if rest := whole.flush():
            yield rest

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Transport(httpx2.AsyncHTTPTransport):
    """httpx2 over a pool whose connections the guard opens; httpx2 has no public argument for the backend."""

    def __init__(self, exceptions: Collection[str]) -> None:
        super().__init__(trust_env=False)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=httpx2.create_ssl_context(trust_env=False),
            max_connections=8,
            network_backend=_Backend(exceptions),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Body(response.stream, plain="content-encoding" not in response.headers)
        return response


def client(
    headers: Mapping[str, str], exceptions: Collection[str], timeout: float, on_status: Callable[[int], None]
) -> httpx2.AsyncClient:
    """The client of one connection; `on_status` is told the status of every answer to a message."""

    async def note(response: httpx2.Response) -> None:
        if response.request.method == "POST":  # the others are the package's own, and may be refused
            on_status(response.status_code)

    return httpx2.AsyncClient(
        transport=_Transport(exceptions),
        headers=dict(headers),
        timeout=httpx2.Timeout(timeout),
        trust_env=False,
        event_hooks={"response": [note]},
    )

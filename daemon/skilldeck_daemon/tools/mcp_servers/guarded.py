"""The HTTP client of MCP connections: the address guard of `attachments/fetch.py` under the `mcp` package's client.

Names are resolved once and the connection goes to the checked address; redirects leave no origin (the package sees to
that); an answer that never ends is cut, messages come whole. The proxy variables of the
environment are not heeded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping

import httpx2

from skilldeck_daemon.attachments.fetch import addressed
from skilldeck_daemon.tools.mcp_servers.messages import Messages

ANSWER_BYTES = 32 * 1024 * 1024
"""Of one HTTP answer, an event stream included."""


class _Body(httpx2.AsyncByteStream):
    """A body of bounded length, in whole messages."""

    def __init__(self, inner: httpx2.AsyncByteStream, events: bool) -> None:
        self._inner = inner
        self._messages = Messages("event" if events else "body")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._inner:
            size += len(chunk)
            if size > ANSWER_BYTES:
                raise httpx2.ReadError(f"The answer is larger than {ANSWER_BYTES // 1024 // 1024} MiB.")
            yield self._messages.feed(chunk)
        if rest := self._messages.flush():
            yield rest

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Transport(httpx2.AsyncHTTPTransport):
    """httpx2 to checked addresses; all connections are to one host, so they are kept."""

    def __init__(self, exceptions: Collection[str]) -> None:
        super().__init__(trust_env=False, limits=httpx2.Limits(max_connections=8))
        self._exceptions = exceptions

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(await addressed(request, self._exceptions))
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.stream.aclose()
            raise httpx2.ReadError("It sent a compressed body, which it was not asked for.")
        kind = response.headers.get("content-type", "").lower()
        response.stream = _Body(response.stream, events=kind.startswith("text/event-stream"))
        return response


def client(
    headers: Mapping[str, str], exceptions: Collection[str], timeout: float, on_status: Callable[[int], None]
) -> httpx2.AsyncClient:
    """The client of one connection; `on_status` is given the status of every answer to a message."""

    async def note(response: httpx2.Response) -> None:
        if response.request.method == "POST":  # the others are the package's own, and may be refused
            on_status(response.status_code)

    return httpx2.AsyncClient(
        transport=_Transport(exceptions),
        headers={**headers, "accept-encoding": "identity"},
        timeout=httpx2.Timeout(timeout),
        trust_env=False,
        event_hooks={"response": [note]},
    )

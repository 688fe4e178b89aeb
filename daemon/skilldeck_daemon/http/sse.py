"""Server-sent events: one `event:`/`data:` pair an event, `data: [DONE]` at the end.

A comment goes out every 15 seconds of silence, or the last event again (`again`), so that proxies and programs keep a
stream open while a long prompt is read. A client that leaves is noticed at once, not at the next event; `gone` is then
called. So it is for a client that takes nothing for a minute: a lost one must not keep a model busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skilldeck_daemon.http.deps import disconnected

KEEP_ALIVE_S = 15.0
STALL_S = 60.0
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


def encode(event: Mapping[str, Any], named: bool = True) -> bytes:
    """One event as it goes over the wire; `named` adds the `event:` line (Responses do, Chat Completions do not)."""
    try:
        data = to_json(event)  # 3 µs where the standard library takes 19
    except ValueError:  # half a surrogate pair has no UTF-8
        data = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    if named:
        return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), data)
    return b"data: %b\n\n" % data


DONE = b"data: [DONE]\n\n"


class EventStream(Response):
    """A streamed answer. `gone` is called once when the client leaves before the end.

    `ending` is written last, `alive` in every silence. Where the last event is of a type in `again`, the silence is
    filled with that event once more, its number included: for clients that hear no comment. Codex gives a stream up
    when no event comes for five minutes, in which a small machine does not read the whole of its first prompt.
    """

    def __init__(
        self,
        events: AsyncIterator[Mapping[str, Any]],
        *,
        gone: Callable[[], None] | None = None,
        named: bool = True,
        ending: bytes = DONE,
        alive: bytes = b": keep-alive\n\n",
        again: Collection[str] = (),
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._events = events
        self._gone = gone
        self._named = named
        self._ending = ending
        self._alive = self._comment = alive
        self._again = again
        self._written = time.monotonic()  # when something was last begun to be written
        self._writing = False  # and whether the client has yet to make room for it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        pump = asyncio.ensure_future(self._pump(send))
        left = asyncio.ensure_future(disconnected(receive))
        stalled = asyncio.ensure_future(self._attend(send))
        try:
            await asyncio.wait({pump, left, stalled}, return_when=asyncio.FIRST_COMPLETED)
            if not pump.done() or pump.cancelled() or isinstance(pump.exception(), OSError):
                if self._gone is not None:
                    self._gone()
            else:
                pump.result()
        finally:
            for task in (pump, left, stalled):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _pump(self, send: Send) -> None:
        clock = time.monotonic
        async for event in self._events:
            data = encode(event, self._named)
            self._alive = data if event.get("type") in self._again else self._comment
            self._written = clock()
            self._writing = True
            await send({"type": "http.response.body", "body": data, "more_body": True})
            self._writing = False
        self._writing, self._written = True, clock()
        await send({"type": "http.response.body", "body": self._ending, "more_body": False})

    async def _attend(self, send: Send) -> None:
        """Fill the silences; returns when the client has taken nothing for STALL_S.

        One for the whole stream: a timeout around each event costs 7 µs, as much as writing it.
        """
        while True:
            due = self._written + (STALL_S if self._writing else KEEP_ALIVE_S)
            left = due - time.monotonic()
            if left > 0:
                await asyncio.sleep(min(left, KEEP_ALIVE_S, STALL_S))
                continue
            if self._writing:
                return
            self._written = time.monotonic()
            # Needs no lock: each message is written whole, between two events or before the end.
            try:
                async with asyncio.timeout(STALL_S):
                    await send({"type": "http.response.body", "body": self._alive, "more_body": True})
            except TimeoutError:
                return
            except OSError:  # the next event will notice the same
                pass

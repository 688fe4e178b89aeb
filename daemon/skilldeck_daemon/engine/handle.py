"""The stream of one request's events, written by a worker thread and read by the event loop.

A `Mailbox` collects what one step of the engine produced and hands it over with one wake-up of each loop, not one per
token: at 700 tokens/s on a small machine the wake-ups cost more than the sampling.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from skilldeck_daemon.engine.base import Event, Finished, Tokens
from skilldeck_shared.neighbours import Neighbours


class Handle:
    """Iterate it once; it ends after `Finished`. Events after `Finished` are dropped.

    Tokens that come before the earlier ones are read join them.
    """

    def __init__(self, request_id: str, loop: asyncio.AbstractEventLoop) -> None:
        self.id = request_id
        self.loop = loop
        self._events: Neighbours[Event] = Neighbours(_kind, _together)
        self._waiting: asyncio.Future[None] | None = None  # the reader, when it has read all
        self._finished = False

    def put(self, event: Event) -> None:
        """Add an event; on the loop's own thread."""
        if not self._finished:
            self._finished = isinstance(event, Finished)
            self._events.add(event)
            if self._waiting is not None:
                if not self._waiting.done():  # a reader that left
                    self._waiting.set_result(None)
                self._waiting = None

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while self._events:
                event = self._events.take()
                yield event
                if isinstance(event, Finished):
                    return
            self._waiting = self.loop.create_future()  # half the price of an asyncio.Event
            await self._waiting


def _kind(event: Event) -> str | None:
    return "tokens" if isinstance(event, Tokens) else None


def _together(events: list[Event]) -> Event:
    tokens = [event for event in events if isinstance(event, Tokens)]
    return Tokens(
        tuple(token for event in tokens for token in event.ids),
        tuple(score for event in tokens for score in event.logprobs),
    )


class Mailbox:
    """Events on their way from one thread to the loops that wait for them."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Handle, Event]] = []

    def post(self, handle: Handle, event: Event) -> None:
        self._waiting.append((handle, event))

    def flush(self) -> None:
        """Hand over everything posted since the last flush."""
        waiting, self._waiting = self._waiting, []
        loops: dict[asyncio.AbstractEventLoop, list[tuple[Handle, Event]]] = {}
        for item in waiting:
            loops.setdefault(item[0].loop, []).append(item)
        for loop, items in loops.items():
            try:
                loop.call_soon_threadsafe(_deliver, items)
            except RuntimeError:
                pass  # that loop is closed: nobody reads any more


def _deliver(items: list[tuple[Handle, Event]]) -> None:
    for handle, event in items:
        handle.put(event)

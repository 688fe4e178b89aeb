"""Fewer, larger messages from a fast stream of events, in order and without loss.

Neighbouring events that `key` calls the same are merged while they wait; no event overtakes another, so a reader that
stops after any event may resume behind it. The first event after a quiet spell goes out at once (a person sees 20
events a second without delay); then deltas wait for up to `INTERVAL`. An event without a key (structure, terminal
events) never waits and takes what waits before it along. A slow reader slows the source instead of filling memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Generic, TypeVar

from skilldeck_shared.neighbours import Neighbours

INTERVAL = 0.02
"""Seconds. Between 16 and 33 ms: one frame of a 30 Hz display."""
MAX_PENDING = 256
MAX_MERGED = 512
"""Events merged into one: bounds the size of a message when a whole stored log is replayed."""

E = TypeVar("E")


class Coalescer(Generic[E]):
    """Reads `source` in a task of its own; iterate it, and `aclose` it when leaving early."""

    def __init__(
        self,
        source: AsyncIterator[E],
        key: Callable[[E], Hashable | None],
        merge: Callable[[list[E]], E],
        interval: float = INTERVAL,
    ) -> None:
        self._interval = interval
        self._pending = Neighbours(key, merge, most=MAX_MERGED)
        self._urgent = asyncio.Event()
        self._any = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._flushed_at = float("-inf")
        self._task = asyncio.create_task(self._read(source))

    async def _read(self, source: AsyncIterator[E]) -> None:
        count = 0
        try:
            async for event in source:
                self._add(event)
                count += 1
                if count % MAX_PENDING == 0:
                    await asyncio.sleep(0)  # a stored log yields without ever waiting
                if len(self._pending) >= MAX_PENDING:
                    self._urgent.set()
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._any.set()
            self._urgent.set()

    def _add(self, event: E) -> None:
        waits = self._pending.add(event)
        self._any.set()
        if not waits:
            self._urgent.set()

    async def __aiter__(self) -> AsyncIterator[E]:
        loop = asyncio.get_running_loop()
        while True:
            await self._any.wait()
            wait = self._flushed_at + self._interval - loop.time()
            if wait > 0 and not self._urgent.is_set():
                try:
                    async with asyncio.timeout(wait):
                        await self._urgent.wait()
                except TimeoutError:
                    pass
            batch = self._pending.take_all()
            self._any.clear()
            self._urgent.clear()
            self._room.set()
            if self._ended:
                self._any.set()
                self._urgent.set()
            for event in batch:
                yield event
            self._flushed_at = loop.time()
            if self._ended and not self._pending:
                if self._error is not None:
                    raise self._error
                return

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

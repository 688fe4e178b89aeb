"""The one ordered event log of a run, and its readers.

Sequence numbers rise from 0 without gaps. Any number of readers follow the same log from any position and see the
same dicts in the same order; a reader that is slow delays nobody. Nothing is lost while the log lives; it ends after
its terminal event. Events are never changed once appended: whoever appends hands over copies.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from skilldeck_daemon.store.run_records import Event as Event


class EventLog:
    """Append-only; used from one event loop."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.times: list[float] = []
        self.closed = False
        self._waiting: list[asyncio.Future[None]] = []  # one a reader that has read all

    def append(self, type: str, **fields: Any) -> Event:
        """Add one event; its sequence number is its position."""
        event = self.make(type, **fields)
        self.add(event)
        return event

    def make(self, type: str, **fields: Any) -> Event:
        """The event that would come next; `add` it before any other."""
        # The fields are those of the event's type, which nothing here knows.
        return {"type": type, "sequence_number": len(self.events), **fields}  # type: ignore[typeddict-item]

    def add(self, event: Event) -> None:
        assert not self.closed, "an event after the terminal event"
        assert event["sequence_number"] == len(self.events)
        self.events.append(event)
        self.times.append(time.time())
        self._wake()

    def close(self) -> None:
        """No more events; readers end once they have read all."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for reader in waiting:
                if not reader.done():  # a reader that left
                    reader.set_result(None)

    async def follow(self, after: int = -1) -> AsyncIterator[Event]:
        """Every event with a sequence number above `after`: those that exist, then those to come."""
        position = max(after + 1, 0)
        while True:
            while position < len(self.events):
                yield self.events[position]
                position += 1
            if self.closed:
                return
            changed = asyncio.get_running_loop().create_future()
            self._waiting.append(changed)
            await changed

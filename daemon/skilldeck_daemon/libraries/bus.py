"""Changes of objects, for whoever watches (the control socket, the sweepers).

Contract: `publish` never blocks and never fails. A subscriber sees the newest state of every object that changed
after it subscribed; intermediate states of one object are merged while it does not read. One that falls
`CAPACITY` objects behind gets an error (`SubscriberBehind`) and starts over with a snapshot. Nothing is kept for those
who are not subscribed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from skilldeck_shared.errors import Busy

CAPACITY = 10_000


@dataclass(frozen=True, slots=True)
class Change:
    """`action` is "put" (with the object) or "delete" (`object` None)."""

    topic: str
    action: str
    id: str
    object: Mapping[str, Any] | None


class SubscriberBehind(Busy):
    """The subscriber read too slowly; what it has is no longer the whole state."""

    code = "subscriber_behind"


class Subscription:
    """One subscriber's pending changes; an async iterator."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._pending: dict[tuple[str, str], Change] = {}
        self._behind = False
        self._wake = asyncio.Event()

    def offer(self, change: Change) -> None:
        key = (change.topic, change.id)
        # Last in, last out: an object that changed again follows what changed since.
        self._pending.pop(key, None)
        if len(self._pending) >= self._capacity:
            self._pending.clear()
            self._behind = True
        if not self._behind:
            self._pending[key] = change
        self._wake.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Change:
        while True:
            if self._behind:
                raise SubscriberBehind("The subscriber fell behind.", "Subscribe again for a new snapshot.")
            if self._pending:
                return self._pending.pop(next(iter(self._pending)))
            self._wake.clear()
            await self._wake.wait()


class Bus:
    """Publish on the event loop's thread; subscribe anywhere on it."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._subscriptions: set[Subscription] = set()

    @property
    def watched(self) -> bool:
        """Whether anybody is subscribed."""
        return bool(self._subscriptions)

    def publish(self, topic: str, action: str, id: str, obj: Mapping[str, Any] | None = None) -> None:
        """Publish to every subscriber that the object is now so ("put") or gone ("delete")."""
        change = Change(topic, action, id, obj if action == "put" else None)
        for subscription in self._subscriptions:
            subscription.offer(change)

    @contextlib.asynccontextmanager
    async def subscribe(self) -> AsyncIterator[Subscription]:
        """`async with bus.subscribe() as changes: async for change in changes: …`. Subscribed from entry on."""
        subscription = Subscription(self._capacity)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

"""Ends of runs that the store would not take: answered from memory, and stored as soon as it takes them.

A full disk or a locked database must not leave a response running for ever. What is still here when the daemon dies is
marked failed at its next start, like every run that it interrupted.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from skilldeck_daemon.store import Store
from skilldeck_daemon.store.run_records import Event, Extra, Item, StoredResponse
from skilldeck_shared.errors import Unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class End:
    """What `Responses.finish` takes."""

    response: StoredResponse
    events: list[Event]
    extra: Extra
    turn: list[Item]


class Unsettled:
    """The ends of one daemon's runs that are not stored yet, by response id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ends: dict[str, End] = {}

    def keep(self, end: End) -> None:
        self._ends[end.response["id"]] = end

    def get(self, response_id: str) -> End | None:
        return self._ends.get(response_id)

    def drop(self, response_id: str) -> None:
        self._ends.pop(response_id, None)

    async def settle(self, instance: str) -> None:
        """Try to store them, as long as `instance` owns them; those the store still refuses stay."""
        for response_id, end in list(self._ends.items()):
            try:
                await self._store.responses.finish(end.response, end.events, end.extra, instance, end.turn)
            except Unavailable as error:
                log.warning("the end of run %s is still not stored: %s", response_id, error)
                return
            self.drop(response_id)

"""What live runs have so far, stored every few seconds: whoever kills the daemon loses seconds of them, not all."""

from __future__ import annotations

import time
from collections.abc import Mapping

from skilldeck_daemon.agent.run import Run
from skilldeck_daemon.store import Store

BUDGET = 0.2
"""Seconds that one look at all live runs may take."""


class Progress:
    """What was stored of the runs in `live`, which changes beside this."""

    def __init__(self, store: Store, live: Mapping[str, Run]) -> None:
        self._store = store
        self._live = live
        self._kept: dict[str, tuple[int, float]] = {}  # how many events were stored of a run, and when

    async def keep(self, instance: str) -> None:
        """Store what has grown, those kept longest ago first, as far as the time goes."""
        began = time.monotonic()
        for run in sorted(self._live.values(), key=lambda run: self._of(run)[1]):
            now, count = time.monotonic(), len(run.log.events)
            if now - began > BUDGET:
                return
            if run.request.store and not run.abandoned and count > self._of(run)[0]:
                await self._store.responses.update(run.partial, instance)
                if run.id in self._live:
                    self._kept[run.id] = (count, now)

    def _of(self, run: Run) -> tuple[int, float]:
        return self._kept.get(run.id, (0, 0.0))

    def forget(self, id: str) -> None:
        """A run that has ended."""
        self._kept.pop(id, None)

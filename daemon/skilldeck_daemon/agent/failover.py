"""Runs of several daemons on one database: each is run by exactly one, and goes on elsewhere when that one dies.

A daemon renews the leases of its runs every `BEAT_SECONDS`. One that died, or cannot reach the database for
`LEASE_SECONDS`, loses them: another claims a background run and runs it from its beginning (what the first had done in
its container went with it), and marks any other as failed. The former owner, should it come back, stops such a run at
its next beat, and nothing it writes is stored meanwhile. A run that lost its daemon `ATTEMPTS` times has failed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from skilldeck_daemon.agent.live import LiveRun
from skilldeck_daemon.store import Store
from skilldeck_daemon.store.run_records import StoredResponse
from skilldeck_daemon.store.tables.leases import Claim
from skilldeck_shared.errors import Unavailable

log = logging.getLogger(__name__)

LEASE_SECONDS = 20
BEAT_SECONDS = 4.0
ATTEMPTS = 3
AT_ONCE = 8
"""Runs taken over in one beat: the others are left to the other daemons."""
GONE = "The daemon that ran this response stopped before it was finished."

Again = Callable[[StoredResponse], Awaitable[None]]


class Claims:
    """The leases of one daemon. Without a shared database there is nothing to do.

    Args:
        live: the daemon's runs, by id.
        again: runs a claimed response anew; raises when it cannot.
    """

    def __init__(self, store: Store, live: Mapping[str, LiveRun], again: Again) -> None:
        self.shared = store.database.replicated
        self.instance = ""
        self._store = store
        self._live = live
        self._again = again
        self._renewed = time.monotonic()

    @property
    def lease(self) -> int:
        """Seconds that a new run is this daemon's without a beat; 0 where nobody else could take it."""
        return LEASE_SECONDS if self.shared else 0

    async def beat(self, *, claim: bool) -> None:
        """Renew; stop what was lost or is to be cancelled; take over what nobody runs when `claim`."""
        begun = time.monotonic()
        mine = {id: run for id, run in self._live.items() if run.request.store}
        try:
            renewed = await self._store.leases.renew(self.instance, LEASE_SECONDS)
            gone = await self._store.leases.owned_by_others(self.instance, set(mine) - renewed.kept)
        except Unavailable:
            if begun - self._renewed > LEASE_SECONDS:
                self._lose(mine)
            raise
        self._renewed = begun
        self._lose({id: mine[id] for id in gone})
        for id in renewed.cancel & set(mine):
            mine[id].cancel()
        if claim:
            for found in await self._store.leases.claim(self.instance, LEASE_SECONDS, AT_ONCE):
                await self._take(found)

    def _lose(self, runs: Mapping[str, LiveRun]) -> None:
        for id, run in runs.items():
            log.warning("run %s was taken over by another daemon", id)
            run.abandon()

    async def _take(self, found: Claim) -> None:
        response = found.response
        log.warning("taking over run %s, whose daemon is gone (attempt %d)", response["id"], found.attempts)
        if found.cancel_asked:
            await self._store.responses.fail(response, "", self.instance, "cancelled")
        elif not found.background or found.attempts >= ATTEMPTS:
            await self._store.responses.fail(response, GONE, self.instance)
        else:
            try:
                await self._again(response)
            except Exception as error:
                log.warning("run %s cannot be run again: %s", response["id"], error)
                await self._store.responses.fail(response, f"{GONE} {error}", self.instance)

    async def release(self, runs: Mapping[str, LiveRun]) -> None:
        """Give runs up that have been abandoned here; another daemon goes on with them."""
        if runs:
            await self._store.leases.release(self.instance, list(runs))

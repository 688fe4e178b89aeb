"""Tests of skills, kept so that they can be compared later: evaluations and their trials.

An evaluation is one matrix: tests of a skill, on models, with versions of the skill. A trial is one try of one test in
one of its cells. The client runs them (it has the skill's folder) and writes here what came out; the daemon keeps it,
publishes it (topics `evaluation` and `trial`) and finds what was asked before by its key. What else stands in the two
objects is the client's (docs/evals.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from skilldeck_daemon.libraries.bus import Bus
from skilldeck_daemon.store import Page, Store, new_id, now
from skilldeck_daemon.store.ids import storable
from skilldeck_daemon.store.records import Deleted, Evaluation, Trial
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_shared.errors import NotFound, TooLarge
from skilldeck_shared.json_types import JsonObject

MAX_BYTES = 1 << 18
"""Of one object; a trial with its checks, commands and answer has about 3 KiB."""
MAX_KEYS = 1000
STATUSES = ("running", "completed", "cancelled", "failed")


class Evaluations:
    """Everything the control socket does with them."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store = store.evaluations
        self._bus = bus

    async def put(self, body: JsonObject) -> Evaluation:
        """A new evaluation {skill, status, …}, or with an `id` its new state as a whole."""
        fields = Fields(body)
        skill = fields.needed("skill", maximum=256)
        fields.needed("status", choices=STATUSES)
        _bounded(body, "evaluation")
        given = body.get("id")
        if given is None:
            made = {**body, "id": new_id("eval"), "object": "evaluation", "created_at": now()}
            evaluation = _evaluation({**made, "updated_at": made["created_at"]})
            await self._store.create(evaluation)
        else:
            before = await self.get(given)
            if before["skill"] != skill:
                refuse("skill", "The skill of an evaluation cannot be changed.", "Make another evaluation.")
            kept = {"id": before["id"], "object": before["object"], "created_at": before["created_at"]}
            evaluation = _evaluation({**body, **kept, "updated_at": now()})
        if not await self._store.update(evaluation):
            raise _missing(evaluation["id"])
        self._bus.publish("evaluation", "put", evaluation["id"], evaluation)
        return evaluation

    async def get(self, id: str) -> Evaluation:
        evaluation = await self._store.get(id)
        if evaluation is None:
            raise _missing(id)
        return evaluation

    async def list(self, limit: int = 20, order: str = "desc", after: str = "", skill: str = "") -> Page[Evaluation]:
        """One page, of all skills or of one."""
        return await self._store.list(limit, order, after, skill=skill)

    async def delete(self, id: str) -> Deleted:
        """Delete it with its trials; the runs stay."""
        if not (storable(id) and await self._store.delete(id)):
            raise _missing(id)
        self._bus.publish("evaluation", "delete", id)
        return {"id": id, "object": "evaluation.deleted", "deleted": True}

    async def add_trial(self, body: JsonObject) -> Trial:
        """A new trial {evaluation_id, skill, key, …}."""
        fields = Fields(body)
        for name, maximum in (("evaluation_id", 256), ("skill", 256), ("key", 64)):
            fields.needed(name, maximum=maximum)
        _bounded(body, "trial")
        await self.get(body["evaluation_id"])
        made: Any = {**body, "id": new_id("trial"), "object": "evaluation.trial", "created_at": now()}
        trial: Trial = made
        await self._store.add_trial(trial)
        self._bus.publish("trial", "put", trial["id"], trial)
        return trial

    async def trials(
        self,
        limit: int = 20,
        order: str = "asc",
        after: str = "",
        *,
        evaluation: str = "",
        skill: str = "",
        keys: Sequence[str] = (),
    ) -> Page[Trial]:
        """One page of the trials of an evaluation, of a skill, or of these keys."""
        if len(keys) > MAX_KEYS:
            refuse("keys", f"{len(keys):,} keys were given; at most {MAX_KEYS:,} are looked up at once.")
        return await self._store.trials(limit, order, after, evaluation=evaluation, skill=skill, keys=keys)


def _evaluation(checked: Any) -> Evaluation:
    """A body whose own fields were read."""
    evaluation: Evaluation = checked
    return evaluation


def _missing(id: str) -> NotFound:
    return NotFound(f"There is no evaluation {str(id)[:80]!r}.", param="id")


def _bounded(body: JsonObject, what: str) -> None:
    size = len(json.dumps(body))
    if size > MAX_BYTES:
        raise TooLarge(f"The {what} has {size:,} bytes; at most {MAX_BYTES:,} are kept.", param=what)

"""Tests of skills as rows: evaluations, and their trials, which go when the evaluation goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement

from skilldeck_daemon.store.database import Database
from skilldeck_daemon.store.page import Page
from skilldeck_daemon.store.records import Evaluation, Trial
from skilldeck_daemon.store.tables.documents import Row, Rows, dumps, loads
from skilldeck_daemon.store.tables.schema import evaluations, trials


class Evaluations:
    """Documents by id. A trial is never changed: a second look at the same answer is another trial."""

    def __init__(self, db: Database) -> None:
        self._rows = Rows[Row](db, evaluations)
        self._trials = Rows[Row](db, trials)

    async def create(self, evaluation: Evaluation) -> None:
        """`evaluation` has id, created_at and skill."""
        keys = {"id": evaluation["id"], "created_at": evaluation["created_at"], "skill": evaluation["skill"]}
        await self._rows.insert({**keys, "doc": dumps(evaluation)})

    async def update(self, evaluation: Evaluation) -> bool:
        """Whether there was such an evaluation."""
        return await self._rows.update(evaluation["id"], {"doc": dumps(evaluation)})

    async def get(self, id: str) -> Evaluation | None:
        row = await self._rows.get(id, "", "doc")
        return loads(row["doc"]) if row is not None else None

    async def list(self, limit: int, order: str = "desc", after: str = "", *, skill: str = "") -> Page[Evaluation]:
        filters: list[ColumnElement[bool]] = [evaluations.c.skill == skill] if skill else []
        return _docs(await self._rows.list(limit, order, after, *filters, columns=("doc",)))

    async def delete(self, id: str) -> bool:
        return await self._rows.delete(id)

    async def add_trial(self, trial: Trial) -> None:
        """`trial` has id, evaluation_id, created_at, skill and key."""
        keys = {"id": trial["id"], "created_at": trial["created_at"], "skill": trial["skill"], "key": trial["key"]}
        await self._trials.insert({**keys, "evaluation_id": trial["evaluation_id"], "doc": dumps(trial)})

    async def trials(
        self,
        limit: int,
        order: str = "asc",
        after: str = "",
        *,
        evaluation: str = "",
        skill: str = "",
        keys: Sequence[str] = (),
    ) -> Page[Trial]:
        """One page of those that match all that is given."""
        filters: list[ColumnElement[bool]] = []
        if evaluation:
            filters.append(trials.c.evaluation_id == evaluation)
        if skill:
            filters.append(trials.c.skill == skill)
        if keys:
            filters.append(trials.c.key.in_(list(keys)))
        return _docs(await self._trials.list(limit, order, after, *filters, columns=("doc",)))


def _docs(page: Page[Row]) -> Page[Any]:
    return page.map(lambda row: loads(row["doc"]))

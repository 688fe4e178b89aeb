"""Tests of skills as rows: evaluations, and their trials, which go when the evaluation goes."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement

from skilldeck_daemon.store.database import Database
from skilldeck_daemon.store.documents import Doc, Rows, dumps, loads
from skilldeck_daemon.store.page import Page
from skilldeck_daemon.store.schema import evaluations, trials


class Evaluations:
    """Documents by id. A trial is never changed: a second look at the same answer is another trial."""

    def __init__(self, db: Database) -> None:
        self._rows = Rows(db, evaluations)
        self._trials = Rows(db, trials)

    async def create(self, evaluation: Doc) -> None:
        """`evaluation` has id, created_at and skill."""
        keys = {name: evaluation[name] for name in ("id", "created_at", "skill")}
        await self._rows.insert({**keys, "doc": dumps(evaluation)})

    async def update(self, evaluation: Doc) -> bool:
        """Whether there was such an evaluation."""
        return await self._rows.update(evaluation["id"], {"doc": dumps(evaluation)})

    async def get(self, id: str) -> Doc | None:
        row = await self._rows.get(id, "", "doc")
        return loads(row["doc"]) if row is not None else None

    async def list(self, limit: int, order: str = "desc", after: str = "", *, skill: str = "") -> Page:
        filters: list[ColumnElement[bool]] = [evaluations.c.skill == skill] if skill else []
        return _docs(await self._rows.list(limit, order, after, *filters, columns=("doc",)))

    async def delete(self, id: str) -> bool:
        return await self._rows.delete(id)

    async def add_trial(self, trial: Doc) -> None:
        """`trial` has id, evaluation_id, created_at, skill and key."""
        names = ("id", "evaluation_id", "created_at", "skill", "key")
        await self._trials.insert({**{name: trial[name] for name in names}, "doc": dumps(trial)})

    async def trials(
        self,
        limit: int,
        order: str = "asc",
        after: str = "",
        *,
        evaluation: str = "",
        skill: str = "",
        keys: Sequence[str] = (),
    ) -> Page:
        """One page of those that match all that is given."""
        filters: list[ColumnElement[bool]] = []
        if evaluation:
            filters.append(trials.c.evaluation_id == evaluation)
        if skill:
            filters.append(trials.c.skill == skill)
        if keys:
            filters.append(trials.c.key.in_(list(keys)))
        return _docs(await self._trials.list(limit, order, after, *filters, columns=("doc",)))


def _docs(page: Page) -> Page:
    return page.map(lambda row: loads(row["doc"]))

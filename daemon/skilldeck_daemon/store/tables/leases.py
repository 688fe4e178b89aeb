"""Who runs a response, when several daemons share one database.

A run belongs to one start of a daemon (`instance`) as long as its lease is renewed. A lease that ran out is claimed by
exactly one of those who ask (`FOR UPDATE SKIP LOCKED`), and from then on nothing that the former owner writes is taken
(`Responses.update` and `finish` ask for the owner). Times are the database's, so the clocks of the daemons do not
matter. PostgreSQL only: a SQLite store has one daemon.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, cast, func, insert, select, update

from skilldeck_daemon.store.database import Database
from skilldeck_daemon.store.run_records import StoredResponse
from skilldeck_daemon.store.tables.documents import loads_stored
from skilldeck_daemon.store.tables.responses import UNFINISHED
from skilldeck_daemon.store.tables.schema import responses, shared_values


def _now() -> ColumnElement[int]:
    return cast(func.extract("epoch", func.clock_timestamp()), BigInteger)


@dataclass(frozen=True)
class Claim:
    """A run whose owner is gone. `attempts` is how often it was claimed, this time included."""

    response: StoredResponse
    background: bool
    attempts: int
    cancel_asked: bool


@dataclass(frozen=True)
class Renewed:
    """Of one's own runs: those still owned, and those of them that somebody asked to cancel."""

    kept: frozenset[str]
    cancel: frozenset[str]


class Leases:
    """See the module."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def renew(self, instance: str, seconds: int) -> Renewed:
        """Keep all unfinished runs of `instance` for `seconds` from now."""
        mine = (responses.c.instance == instance) & responses.c.status.in_(UNFINISHED)
        statement = update(responses).where(mine).values(lease_until=_now() + seconds)
        async with self._db.write() as connection:
            rows = (await connection.execute(statement.returning(responses.c.id, responses.c.cancel_asked))).all()
        return Renewed(frozenset(row[0] for row in rows), frozenset(row[0] for row in rows if row[1]))

    async def owned_by_others(self, instance: str, ids: Collection[str]) -> frozenset[str]:
        """Those of `ids` that somebody else has claimed."""
        if not ids:
            return frozenset()
        query = select(responses.c.id).where(responses.c.id.in_(ids), responses.c.instance != instance)
        async with self._db.read() as connection:
            return frozenset((await connection.execute(query)).scalars())

    async def claim(self, instance: str, seconds: int, limit: int) -> list[Claim]:
        """Take over at most `limit` runs whose lease ran out, oldest first; nobody else gets them."""
        lapsed = (
            select(responses.c.id)
            .where(responses.c.status.in_(UNFINISHED), responses.c.lease_until < _now())
            .where(responses.c.instance != instance)
            .order_by(responses.c.seq)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        statement = (
            update(responses)
            .where(responses.c.id.in_(lapsed.scalar_subquery()))
            .values(instance=instance, lease_until=_now() + seconds, attempts=responses.c.attempts + 1)
            .returning(responses.c.doc, responses.c.background, responses.c.attempts, responses.c.cancel_asked)
        )
        async with self._db.write() as connection:
            rows = (await connection.execute(statement)).all()
        return [Claim(loads_stored(row[0]), *row[1:]) for row in rows]

    async def release(self, instance: str, ids: Collection[str]) -> None:
        """Give runs up; whoever asks next may claim them."""
        mine = (responses.c.instance == instance) & responses.c.id.in_(ids)
        async with self._db.write() as connection:
            await connection.execute(update(responses).where(mine).values(lease_until=0))

    async def ask_cancel(self, id: str) -> None:
        """Ask whoever runs it to cancel it; it happens when the lease is renewed next."""
        async with self._db.write() as connection:
            await connection.execute(update(responses).where(responses.c.id == id).values(cancel_asked=True))

    async def agree(self, name: str, value: bytes) -> bytes:
        """The value that all daemons use under this name: `value` when there was none."""
        same = shared_values.c.name == name
        statement: Any = insert(shared_values).values(name=name, value=value)
        if not self._db.sqlite:
            # Importing it takes a twentieth of the daemon's start; the drivers of others are not needed by one alone.
            from sqlalchemy.dialects.postgresql import insert as insert_or_leave

            statement = insert_or_leave(shared_values).values(name=name, value=value).on_conflict_do_nothing()
        async with self._db.write() as connection:
            await connection.execute(statement)
            return bytes((await connection.execute(select(shared_values.c.value).where(same))).scalar_one())

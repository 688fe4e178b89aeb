"""The connection to the database: one writer at a time on SQLite, durable commits, migrations at open.

Contract: when a `write()` block ends without an exception, its changes survive a kill -9 and a power cut
(SQLite: WAL with synchronous=FULL). Reads never wait for writers. Any SQLAlchemy URL with an async driver works;
SQLite gets its pragmas here and nothing else in the package knows which database it talks to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from skilldeck_daemon.store import migrations
from skilldeck_daemon.store.faults import DAMAGED_HINT, StoreDamaged, database_faults, malformed
from skilldeck_shared import private
from skilldeck_shared.errors import Unavailable

log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 10_000
MIGRATION_LOCK = 0x736B6964
# Hundreds of requests may wait for a connection at once, each for milliseconds.
POOL_TIMEOUT_S = 120


def sqlite_url(path: Path) -> str:
    """The URL of the default store: one SQLite file."""
    return f"sqlite+aiosqlite:///{path}"


class Database:
    """`read()` and `write()` give connections; `write()` commits at the end of its block or leaves nothing."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._parsed = make_url(url)
        self.sqlite = self._parsed.get_backend_name() == "sqlite"
        # Only there several daemons may share one database.
        self.replicated = self._parsed.get_backend_name() == "postgresql"
        self.shown = self._parsed.render_as_string(hide_password=True)
        self._engine: AsyncEngine | None = None
        self._writer = asyncio.Lock()
        self.damage = ""  # what was found that cannot be read; the first of it
        self.make_room: Callable[[], None] = lambda: None  # called before what deletes

    async def open(self, *, migrate: bool = True) -> None:
        """Connect and bring the schema to this version. Raises `Unavailable` with the reason when it cannot.

        Args:
            migrate: False leaves the schema as it is, for those who only look (fsck).
        """
        engine = create_async_engine(
            self._parsed, pool_pre_ping=not self.sqlite, pool_size=8, max_overflow=8, pool_timeout=POOL_TIMEOUT_S
        )
        if self.sqlite:
            _prepare_sqlite(engine)
        try:
            if migrate and self.sqlite and self._parsed.database not in (None, "", ":memory:"):
                path = Path(str(self._parsed.database))
                path.parent.mkdir(parents=True, exist_ok=True)
                private.file(path)  # SQLite gives its log the mode of the database
            async with engine.connect() as connection:
                await connection.execution_options(skilldeck_write=True)
                if migrate:
                    if self.replicated:  # daemons that start together migrate one after the other
                        await connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
                    await connection.run_sync(migrations.upgrade)
                await connection.commit()
        except (DBAPIError, OSError) as error:
            await engine.dispose()
            cause = getattr(error, "orig", None) or error
            hint = "Check the path and its permissions, or give another one with --data-dir."
            if isinstance(error, DBAPIError) and malformed(error):
                hint = DAMAGED_HINT
            title = f"The store at {self.shown} cannot be opened: {cause}."
            raise Unavailable(title, hint, code="store_unavailable") from error
        self._engine = engine

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    def _opened(self) -> AsyncEngine:
        if self._engine is None:
            raise Unavailable("The store is closed.", code="store_unavailable")
        return self._engine

    def note(self, damage: str) -> None:
        """Remember what cannot be read, for those who ask how the store is."""
        log.error("%s %s", damage, DAMAGED_HINT)
        self.damage = self.damage or damage

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            with database_faults(self.shown):
                yield
        except StoreDamaged as error:
            self.note(error.title)
            raise

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading; each statement sees what is committed by then."""
        with self._faults():
            async with self._opened().connect() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def write(self, *, deletes: bool = False) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed when the block ends, rolled back when it raises. `deletes` may use the reserve."""
        engine = self._opened()
        # SQLite has one writer; waiting here is fair and needs no retries, waiting in its busy handler is neither.
        lock: Any = self._writer if self.sqlite else contextlib.nullcontext()
        if deletes and self.sqlite:
            self.make_room()
        with self._faults():
            async with lock, engine.connect() as connection:
                await connection.execution_options(skilldeck_write=True)
                async with connection.begin():
                    yield connection


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def pragmas(connection: Any, _record: object) -> None:
        # The driver's own BEGIN comes too late and is DEFERRED: a reader that turns writer would fail at once.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_size_limit=67108864",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # A read is one statement, a state of its own; without BEGIN it costs one turn of the driver's thread less.
        if connection.get_execution_options().get("skilldeck_write"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

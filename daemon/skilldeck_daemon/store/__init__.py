"""What the daemon keeps: rows in a database (SQLite, or any SQLAlchemy URL) and content-addressed blobs beside it.

What a write returned from survives a kill -9. One daemon owns a store at a time, unless the database is PostgreSQL and
the blobs are shared (`shared_blobs.py`): then several do, and runs are leased (`tables/leases.py`). Nothing here knows
a surface.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, select

from skilldeck_daemon.store.blobs import Blob, BlobMissing, Blobs
from skilldeck_daemon.store.database import Database, sqlite_url
from skilldeck_daemon.store.faults import DAMAGED_HINT
from skilldeck_daemon.store.ids import new_id, now
from skilldeck_daemon.store.page import Page
from skilldeck_daemon.store.room import Room
from skilldeck_daemon.store.shared_blobs import SharedBlobs
from skilldeck_daemon.store.tables import schema
from skilldeck_daemon.store.tables.evaluations import Evaluations
from skilldeck_daemon.store.tables.files import FETCHED, Files, Uploads
from skilldeck_daemon.store.tables.leases import Leases
from skilldeck_daemon.store.tables.objects import ChatCompletions, ContainerFiles, Containers, ConversationStore, Rules
from skilldeck_daemon.store.tables.responses import Responses
from skilldeck_daemon.store.tables.schema import container_files, files, skill_versions, upload_parts
from skilldeck_daemon.store.tables.search import Search
from skilldeck_daemon.store.tables.skills import Skills

__all__ = ["Blob", "BlobMissing", "Blobs", "Counts", "Page", "Store", "new_id", "now", "open_parts", "sqlite_url"]


def open_parts(data_dir: Path, database_url: str = "", blobs_url: str = "") -> tuple[Database, Blobs]:
    """The database and the blobs that the settings mean; neither is open yet."""
    folder = data_dir / "blobs"
    blobs = SharedBlobs(folder, blobs_url) if blobs_url else Blobs(folder)
    return Database(database_url or sqlite_url(data_dir / "skilldeck.db")), blobs


class Counts(NamedTuple):
    files: int
    file_bytes: int
    skills: int
    skill_versions: int
    responses: int


class Store:
    """All repositories over one database and one folder of blobs.

    Args:
        url: an async SQLAlchemy URL (`sqlite_url(path)` for the default).
        blobs: folder of the blobs; created when missing.
        blobs_url: where they are kept for several daemons (fsspec); the folder is their cache then.
    """

    def __init__(self, url: str, blobs: Path, blobs_url: str = "") -> None:
        self.database = Database(url)
        self.room = Room(blobs.parent)
        self.database.make_room = self.room.give
        self.blobs = SharedBlobs(blobs, blobs_url, self.room) if blobs_url else Blobs(blobs, self.room)
        self.leases = Leases(self.database)
        self.skills = Skills(self.database)
        self.files = Files(self.database)
        self.uploads = Uploads(self.database)
        self.responses = Responses(self.database)
        self.conversations = ConversationStore(self.database)
        self.containers = Containers(self.database)
        self.container_files = ContainerFiles(self.database)
        self.chat = ChatCompletions(self.database)
        self.rules = Rules(self.database)
        self.evaluations = Evaluations(self.database)
        self.search = Search(self.database)

    async def open(self) -> None:
        """Connect, migrate, clear half-written blobs. Raises `Unavailable` when it cannot."""
        await self.database.open()
        await asyncio.to_thread(self.blobs.prepare)
        await asyncio.to_thread(self.room.keep)

    def trouble(self) -> str:
        """What keeps it from working as it should, in a sentence; empty when nothing does."""
        return f"{self.database.damage} {DAMAGED_HINT}" if self.database.damage else self.room.trouble()

    async def close(self) -> None:
        await self.database.close()

    async def counts(self) -> Counts:
        """How much there is, as queries find it: a few milliseconds with a hundred thousand files."""
        listed = select(func.count(), func.coalesce(func.sum(files.c.bytes), 0)).where(files.c.purpose != FETCHED)
        async with self.database.read() as connection:
            file_count, file_bytes = (await connection.execute(listed)).one()
            numbers = [
                (await connection.execute(select(func.count()).select_from(table))).scalar_one()
                for table in (schema.skills, schema.skill_versions, schema.responses)
            ]
        return Counts(file_count, file_bytes, *numbers)

    async def collect_blobs(self, grace: float = 3600) -> int:
        """Delete blobs that no row names (and older than `grace` seconds); returns the bytes freed."""
        keep: set[str] = set()
        async with self.database.read() as connection:
            for table in (files, upload_parts, container_files):
                query = select(table.c.sha256).where(table.c.sha256.is_not(None))
                keep.update((await connection.execute(query)).scalars())
            async for row in await connection.stream(select(skill_versions.c.files)):
                keep.update(entry["sha256"] for entry in json.loads(row[0]))
        return await self.blobs.collect(keep, grace)

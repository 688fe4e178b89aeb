"""Uploaded files and multipart uploads: records here, content in blobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update

from skilldeck_daemon.store.database import Database
from skilldeck_daemon.store.ids import storable
from skilldeck_daemon.store.page import Page
from skilldeck_daemon.store.records import FileRow, PartRow, UploadRow
from skilldeck_daemon.store.tables.documents import Ids, Rows
from skilldeck_daemon.store.tables.schema import files, upload_parts, uploads

FETCHED = "fetched"
"""Purpose of what the daemon fetched itself: kept like files, and listed nowhere."""


class Files:
    """File records: id, created_at, filename, purpose, bytes, sha256, status, mime_type, expires_at."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._rows = Rows[FileRow](db, files)

    async def add(self, file: FileRow) -> None:
        await self._rows.insert(file)

    async def replace(self, file: FileRow) -> None:
        """Add a file, in the place of one with its id."""
        async with self._db.write() as connection:
            await connection.execute(files.delete().where(files.c.id == file["id"]))
            await self._rows.insert(file, connection)

    async def get(self, id: str) -> FileRow | None:
        return await self._rows.get(id)

    async def list(self, limit: int, order: str = "desc", after: str = "", purpose: str | None = None) -> Page[FileRow]:
        filters = [files.c.purpose != FETCHED if purpose is None else files.c.purpose == purpose]
        return await self._rows.list(limit, order, after, *filters)

    async def delete(self, id: str) -> bool:
        return await self._rows.delete(id)

    async def expired(self, at: int) -> Ids:
        """Ids of files whose expires_at is `at` or earlier."""
        async with self._db.read() as connection:
            return list((await connection.execute(select(files.c.id).where(files.c.expires_at <= at))).scalars())


class Uploads:
    """Uploads (pending → completed, cancelled or expired) and their parts."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._rows = Rows[UploadRow](db, uploads)
        self._parts = Rows[PartRow](db, upload_parts)

    async def add(self, upload: UploadRow) -> None:
        await self._rows.insert(upload)

    async def get(self, id: str) -> UploadRow | None:
        return await self._rows.get(id)

    async def settle(self, id: str, status: str) -> bool:
        """Leave pending for `status`. False when it had been left already."""
        async with self._db.write() as connection:
            pending = (uploads.c.id == id) & (uploads.c.status == "pending")
            return (await connection.execute(update(uploads).where(pending).values(status=status))).rowcount > 0

    async def complete(self, id: str, file: FileRow) -> bool:
        """Leave pending for completed and add the file, both or neither."""
        async with self._db.write() as connection:
            pending = (uploads.c.id == id) & (uploads.c.status == "pending")
            values = {"status": "completed", "file_id": file["id"]}
            if (await connection.execute(update(uploads).where(pending).values(**values))).rowcount == 0:
                return False
            await Rows[FileRow](self._db, files).insert(file, connection)
        return True

    async def add_part(self, part: PartRow) -> bool:
        """False when the upload is no longer pending."""
        async with self._db.write() as connection:
            query = select(uploads.c.seq).where(uploads.c.id == part["upload_id"], uploads.c.status == "pending")
            if (await connection.execute(query.with_for_update())).first() is None:
                return False
            await self._parts.insert(part, connection)
        return True

    async def parts(self, id: str) -> list[PartRow]:
        """All parts, in the order they came."""
        if not storable(id):
            return []
        query = select(upload_parts).where(upload_parts.c.upload_id == id).order_by(upload_parts.c.seq)
        async with self._db.read() as connection:
            rows: Any = [dict(row) for row in (await connection.execute(query)).mappings()]
        found: list[PartRow] = rows
        return found

    async def drop_parts(self, id: str) -> None:
        """Forget the parts; their blobs go with the next collection."""
        async with self._db.write() as connection:
            await connection.execute(upload_parts.delete().where(upload_parts.c.upload_id == id))

    async def overdue(self, at: int) -> Ids:
        """Ids of pending uploads whose time is over."""
        query = select(uploads.c.id).where(uploads.c.status == "pending", uploads.c.expires_at <= at)
        async with self._db.read() as connection:
            return list((await connection.execute(query)).scalars())

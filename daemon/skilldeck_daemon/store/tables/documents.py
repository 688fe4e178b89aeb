"""What every table of wire objects shares: rows by id, keyset pages, tombstones, JSON and zlib columns."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic

from sqlalchemy import ColumnElement, Select, Table, delete, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from skilldeck_daemon.store.database import Database
from skilldeck_daemon.store.faults import DAMAGED_HINT, StoreDamaged, malformed
from skilldeck_daemon.store.ids import storable
from skilldeck_daemon.store.page import Page, Record
from skilldeck_daemon.store.tables.schema import tombstones
from skilldeck_shared.characters import clean_json
from skilldeck_shared.errors import BadRequest

Row = dict[str, Any]
"""A row of a table, by column."""
# Classes with a method named `list` cannot say list[...] in their annotations.
RowList = list[Row]
Ids = list[str]

# Below this, compressing on the event loop (about 10 ms a MB) is cheaper than a thread.
_INLINE_BYTES = 65_536
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def dumps(value: Any) -> str:
    """JSON text of ASCII characters only: databases refuse the NULs and lone surrogates that strings may hold."""
    return json.dumps(value, separators=(",", ":"))


def loads(text: str | bytes) -> Any:
    """What `dumps` wrote. Halves of surrogate pairs, which earlier versions let in, become U+FFFD."""
    try:
        found = text.decode() if isinstance(text, bytes) else text
        return json.loads(clean_json(found) if _HALF.search(found) else found)
    except ValueError as error:
        raise StoreDamaged(f"A document of the store cannot be read: {error}.", DAMAGED_HINT) from error


def loads_stored(text: str | bytes) -> Any:
    """`loads` of an object with what stays inside. Older ones have those keys with an underscore before them."""
    found = loads(text)
    for name in [name for name in found if name.startswith("_")]:
        found[name.removeprefix("_")] = found.pop(name)
    return found


async def pack(value: Any) -> bytes:
    """zlib over JSON, off the event loop when it is large."""
    if isinstance(value, list) and len(value) > 200:
        return await asyncio.to_thread(lambda: zlib.compress(dumps(value).encode(), 3))
    data = dumps(value).encode()
    if len(data) > _INLINE_BYTES:
        return await asyncio.to_thread(zlib.compress, data, 3)
    return zlib.compress(data, 3)


async def unpack(data: bytes) -> Any:
    """What `pack` packed."""
    if len(data) > _INLINE_BYTES // 4:
        return await asyncio.to_thread(unpack_now, data)
    return unpack_now(data)


def unpack_now(data: bytes) -> Any:
    """`unpack` for a caller that is in a thread already."""
    try:
        text = zlib.decompress(data)
    except zlib.error as error:
        raise StoreDamaged(f"A document of the store cannot be read: {error}.", DAMAGED_HINT) from error
    return loads(text)


def documents(db: Database, page: Page[Row], read: Callable[[str], Record]) -> Page[Record]:
    """The page's rows as their documents. One that cannot be read is left out, and noted: the others are whole."""
    found: list[Record] = []
    for row in page.data:
        try:
            found.append(read(row["doc"]))
        except StoreDamaged as error:
            db.note(error.title)
    return Page(found, page.has_more)


class Rows(Generic[Record]):
    """One table whose rows are found by id and listed by `seq`; `Record` says what columns they have.

    Args:
        db: the database.
        table: has `seq` and `id`, and `parent` as a column where ids are unique only within a parent.
        parent: name of that column, None when ids are unique by themselves.
    """

    def __init__(self, db: Database, table: Table, parent: str | None = None) -> None:
        self.db = db
        self.table = table
        self.parent = parent

    def where(self, id: str, parent: str = "") -> ColumnElement[bool]:
        clause: ColumnElement[bool] = self.table.c.id == id
        if self.parent is not None:
            clause = clause & (self.table.c[self.parent] == parent)
        return clause

    async def insert(self, values: Mapping[str, Any], connection: AsyncConnection | None = None) -> None:
        statement = insert(self.table).values(**values)
        if connection is not None:
            await connection.execute(statement)
            return
        async with self.db.write() as connection:
            await connection.execute(statement)

    async def update(self, id: str, values: Mapping[str, Any], parent: str = "") -> bool:
        """Whether there was such a row."""
        async with self.db.write() as connection:
            result = await connection.execute(update(self.table).where(self.where(id, parent)).values(**values))
            return result.rowcount > 0

    async def get(self, id: str, parent: str = "", *columns: str) -> Record | None:
        """The row (all columns, or those named), None when there is none."""
        if not storable(id):
            return None
        chosen = [self.table.c[name] for name in columns] if columns else [self.table]
        async with self.db.read() as connection:
            row = (await connection.execute(select(*chosen).where(self.where(id, parent)))).mappings().first()
        found: Any = None if row is None else dict(row)
        record: Record | None = found
        return record

    async def delete(self, id: str, parent: str = "", connection: AsyncConnection | None = None) -> bool:
        """Delete and leave a tombstone for those who page by this id. Whether there was such a row."""
        if not storable(id):
            return False
        if connection is not None:
            return await self._delete(connection, id, parent)
        async with self.db.write(deletes=True) as connection:
            return await self._delete(connection, id, parent)

    async def _delete(self, connection: AsyncConnection, id: str, parent: str) -> bool:
        seq = (await connection.execute(select(self.table.c.seq).where(self.where(id, parent)))).scalar()
        if seq is None:
            return False
        await connection.execute(delete(self.table).where(self.table.c.seq == seq))
        key = {"kind": self.table.name, "parent": parent if self.parent else "", "id": id}
        await connection.execute(
            delete(tombstones).where(*(tombstones.c[name] == value for name, value in key.items()))
        )
        await connection.execute(insert(tombstones).values(**key, seq=seq))
        return True

    async def list(
        self,
        limit: int,
        order: str,
        after: str = "",
        *filters: ColumnElement[bool],
        parent: str = "",
        columns: Sequence[str] = (),
    ) -> Page[Record]:
        """One page of rows.

        Args:
            limit: at most so many rows; 0 asks only whether there are any.
            order: "asc" (oldest first) or "desc".
            after: id of the last row of the page before; may have been deleted since.
            filters: further conditions.
            parent: required where the table has one.
            columns: only these, else all.
        Raises:
            BadRequest: `after` names nothing.
        """
        table = self.table
        chosen = [table.c[name] for name in columns] if columns else [table]
        query: Select[Any] = select(*chosen).where(*filters)
        if self.parent is not None:
            query = query.where(table.c[self.parent] == parent)
        async with self.db.read() as connection:
            if after:
                seq = await self._seq(connection, after, parent)
                query = query.where(table.c.seq > seq if order == "asc" else table.c.seq < seq)
            ordered = query.order_by(table.c.seq.asc() if order == "asc" else table.c.seq.desc()).limit(limit + 1)
            try:
                rows: list[Any] = [dict(row) for row in (await connection.execute(ordered)).mappings()]
            except DBAPIError as error:
                if not malformed(error):
                    raise
                self.db.note(f"Rows of {table.name} cannot be read: {error.orig}.")
                rows = await self._around_damage(connection, query, order, limit + 1)
        return Page(rows[:limit], len(rows) > limit)

    async def _around_damage(self, connection: AsyncConnection, query: Select[Any], order: str, most: int) -> RowList:
        """The rows that can still be read, each by itself; their keys come from an index, which has its own pages."""
        seq = self.table.c.seq
        rows: RowList = []
        for key in sorted((await connection.execute(select(seq))).scalars(), reverse=order == "desc"):
            try:
                row = (await connection.execute(query.where(seq == key))).mappings().first()
            except DBAPIError as error:
                if not malformed(error):
                    raise
                continue
            if row is not None:
                rows.append(dict(row))
            if len(rows) == most:
                break
        return rows

    async def _seq(self, connection: AsyncConnection, after: str, parent: str) -> int:
        if storable(after):
            seq = (await connection.execute(select(self.table.c.seq).where(self.where(after, parent)))).scalar()
            if seq is None:
                query = select(tombstones.c.seq).where(
                    tombstones.c.kind == self.table.name,
                    tombstones.c.parent == (parent if self.parent else ""),
                    tombstones.c.id == after,
                )
                seq = (await connection.execute(query)).scalar()
            if seq is not None:
                return int(seq)
        raise BadRequest(
            "`after` names no object of this list.", "Pass the `last_id` of the page before.", param="after"
        )

"""Skills and their versions. Rules that span rows (default, latest, cascade) are kept inside one transaction each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from skilldeck_daemon.store.database import Database
from skilldeck_daemon.store.ids import new_id, now, storable
from skilldeck_daemon.store.page import Page
from skilldeck_daemon.store.records import KeptNeeds, NewVersion, SkillColumns, SkillRow, VersionNotes, VersionRow
from skilldeck_daemon.store.tables.documents import Row, Rows, documents, dumps, loads
from skilldeck_daemon.store.tables.schema import skill_versions, skills, tombstones

# Everything but the file list, which may hold 500 entries.
_BRIEF = tuple(column.name for column in skill_versions.c if column.name not in ("seq", "files"))


# Classes with a method named `list` cannot say list[...] in their annotations.
Numbers = list[int]
SkillRows = list[SkillRow]
NeedsList = list[KeptNeeds]
VersionRows = list[VersionRow]
EMPTIED = "skills.emptied"
"""The kind of tombstone that a skill gets beside its own when it goes with its last version."""


class DefaultVersionInUse(Exception):
    """The default version was to be deleted while others exist."""


class Skills:
    """Rows as dicts. A skill row carries `default` and `latest`: the rows of those versions, without their files."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._rows = Rows[SkillColumns](db, skills)
        self._versions = Rows[Row](db, skill_versions)

    async def create(self, version: NewVersion) -> tuple[SkillRow, VersionRow]:
        """A new skill whose version 1 is `version` (name, description, digest, origin, source, watched, files, doc)."""
        skill_id, at = new_id("skill"), now()
        async with self._db.write() as connection:
            row = {"id": skill_id, "created_at": at, "name": version["name"]}
            await self._rows.insert({**row, "default_version": 1, "latest_version": 1, "last_version": 1}, connection)
            added = await self._insert_version(connection, skill_id, 1, at, version)
        return await self._required(skill_id), added

    async def add_version(
        self, skill_id: str, version: NewVersion, default: bool
    ) -> tuple[SkillRow, VersionRow] | None:
        """The next version; None when there is no such skill."""
        if not storable(skill_id):
            return None
        async with self._db.write() as connection:
            query = select(skills.c.last_version).where(skills.c.id == skill_id).with_for_update()
            last = (await connection.execute(query)).scalar()
            if last is None:
                return None
            added = await self._insert_version(connection, skill_id, last + 1, now(), version)
            values: Row = {"latest_version": last + 1, "last_version": last + 1}
            if default:
                values |= {"default_version": last + 1, "name": version["name"]}
            await connection.execute(update(skills).where(skills.c.id == skill_id).values(**values))
        return await self._required(skill_id), added

    async def _insert_version(
        self, connection: AsyncConnection, skill_id: str, number: int, at: int, version: NewVersion
    ) -> VersionRow:
        row = {
            "id": new_id("skillver"),
            "skill_id": skill_id,
            "version": number,
            "created_at": at,
            "promoted": False,
            "name": version["name"],
            "description": version["description"],
            "digest": version["digest"],
            "origin": version["origin"],
            "source": version["source"],
            "watched": version["watched"],
            "files": dumps(version["files"]),
            "doc": dumps(version["doc"]),
        }
        await connection.execute(insert(skill_versions).values(**row))
        return _version(row)

    async def get(self, skill_id: str) -> SkillRow | None:
        while (row := await self._rows.get(skill_id)) is not None:
            found = await self._shown([row])
            if skill_id in found:
                return found[skill_id]
            # The version it named was deleted after the row was read: the row names another by now, or is gone.
        return None

    async def _required(self, skill_id: str) -> SkillRow:
        row = await self.get(skill_id)
        assert row is not None, "a skill vanished between its commit and its answer"
        return row

    async def list(self, limit: int, order: str = "desc", after: str = "", name: str | None = None) -> Page[SkillRow]:
        filters = [] if name is None else [skills.c.name == name]
        page = await self._rows.list(limit, order, after, *filters)
        return Page(await self._with_versions(page.data), page.has_more)

    async def by_name(self, name: str) -> SkillRow | None:
        """The newest skill whose default version has this name."""
        page = await self.list(1, "desc", name=name)
        return page.data[0] if page.data else None

    async def promote(self, skill_id: str, number: int) -> None:
        """Keep a version from being pruned."""
        mine = (skill_versions.c.skill_id == skill_id) & (skill_versions.c.version == number)
        async with self._db.write() as connection:
            await connection.execute(update(skill_versions).where(mine).values(promoted=True))

    async def _with_versions(self, rows: Sequence[SkillColumns]) -> SkillRows:
        found = await self._shown(rows)
        complete = [found.get(row["id"]) or await self.get(row["id"]) for row in rows]
        return [row for row in complete if row is not None]

    async def _shown(self, rows: Sequence[SkillColumns]) -> dict[str, SkillRow]:
        """The rows with the versions they show, by id, in one query; without those whose versions are not there.

        By the numbers in the rows: what the table says by now may name a version that was added in between.
        """
        wanted = {(row["id"], number) for row in rows for number in (row["default_version"], row["latest_version"])}
        if not wanted:
            return {}
        version = skill_versions.c
        query = select(*(version[name] for name in _BRIEF)).where(
            # SQLite finds no index for pairs alone.
            version.skill_id.in_([row["id"] for row in rows]),
            tuple_(version.skill_id, version.version).in_(sorted(wanted)),
        )
        async with self._db.read() as connection:
            found = [_version(dict(row)) for row in (await connection.execute(query)).mappings()]
        by_key = {(row["skill_id"], row["version"]): row for row in found}
        shown: dict[str, SkillRow] = {}
        for row in rows:
            default = by_key.get((row["id"], row["default_version"]))
            latest = by_key.get((row["id"], row["latest_version"]))
            if default is not None and latest is not None:
                shown[row["id"]] = {**row, "default": default, "latest": latest}
        return shown

    async def version(self, skill_id: str, number: int) -> VersionRow | None:
        """One version, with its files."""
        if not storable(skill_id) or not 0 < number < 2**31:
            return None
        query = select(skill_versions).where(skill_versions.c.skill_id == skill_id, skill_versions.c.version == number)
        async with self._db.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return _version(dict(row)) if row is not None else None

    async def versions(self, skill_id: str, limit: int, order: str = "desc", after: str = "") -> Page[VersionRow]:
        mine = skill_versions.c.skill_id == skill_id
        page = await self._versions.list(limit, order, after, mine, columns=_BRIEF)
        return page.map(_version)

    async def set_default(self, skill_id: str, number: int) -> SkillRow | None:
        """None when there is no such version. The version counts as promoted: pruning leaves it alone from now on."""
        version = await self.version(skill_id, number)
        if version is None:
            return None
        async with self._db.write() as connection:
            mine = (skill_versions.c.skill_id == skill_id) & (skill_versions.c.version == number)
            result = await connection.execute(update(skill_versions).where(mine).values(promoted=True))
            if result.rowcount == 0:
                return None
            values = {"default_version": number, "name": version["name"]}
            await connection.execute(update(skills).where(skills.c.id == skill_id).values(**values))
        return await self._required(skill_id)

    async def unread(self, most: int = 100) -> VersionRows:
        """Versions, with their files, that were stored before it was read what they import and need."""
        query = select(skill_versions).where(skill_versions.c.doc.not_like('%"needs"%')).limit(most)
        async with self._db.read() as connection:
            return [_version(dict(row)) for row in (await connection.execute(query)).mappings()]

    async def describe(self, version: VersionRow) -> None:
        """Keep the `doc` of a version."""
        mine = skill_versions.c.id == version["id"]
        async with self._db.write() as connection:
            await connection.execute(update(skill_versions).where(mine).values(doc=dumps(version["doc"])))

    async def came_from(self, version: VersionRow, source: str, origin: str) -> None:
        """Where its content was fetched from, the last time."""
        mine = skill_versions.c.id == version["id"]
        async with self._db.write() as connection:
            await connection.execute(update(skill_versions).where(mine).values(source=source, origin=origin))

    async def needs(self) -> NeedsList:
        """What the versions there are say they need, as they keep it; those that need nothing are left out."""
        async with self._db.read() as connection:
            docs = (await connection.execute(select(skill_versions.c.doc))).scalars().all()
        notes: Page[VersionNotes] = documents(self._db, Page([{"doc": doc} for doc in docs]), loads)
        found = [doc.get("needs") or {} for doc in notes.data]
        return [needs for needs in found if needs.get("python") or needs.get("node")]

    async def delete(self, skill_id: str) -> bool:
        """With all its versions."""
        return await self._rows.delete(skill_id)

    async def delete_version(self, skill_id: str, number: int) -> tuple[VersionRow, bool] | None:
        """The deleted row and whether the skill went with it; None when there is none.

        Raises:
            DefaultVersionInUse: it is the default and not the only one.
        """
        version = await self.version(skill_id, number)
        if version is None:
            return None
        async with self._db.write() as connection:
            query = select(skills.c.default_version, skills.c.latest_version).where(skills.c.id == skill_id)
            state = (await connection.execute(query.with_for_update())).first()
            count_query = select(func.count()).select_from(skill_versions).where(skill_versions.c.skill_id == skill_id)
            count = (await connection.execute(count_query)).scalar_one()
            if state is None:
                return None
            if count == 1:
                await self._rows.delete(skill_id, connection=connection)
                await connection.execute(insert(tombstones).values(kind=EMPTIED, parent="", id=skill_id, seq=0))
                return version, True
            if state.default_version == number:
                raise DefaultVersionInUse
            if not await self._versions.delete(version["id"], connection=connection):
                return None
            newest = select(func.max(skill_versions.c.version)).where(skill_versions.c.skill_id == skill_id)
            latest = (await connection.execute(newest)).scalar_one()
            await connection.execute(update(skills).where(skills.c.id == skill_id).values(latest_version=latest))
        return version, False

    async def delete_emptied(self, skill_id: str) -> bool:
        """Whether the skill went with its last version and was not deleted since, as it is now."""
        if not storable(skill_id):
            return False
        async with self._db.write(deletes=True) as connection:
            marks = delete(tombstones).where(tombstones.c.kind == EMPTIED, tombstones.c.id == skill_id)
            return (await connection.execute(marks)).rowcount > 0

    async def prunable(self, skill_id: str, keep: int) -> Numbers:
        """Numbers of watched versions beyond the newest `keep`, oldest first; never the default or a promoted one."""
        version = skill_versions.c
        query = (
            select(version.version)
            .join(skills, version.skill_id == skills.c.id)
            .where(
                version.skill_id == skill_id,
                version.watched.is_(True),
                version.promoted.is_(False),
                version.version != skills.c.latest_version,
            )
            .order_by(version.version.desc())
        )
        defaults = select(skills.c.default_version).where(skills.c.id == skill_id)
        async with self._db.read() as connection:
            default = (await connection.execute(defaults)).scalar()
            numbers = list((await connection.execute(query)).scalars())
        # The latest version is one of those kept.
        old = numbers[max(keep - 1, 0) :]
        return sorted(number for number in old if number != default)


def _version(row: Row) -> VersionRow:
    decoded: Any = {**row, "doc": loads(row["doc"])}
    if "files" in row:
        decoded["files"] = loads(row["files"])
    decoded.pop("seq", None)
    version: VersionRow = decoded
    return version

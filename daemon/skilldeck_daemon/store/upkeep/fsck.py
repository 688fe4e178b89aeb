"""Checks a store without changing it: the schema, the rows, and every blob by its digest.

    report = await check(Store(url, blobs))     # a store that is not open; a daemon may run on it
    report.problems                             # empty: everything is sound

What is found: a schema other than this version's, a database whose pages or references are damaged, documents that
cannot be read, skills without their default or latest version, blobs that are missing or do not have their digest.
Blobs that no row names are no damage: they are counted, and the daemon deletes them an hour after they were written.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import ColumnClause, Connection, column, inspect, select, table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from skilldeck_daemon.store import migrations
from skilldeck_daemon.store.blobs import Blobs
from skilldeck_daemon.store.database import Database
from skilldeck_daemon.store.faults import StoreDamaged
from skilldeck_daemon.store.tables.schema import metadata
from skilldeck_shared.errors import SkilldeckError

RESTORE = "Restore a backup with `skilldeckd restore`."
# table: its JSON columns and its packed ones, the same in every schema that has it.
DOCUMENTS = {
    "responses": (("doc",), ()),
    "containers": (("doc",), ()),
    "container_files": (("doc",), ()),
    "conversations": (("doc",), ()),
    "conversation_items": (("doc",), ()),
    "chat_completions": (("doc",), ("messages",)),
    "approval_rules": (("doc",), ()),
    "evaluations": (("doc",), ()),
    "trials": (("doc",), ()),
    "skill_versions": (("doc", "files"), ()),
    "response_parts": ((), ("data",)),
}
KEYS = {"response_parts": "response_id"}
DANGLING = """
SELECT s.id FROM skills s
WHERE NOT EXISTS (SELECT 1 FROM skill_versions v WHERE v.skill_id = s.id AND v.version = s.default_version)
   OR NOT EXISTS (SELECT 1 FROM skill_versions v WHERE v.skill_id = s.id AND v.version = s.latest_version)
"""


@dataclass(frozen=True)
class Problem:
    """`kind`: schema, database, document, skill, missing, damaged. `what` it is about, what is `wrong`, the `fix`."""

    kind: str
    what: str
    wrong: str
    fix: str = RESTORE


@dataclass
class Report:
    """What was looked at and what was found. `bytes` of all blobs; `orphans` by name with their bytes."""

    schema: str = ""
    rows: int = 0
    blobs: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    orphans: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, what: str, wrong: str, fix: str = RESTORE) -> None:
        self.problems.append(Problem(kind, what, wrong, fix))


async def check(database: Database, blobs: Blobs) -> Report:
    """Look through everything; takes as long as reading it. Raises `Unavailable` when the database does not open."""
    report = Report()
    await database.open(migrate=False)
    try:
        async with database.read() as connection:
            named = await _database(connection, report, database.sqlite)
    except (DBAPIError, StoreDamaged) as error:
        cause = error.__cause__ if isinstance(error, StoreDamaged) else error
        report.add("database", database.shown, f"It cannot be read to its end: {getattr(cause, 'orig', cause)}.")
        return report
    finally:
        await database.close()
    if named is not None:
        await asyncio.to_thread(_blobs, blobs, named, report)
    return report


async def _database(connection: AsyncConnection, report: Report, sqlite: bool) -> dict[str, str] | None:
    """Checks what the database holds; returns what each blob is named by, None when the tables are not ours."""
    if sqlite:
        for (line,) in await connection.execute(text("PRAGMA integrity_check(20)")):
            if line != "ok":
                report.add("database", "integrity_check", str(line))
        for row in await connection.execute(text("PRAGMA foreign_key_check")):
            report.add("database", str(row[0]), f"Row {row[1]} belongs to a row of {row[2]} that is not there.")
    revision = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    report.schema = revision or ""
    if revision is None:
        report.add("schema", "alembic_version", "The database has no schema of skilldeck.")
        return None
    if revision not in migrations.known():
        report.add("schema", revision, "A newer skilldeck wrote it.", "Update skilldeck.")
        return None
    if revision == migrations.head():
        for difference in await connection.run_sync(_differences):
            report.add("schema", revision, difference)
        if any(problem.kind == "schema" for problem in report.problems):
            return None
    await _documents(connection, report)
    for (skill,) in await connection.execute(text(DANGLING)):
        report.add("skill", str(skill), "It has no row of its default or latest version.")
    return await _named(connection)


def _differences(connection: Connection) -> list[str]:
    return [_shown(difference) for difference in compare_metadata(MigrationContext.configure(connection), metadata)]


def _shown(difference: Any) -> str:
    """One of Alembic's tuples in a few words: (operation, …, the table, column or index)."""
    first = difference[0] if isinstance(difference, list) else difference
    names = [str(getattr(part, "name", part)) for part in first[1:] if part is not None]
    return f"The tables are not those of this version: {first[0]} {' '.join(names)[:200]}."


async def _documents(connection: AsyncConnection, report: Report) -> None:
    there = set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))
    for name, (texts, packed) in DOCUMENTS.items():
        if name not in there:
            continue
        key = KEYS.get(name, "id")
        columns: list[ColumnClause[Any]] = [column(entry) for entry in (key, *texts, *packed)]
        query = select(*columns).select_from(table(name))
        rows = await connection.stream(query)
        async for part in rows.partitions(500):
            report.rows += len(part)
            for id, wrong in await asyncio.to_thread(_unreadable, part, len(texts)):
                report.add("document", f"{name} {id}", f"It cannot be read: {wrong}.")


def _unreadable(rows: Any, texts: int) -> list[tuple[str, str]]:
    wrong = []
    for id, *values in rows:
        try:
            for value in values[:texts]:
                json.loads(value)
            for value in values[texts:]:
                json.loads(zlib.decompress(value))
        except (ValueError, TypeError, zlib.error) as error:
            wrong.append((str(id), str(error)))
    return wrong


async def _named(connection: AsyncConnection) -> dict[str, str]:
    """For each blob a row that names it, in words."""
    named: dict[str, str] = {}
    for query, words in (
        ("SELECT sha256, id, filename FROM files", "file {} ({})"),
        ("SELECT sha256, id, upload_id FROM upload_parts", "part {} of {}"),
        ("SELECT sha256, id, path FROM container_files WHERE sha256 IS NOT NULL", "container file {} ({})"),
    ):
        async for sha, *which in await connection.stream(text(query)):
            named.setdefault(sha, words.format(*which))
    async for skill, version, files in await connection.stream(
        text("SELECT skill_id, version, files FROM skill_versions")
    ):
        try:
            for entry in json.loads(files):
                named.setdefault(entry["sha256"], f"{entry['path']} of skill {skill}, version {version}")
        except (ValueError, TypeError, KeyError):
            continue  # reported as an unreadable document
    return named


def _blobs(blobs: Blobs, named: dict[str, str], report: Report) -> None:
    there: set[str] = set()
    for sha, size in blobs.each():
        there.add(sha)
        report.blobs += 1
        report.bytes += size
        where = named.get(sha)
        try:
            sound = blobs.sound(sha)
        except (OSError, SkilldeckError):
            sound = False
        if not sound:
            report.add("damaged", sha, f"It does not have its SHA-256; {where or 'nothing'} needs it.", _again(where))
        elif where is None:
            report.orphans[sha] = size
    for sha in sorted(set(named) - there):
        report.add("missing", sha, f"{named[sha]} needs it.", _again(named[sha]))


def _again(where: str | None) -> str:
    return "Upload the same content again, or restore a backup." if where else "It goes with the next collection."

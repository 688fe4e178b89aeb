"""The store beneath the repositories: migrations, durability settings, paging, blobs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, event, insert, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from skilldeck_daemon.store import BlobMissing, Store, migrations, sqlite_url
from skilldeck_daemon.store.tables.documents import Rows
from skilldeck_daemon.store.tables.schema import files, metadata, responses
from skilldeck_shared.errors import BadRequest, Unavailable
from support.library import open_store
from support.wait import until


def make(root: Path) -> Store:
    return Store(sqlite_url(root / "store.db"), root / "blobs")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await open_store(tmp_path)
    yield store
    await store.close()


async def scalar(store: Store, statement: str) -> Any:
    async with store.database.read() as connection:
        return (await connection.execute(text(statement))).scalar()


# Opening


@pytest.mark.parametrize("bring", [migrations.upgrade, migrations.migrate], ids=["at once", "step by step"])
def test_a_new_store_and_the_migrations_make_exactly_the_tables_of_the_schema(
    bring: Callable[[Connection], None], tmp_path: Path
) -> None:
    with create_engine(f"sqlite:///{tmp_path / 'new.db'}").begin() as connection:
        bring(connection)
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == migrations.HEAD == migrations._script().get_current_head()
        before = sorted(connection.scalars(text("SELECT sql FROM sqlite_master")).all(), key=str)
        migrations.upgrade(connection)
        assert sorted(connection.scalars(text("SELECT sql FROM sqlite_master")).all(), key=str) == before


def test_opening_a_store_of_this_version_does_not_load_alembic(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; from skilldeck_daemon.store import Store, sqlite_url\n"
        "async def main():\n"
        "    for _ in range(2):\n"
        "        store = Store(sqlite_url(Path(sys.argv[1]) / 'a.db'), Path(sys.argv[1]) / 'blobs')\n"
        "        await store.open(); await store.close()\n"
        "asyncio.run(main()); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_schema_can_be_made_on_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert "CREATE INDEX" in str(CreateIndex(index).compile(dialect=dialect))
    assert "seq BIGSERIAL" in str(CreateTable(files).compile(dialect=dialect))


async def test_sqlite_is_durable_and_checks_references(store: Store) -> None:
    assert await scalar(store, "PRAGMA journal_mode") == "wal"
    assert await scalar(store, "PRAGMA synchronous") == 2
    assert await scalar(store, "PRAGMA foreign_keys") == 1


async def test_opening_again_finds_everything_and_clears_what_was_half_written(tmp_path: Path) -> None:
    store = make(tmp_path)
    await store.open()
    await store.rules.add({"prefix": "ls"})
    (store.blobs.temporary / "half").write_bytes(b"x")
    await store.close()
    again = make(tmp_path)
    await again.open()
    assert [rule["prefix"] for rule in await again.rules.list()] == ["ls"]
    assert list(again.blobs.temporary.iterdir()) == []
    await again.close()


async def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    store = make(tmp_path)
    await store.open()
    async with store.database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await store.close()
    with pytest.raises(Unavailable, match="newer"):
        await make(tmp_path).open()


async def test_what_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(Unavailable, match="cannot be opened"):
        await make(tmp_path).open()
    assert (tmp_path / "store.db").read_bytes().startswith(b"something else")


async def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    async def half() -> None:
        async with store.database.write() as connection:
            await Rows(store.database, responses).insert(row("resp_1"), connection)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await half()
    assert await store.responses.get("resp_1") is None


# Paging


def row(id: str) -> dict[str, Any]:
    return {
        "id": id,
        "created_at": 1,
        "status": "completed",
        "model": "m",
        "background": False,
        "instance": "",
        "doc": "{}",
    }


async def test_pages_cost_the_same_at_any_depth(store: Store) -> None:
    """No page scans or sorts a table: every list is a walk along an index or the primary key."""
    newest = "ORDER BY seq DESC LIMIT 20"
    queries = {
        f"SELECT doc FROM responses WHERE seq < 500 {newest}": "SEARCH responses USING INTEGER PRIMARY KEY",
        f"SELECT doc FROM responses WHERE conversation_id = 'c' AND seq < 5 {newest}": "ix_responses_conversation",
        "SELECT doc FROM responses WHERE id = 'r'": "autoindex_responses",
        "SELECT id FROM responses WHERE status IN ('queued', 'in_progress')": "ix_responses_status",
        f"SELECT doc FROM containers WHERE status = 'running' AND seq < 5 {newest}": "ix_containers_status",
        f"SELECT * FROM files WHERE purpose = 'p' AND seq < 5 {newest}": "ix_files_purpose_seq",
        "SELECT id FROM files WHERE expires_at <= 5": "ix_files_expires_at",
        f"SELECT doc FROM conversation_items WHERE conversation_id = 'c' AND seq < 5 {newest}": "conversation_id_seq",
        "SELECT doc FROM conversation_items WHERE conversation_id = 'c' AND id = 'i'": "autoindex_conversation_items",
        f"SELECT doc FROM container_files WHERE container_id = 'c' AND seq < 5 {newest}": "container_id_seq",
        f"SELECT id FROM skill_versions WHERE skill_id = 's' AND seq < 5 {newest}": "skill_id_seq",
        "SELECT id FROM skill_versions WHERE skill_id = 's' AND version = 5": "autoindex_skill_versions",
        f"SELECT id FROM skills WHERE name = 'n' {newest}": "ix_skills_name",
        "SELECT seq FROM tombstones WHERE kind = 'k' AND parent = 'p' AND id = 'i'": "INDEX",
    }
    async with store.database.read() as connection:
        for query, index in queries.items():
            plan = (await connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))).all()
            steps = " / ".join(str(step[3]) for step in plan)
            assert index in steps, f"{query}: {steps}"
            assert "TEMP B-TREE" not in steps, f"{query}: {steps}"
            assert "SCAN" not in steps, f"{query}: {steps}"


async def test_a_page_after_a_deleted_row_goes_on_where_it_was(store: Store) -> None:
    rows = Rows(store.database, responses)
    async with store.database.write() as connection:
        await connection.execute(insert(responses), [row(f"resp_{index}") for index in range(6)])
    await rows.delete("resp_3")
    assert [r["id"] for r in (await rows.list(9, "desc", "resp_3")).data] == ["resp_2", "resp_1", "resp_0"]
    await rows.delete("resp_5")
    await rows.insert(row("resp_new"))
    # The newest row was deleted: the next one must not take its place in the order.
    assert [r["id"] for r in (await rows.list(9, "asc", "resp_5")).data] == ["resp_new"]
    with pytest.raises(BadRequest) as caught:
        await rows.list(9, "desc", "resp_never")
    assert caught.value.param == "after"


# Blobs


async def test_blobs_are_shared_immutable_and_verified(store: Store, tmp_path: Path) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, 3_000_000, 100_000):
            yield content[start : start + 100_000]

    content = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(content)
    stored = {await store.blobs.put(source) for source in (content, tmp_path / "file", stream())}
    assert len(stored) == 1
    (blob,) = stored
    path = store.blobs.require(blob.sha256)
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o444
    assert await store.blobs.verify(blob.sha256)
    path.chmod(0o644)
    path.write_bytes(b"rot")
    assert not await store.blobs.verify(blob.sha256)
    path.unlink()
    with pytest.raises(BlobMissing):
        store.blobs.require(blob.sha256)


async def test_an_interrupted_write_leaves_nothing(store: Store) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(2_000_000)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await store.blobs.put(broken())
    task = asyncio.create_task(_stage_and_wait(store))
    await until(lambda: bool(list(store.blobs.temporary.iterdir())))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [path for path in store.blobs.root.rglob("*") if path != store.blobs.temporary] == []


async def _stage_and_wait(store: Store) -> None:
    async with store.blobs.staging() as folder:
        (folder / "file").write_bytes(b"x")
        await asyncio.Event().wait()


async def test_only_old_blobs_that_nothing_names_are_collected(store: Store) -> None:
    kept, loose, fresh = [await store.blobs.put(name) for name in (b"kept", b"loose", b"fresh")]
    for blob in (kept, loose):
        os.utime(store.blobs.path(blob.sha256), (1, 1))
    await store.containers.put({"id": "cntr_1", "status": "running", "created_at": 1})
    await store.container_files.put({"id": "cfile_1", "container_id": "cntr_1", "path": "/a"}, kept.sha256)
    assert await store.collect_blobs() == len(b"loose")
    assert not store.blobs.path(loose.sha256).exists()
    assert store.blobs.path(fresh.sha256).exists()
    await store.containers.delete("cntr_1")
    assert await store.collect_blobs() == len(b"kept")


async def test_a_blob_stored_again_counts_as_new(store: Store) -> None:
    blob = await store.blobs.put(b"again")
    os.utime(store.blobs.path(blob.sha256), (1, 1))
    await store.blobs.put(b"again")
    assert await store.collect_blobs() == 0


async def test_a_skill_is_there_while_versions_are_added_and_the_default_moves(store: Store) -> None:
    version = {"name": "a", "description": "d", "digest": "0" * 64, "origin": "upload", "source": ""}
    version |= {"watched": False, "files": [], "doc": {}}
    skill, _ = await store.skills.create(version)
    over = asyncio.Event()

    async def reader() -> int:
        count = 0
        while not over.is_set():
            found = await store.skills.get(skill["id"])
            listed = (await store.skills.list(10)).data
            assert found is not None
            assert [row["id"] for row in listed] == [skill["id"]]
            assert found["latest"]["version"] == found["latest_version"]
            count += 1
        return count

    readers = [asyncio.ensure_future(reader()) for _ in range(4)]
    for number in range(2, 22):
        await store.skills.add_version(skill["id"], version, default=True)
        await store.skills.delete_version(skill["id"], number - 1)
    over.set()
    assert all(await asyncio.gather(*readers))


async def test_reads_of_a_page_of_skills_use_indices(store: Store) -> None:
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    version = {"name": "a", "description": "d", "digest": "0" * 64, "origin": "upload", "source": ""}
    version |= {"watched": False, "files": [], "doc": {}}
    skills = [(await store.skills.create(version))[0] for _ in range(3)]
    engine = store.database._opened().sync_engine
    event.listen(engine, "before_cursor_execute", note)
    await store.skills.list(2, after=skills[2]["id"])
    await store.skills.versions(skills[0]["id"], 2)
    await store.responses.list(2)
    event.remove(engine, "before_cursor_execute", note)
    assert len(statements) >= 4
    async with store.database.read() as connection:
        for statement, parameters in statements:
            plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
            # A scan that ends after its LIMIT is a walk along `seq`, the primary key.
            scans = [row[3] for row in plan if row[3].startswith("SCAN") and "CONSTANT ROW" not in row[3]]
            assert not scans or ("ORDER BY" in statement and "LIMIT" in statement), (statement, plan)
            assert not any("TEMP B-TREE FOR ORDER BY" in row[3] for row in plan), (statement, plan)

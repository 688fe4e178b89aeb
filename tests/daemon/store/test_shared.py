"""The store on PostgreSQL and an S3 server: the same promises, with several daemons at once."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from skilldeck_daemon.store import BlobMissing, Store, open_parts
from skilldeck_daemon.store.blobs import BlobDamaged
from skilldeck_daemon.store.faults import StoreUnavailable
from skilldeck_daemon.store.tables.schema import metadata
from skilldeck_daemon.store.upkeep.fsck import check
from skilldeck_shared.errors import BadRequest
from support.postgres import create, needs_postgres, object_store, postgres

pytestmark = needs_postgres
names = itertools.count(1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with object_store() as variables:
        yield variables


@pytest.fixture
async def stores(
    cluster: str, s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Store, Store]]:
    """Two daemons' stores on one database and one bucket, opened at once: their migrations wait for each other."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    number = next(names)
    url = await create(cluster, f"store{number}")
    both = Store(url, tmp_path / "a", f"s3://blobs/{number}"), Store(url, tmp_path / "b", f"s3://blobs/{number}")
    await asyncio.gather(*(store.open() for store in both))
    yield both
    for store in both:
        await store.close()


def response(id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "object": "response", "created_at": 1, "status": "queued", "model": "m", "output": [], **more}


async def test_the_tables_are_those_of_the_schema(stores: tuple[Store, Store]) -> None:
    async with stores[0].database.read() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )
    assert differences == []


async def test_what_one_daemon_stores_the_other_reads(stores: tuple[Store, Store]) -> None:
    one, two = stores
    content = os.urandom(3_000_000)
    blob = await one.blobs.put(content)
    assert (await two.blobs.fetch(blob.sha256)).read_bytes() == content
    # The folder is a cache: without it nothing is lost.
    shutil.rmtree(one.blobs.root)
    one.blobs.prepare()
    assert (await one.blobs.fetch(blob.sha256)).read_bytes() == content
    with pytest.raises(BlobMissing):
        await one.blobs.fetch("0" * 64)
    async with two.blobs.staging() as folder:
        (folder / "x").write_bytes(content)
        await two.blobs.put_staged([(folder / "x", blob.sha256)])
    assert await two.blobs.missing([blob.sha256, "1" * 64]) == ["1" * 64]
    items = [{"id": "msg_1", "text": "half a pair \ud800 and a NUL \0"}]
    await one.responses.create(response("resp_1"), items, instance="one", lease=60)
    assert await two.responses.input_items("resp_1") == [{**items[0], "text": "half a pair \ufffd and a NUL \0"}]
    assert await one.leases.agree("key", b"first") == await two.leases.agree("key", b"second") == b"first"


async def test_a_damaged_object_is_found_on_read_and_by_fsck(
    stores: tuple[Store, Store], tmp_path: Path, s3: dict[str, str]
) -> None:
    one, two = stores
    blob = await one.blobs.put(b"content" * 1000)
    lost = await one.blobs.put(b"lost")
    for sha in (blob.sha256, lost.sha256):
        row = {"id": f"file-{sha}", "created_at": 1, "filename": "f", "purpose": "user_data", "bytes": 1}
        await one.files.add({**row, "sha256": sha, "status": "processed", "mime_type": "a/b", "expires_at": None})
    one.blobs._fs.pipe_file(one.blobs._key(blob.sha256), b"c0ntent" * 1000)  # type: ignore[attr-defined]
    one.blobs._fs.rm_file(one.blobs._key(lost.sha256))  # type: ignore[attr-defined]
    with pytest.raises(BlobDamaged):
        await two.blobs.fetch(blob.sha256)
    url = two.database._parsed.render_as_string(hide_password=False)
    database, blobs = open_parts(tmp_path / "third", url, two.blobs.url)  # type: ignore[attr-defined]
    (tmp_path / "third" / "blobs" / "tmp").mkdir(parents=True)
    report = await check(database, blobs)
    found = {(problem.kind, problem.what) for problem in report.problems}
    assert found == {("damaged", blob.sha256), ("missing", lost.sha256)}


async def test_only_old_objects_that_nothing_names_are_collected(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = stores
    kept, loose = await one.blobs.put(b"kept"), await one.blobs.put(b"loose")
    await one.containers.put({"id": "cntr_1", "status": "running", "created_at": 1})
    await one.container_files.put({"id": "cfile_1", "container_id": "cntr_1", "path": "/a"}, kept.sha256)
    assert await two.collect_blobs() == 0
    await asyncio.sleep(1.1)  # an object's age has whole seconds
    assert await two.collect_blobs(grace=0) > 0
    assert [sha for sha, _ in two.blobs.each()] == [kept.sha256]
    assert await one.blobs.missing([loose.sha256]) == [loose.sha256]


async def test_a_run_is_claimed_exactly_once_and_its_former_owner_writes_nothing(stores: tuple[Store, Store]) -> None:
    one, two = stores
    ids = [f"resp_{number}" for number in range(30)]
    for id in ids:
        await one.responses.create(response(id), [], True, "dead", request={"body": {}}, lease=3600)
    assert await two.leases.claim("b", 60, 100) == []
    await one.leases.release("dead", ids)
    claims = await asyncio.gather(
        *(store.leases.claim(name, 60, 7) for store in stores for name in ("a", "b") for _ in range(4))
    )
    claimed = [claim.response["id"] for batch in claims for claim in batch]
    assert sorted(claimed) == sorted(ids), "one was claimed twice, or not at all"
    assert {claim.attempts for batch in claims for claim in batch} == {1}
    done = response("resp_0", status="completed")
    assert not await one.responses.update(done, "dead")
    assert not await one.responses.finish(done, [{"n": 1}], None, "dead")
    owner = "b" if await one.leases.owned_by_others("a", ["resp_0"]) else "a"
    assert await two.responses.finish(done, [{"n": 2}], None, owner)
    assert await one.responses.events("resp_0") == [{"n": 2}]
    await two.leases.ask_cancel("resp_1")
    renewed = [await one.leases.renew(name, 60) for name in ("a", "b")]
    assert frozenset.union(*(entry.kept for entry in renewed)) == set(ids) - {"resp_0"}
    assert frozenset.union(*(entry.cancel for entry in renewed)) == {"resp_1"}


async def test_versions_parts_and_conversations_keep_their_order_under_two_daemons(
    stores: tuple[Store, Store],
) -> None:
    version = {"name": "a", "description": "d", "digest": "0" * 64, "origin": "upload", "source": "", "watched": False}
    version |= {"files": [], "doc": {}}
    skill, _ = await stores[0].skills.create(version)
    added = await asyncio.gather(*(store.skills.add_version(skill["id"], version, True) for store in stores * 10))
    assert sorted(row[1]["version"] for row in added if row) == list(range(2, 22))
    await stores[0].conversations.create({"id": "conv_1", "created_at": 1}, [])
    items = [[{"id": f"msg_{number}", "n": number}] for number in range(20)]
    both = stores * 10
    await asyncio.gather(*(both[n].conversations.add_items("conv_1", items[n]) for n in range(20)))
    assert {item["n"] for item in await stores[1].conversations.all_items("conv_1")} == set(range(20))
    asked = response("resp_1", conversation={"id": "conv_1"})
    results = await asyncio.gather(
        *(both[n].responses.create({**asked, "id": f"resp_{n}"}, [], instance="x", lease=60) for n in range(8)),
        return_exceptions=True,
    )
    assert results.count(None) == 1
    assert {error.code for error in results if isinstance(error, BadRequest)} == {"conversation_locked"}


async def test_a_database_or_bucket_that_does_not_answer_is_told(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = stores
    async with one.database.read() as connection:
        await connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename > ''"
        )
    assert await two.rules.list() == []  # a lost connection is replaced
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    lost = Store(two.database._parsed.render_as_string(hide_password=False), two.blobs.root, "s3://blobs/lost")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await lost.open()
    await lost.close()

"""Backups: whole, made under load, restored whole or not at all; and fsck, which finds what is damaged."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.store import Store, open_parts, sqlite_url
from skilldeck_daemon.store.owner import DataDirInUse, own
from skilldeck_daemon.store.upkeep import backup
from skilldeck_daemon.store.upkeep.fsck import Report, check
from skilldeck_shared.errors import Conflict, SkilldeckError
from support.daemon import SHELL, running
from support.library import open_store
from support.scripted_model import Turn, shell


async def make(root: Path) -> tuple[Store, list[str]]:
    """A closed store below `root` with three files and a skill; the digests of its blobs."""
    store = await open_store(root)
    (root / "store.db").rename(root / "skilldeck.db")
    await store.close()
    store = Store(sqlite_url(root / "skilldeck.db"), root / "blobs")
    await store.open()
    hashes = []
    for index, content in enumerate((b"first", os.urandom(300_000), b"third")):
        blob = await store.blobs.put(content)
        hashes.append(blob.sha256)
        row = {"id": f"file-{index}", "created_at": 1, "filename": f"{index}.bin", "purpose": "user_data"}
        row |= {"bytes": blob.size, "sha256": blob.sha256, "status": "processed", "mime_type": "text/plain"}
        await store.files.add({**row, "expires_at": None})
    manifest = await store.blobs.put(b"---\nname: a\n---\n")
    hashes.append(manifest.sha256)
    version = {"name": "a", "description": "d", "digest": "0" * 64, "origin": "upload", "source": "", "watched": False}
    entry = {"path": "SKILL.md", "bytes": manifest.size, "sha256": manifest.sha256, "executable": False}
    await store.skills.create({**version, "files": [entry], "doc": {}})
    await store.responses.create({"id": "resp_1", "status": "completed", "created_at": 1, "model": "m"}, [{"n": 1}])
    (root / "seal.key").write_bytes(b"k" * 32)
    await store.close()
    return store, hashes


async def fsck(root: Path) -> Report:
    return await check(*open_parts(root))


def cli(*arguments: str, code: int = 0) -> Any:
    command = [sys.executable, "-m", "skilldeck_daemon", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if "--json" in arguments and done.stdout else done.stderr


def state(folder: Path) -> dict[str, bytes]:
    """Every file below the folder but the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "daemon.lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# Backup and restore


async def test_a_backup_taken_from_a_running_daemon_becomes_the_same_daemon_elsewhere(tmp_path: Path) -> None:
    async with running(Turn(shell("cat a.csv")), Turn("Read."), strict=False, data_dir=tmp_path / "data") as daemon:
        file = await daemon.client.files.create(file=("a.csv", b"1,2\n"), purpose="user_data")
        skill = await daemon.client.skills.create(files=[("a/SKILL.md", b"---\nname: a\ndescription: d\n---\n")])
        item = {"role": "user", "content": [{"type": "input_file", "file_id": file.id}]}
        response = await daemon.respond([item], tools=[SHELL])
        writers = [asyncio.create_task(_write(daemon.client, name)) for name in range(4)]
        made = await asyncio.to_thread(
            cli, "backup", str(tmp_path / "b"), "--data-dir", str(tmp_path / "data"), "--json"
        )
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
    assert (made["damaged"], made["blobs"] >= 2) == ([], True)
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600
    target = str(tmp_path / "again")
    restored = await asyncio.to_thread(cli, "restore", str(tmp_path / "b"), "--data-dir", target, "--json")
    assert restored["blobs"] == made["blobs"]
    assert (await asyncio.to_thread(cli, "fsck", "--data-dir", target, "--json"))["ok"] is True
    async with running(Turn("Still 2."), data_dir=tmp_path / "again") as daemon:
        assert (await daemon.http.get(f"/responses/{response['id']}")).json() == response
        assert (await daemon.client.files.content(file.id)).content == b"1,2\n"
        assert await daemon.client.skills.retrieve(skill.id) == skill
        # Each file that the snapshot has is there with its content: rows and blobs are of one moment.
        async for other in daemon.client.files.list():
            assert len((await daemon.client.files.content(other.id)).content) == other.bytes
        assert (await daemon.respond("again", previous_response_id=response["id"]))["status"] == "completed"


async def _write(client: Any, name: int) -> None:
    for number in range(20):
        await client.files.create(file=(f"{name}.txt", os.urandom(20_000) + b"%d" % number), purpose="user_data")


async def test_nothing_is_collected_while_a_backup_is_made(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    loose = await store.blobs.put(b"loose")
    os.utime(store.blobs.path(loose.sha256), (1, 1))
    with store.blobs.pinned():
        assert await store.collect_blobs() == 0
    assert await store.collect_blobs() == len(b"loose")
    await store.close()


async def test_a_blob_that_is_damaged_is_left_out_and_told(tmp_path: Path) -> None:
    store, hashes = await make(tmp_path / "data")
    _spoil(store.blobs.path(hashes[0]))
    store.blobs.path(hashes[2]).unlink()
    data, target = str(tmp_path / "data"), str(tmp_path / "b")
    made = await asyncio.to_thread(lambda: cli("backup", target, "--data-dir", data, "--json", code=3))
    assert sorted(made["damaged"]) == sorted([hashes[0], hashes[2]])
    restored = await asyncio.to_thread(
        lambda: cli("restore", target, "--data-dir", str(tmp_path / "new"), "--json", code=3)
    )
    assert sorted(restored["damaged"]) == sorted([hashes[0], hashes[2]])
    report = await fsck(tmp_path / "new")
    assert {(problem.kind, problem.what) for problem in report.problems} == {
        ("missing", hashes[0]),
        ("missing", hashes[2]),
    }


async def test_an_existing_file_and_a_missing_store_are_refused(tmp_path: Path) -> None:
    await make(tmp_path / "data")
    (tmp_path / "b").write_text("mine")
    with pytest.raises(Conflict, match="exists"):
        backup.make(tmp_path / "data", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "mine"
    backup.make(tmp_path / "data", tmp_path / "b", overwrite=True)
    with pytest.raises(SkilldeckError, match="no store"):
        backup.make(tmp_path / "nothing", tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "data"]


def _without(name: str) -> Callable[[Path, Path], None]:
    def edit(source: Path, target: Path) -> None:
        with tarfile.open(source) as old, tarfile.open(target, "w") as new:
            for info in old:
                if not info.name.startswith(name):
                    new.addfile(info, old.extractfile(info))

    return edit


def _changed(name: str, content: bytes | None = None) -> Callable[[Path, Path], None]:
    def edit(source: Path, target: Path) -> None:
        with tarfile.open(source) as old, tarfile.open(target, "w") as new:
            for info in old:
                data = (old.extractfile(info) or io.BytesIO()).read()
                if info.name.startswith(name):
                    data = content if content is not None else b"X" + data[1:]
                    info.size = len(data)
                new.addfile(info, io.BytesIO(data))

    return edit


def _with(name: str, kind: bytes = tarfile.REGTYPE) -> Callable[[Path, Path], None]:
    def edit(source: Path, target: Path) -> None:
        with tarfile.open(source) as old, tarfile.open(target, "w") as new:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            new.addfile(info)
            for info in old:
                new.addfile(info, old.extractfile(info))

    return edit


def _cut(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes()[:250_000])


BROKEN = {
    "cut short": _cut,
    "without its manifest": _without("manifest.json"),
    "without a blob": _without("blobs/"),
    "with a changed blob": _changed("blobs/"),
    "with a changed database": _changed("skilldeck.db", b"not a database" * 1000),
    "without a database": _without("skilldeck.db"),
    "with a path out of it": _with("../../evil"),
    "with a link": _with("seal.key", tarfile.SYMTYPE),
    "no archive": lambda source, target: target.write_bytes(b"hello" * 500),
    "of a newer version": _changed("manifest.json", b'{"format": 99}'),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("replace", [False, True])
async def test_a_backup_that_is_not_whole_changes_nothing(tmp_path: Path, case: str, replace: bool) -> None:
    await make(tmp_path / "data")
    backup.make(tmp_path / "data", tmp_path / "b")
    BROKEN[case](tmp_path / "b", tmp_path / "broken")
    target = tmp_path / "target"
    if replace:
        await make(target)
    else:
        target.mkdir()
    before = state(target)
    with pytest.raises(SkilldeckError) as caught:
        backup.restore(tmp_path / "broken", target, replace=replace)
    assert caught.value.hint
    assert state(target) == before
    assert not (target / "restore").exists()


async def test_a_target_that_is_not_empty_or_in_use_is_refused_unless_told(tmp_path: Path) -> None:
    _, old = await make(tmp_path / "data")
    backup.make(tmp_path / "data", tmp_path / "b")
    target = tmp_path / "target"
    _, hashes = await make(target)
    (target / "models").mkdir()
    (target / "models" / "weights").write_bytes(b"w")
    before = state(target)
    with pytest.raises(Conflict, match="not empty"):
        backup.restore(tmp_path / "b", target)
    disown = own(target)
    with pytest.raises(DataDirInUse):
        backup.restore(tmp_path / "b", target, replace=True)
    disown()
    assert state(target) == before
    backup.restore(tmp_path / "b", target, replace=True)
    report = await fsck(target)
    assert report.problems == []
    # What only the replaced store named waits for the next collection; models are not the store's.
    assert set(report.orphans) == set(hashes) - set(old)
    assert (target / "models" / "weights").read_bytes() == b"w"


@pytest.mark.parametrize("step", range(7))
async def test_a_restore_that_dies_is_whole_or_nothing_after_the_next_start(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies before its n-th rename; the next open finds all of the old, or all of the new."""
    await make(tmp_path / "data")
    backup.make(tmp_path / "data", tmp_path / "b")
    target = tmp_path / "target"
    await make(target)
    before = state(target)
    renames = 0
    replace = os.replace

    class Died(BaseException):
        pass

    def dying(source: Any, destination: Any) -> None:
        nonlocal renames
        if renames == step:
            raise Died
        renames += 1
        replace(source, destination)

    def dead_mark(staging: Path) -> None:
        raise Died

    monkeypatch.setattr(os, "replace", dying)
    if step == 6:  # before the mark
        monkeypatch.setattr(backup, "_write_mark", dead_mark)
        monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # the dead clean nothing up
    with pytest.raises(Died):
        backup.restore(tmp_path / "b", target, replace=True)
    monkeypatch.undo()
    assert (target / "restore").is_dir()
    assert backup.complete(target) is (step != 6)
    assert not (target / "restore").exists()
    after = state(target)
    if step == 6:
        assert after == before
    else:
        assert {name: data for name, data in after.items() if name in state(tmp_path / "data")} == {
            name: data for name, data in state(tmp_path / "data").items() if name != "skilldeck.db"
        } | {"skilldeck.db": after["skilldeck.db"]}
        assert (await fsck(target)).problems == []


# Checking


async def test_a_sound_store_is_sound(tmp_path: Path) -> None:
    _, hashes = await make(tmp_path)
    report = await fsck(tmp_path)
    assert (report.problems, report.orphans, report.blobs) == ([], {}, len(hashes))
    assert report.rows >= 3


async def test_damage_is_found_by_digest_and_told_with_what_needs_it(tmp_path: Path) -> None:
    store, hashes = await make(tmp_path)
    _spoil(store.blobs.path(hashes[1]))
    store.blobs.path(hashes[3]).unlink()
    loose = await store.blobs.put(b"loose")
    found = await asyncio.to_thread(lambda: cli("fsck", "--data-dir", str(tmp_path), "--json", code=3))
    assert [(problem["kind"], problem["what"]) for problem in found["problems"]] == [
        ("damaged", hashes[1]),
        ("missing", hashes[3]),
    ]
    assert "file file-1 (1.bin)" in found["problems"][0]["wrong"]
    assert "SKILL.md of skill skill_" in found["problems"][1]["wrong"]
    assert (found["ok"], found["orphans"], found["orphan_bytes"]) == (False, [loose.sha256], 5)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE responses SET doc = '{half'", "document"),
        ("UPDATE response_parts SET data = x'00'", "document"),
        ("UPDATE skills SET default_version = 9", "skill"),
        ("DROP INDEX ix_files_expires_at", "schema"),
        ("ALTER TABLE files DROP COLUMN mime_type", "schema"),
        ("UPDATE alembic_version SET version_num = '9999'", "schema"),
        ("INSERT INTO response_parts VALUES ('resp_none', 'input', x'789cab56000000ffff')", "database"),
    ],
)
async def test_what_is_wrong_with_the_database_is_found(tmp_path: Path, statement: str, kind: str) -> None:
    await make(tmp_path)
    database = sqlite3.connect(tmp_path / "skilldeck.db")
    database.execute(statement)
    database.commit()
    database.close()
    before = (tmp_path / "skilldeck.db").read_bytes()
    report = await fsck(tmp_path)
    assert kind in {problem.kind for problem in report.problems}
    assert all(problem.fix for problem in report.problems)
    assert (tmp_path / "skilldeck.db").read_bytes() == before


async def test_damaged_pages_are_found(tmp_path: Path) -> None:
    await make(tmp_path)
    with (tmp_path / "skilldeck.db").open("r+b") as file:
        for page in range(8, 20):
            file.seek(page * 4096)
            file.write(os.urandom(512))
    report = await fsck(tmp_path)
    assert "database" in {problem.kind for problem in report.problems}


async def test_a_place_without_a_store_is_an_error_and_nothing_is_made(tmp_path: Path) -> None:
    told = await asyncio.to_thread(lambda: cli("fsck", "--data-dir", str(tmp_path / "none"), code=1))
    assert "no store" in told
    assert list(tmp_path.iterdir()) == []


# Reading


async def test_a_damaged_blob_is_never_handed_out_and_heals_when_it_comes_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(load=False, data_dir=tmp_path) as daemon:
        content = os.urandom(100_000)
        for size in (100, 100_000):  # hashed at every read, and once until it changes
            file = await daemon.client.files.create(file=("a.bin", content[:size]), purpose="user_data")
            row = await daemon.daemon.services.store.files.get(file.id)
            assert row is not None
            assert (await daemon.http.get(f"/files/{file.id}/content")).content == content[:size]
            _spoil(daemon.daemon.services.store.blobs.path(row["sha256"]))
            answer = await daemon.http.get(f"/files/{file.id}/content")
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "blob_damaged")
            assert row["sha256"][:12] in answer.json()["error"]["message"]
            assert any(row["sha256"] in record.getMessage() for record in caplog.records if record.levelname == "ERROR")
            await daemon.client.files.create(file=("b.bin", content[:size]), purpose="user_data")
            assert (await daemon.http.get(f"/files/{file.id}/content")).content == content[:size]


def _spoil(path: Path) -> None:
    """One bit flips."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    path.chmod(0o444)

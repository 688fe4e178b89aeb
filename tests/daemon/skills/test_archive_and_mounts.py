"""Zips that go out and the read-only trees that containers mount."""

from __future__ import annotations

import asyncio
import io
import os
import zipfile
from pathlib import Path

import pytest

from skilldeck_daemon.skills.archive import zip_chunks
from skilldeck_daemon.skills.mounts import MountCache
from skilldeck_shared.skills.bundle import Tree, scan
from support.bundles import skill_files, write_skill


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return scan(write_skill(tmp_path / "csv-tools", skill_files(big=os.urandom(700_000))))


@pytest.fixture
def cache(tmp_path: Path, tree: Tree) -> MountCache:
    by_hash = {entry.sha256: tmp_path / "csv-tools" / entry.path for entry in tree.entries}
    return MountCache(tmp_path / "mounts", by_hash.__getitem__)


def modes(path: Path) -> dict[str, int]:
    return {str(p.relative_to(path)): p.stat().st_mode & 0o777 for p in [path, *path.rglob("*")]}


def test_the_same_files_make_the_same_zip_whatever_their_times(tmp_path: Path, tree: Tree) -> None:
    by_hash = {entry.sha256: tmp_path / "csv-tools" / entry.path for entry in tree.entries}
    first = b"".join(zip_chunks("csv-tools", list(tree.entries), by_hash.__getitem__))
    for path in by_hash.values():
        os.utime(path, (1, 1))
    assert b"".join(zip_chunks("csv-tools", list(tree.entries), by_hash.__getitem__)) == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"csv-tools/{entry.path}" for entry in tree.entries]


async def test_a_tree_is_whole_and_has_the_modes_of_its_author(cache: MountCache, tree: Tree) -> None:
    path = await cache.path(tree.digest, tree.entries)
    assert scan(path).entries == tree.entries
    check_modes(path, folder=0o755, file=0o644)


def check_modes(path: Path, folder: int, file: int) -> None:
    found = modes(path)
    assert {found[name] for name in (".", "scripts", "references")} == {folder}
    assert found["scripts/run.sh"] == folder
    assert {found["SKILL.md"], found["references/notes.txt"], found["big"]} == {file}


async def test_a_tree_of_an_earlier_version_is_given_its_modes_where_it_lies(cache: MountCache, tree: Tree) -> None:
    path = await cache.path(tree.digest, tree.entries)
    for item in (*path.rglob("*"), path):
        item.chmod(0o555 if item.is_dir() or item.stat().st_mode & 0o100 else 0o444)
    inode = path.stat().st_ino
    restarted = MountCache(cache.root, cache._blob)
    assert await restarted.path(tree.digest, tree.entries) == path
    check_modes(path, folder=0o755, file=0o644)
    assert path.stat().st_ino == inode


async def test_without_a_bind_a_tree_is_read_only_and_shares_no_byte_with_the_store(
    tmp_path: Path, cache: MountCache, tree: Tree
) -> None:
    shared = await cache.path(tree.digest, tree.entries)
    assert (shared / "SKILL.md").stat().st_nlink == 2
    plain = MountCache(cache.root, cache._blob, bound=False)
    path = await plain.path(tree.digest, tree.entries)
    check_modes(path, folder=0o555, file=0o444)
    assert (path / "SKILL.md").stat().st_nlink == 1
    assert (tmp_path / "csv-tools/SKILL.md").stat().st_nlink == 1


async def test_runs_share_one_tree_even_when_they_start_together(cache: MountCache, tree: Tree) -> None:
    paths = await asyncio.gather(*(cache.path(tree.digest, tree.entries) for _ in range(20)))
    assert len(set(paths)) == 1
    inode = paths[0].stat().st_ino
    assert (await cache.path(tree.digest, tree.entries)).stat().st_ino == inode
    assert [p.name for p in cache.root.iterdir()] == [tree.digest]


async def test_a_missing_blob_leaves_no_half_tree(tmp_path: Path, tree: Tree) -> None:
    cache = MountCache(tmp_path / "mounts", lambda sha: tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        await cache.path(tree.digest, tree.entries)
    assert list(cache.root.iterdir()) == []


async def test_a_tree_cut_short_is_made_anew_by_the_next_daemon(tmp_path: Path, cache: MountCache, tree: Tree) -> None:
    path = await cache.path(tree.digest, tree.entries)
    (path / "SKILL.md").unlink()  # its bytes are the store's
    (path / "SKILL.md").write_bytes(b"")
    restarted = MountCache(cache.root, cache._blob)
    assert scan(await restarted.path(tree.digest, tree.entries)).digest == tree.digest


async def test_collect_removes_what_nobody_asked_for(cache: MountCache, tree: Tree) -> None:
    path = await cache.path(tree.digest, tree.entries)
    assert await cache.collect() == 0
    os.utime(path, (1, 1))
    assert await cache.collect(keep=[tree.digest]) == 0
    assert await cache.collect() == 1
    assert not path.exists()
    # Asked for again, it is there again.
    assert scan(await cache.path(tree.digest, tree.entries)).digest == tree.digest

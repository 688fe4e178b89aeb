"""Scanning a skill's folder: what belongs to it, when it changed, and the zip that carries it."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from skilldeck_shared.skills import bundle
from skilldeck_shared.skills.bundle import BundleError, ChangedWhileReading, scan, zip_stream
from support.bundles import manifest, skill_files, write_skill


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_skill(tmp_path / "csv-tools")


def age(folder: Path) -> None:
    """Give every file a time long before any scan, so that it counts as settled."""
    for path in folder.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))


def test_files_come_sorted_with_size_hash_and_executable_bit(folder: Path) -> None:
    tree = scan(folder)
    assert [(e.path, e.size, e.executable) for e in tree.entries] == [
        ("SKILL.md", len(manifest()), False),
        ("references/notes.txt", 6, False),
        ("scripts/run.sh", 20, True),
    ]
    assert tree.size == len(manifest()) + 26


def test_editors_and_version_control_leave_no_trace(folder: Path) -> None:
    before = scan(folder)
    for name in ("4913", "SKILL.md~", ".SKILL.md.swp", "___jb_tmp___", ".#SKILL.md", "#a#", ".DS_Store", "x.pyc"):
        (folder / name).write_bytes(b"x")
    for name in (".git", "__pycache__", "scripts/__pycache__"):
        (folder / name).mkdir()
        (folder / name / "file").write_bytes(b"x")
    assert scan(folder) == before


@pytest.mark.parametrize("change", ["content", "mode", "name", "added", "removed"])
def test_any_change_changes_the_digest(folder: Path, change: str) -> None:
    before = scan(folder)
    notes = folder / "references/notes.txt"
    match change:
        case "content":
            notes.write_bytes(b"NOTES\n")
        case "mode":
            notes.chmod(0o755)
        case "name":
            notes.rename(notes.with_name("other.txt"))
        case "added":
            (folder / "new").write_bytes(b"")
        case "removed":
            notes.unlink()
    assert scan(folder).digest != before.digest
    assert scan(folder, before).digest == scan(folder).digest


def test_the_name_of_the_folder_and_times_do_not_matter(folder: Path, tmp_path: Path) -> None:
    before = scan(folder)
    age(folder)
    moved = folder.rename(tmp_path / "other")
    assert scan(moved).digest == before.digest


def test_unchanged_files_are_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "RACY_NS", -(10**12))
    first = scan(folder)
    read: list[str] = []
    original = bundle._hash
    monkeypatch.setattr(bundle, "_hash", lambda path, *rest: (read.append(path), original(path, *rest))[1])
    assert scan(folder, first) == first
    assert read == []
    (folder / "SKILL.md").write_bytes(manifest(description="Another text."))
    second = scan(folder, first)
    assert read == ["SKILL.md"]
    assert second.digest != first.digest


def test_a_file_that_was_just_written_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two writes within one tick of the file system's clock have the same time.
    monkeypatch.setattr(bundle, "RACY_NS", 10**15)
    first = scan(folder)
    assert first.stamps == {}
    path = folder / "references/notes.txt"
    times = path.stat()
    path.write_bytes(b"NOTES\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert scan(folder, first).digest != first.digest


def test_a_link_inside_the_folder_is_its_file(folder: Path) -> None:
    (folder / "link.txt").symlink_to("references/notes.txt")
    entries = {entry.path: entry for entry in scan(folder).entries}
    assert entries["link.txt"].sha256 == entries["references/notes.txt"].sha256


@pytest.mark.parametrize(
    "kind", ["outside", "loop", "dangling", "folder", "pipe", "backslash", "unreadable name", "case"]
)
def test_what_cannot_be_carried_is_refused_by_name(folder: Path, tmp_path: Path, kind: str) -> None:
    odd = folder / "odd"
    match kind:
        case "outside":
            (tmp_path / "secret").write_bytes(b"s")
            odd.symlink_to(tmp_path / "secret")
        case "loop":
            odd.symlink_to("odd")
        case "dangling":
            odd.symlink_to("nothing")
        case "folder":
            odd.symlink_to("scripts")
        case "pipe":
            os.mkfifo(odd)
        case "backslash":
            odd = folder / "odd\\name"
            odd.write_bytes(b"")
        case "unreadable name":
            odd = folder / os.fsdecode(b"odd\xff")
            odd.write_bytes(b"")
        case "case":
            odd.write_bytes(b"")
            (folder / "ODD").write_bytes(b"")
    with pytest.raises(BundleError, match="odd"):
        scan(folder)


@pytest.mark.parametrize(("count", "size", "said"), [(501, 0, "500 files"), (1, (25 << 20) + 1, "25 MiB")])
def test_limits_name_what_is_too_much(folder: Path, count: int, size: int, said: str) -> None:
    for index in range(count):
        with (folder / f"f{index}").open("wb") as file:
            file.truncate(size)
    with pytest.raises(BundleError, match=said):
        scan(folder)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a folder"):
        scan(tmp_path / "nothing")
    (tmp_path / "x.zip").touch()
    with pytest.raises(BundleError, match="skilldeck install FILE"):
        scan(tmp_path / "x.zip")


def test_the_zip_has_the_announced_size_the_files_and_their_modes(folder: Path) -> None:
    tree = scan(folder)
    stream = zip_stream(folder, tree)
    data = b"".join(stream)
    assert len(data) == stream.size
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            f"csv-tools/{path}": content for path, content in skill_files().items()
        }
        assert archive.getinfo("csv-tools/scripts/run.sh").external_attr >> 16 & 0o111 == 0o111


@pytest.mark.parametrize("change", ["grown", "same size", "removed", "mode"])
def test_a_change_between_scan_and_zip_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    monkeypatch.setattr(bundle, "RACY_NS", -(10**12))
    tree = scan(folder)
    stream = zip_stream(folder, tree)
    path = folder / "references/notes.txt"
    match change:
        case "grown":
            path.write_bytes(b"longer than before")
        case "same size":
            path.write_bytes(b"NOTES\n")
            os.utime(path, ns=(10**18, 10**18))
        case "removed":
            path.unlink()
        case "mode":
            path.chmod(0o755)
    with pytest.raises(ChangedWhileReading, match=r"notes\.txt"):
        list(stream)


def test_a_change_while_the_zip_is_read_is_noticed(folder: Path) -> None:
    big = folder / "big.bin"
    big.write_bytes(bytes(4 << 20))
    tree = scan(folder)
    chunks = iter(zip_stream(folder, tree))
    while len(next(chunks)) < 1000:
        pass
    big.write_bytes(bytes(3 << 20))
    with pytest.raises(ChangedWhileReading, match=r"big\.bin"):
        list(chunks)


def test_a_zip_beyond_the_limit_is_refused_before_it_is_sent(folder: Path) -> None:
    for index in range(3):
        with (folder / f"f{index}").open("wb") as file:
            file.truncate(20 << 20)
    tree = scan(folder)
    with pytest.raises(BundleError, match="50 are allowed"):
        zip_stream(folder, tree)

"""Reading uploads: every shape clients send, and archives made to harm."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import random
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldeck_daemon.skills.reader import Bundle, read_upload
from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.skills.bundle import BundleError, scan, zip_stream
from support.bundles import SCRIPT, manifest, part, raw_zip, skill_files, skill_zip, write_skill, zip_bytes


def read(tmp_path: Path, data: bytes) -> Bundle:
    staging = tmp_path / "staging"
    staging.mkdir(parents=True, exist_ok=True)
    return read_upload([part(tmp_path / "in", data)], staging)


def contents(bundle: Bundle) -> dict[str, bytes]:
    return {file.entry.path: file.staged.read_bytes() for file in bundle.files}


@pytest.mark.parametrize("top", ["csv-tools", "another name", None])
def test_a_zip_with_or_without_its_folder(tmp_path: Path, top: str | None) -> None:
    bundle = read(tmp_path, zip_bytes(skill_files(), top=top))
    assert contents(bundle) == skill_files()
    assert bundle.manifest.name == "csv-tools"
    assert bool(bundle.manifest.warnings) == (top == "another name")


def test_the_zip_of_a_scanned_folder_has_the_folders_digest(tmp_path: Path) -> None:
    folder = write_skill(tmp_path / "csv-tools")
    tree = scan(folder)
    bundle = read(tmp_path, b"".join(zip_stream(folder, tree)))
    assert bundle.digest == tree.digest
    assert tuple(file.entry for file in bundle.files) == tree.entries


def test_executable_bits_come_from_modes_and_else_from_the_first_line(tmp_path: Path) -> None:
    files = {"SKILL.md": manifest(), "a.sh": SCRIPT, "b.sh": SCRIPT, "c.bin": b"\x7fELF", "d.sh": SCRIPT}
    modes = {"a.sh": 0o100644, "b.sh": 0o100755, "c.bin": 0o100755, "d.sh": 0}
    bundle = read(tmp_path, zip_bytes(files, modes=modes))
    executable = {file.entry.path for file in bundle.files if file.entry.executable}
    assert executable == {"b.sh", "c.bin", "d.sh"}


def test_what_file_managers_add_is_left_out(tmp_path: Path) -> None:
    files = {f"csv-tools/{path}": content for path, content in skill_files().items()}
    files |= {"__MACOSX/csv-tools/._SKILL.md": b"x", "csv-tools/.DS_Store": b"x", "csv-tools/.git/config": b"x"}
    assert contents(read(tmp_path, zip_bytes(files, top=None))) == skill_files()


def test_a_manifest_in_lower_case_is_found(tmp_path: Path) -> None:
    assert read(tmp_path, zip_bytes({"skill.md": manifest()})).manifest_path == "skill.md"


def test_a_zip_beside_other_files_is_refused(tmp_path: Path) -> None:
    parts = [part(tmp_path, skill_zip(), "a.zip"), part(tmp_path, b"x", "b.txt")]
    with pytest.raises(BundleError, match="together with other files"):
        read_upload(parts, tmp_path)


def test_a_skill_of_single_files_may_hold_a_zip(tmp_path: Path) -> None:
    parts = [part(tmp_path, manifest(), "s/SKILL.md"), part(tmp_path, skill_zip(), "s/assets/data.zip")]
    assert len(read_upload(parts, tmp_path).files) == 2


def test_no_files_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No files"):
        read_upload([], tmp_path)


def unicode_path(name: str, of: bytes) -> bytes:
    """The extra field that Info-ZIP writes for a name: version, CRC of the name in the header, the name."""
    text = name.encode()
    return struct.pack("<HHBL", 0x7075, 5 + len(text), 1, zlib.crc32(of)) + text


def test_names_mean_what_the_program_that_wrote_them_meant(tmp_path: Path) -> None:
    utf8, cp437 = "s/größe 表.md".encode(), "s/Prüfung.md".encode("cp437")
    field, stale = b"s/#U4e2d.md", b"s/renamed.md"
    bundle = read(
        tmp_path,
        raw_zip(
            {b"s/SKILL.md": manifest(), utf8: b"1", cp437: b"2", field: b"3", stale: b"4"},
            {field: unicode_path("s/中.md", field), stale: unicode_path("s/before.md", b"s/before.md")},
        ),
    )
    assert contents(bundle) == {
        "SKILL.md": manifest(), "größe 表.md": b"1", "Prüfung.md": b"2", "中.md": b"3", "renamed.md": b"4"
    }  # fmt: skip


def test_a_name_with_the_flag_is_utf8_and_its_field_is_held_to_the_same_rules(tmp_path: Path) -> None:
    assert "ü.md" in contents(read(tmp_path, zip_bytes({"SKILL.md": manifest(), "ü.md": b""})))
    evil = b"s/harmless"
    data = raw_zip({b"s/SKILL.md": manifest(), evil: b""}, {evil: unicode_path("s/../../evil", evil)})
    with pytest.raises(BundleError, match=r"'s/../../evil' leaves the skill's folder"):
        read(tmp_path / "again", data)


def test_backslashes_are_slashes_and_the_folder_itself_is_nothing(tmp_path: Path) -> None:
    data = raw_zip({b"./.": b"", b"s\\SKILL.md": manifest(), b"s\\a\\": b"", b"s\\a\\b.txt": b"1", b"./s/c.txt": b"2"})
    assert contents(read(tmp_path, data)) == {"SKILL.md": manifest(), "a/b.txt": b"1", "c.txt": b"2"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("./", b"")
        archive.writestr("./SKILL.md", manifest())
    assert contents(read(tmp_path / "again", buffer.getvalue())) == {"SKILL.md": manifest()}
    parts = [part(tmp_path / "in", manifest(), "s\\SKILL.md"), part(tmp_path / "in", b"x", "s\\scripts\\x.py")]
    assert contents(read_upload(parts, tmp_path)) == {"SKILL.md": manifest(), "scripts/x.py": b"x"}


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (gzip.compress(b"x", mtime=0), r"a gzip file \(.tar.gz\)"),
        (bz2.compress(b"x"), "a bzip2 file"),
        (lzma.compress(b"x"), "an xz file"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\x00", "a RAR archive"),
        (bytes(257) + b"ustar\x0000", "a tar archive"),
    ],
)
def test_another_archive_under_the_name_of_a_zip_is_called_what_it_is(tmp_path: Path, start: bytes, kind: str) -> None:
    with pytest.raises(BundleError, match=f"'skill.zip' is {kind}.*not a zip") as caught:
        read_upload([part(tmp_path, start, "skill.zip")], tmp_path)
    assert "zip -r" in caught.value.hint


def test_a_skill_may_hold_other_skill_files(tmp_path: Path) -> None:
    files = skill_files() | {"templates/SKILL.md": b"no frontmatter", "examples/other/SKILL.md": manifest("other")}
    bundle = read(tmp_path, zip_bytes(files))
    assert (bundle.manifest.name, bundle.manifest_path) == ("csv-tools", "SKILL.md")
    assert contents(bundle) == files


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(skill_zip())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = data.find(signature)
        data[position + offset] |= 1
    with pytest.raises(BundleError, match="encrypted"):
        read(tmp_path, bytes(data))


def test_a_lie_about_the_size_does_not_get_past_the_limits(tmp_path: Path) -> None:
    data = bytearray(zip_bytes({"SKILL.md": manifest(), "zeros": bytes(26 << 20)}))
    position = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, position + 24, 10)
    with pytest.raises(BundleError):
        read(tmp_path, bytes(data))


def test_members_that_share_bytes_count_each_time(tmp_path: Path) -> None:
    """An overlapping bomb: every entry of the directory points at the same deflated data."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("s/SKILL.md", manifest())
        archive.writestr("s/z", bytes(20 << 20))
        kernel = archive.getinfo("s/z")
        for index in range(400):
            copy = zipfile.ZipInfo(f"s/z{index}")
            for name in ("header_offset", "compress_type", "CRC", "compress_size", "file_size"):
                setattr(copy, name, getattr(kernel, name))
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
    with pytest.raises(BundleError):
        read(tmp_path, buffer.getvalue())
    assert sum(path.stat().st_size for path in (tmp_path / "staging").iterdir()) < 64 << 20


def test_a_full_disk_is_not_told_as_a_damaged_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        read(tmp_path, zip_bytes({**skill_files(), "large.bin": bytes(2 << 20)}))


def test_too_many_members_are_refused_before_unpacking(tmp_path: Path) -> None:
    data = zip_bytes({"SKILL.md": manifest(), **{f"d{index}/": b"" for index in range(3000)}})
    with pytest.raises(BundleError, match="entries"):
        read(tmp_path, data)
    assert not list((tmp_path / "staging").iterdir())


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED])
def test_other_compressions_are_read_or_refused(tmp_path: Path, method: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for path, content in skill_files().items():
            archive.writestr(f"s/{path}", content)
    assert contents(read(tmp_path, buffer.getvalue())) == skill_files()


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32), flips=st.integers(1, 12), cut=st.integers(0, 40))
def test_a_damaged_zip_is_read_or_refused_never_more(
    tmp_path_factory: pytest.TempPathFactory, seed: int, flips: int, cut: int
) -> None:
    chance = random.Random(seed)
    data = bytearray(skill_zip())
    for _ in range(flips):
        data[chance.randrange(4, len(data))] = chance.randrange(256)
    if cut and chance.random() < 0.3:
        del data[chance.randrange(4, len(data)) :]
    check_outcome(tmp_path_factory, bytes(data))


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=12)
        | st.sampled_from(
            ["s/SKILL.md", "SKILL.md", "../a", "/a", "a/../b", "s\\a", "s/a", "S/A", "s", "s/", "C:a", "."]
        ),
        st.sampled_from([b"", b"#!x", manifest(), b"---\nname: a\n", bytes(2000)]),
        max_size=8,
    )
)
def test_any_names_are_read_or_refused_never_more(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            try:
                archive.writestr(name, content)
            except (ValueError, UnicodeError, IndexError):
                return
    check_outcome(tmp_path_factory, buffer.getvalue())


def check_outcome(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Either a valid bundle whose files lie in the staging folder, or a 4xx; nothing anywhere else."""
    root = tmp_path_factory.mktemp("fuzz")
    staging = root / "staging"
    staging.mkdir()
    problem = None
    try:
        bundle = read_upload([part(root / "in", data)], staging)
    except SkilldeckError as error:
        problem = error
    if problem is not None:
        assert isinstance(problem, BadRequest)
        assert problem.message
    else:
        assert bundle.manifest.name
        for file in bundle.files:
            assert file.staged.parent in (staging, root / "in")
            parts = file.entry.path.split("/")
            assert ".." not in parts
            assert "" not in parts
    assert {path.name for path in root.iterdir()} == {"staging", "in"}

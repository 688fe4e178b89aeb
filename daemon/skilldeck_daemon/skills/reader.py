"""Reading an uploaded bundle: a zip, or single files, as any client sends them.

Contract: `read_upload` writes only into the staging folder it is given and either returns a whole, valid bundle or
raises a 4xx that names the file and the fix. Sizes are counted while inflating, never believed. It blocks on disk and
CPU; run it in a thread.

Accepted, because clients send it: one zip under any field and file name (known by its magic), files with directories in
their names, files with base names only, one top folder or none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from skilldeck_shared.errors import TooLarge
from skilldeck_shared.skills.bundle import (
    IGNORED_FOLDERS,
    LIMITS,
    MIB,
    BundleError,
    Entry,
    check_paths,
    check_sizes,
    digest,
)
from skilldeck_shared.skills.manifest import Manifest, decode_manifest, parse_manifest
from skilldeck_shared.skills.zipnames import ENCRYPTED_FLAG, KIND_BYTES, member_name, other_archive

CHUNK = 1 << 18
THREADS = 4
"""Of one upload. Inflating, hashing and writing all let go of the interpreter."""
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
# Text compresses 3 to 20 times; a thousandfold is a bomb. Below the floor the limits on sizes are enough.
RATIO = 200
RATIO_FLOOR = 8 * MIB
# A zip lists its directories too; beyond this it is not a skill whatever it holds.
MEMBERS = 4 * LIMITS.files
MANIFEST_BYTES = 1 * MIB


@dataclass(frozen=True)
class UploadPart:
    """One file as it came: the client's name for it (may hold directories), its content on disk, bytes, hex SHA-256."""

    filename: str
    path: Path
    size: int
    sha256: str = ""

    def digest(self) -> str:
        """The SHA-256, computed when whoever received the file did not. Blocks then."""
        if self.sha256:
            return self.sha256
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class StagedFile:
    """One file of a bundle and where its content lies in the staging folder."""

    entry: Entry
    staged: Path


@dataclass(frozen=True)
class Bundle:
    """A valid bundle: its manifest, its files sorted by path, the digest (see `skilldeck_shared.skills.bundle`)."""

    manifest: Manifest
    manifest_path: str
    files: tuple[StagedFile, ...]
    digest: str


@dataclass(frozen=True)
class Reading:
    """How SKILL.md is read (see `parse_manifest`): to the letter, or as published skills are written."""

    lenient: bool = False
    any_length: bool = False


STRICT = Reading()


def read_upload(parts: list[UploadPart], staging: Path, reading: Reading = STRICT) -> Bundle:
    """Read what a client uploaded; see the module.

    Args:
        parts: the files of the request, in order. Their contents may be moved into the bundle.
        staging: an empty folder of the store's file system.
        reading: how its SKILL.md is read.
    Raises:
        BadRequest: what is wrong and how to mend it. TooLarge: the zip is beyond its limit.
    """
    if not parts:
        raise BundleError("No files were sent.", "Send the skill's files, or one zip, in the form field `files`.")
    if len(parts) == 1 and _magic(parts[0].path) in ZIP_MAGIC:
        found = _inflate(parts[0].path, staging)
    elif len(parts) == 1 and not _is_manifest(PurePosixPath(parts[0].filename).name):
        raise _no_zip(parts[0])
    else:
        if any(_magic(part.path) in ZIP_MAGIC and "/" not in part.filename for part in parts) and not any(
            _is_manifest(PurePosixPath(part.filename).name) for part in parts
        ):
            raise BundleError("A zip was sent together with other files.", "Send one zip, or the single files.")
        found = _single_files(parts)
    return _bundle(found, reading)


def read_partial(
    part: UploadPart,
    staging: Path,
    listed: Sequence[Entry],
    blob: Callable[[str], Path | None],
    reading: Reading = STRICT,
) -> Bundle:
    """Read an upload that lists all files of the bundle and brings only the contents that were not here.

    Args:
        part: a zip with those contents.
        listed: all files, with the zip's top folder before their paths.
        blob: where the content with a SHA-256 lies, None when it is not here.
        reading: how its SKILL.md is read.
    Raises:
        BundleError: also when a content is neither here nor in the zip (code changed_while_reading: scan again).
    """
    if len(listed) > MEMBERS:
        raise BundleError(f"The upload lists {len(listed):,} files.", f"A skill has at most {LIMITS.files} files.")
    brought = {file.sha256: file for file in _inflate(part.path, staging)}
    found = []
    for entry in listed:
        path = _safe_path(entry.path)
        file = brought.get(entry.sha256)
        place = file.staged if file is not None else blob(entry.sha256)
        if place is None or place.stat().st_size != entry.size:
            raise BundleError(
                f"The content of {path!r} was not sent.", "Scan the folder again.", code="changed_while_reading"
            )
        found.append(_Found(path, place, entry.size, entry.sha256, entry.executable))
    return _bundle(found, reading)


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _no_zip(part: UploadPart) -> BundleError:
    """For one file that is neither a zip nor SKILL.md."""
    with part.path.open("rb") as file:
        kind = other_archive(file.read(KIND_BYTES))
    name = repr(part.filename[:120]) if part.filename else "The file"
    if kind:
        return BundleError(f"{name} is {kind}, not a zip.", "Send a zip: zip -r skill.zip FOLDER")
    return BundleError(
        f"{name} is neither a zip nor a SKILL.md: the skill has no SKILL.md.",
        "Send one zip, or all files of the skill with SKILL.md among them.",
    )


def _is_manifest(name: str) -> bool:
    return name.lower() == "skill.md"


@dataclass(frozen=True)
class _Found:
    """A file before its top folder is known: path as sent, content, and the mode when the client could send it."""

    path: str
    staged: Path
    size: int
    sha256: str
    executable: bool


def _bundle(found: list[_Found], reading: Reading) -> Bundle:
    """Strip the top folder, find SKILL.md, validate."""
    found = [file for file in found if not _junk(file.path)]
    if not found:
        raise BundleError("The upload holds no files.", "Put SKILL.md and what it needs into it.")
    top, found = _strip_top(found)
    # Others below are files like any: templates, examples, skills that this one is about.
    manifests = [file for file in found if _is_manifest(PurePosixPath(file.path).name)]
    at_root = [file for file in manifests if "/" not in file.path]
    if not at_root:
        where = f" It is at {manifests[0].path!r}, below the top folder." if manifests else ""
        raise BundleError(f"The skill has no SKILL.md at its top.{where}", "Put one SKILL.md into the skill's folder.")
    check_paths(file.path for file in found)
    check_sizes((file.path, file.size) for file in found)
    file = at_root[0]
    if file.size > MANIFEST_BYTES:
        raise BundleError(f"{file.path} has more than {MANIFEST_BYTES // MIB} MiB.", "Move its text into references/.")
    text = decode_manifest(file.staged.read_bytes())
    manifest = parse_manifest(text, top or None, lenient=reading.lenient, any_length=reading.any_length)
    staged = sorted(
        (StagedFile(Entry(f.path, f.size, f.sha256, f.executable), f.staged) for f in found),
        key=lambda item: item.entry,
    )
    return Bundle(manifest, file.path, tuple(staged), digest(item.entry for item in staged))


def _junk(path: str) -> bool:
    """What file managers and version control put into zips; it is no part of the skill."""
    parts = path.split("/")
    return parts[-1] in (".DS_Store", "Thumbs.db") or any(part in IGNORED_FOLDERS for part in parts[:-1])


def _strip_top(found: list[_Found]) -> tuple[str, list[_Found]]:
    """The one top folder's name ("" for a flat upload) and the files with paths below it."""
    tops = {file.path.split("/", 1)[0] for file in found}
    flat = any("/" not in file.path for file in found)
    if flat:
        if any("/" not in file.path and _is_manifest(file.path) for file in found):
            return "", found
        loose = next(file.path for file in found if "/" not in file.path)
        if len(tops) > 1 and any(_is_manifest(PurePosixPath(file.path).name) for file in found):
            raise BundleError(
                f"{loose!r} lies beside the skill's folder.", "Everything must be inside one top-level folder."
            )
        return "", found
    if len(tops) > 1:
        names = " and ".join(repr(name) for name in sorted(tops)[:2])
        raise BundleError(f"The upload has more than one top-level folder: {names}.", "Upload one skill at a time.")
    (top,) = tops
    return top, [_Found(f.path[len(top) + 1 :], f.staged, f.size, f.sha256, f.executable) for f in found]


def _safe_path(name: str) -> str:
    """A relative path with slashes (a backslash, as Windows has them, is one), or a `BundleError` that names it."""
    name = name.replace("\\", "/")
    shown = name if len(name) <= 120 else f"{name[:117]}…"
    if any(ord(character) < 32 or ord(character) == 127 or 0xD800 <= ord(character) < 0xE000 for character in name):
        raise BundleError(f"The file name {shown!r} holds a control character.", "Rename the file.")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        raise BundleError(f"The file name {shown!r} is absolute.", "Use names relative to the skill's folder.")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BundleError(f"The file name {shown!r} leaves the skill's folder.", "Remove the .. from it.")
    if not parts:
        raise BundleError(f"The file name {shown!r} names nothing.", "Give every file a name.")
    return "/".join(parts)


def _single_files(parts: list[UploadPart]) -> list[_Found]:
    """Files of a form. Forms carry no modes: what begins with `#!` is executable."""
    check_sizes((part.filename, part.size) for part in parts)
    found = []
    for part in parts:
        path = _safe_path(part.filename)
        found.append(_Found(path, part.path, part.size, part.digest(), _magic(part.path).startswith(b"#!")))
    return found


def _inflate(path: Path, staging: Path) -> list[_Found]:
    size = path.stat().st_size
    if size > LIMITS.zip_bytes:
        raise TooLarge(
            f"The zip has {size / MIB:.1f} MiB; at most {LIMITS.zip_bytes // MIB} MiB are allowed.",
            "Remove what the skill does not need.",
            param="files",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return list(_members(archive, size, staging))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, zlib.error, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # the disk, not the zip
            raise
        raise BundleError(f"The zip cannot be read: {error}.", "Make it anew.") from error
    except (NotImplementedError, RuntimeError, ImportError) as error:
        hint = "Zip it without a password, stored or deflated."
        raise BundleError(f"The zip uses something that is not supported: {error}.", hint) from error
    except (IndexError, KeyError, OverflowError, MemoryError, AssertionError, TypeError) as error:
        # zipfile trusts some fields of a broken archive.
        raise BundleError("The zip is damaged.", "Make it anew.") from error


def _members(archive: zipfile.ZipFile, size: int, staging: Path) -> Iterator[_Found]:
    infos = archive.infolist()
    if len(infos) > MEMBERS:
        raise BundleError(f"The zip has {len(infos):,} entries.", f"A skill has at most {LIMITS.files} files.")
    files: list[tuple[str, zipfile.ZipInfo]] = []
    for info in infos:
        name = member_name(info)
        if not set(name) - {".", "/"} and ".." not in name:
            continue  # the folder that the program was started in
        folder = name.endswith("/")
        name = _safe_path(name)
        mode = info.external_attr >> 16
        kind = stat.S_IFMT(mode)
        if folder:
            continue
        if kind == stat.S_IFLNK:
            raise BundleError(f"{name!r} is a symbolic link.", "Put the file itself into the zip.")
        if kind not in (0, stat.S_IFREG):
            raise BundleError(f"{name!r} is not a regular file.", "Remove devices, pipes and sockets from the zip.")
        if info.flag_bits & ENCRYPTED_FLAG:
            raise BundleError(f"{name!r} is encrypted.", "Zip it without a password.")
        if not _junk(name):
            files.append((name, info))
    check_paths(name for name, _ in files)
    # The declared sizes first: an honest zip that is too large is refused before anything is unpacked.
    check_sizes((name, info.file_size) for name, info in files)
    budget = _Budget(min(LIMITS.total_bytes, max(RATIO_FLOOR, RATIO * size)))
    with contextlib.ExitStack() as opened, ThreadPoolExecutor(THREADS, "inflate") as pool:
        copying = []
        for index, (name, info) in enumerate(files):
            # Opened and closed by this thread: zipfile counts its readers without a lock.
            source = opened.enter_context(archive.open(info))
            copying.append(pool.submit(_copy, source, staging / f"{index:04d}", name, budget))
        try:
            for (_, info), done in zip(files, copying, strict=True):
                found = done.result()
                mode = info.external_attr >> 16
                # Zips made on Windows or by programs often carry no modes.
                yield replace(found, executable=bool(mode & stat.S_IXUSR)) if mode & 0o777 else found
        finally:
            pool.shutdown(cancel_futures=True)


class _Budget:
    """What the members of a zip may still unpack to, all together."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._lock = threading.Lock()

    def take(self, count: int, name: str) -> None:
        with self._lock:
            self._left -= count
            if self._left < 0:
                raise BundleError(
                    f"The zip unpacks to far more than its size ({name!r} went over).",
                    f"A skill may hold {LIMITS.total_bytes // MIB} MiB, and {RATIO} times its zip.",
                )


def _copy(source: IO[bytes], staged: Path, name: str, budget: _Budget) -> _Found:
    """Inflate one member; stops at the limit of a file or of what is left of the whole."""
    written, total, start = 0, hashlib.sha256(), b""
    with staged.open("xb") as file:
        while chunk := source.read(CHUNK):
            start = start or chunk[:2]
            written += len(chunk)
            check_sizes([(name, written)])
            budget.take(len(chunk), name)
            total.update(chunk)
            file.write(chunk)
        if written >= MIB:
            # The store syncs it before it counts; the disk may as well write while the next member is inflated.
            file.flush()
            os.fsync(file.fileno())
    return _Found(name, staged, written, total.hexdigest(), start == b"#!")

"""Content-addressed files: every uploaded byte lies once, under its SHA-256.

Contract: a blob that `put`, `put_staged` or a committed writer returned survives a kill -9 and a power cut (fsync, then
atomic rename, then fsync of the folder); one that did not return leaves nothing but a temporary file, which the next
start removes. Blobs are immutable and shared; rows elsewhere keep them alive, and `collect` deletes those that no row
names and that are older than an hour, since a row may be about to be written. What is read has the digest it is called
by: a blob is hashed before this process hands it out for the first time, and a damaged one is an error, never content.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import re
import secrets
import shutil
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from skilldeck_daemon.store.faults import disk_faults
from skilldeck_daemon.store.ids import steady
from skilldeck_daemon.store.room import Room
from skilldeck_shared import private
from skilldeck_shared.errors import SkilldeckError

log = logging.getLogger(__name__)

SHA256 = re.compile(r"[0-9a-f]{64}")
CHUNK = 1 << 20
GRACE_SECONDS = 3600
# Hashing so much costs as little as remembering that it was done (about 40 µs); larger ones are remembered.
ALWAYS_HASHED = 64 * 1024
REMEMBERED = 4096


class Blob(NamedTuple):
    """What was stored: hex SHA-256 and bytes."""

    sha256: str
    size: int


class BlobMissing(SkilldeckError):
    """A row names a blob that is not on disk: the data directory was damaged or partly copied."""

    code = "blob_missing"


class BlobDamaged(SkilldeckError):
    """A blob is no longer what its name says: the disk or another program changed it."""

    code = "blob_damaged"


class Writer:
    """One blob being written. Nothing is visible before `commit`; `abort` (or leaving the block) removes the rest."""

    def __init__(self, blobs: Blobs, path: Path) -> None:
        self._blobs = blobs
        self._path = path
        self._file: BinaryIO | None = path.open("xb")
        self._hash = hashlib.sha256()
        self._pending = bytearray()
        self.size = 0

    async def write(self, data: bytes) -> None:
        """Add bytes; disk and hashing happen in a thread, a megabyte at a time."""
        self._pending += data
        self.size += len(data)
        if len(self._pending) >= CHUNK:
            await asyncio.to_thread(self._flush)

    async def commit(self) -> Blob:
        """Make it durable and give it its name."""
        return await asyncio.to_thread(self._commit)

    def abort(self) -> None:
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            # What is still in its buffer is not wanted; a full disk must not refuse it here.
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _flush(self) -> None:
        assert self._file is not None, "written to after commit or abort"
        self._file.write(self._pending)
        self._hash.update(self._pending)
        self._pending.clear()

    def _commit(self) -> Blob:
        self._flush()
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        sha = self._hash.hexdigest()
        folders = _name(self._blobs.root, self._path, sha)
        self._file.close()
        self._file = None
        _sync_folders(folders)
        self._blobs._keep(sha)
        return Blob(sha, self.size)


class Blobs:
    """The blobs under one folder: `ab/ab12…`, and `tmp/` for what is being written."""

    def __init__(self, root: Path, room: Room | None = None) -> None:
        self.root = root
        self._room = room
        # For what is being written and for short-lived files that belong on this file system.
        self.temporary = root / "tmp"
        self._sound: OrderedDict[str, tuple[int, int, int]] = OrderedDict()

    def prepare(self) -> None:
        """Create the folders and remove what an earlier process left half-written."""
        shutil.rmtree(self.temporary, ignore_errors=True)
        private.folder(self.root)  # what keeps others out: the blobs themselves are 0444, as the trees that share them
        self.temporary.mkdir(exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the blob lies (whether or not it exists). Read-only: others share it."""
        return self.root / sha256[:2] / sha256

    def found(self, sha256: str) -> Path | None:
        """Where the blob lies; None when it is not there or that is no SHA-256."""
        path = self.path(sha256) if SHA256.fullmatch(sha256) else None
        return path if path is not None and path.is_file() else None

    def require(self, sha256: str) -> Path:
        """Where the content lies, read-only. Blocks (see `fetch`).

        Raises:
            BlobMissing: it is not there. BlobDamaged: it does not have its digest.
        """
        path = self.path(sha256)
        try:
            sound = self._is_sound(path)
        except OSError as error:
            log.error("the stored content %s cannot be read: %s", sha256, error)
            raise BlobMissing(
                f"The stored content {sha256[:12]}… is missing from the data directory.",
                "Restore the blobs folder from the backup it was lost from, or delete and upload the object again.",
            ) from None
        if not sound:
            log.error("the stored content %s does not have its digest any more", sha256)
            raise BlobDamaged(
                f"The stored content {sha256[:12]}… is damaged: it does not have its SHA-256 any more.",
                "Upload the same content again, or restore a backup; `skilldeckd fsck` lists all that is damaged.",
            )
        return path

    async def fetch(self, sha256: str) -> Path:
        """`require`, off the event loop."""
        return await asyncio.to_thread(self.require, sha256)

    def _is_sound(self, path: Path) -> bool:
        """Whether the file has the digest it is called by; a large one is hashed again only when it changed."""
        mark = _mark(path)
        if self._sound.get(path.name) == mark:
            return True
        if _hash_file(path) != path.name:
            return False
        self._remember(path.name, mark)
        return True

    def _remember(self, sha256: str, mark: tuple[int, int, int]) -> None:
        if mark[1] > ALWAYS_HASHED:
            self._sound[sha256] = mark
            while len(self._sound) > REMEMBERED:
                self._sound.popitem(last=False)

    @contextlib.asynccontextmanager
    async def writer(self) -> AsyncIterator[Writer]:
        """A `Writer`; leaving the block without `commit` leaves nothing."""
        with disk_faults(self.root):
            if self._room is not None:
                self._room.check()
            writer = Writer(self, self.temporary / secrets.token_hex(12))
            try:
                yield writer
            finally:
                writer.abort()

    @contextlib.asynccontextmanager
    async def staging(self) -> AsyncIterator[Path]:
        """A private folder on the same file system, gone when the block ends; take files from it with `put_staged`."""
        folder = self.temporary / secrets.token_hex(12)
        with disk_faults(self.root):
            if self._room is not None:
                self._room.check()
            folder.mkdir(mode=0o700)
            try:
                yield folder
            finally:
                # Shielded: a cancelled request must not leave its folder behind.
                await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, True))

    async def put(self, source: bytes | Path | AsyncIterable[bytes]) -> Blob:
        """Store bytes, a copy of a file, or a stream."""
        async with self.writer() as writer:
            if isinstance(source, bytes):
                await writer.write(source)
            elif isinstance(source, Path):
                with source.open("rb") as file:
                    while chunk := await asyncio.to_thread(file.read, CHUNK):
                        await writer.write(chunk)
            else:
                async for chunk in source:
                    await writer.write(chunk)
            return await writer.commit()

    async def put_staged(self, files: Iterable[tuple[Path, str]]) -> None:
        """Take files of a staging folder, each with the SHA-256 its writer computed. All are durable on return."""
        with disk_faults(self.root):
            await asyncio.to_thread(self._put_staged, list(files))

    def _put_staged(self, files: list[tuple[Path, str]]) -> None:
        folders: set[Path] = set()
        new: list[str] = []
        for path, sha in files:
            if not self._touch(sha):
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                folders |= _name(self.root, path, sha)
                new.append(sha)
        _sync_folders(folders)
        for sha in new:
            self._keep(sha)

    def _keep(self, sha256: str) -> None:
        """A blob that is on the disk under its name goes wherever else it has to be before it counts as stored."""

    def _touch(self, sha256: str) -> bool:
        """Whether it is here and whole; if so it counts as new: `collect` leaves it to the row about to be written.

        A damaged one counts as absent, so that the same content uploaded again takes its place.
        """
        path = self.path(sha256)
        try:
            if not self._is_sound(path):
                return False
            os.utime(path)
            self._remember(sha256, _mark(path))
        except FileNotFoundError:
            return False
        return True

    async def missing(self, hashes: Iterable[str]) -> list[str]:
        """Those of the SHA-256s (64 hex digits each) that are not here; the others stay for an hour at least."""
        return await asyncio.to_thread(lambda: [sha for sha in hashes if not self._touch(sha)])

    def sound(self, sha256: str) -> bool:
        """Whether the content still has its hash, read anew. Blocks; raises OSError when it cannot be read."""
        return _hash_file(self.path(sha256)) == sha256

    async def verify(self, sha256: str) -> bool:
        """`sound`, off the event loop."""
        return await asyncio.to_thread(self.sound, sha256)

    def each(self) -> Iterator[tuple[str, int]]:
        """Name and size of every blob there is. Blocks."""
        for path in sorted(self.root.glob("[0-9a-f][0-9a-f]/*")):
            with contextlib.suppress(FileNotFoundError):  # collected meanwhile
                yield path.name, path.stat().st_size

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Nothing is collected inside this block, by whatever process. Blocks while a collection goes on."""
        with self._lock(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def _lock(self, how: int) -> Iterator[None]:
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)

    async def collect(self, referenced: Callable[[], set[str]] | set[str], grace: float = GRACE_SECONDS) -> int:
        """Delete blobs not in `referenced` and older than `grace` seconds. Returns the bytes freed."""
        keep = referenced() if callable(referenced) else referenced
        return await asyncio.to_thread(self._collect, keep, steady() - grace)

    def _collect(self, keep: set[str], before: float) -> int:
        try:
            with self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
                return self._delete(keep, before)
        except BlockingIOError:  # a backup is being made
            return 0

    def _delete(self, keep: set[str], before: float) -> int:
        freed = 0
        for folder in self.root.iterdir():
            if len(folder.name) != 2:
                continue
            for path in folder.iterdir():
                if path.name in keep:
                    continue
                state = path.stat()
                if state.st_mtime <= before:
                    path.unlink()
                    freed += state.st_size
        return freed


def _name(root: Path, path: Path, sha256: str) -> set[Path]:
    """Move a finished file to its name; returns the folders whose entries changed and still need an fsync."""
    target = root / sha256[:2] / sha256
    folders = {target.parent}
    if not target.parent.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        folders.add(root)
    path.chmod(0o444)
    path.replace(target)
    return folders


def _sync_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _mark(path: Path) -> tuple[int, int, int]:
    """Changes when somebody replaces or writes to the file."""
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

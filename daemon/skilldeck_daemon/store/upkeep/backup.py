"""Backups of a data directory: one file, made while the daemon runs, restored whole or not at all.

A backup is a tar archive: `skilldeck.db` (SQLite's own online backup: one committed state), `seal.key` and
`trusted.json` when there are any, every blob that state names as `blobs/<sha256>`, and last `manifest.json`, without
which it counts as cut short. It appears under its name when it is whole and on the disk. Nothing is collected while one
is made, so no blob of its state can vanish.

Left out: models and caches (they are found or made again) and what containers hold (working space that expires after
20 minutes without use; a restored container has expired).

A restore checks every digest, the database and its schema beside the target, in `restore/`; until all is there, the
target is untouched. Then a mark is written: from here on the restore is carried to its end, by this process or, when
it dies, by whoever opens the directory next (`complete`).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from skilldeck_daemon.store import migrations
from skilldeck_daemon.store.blobs import Blobs
from skilldeck_daemon.store.faults import disk_faults, disk_full
from skilldeck_daemon.store.owner import LOCK, own
from skilldeck_shared import private
from skilldeck_shared.errors import Conflict, SkilldeckError

FORMAT = 1
DATABASE = "skilldeck.db"
BESIDE = ("seal.key", "trusted.json")
MANIFEST = "manifest.json"
BLOB = re.compile(r"blobs/([0-9a-f]{64})")
READY = "ready"
CHUNK = 1 << 20
# Columns that name blobs, in every schema there was.
NAMED = "SELECT sha256 FROM files UNION SELECT sha256 FROM upload_parts UNION SELECT sha256 FROM container_files"


class BadBackup(SkilldeckError):
    """What was to be restored is not a whole backup; the target was not touched."""

    code = "bad_backup"


@dataclass
class Backup:
    """What a backup holds. `damaged` are blobs that were missing or corrupt when it was made, and so are not in it."""

    created_at: int
    schema: str
    blobs: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    format: int = FORMAT


# -- making one


def make(data: Path, target: Path, *, overwrite: bool = False) -> Backup:
    """Write a backup of `data` to the file `target`. The daemon may run.

    Raises:
        Conflict: `target` exists. SkilldeckError: there is nothing to back up, or it cannot be written.
    """
    if not (data / DATABASE).is_file():
        raise SkilldeckError(f"There is no store in {data}.", "Name the data directory with --data-dir.")
    if target.exists() and not overwrite:
        raise Conflict(f"{target} exists.", "Choose another file, or replace it with --overwrite.")
    if (data / "restore" / READY).is_file():
        raise Conflict(f"A restore into {data} was interrupted.", "Start the daemon once, or restore again.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with disk_faults(target.parent), tempfile.TemporaryDirectory(prefix=".backup-", dir=target.parent) as folder:
            partial = Path(folder) / "backup.tar"
            backup = _write(data, Path(folder), partial)
            os.replace(partial, target)
            _sync(target.parent)
    except OSError as error:
        raise SkilldeckError(
            f"{target} cannot be written: {error.strerror or error}.", "Choose another file."
        ) from error
    except sqlite3.Error as error:
        # SQLite calls a disk that has no room for its shared memory an I/O error.
        if min(shutil.disk_usage(folder).free for folder in (data, target.parent)) < 1 << 20:
            raise disk_full(f"{data} or {target.parent}") from error
        raise SkilldeckError(
            f"The database in {data} cannot be read: {error}.", "`skilldeckd fsck` says what is wrong with it."
        ) from error
    return backup


def _write(data: Path, folder: Path, partial: Path) -> Backup:
    blobs = Blobs(data / "blobs")
    with contextlib.ExitStack() as stack:
        if blobs.root.is_dir():
            stack.enter_context(blobs.pinned())
        snapshot = folder / DATABASE
        with contextlib.closing(_read_only(data / DATABASE)) as source:
            with contextlib.closing(sqlite3.connect(snapshot)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")
                backup = Backup(int(time.time()), _schema(copy))
                named = named_blobs(copy)
        private.file(partial)  # the key and everything else that is private is in it
        with partial.open("wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(snapshot, DATABASE)
            for name in BESIDE:
                if (data / name).is_file():
                    tar.add(data / name, name)
            for sha in sorted(named):
                _add_blob(tar, blobs.path(sha), sha, backup)
            _add_bytes(tar, MANIFEST, json.dumps(asdict(backup), indent=1).encode())
            tar.close()
            file.flush()
            os.fsync(file.fileno())
    return backup


def _add_blob(tar: tarfile.TarFile, path: Path, sha: str, backup: Backup) -> None:
    try:
        file = path.open("rb")
    except OSError:
        backup.damaged.append(sha)
        return
    with file:
        info = tarfile.TarInfo(f"blobs/{sha}")
        info.size = os.fstat(file.fileno()).st_size
        reader = _Hashed(file, info.size)
        tar.addfile(info, cast(IO[bytes], reader))
    if reader.digest() != sha:
        backup.damaged.append(sha)
        return
    backup.blobs += 1
    backup.bytes += info.size


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size
        self._hash = hashlib.sha256()

    def read(self, count: int) -> bytes:
        data = self._file.read(min(count, self._left))
        # A file cut short by a damaged disk: the archive stays readable, the digest shows it.
        data = data or bytes(min(count, self._left))
        self._left -= len(data)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        return self._hash.hexdigest()


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def named_blobs(database: sqlite3.Connection) -> set[str]:
    """Every blob that a row names."""
    found = {row[0] for row in database.execute(NAMED) if row[0] is not None}
    for (files,) in database.execute("SELECT files FROM skill_versions"):
        found.update(entry["sha256"] for entry in json.loads(files))
    return found


# -- restoring one


def restore(source: Path, data: Path, *, replace: bool = False) -> Backup:
    """Make `data` what it was when the backup `source` was made. No daemon may run on it.

    Args:
        replace: whether what `data` holds may go; models and caches stay.
    Raises:
        DataDirInUse, BadBackup, Conflict: nothing was changed.
    """
    disown = own(data)
    try:
        complete(data)
        if not replace and any(path.name != LOCK for path in data.iterdir()):
            raise Conflict(f"{data} is not empty.", "Choose an empty --data-dir, or replace what is there: --replace.")
        with disk_faults(data):
            staging = data / "restore"
            try:
                backup = _stage(source, staging)
                _write_mark(staging)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
        complete(data)
        return backup
    finally:
        disown()


def complete(data: Path) -> bool:
    """Carry a restore to its end that was interrupted after all had been checked. Whether there was one.

    A restore that was interrupted before leaves nothing behind after this.
    """
    staging = data / "restore"
    if not staging.is_dir():
        return False
    if not (staging / READY).is_file():
        shutil.rmtree(staging, ignore_errors=True)
        return False
    folders = set()
    for path in list((staging / "blobs").iterdir()):
        folder = data / "blobs" / path.name[:2]
        private.folder(folder.parent)
        folder.mkdir(exist_ok=True)
        path.chmod(0o444)
        os.replace(path, folder / path.name)
        folders |= {folder, folder.parent}
    for folder in folders:
        _sync(folder)
    if (staging / DATABASE).is_file():
        for suffix in ("-wal", "-shm"):
            (data / f"{DATABASE}{suffix}").unlink(missing_ok=True)
        os.replace(staging / DATABASE, data / DATABASE)
    for name in BESIDE:
        if (staging / name).is_file():
            os.replace(staging / name, data / name)
    _sync(data)
    shutil.rmtree(staging)
    return True


def _stage(source: Path, staging: Path) -> Backup:
    staging.mkdir(mode=0o700)
    (staging / "blobs").mkdir()
    found: set[str] = set()
    backup: Backup | None = None
    wrong: set[str] = set()
    try:
        with tarfile.open(source, "r:") as tar:
            for info in tar:
                blob = BLOB.fullmatch(info.name)
                if backup is not None or not info.isreg():
                    raise _bad(source, f"{info.name!r} does not belong there")
                if info.name == MANIFEST:
                    backup = _manifest(source, _bytes(tar, info))
                elif blob is not None:
                    sha = blob.group(1)
                    if _extract(tar, info, staging / "blobs" / sha) == sha:
                        found.add(sha)
                    else:
                        (staging / "blobs" / sha).unlink()
                        wrong.add(sha)
                elif info.name in (DATABASE, *BESIDE):
                    _extract(tar, info, staging / info.name)
                else:
                    raise _bad(source, f"{info.name!r} does not belong there")
    except (tarfile.TarError, EOFError) as error:
        raise _bad(source, str(error)) from error
    except FileNotFoundError as error:
        raise SkilldeckError(f"There is no backup {source}.", "Name the file that `backup` wrote.") from error
    if backup is None:
        raise _bad(source, "it has no manifest, so it was cut short")
    rotten = sorted(wrong - set(backup.damaged))
    if rotten:
        raise _bad(source, f"{rotten[0][:12]}… in it does not have its SHA-256")
    named = _check_database(source, staging / DATABASE)
    absent = sorted(named - found - set(backup.damaged))
    if absent:
        raise _bad(source, f"{absent[0][:12]}… is not in it")
    _sync(staging / "blobs")
    return backup


def _manifest(source: Path, data: bytes) -> Backup:
    try:
        values: dict[str, Any] = json.loads(data)
        if values.get("format", 0) > FORMAT:
            raise _bad(source, "a newer skilldeck made it")
        return Backup(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise _bad(source, f"its manifest cannot be read ({error})") from error


def _check_database(source: Path, path: Path) -> set[str]:
    try:
        with contextlib.closing(_read_only(path)) as database:
            problems = [row[0] for row in database.execute("PRAGMA integrity_check(1)")]
            if problems != ["ok"]:
                raise _bad(source, f"its database is damaged ({problems[0]})")
            schema = _schema(database)
            if schema not in migrations.known():
                raise _bad(source, f"a newer skilldeck made it (schema {schema})")
            return named_blobs(database)
    except sqlite3.Error as error:
        raise _bad(source, f"its database cannot be read ({error})") from error


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo, target: Path) -> str:
    digest = hashlib.sha256()
    content = tar.extractfile(info)
    assert content is not None, "only regular files come here"
    with content, target.open("xb") as file:
        target.chmod(0o600)
        while chunk := content.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
        if file.tell() != info.size:
            raise EOFError("it was cut short")
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _bytes(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(info)
    assert content is not None, "only regular files come here"
    return content.read()


def _write_mark(staging: Path) -> None:
    with (staging / READY).open("xb") as mark:
        os.fsync(mark.fileno())
    _sync(staging)


def _bad(source: Path, why: str) -> BadBackup:
    return BadBackup(f"{source} is no whole backup: {why}.", "Restore another one; nothing was changed.")


def _read_only(path: Path) -> sqlite3.Connection:
    # Not mode=ro: reading a database in WAL mode needs its -shm file, which only a writer may make.
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("PRAGMA query_only=ON")
    return connection


def _schema(database: sqlite3.Connection) -> str:
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None:
        raise sqlite3.DatabaseError("it has no schema")
    return str(row[0])


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

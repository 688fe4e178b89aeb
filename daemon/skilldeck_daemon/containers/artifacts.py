"""Files of a container as the daemon touches them: list, read, put, remove, delete the whole tree.

Everything under `/mnt/data` was named by a stranger's program that may still be running, so no path is ever handed to
the kernel whole: each component is opened relative to the one before with O_NOFOLLOW, and only regular files are read
(a FIFO would block, a device would answer). All functions block; callers use a thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from skilldeck_daemon.containers.errors import (
    ArtifactNotFound,
    ArtifactTooLarge,
    InvalidContainerRequest,
)
from skilldeck_daemon.containers.spec import WORKDIR, Entry
from skilldeck_shared.skills.clutter import clutter

MAX_ENTRIES = 10_000
MAX_DEPTH = 64
OPEN_LEVELS = 100
"""Directories of one way down that `usage` keeps open."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CONTROL = re.compile(r"[\x00-\x1f\x7f/\\]")


def components(path: str) -> list[str]:
    """The parts of an absolute path under `/mnt/data`. Raises `ArtifactNotFound` for any other path."""
    parts = path.removeprefix(WORKDIR + "/").split("/") if path.startswith(WORKDIR + "/") else []
    parts = [part for part in parts if part]
    if not parts or len(parts) > MAX_DEPTH or any(part in (".", "..") or "\0" in part for part in parts):
        raise ArtifactNotFound(f"No file at {path!r}.", f"Paths start with {WORKDIR}/.", param="path")
    return parts


def open_root(root: Path) -> int:
    """A descriptor of the work directory itself. A command may have made it mode 000; it is ours to undo that."""
    try:
        return os.open(root, _DIRECTORY)
    except PermissionError:
        os.chmod(root, 0o755)
        return os.open(root, _DIRECTORY)


@contextlib.contextmanager
def _parent(root: Path, path: str) -> Iterator[tuple[int, str]]:
    """The directory descriptor that holds the last component, and that component."""
    parts = components(path)
    try:
        fd = open_root(root)
    except OSError as error:
        raise ArtifactNotFound(f"No file at {path!r}.", param="path") from error
    try:
        for part in parts[:-1]:
            try:
                inner = os.open(part, _DIRECTORY, dir_fd=fd)
            except (OSError, ValueError) as error:
                raise ArtifactNotFound(f"No file at {path!r}.", param="path") from error
            os.close(fd)
            fd = inner
        yield fd, parts[-1]
    finally:
        os.close(fd)


def open_file(root: Path, path: str) -> tuple[BinaryIO, int]:
    """Opens a regular file for reading. Returns the file and its size in bytes.

    Raises: `ArtifactNotFound` for anything that is not a regular file reached without a symbolic link.
    """
    with _parent(root, path) as (directory, name):
        try:
            fd = os.open(name, _FILE, dir_fd=directory)
        except (OSError, ValueError) as error:
            raise ArtifactNotFound(f"No regular file at {path!r}.", param="path") from error
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            os.close(fd)
            raise ArtifactNotFound(f"{path!r} is not a regular file.", param="path")
        os.set_blocking(fd, True)
        return os.fdopen(fd, "rb"), info.st_size


def read(root: Path, path: str, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`. Raises `ArtifactNotFound`, `ArtifactTooLarge`."""
    file, size = open_file(root, path)
    with file:
        # The file may grow between fstat and read: one byte more shows it.
        data = file.read(max_bytes + 1) if size <= max_bytes else b""
    if size > max_bytes or len(data) > max_bytes:
        raise ArtifactTooLarge(
            f"{path} has {max(size, len(data))} bytes; at most {max_bytes} are read.",
            "Make the file smaller, or read it in parts through the shell.",
            param="path",
        )
    return data


def entries(root: Path, *, most: int = MAX_ENTRIES) -> list[Entry]:
    """The regular files under the root, sorted by path, at most `most` of them and 64 directories deep.

    Skipped: links, FIFOs, sockets, devices, directories that cannot be entered, names that are not UTF-8. What lies in
    folders of packages and caches comes after all others: 20,000 files of node_modules take no place from a report.
    """
    found: dict[str, Entry] = {}
    if _find(root, most, found, cluttered=False) and len(found) < most:
        _find(root, most, found, cluttered=True)
    return sorted(found.values(), key=lambda entry: entry.path)


def _find(root: Path, most: int, found: dict[str, Entry], *, cluttered: bool) -> bool:
    """Adds regular files by path until there are `most`; returns whether folders of packages were passed by."""
    try:
        top = open_root(root)
    except FileNotFoundError:
        return False
    seen = 0
    passed = False
    stack: list[tuple[int, str, list[str]]] = []

    def enter(fd: int, prefix: str) -> None:
        nonlocal seen, passed
        folders = []
        with os.scandir(fd) as scan:
            for item in scan:
                seen += 1
                if seen > 10 * most or len(found) >= most:
                    break
                try:
                    item.name.encode()
                    info = item.stat(follow_symlinks=False)
                except (OSError, UnicodeEncodeError):
                    continue
                if stat.S_ISDIR(info.st_mode):
                    if cluttered or not clutter(item.name):
                        folders.append(item.name)
                    else:
                        passed = True
                elif stat.S_ISREG(info.st_mode):
                    path = f"{prefix}/{item.name}"
                    mode = stat.S_IMODE(info.st_mode) & 0o777
                    found[path] = Entry(path, info.st_size, info.st_mtime_ns, mode)
        stack.append((fd, prefix, folders))

    try:
        enter(top, WORKDIR)
        while stack:
            fd, prefix, folders = stack[-1]
            if not folders or len(stack) > MAX_DEPTH or len(found) >= most:
                os.close(fd)
                stack.pop()
                continue
            name = folders.pop()
            try:
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
            except OSError:
                continue
            enter(inner, f"{prefix}/{name}")
    finally:
        for fd, _, _ in stack:
            os.close(fd)
    return passed


def safe_name(name: str) -> str:
    """A file name from whatever a client sent: its last component, no control characters, at most 255 bytes."""
    name = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = _CONTROL.sub("_", name).encode("utf-8", "replace").decode().strip()
    if name in ("", ".", ".."):
        name = "file"
    return _numbered(name, 1)


def _numbered(name: str, number: int) -> str:
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode()) > 32:
        stem, dot, suffix = name, "", ""
    ending = (f"-{number}" if number > 1 else "") + dot + suffix
    room = 255 - len(ending.encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + ending


def put(root: Path, staging: Path, name: str, source: Path | bytes, owner: int | None) -> str:
    """Copies a file in under a free name and returns its path inside.

    The content is written beside the work directory first and linked in when complete: a running command
    never sees half a file, and a crash leaves nothing in `/mnt/data`.
    """
    name = safe_name(name)
    temporary = staging / f"put-{os.getpid()}-{os.urandom(8).hex()}"
    root_fd = open_root(root)
    try:
        with open(temporary, "xb") as target:
            if isinstance(source, Path):
                try:
                    with open(source, "rb") as origin:
                        shutil.copyfileobj(origin, target, 1024 * 1024)
                except OSError as error:
                    raise InvalidContainerRequest(f"The file for {name!r} cannot be read: {error}.") from error
            else:
                target.write(source)
            os.fchmod(target.fileno(), 0o644)
            if owner is not None:
                os.fchown(target.fileno(), owner, owner)
        for number in range(1, 10_000):
            candidate = _numbered(name, number)
            try:
                os.link(temporary, candidate, dst_dir_fd=root_fd, follow_symlinks=False)
            except FileExistsError:
                continue
            return f"{WORKDIR}/{candidate}"
        raise InvalidContainerRequest(f"There are too many files called {name!r}.", "Rename the file.")
    finally:
        os.close(root_fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def content(root: Path, path: str, max_bytes: int) -> bytes | None:
    """A regular file's content, None when nothing lies at the path.

    Raises: `ArtifactTooLarge`, and `InvalidContainerRequest` for anything but a regular file reached without a link.
    """
    try:
        with _parent(root, path) as (directory, name):
            os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except ArtifactNotFound as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise InvalidContainerRequest(f"{path} cannot be reached: a part of it is no directory, or a link.") from error
    try:
        return read(root, path, max_bytes)
    except ArtifactNotFound as error:
        raise InvalidContainerRequest(f"{path} is not a regular file.") from error


def write(root: Path, staging: Path, path: str, data: bytes, owner: int | None) -> None:
    """Makes or replaces one file, whole or not at all; missing directories are made, permission bits are kept.

    Raises: `InvalidContainerRequest` when a directory or a link stands in the way.
    """
    parts = components(path)
    temporary = staging / f"write-{os.getpid()}-{os.urandom(8).hex()}"
    fd = open_root(root)
    try:
        for part in parts[:-1]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=fd)
                if owner is not None:
                    os.chown(part, owner, owner, dir_fd=fd, follow_symlinks=False)
            inner = os.open(part, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inner
        mode = 0o644
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(os.stat(parts[-1], dir_fd=fd, follow_symlinks=False).st_mode) & 0o777
        with open(temporary, "xb") as target:
            target.write(data)
            os.fchmod(target.fileno(), mode)
            if owner is not None:
                os.fchown(target.fileno(), owner, owner)
        os.rename(temporary, parts[-1], dst_dir_fd=fd)
    except OSError as error:
        raise InvalidContainerRequest(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def remove(root: Path, path: str) -> None:
    """Removes one file (or link: the link itself). Raises `ArtifactNotFound`."""
    with _parent(root, path) as (directory, name):
        try:
            os.unlink(name, dir_fd=directory)
        except (OSError, ValueError) as error:
            raise ArtifactNotFound(f"No file at {path!r}.", param="path") from error


@dataclass
class _Level:
    """A directory on the way down: its descriptor (-1 while it is closed), its identity, what is left to enter."""

    fd: int
    identity: tuple[int, int]
    folders: list[str]


def usage(root: Path, most: int) -> tuple[int, int]:
    """Bytes on disk and number of entries under `root`; gives up counting after `most` entries.

    Nothing is too deep to be counted, and nothing locked: a place that is not looked at is where the bytes would be.
    """
    total = count = 0
    trail: list[_Level] = []

    def enter(fd: int) -> None:
        nonlocal total, count
        own = os.fstat(fd)
        level = _Level(fd, (own.st_dev, own.st_ino), [])
        trail.append(level)
        if own.st_uid == os.geteuid() and own.st_mode & 0o500 != 0o500:
            os.fchmod(fd, stat.S_IMODE(own.st_mode) | 0o500)
        with os.scandir(fd) as scan:
            for item in scan:
                count += 1
                if count > most:
                    break
                try:
                    info = item.stat(follow_symlinks=False)
                except OSError:
                    continue
                total += info.st_blocks * 512
                if stat.S_ISDIR(info.st_mode):
                    level.folders.append(item.name)
        if len(trail) > OPEN_LEVELS:
            far = trail[-1 - OPEN_LEVELS]
            os.close(far.fd)
            far.fd = -1

    def leave() -> None:
        """Back up one level. One that was closed is found again as the parent, unless somebody moved it meanwhile."""
        level = trail.pop()
        try:
            if trail and trail[-1].fd < 0:
                above = os.open("..", _DIRECTORY, dir_fd=level.fd)
                info = os.fstat(above)
                if (info.st_dev, info.st_ino) == trail[-1].identity:
                    trail[-1].fd = above
                else:
                    os.close(above)
                    trail.clear()  # the rest is counted by the next scan
        except OSError:
            trail.clear()
        finally:
            os.close(level.fd)

    try:
        enter(open_root(root))
        while trail and count <= most:
            level = trail[-1]
            if not level.folders:
                leave()
                continue
            with contextlib.suppress(OSError):
                enter(_unlocked(level.folders.pop(), level.fd))
    except FileNotFoundError:
        pass
    finally:
        for level in trail:
            if level.fd >= 0:
                os.close(level.fd)
    return total, count


def _unlocked(name: str, parent: int) -> int:
    """Opens a directory, also one whose owner took the right to from himself; that one gets it back."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        _allow(name, parent, 0o500)
        return os.open(name, _DIRECTORY, dir_fd=parent)


def _allow(name: str, parent: int, mode: int) -> None:
    """Adds permission bits to a directory: to the one opened here, for by name a link could have taken its place."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", stat.S_IMODE(os.fstat(handle).st_mode) | mode)
    finally:
        os.close(handle)


def delete_tree(path: Path) -> None:
    """Deletes a tree no matter how it was made: thousands deep, mode 000, names that are not UTF-8.

    Directories inside directories are first moved up to the top, so that the depth never matters. Only for
    trees that nothing writes to any more.
    """
    try:
        top = open_root(path)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(path)
        return
    try:
        os.fchmod(top, 0o700)
        token = os.urandom(12).hex()  # no name inside can have been chosen to collide
        number = 0
        pending = True
        while pending:
            pending = False
            for name in os.listdir(top):
                if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=top)
                    continue
                _allow(name, top, 0o700)
                fd = os.open(name, _DIRECTORY, dir_fd=top)
                try:
                    for inner in os.listdir(fd):
                        if stat.S_ISDIR(os.stat(inner, dir_fd=fd, follow_symlinks=False).st_mode):
                            # Moving a directory writes its "..": it must be writable itself.
                            _allow(inner, fd, 0o700)
                            number += 1
                            os.rename(inner, f"{token}-{number}", src_dir_fd=fd, dst_dir_fd=top)
                            pending = True
                        else:
                            os.unlink(inner, dir_fd=fd)
                finally:
                    os.close(fd)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path)

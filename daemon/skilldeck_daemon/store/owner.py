"""Who owns a data directory: one process at a time, by a lock that the kernel drops when it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from skilldeck_shared import private
from skilldeck_shared.errors import Conflict, Unavailable

LOCK = "daemon.lock"
ENTRIES = (
    LOCK,
    "skilldeck.db*",
    "seal.key*",
    "trusted.json",
    ".trusted.json.*",
    "home.id",
    "blobs",
    "skills",
    "containers",
    "documents",
    "models",
    "reserve*",
    "restore",
    "sandbox",
)
"""What a data directory holds."""


class DataDirInUse(Conflict):
    """Another daemon or runner owns the data directory."""

    code = "already_running"


def own(data_dir: Path) -> Callable[[], None]:
    """Take the data directory and close it to other users, whatever an earlier version left open; returns what gives
    it back. Raises DataDirInUse, or Unavailable when it cannot be."""
    try:
        if not data_dir.is_dir():  # one that is there may hold other things, and keeps its mode then
            private.folder(data_dir)
        handle = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(
            f"The data directory {data_dir} cannot be used: {error.strerror}.", "Choose --data-dir."
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise DataDirInUse(
            f"Another daemon (pid {pid}) owns {data_dir}.", "Stop it, or choose another --data-dir."
        ) from None
    private.close_tree(data_dir.resolve(), ENTRIES)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
    except OSError:  # a full disk: the lock holds without the number
        pass
    return lambda: os.close(handle)

"""Room on the data directory's disk: what is kept back for deleting, and where uploads end.

A full disk must not be a trap: deleting writes too (the database's log), so a reserve lies in a file of its own, given
up for a deletion that finds no room and taken again when there is some. Uploads are refused below a floor, before
their bytes are read: what is left is for the runs under way, whose ends have to be stored. `trouble` says it before.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from skilldeck_daemon.store.faults import DiskFull

log = logging.getLogger(__name__)

RESERVE_BYTES = 8 << 20
"""Deletions write 4 KiB pages to the log, about five each; at 4 MB it is moved into the database and begins anew."""
FLOOR_BYTES = 64 << 20
FLOOR_SHARE = 50
"""And at most a fiftieth of the disk."""
SPARE_BYTES = 1 << 20
"""With so much free a deletion needs no reserve."""
EARLY = 4
"""It is reported from so many floors on."""


class Room:
    """Of one data directory, which need not exist yet. All but `free` and `trouble` may write; none blocks for long."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reserve = folder / "reserve"

    def free(self) -> int:
        """Bytes that may still be written."""
        return shutil.disk_usage(self._folder).free

    @property
    def floor(self) -> int:
        return min(FLOOR_BYTES, shutil.disk_usage(self._folder).total // FLOOR_SHARE)

    def check(self) -> None:
        """Raise DiskFull where nothing more is taken in."""
        free = self.free()
        if free < self.floor:
            raise DiskFull(
                f"{_megabytes(free)} are free in {self._folder}; below {_megabytes(self.floor)} nothing is taken in.",
                "Delete what is not needed any more, or free some space there; nothing of this request was stored.",
            )

    def keep(self) -> None:
        """Take the reserve where there is room for it."""
        if self._reserve.exists() or self.free() < RESERVE_BYTES + self.floor:
            return
        part = self._reserve.with_suffix(".part")
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
            part.rename(self._reserve)
        except OSError as error:
            log.warning("no reserve can be kept in %s: %s", self._folder, error)
            part.unlink(missing_ok=True)

    def give(self) -> None:
        """Give the reserve up where a deletion would find no room."""
        if self._reserve.exists() and self.free() < SPARE_BYTES:
            self._reserve.unlink(missing_ok=True)
            log.warning("the disk of %s is full: the reserve is given up for deletions", self._folder)

    def trouble(self) -> str:
        """What a person should know of it; empty while there is room."""
        try:
            free, floor = self.free(), self.floor
        except OSError as error:
            return f"The data directory {self._folder} cannot be looked at: {error.strerror}."
        if free >= EARLY * floor:
            return ""
        below = ":" if free < floor else f"; below {_megabytes(floor)}"
        return f"Only {_megabytes(free)} are free in {self._folder}{below} uploads are refused."


def _megabytes(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB"

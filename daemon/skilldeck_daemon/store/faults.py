"""What the machine refuses (a full disk, a locked database, a lost server) as errors that say so and what to do.

Whatever raises one of these has stored nothing of what it was asked for; the same request works once the cause is gone.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from skilldeck_shared.errors import SkilldeckError, Unavailable

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DiskFull(Unavailable):
    """Nothing more can be written to the data directory."""

    code = "disk_full"


class StoreBusy(Unavailable):
    """Another program holds the database."""

    code = "store_busy"


class StoreUnavailable(Unavailable):
    """The database or the disk beneath it does not answer."""

    code = "store_unavailable"


class StoreDamaged(SkilldeckError):
    """The database, or a row of it, cannot be read any more."""

    code = "store_damaged"


DAMAGED_HINT = (
    "Stop the daemon; `skilldeckd fsck` says what is damaged, `skilldeckd restore BACKUP` puts a backup in its place."
)


def malformed(error: DBAPIError) -> bool:
    """Whether SQLite finds its file damaged. Its other faults pass, or are ours."""
    return any(words in str(error.orig) for words in ("malformed", "file is not a database", "database corruption"))


def disk_full(where: Path | str) -> DiskFull:
    return DiskFull(f"There is no space left in {where}.", "Free some space there; nothing of this request was stored.")


@contextlib.contextmanager
def disk_faults(root: Path) -> Iterator[None]:
    """A disk that refuses to write inside this block is a `DiskFull` or `StoreUnavailable`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(root) from error
        if error.errno in (errno.EIO, errno.EROFS):
            hint = "Check the disk; nothing of this request was stored."
            raise StoreUnavailable(f"{root} cannot be written to: {error.strerror}.", hint) from error
        raise


@contextlib.contextmanager
def database_faults(shown: str) -> Iterator[None]:
    """A database that refuses inside this block is one of the errors above; a wrong statement stays what it is.

    Args:
        shown: the database's URL, without its password.
    """
    try:
        yield
    except DBAPIError as error:
        if malformed(error):
            raise StoreDamaged(f"The database {shown} is damaged: {error.orig}.", DAMAGED_HINT) from error
        if not isinstance(error, OperationalError | InterfaceError) and not error.connection_invalidated:
            raise
        cause = str(error.orig)
        if "disk is full" in cause or "No space left" in cause:
            raise disk_full(shown) from error
        if "locked" in cause:
            raise StoreBusy(
                f"The database {shown} is locked by another program.",
                "End what holds it open (a database browser, a copy job), then try again; nothing was stored.",
            ) from error
        raise StoreUnavailable(f"The database {shown} does not answer: {cause}.", "Try again when it does.") from error
    except OSError as error:  # a server that cannot be reached
        raise StoreUnavailable(f"The database {shown} does not answer: {error}.", "Try again when it does.") from error

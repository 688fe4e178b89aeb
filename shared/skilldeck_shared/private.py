"""Directories and files that nobody but their owner reads, whatever the umask is and whatever an earlier version left.

What lies in a directory that others cannot enter cannot be opened by them, whatever its own mode; files are made 0600
nevertheless, for the day their directory is copied or opened. What belongs to another user is left as it is, and so is
what lies behind a link: whoever set it decides about the place it leads to.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection
from pathlib import Path

from skilldeck_shared.errors import SkilldeckError

FOLDER = 0o700
FILE = 0o600


class OpenToOthers(SkilldeckError):
    """Other users of this machine could stand in for the daemon at this path."""

    code = "open_to_others"


def folder(path: Path) -> None:
    """Make the folder (and what is above it, as the umask says) when it is missing, and close it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=FOLDER)
    close(path)


def file(path: Path) -> None:
    """Make an empty file when it is missing, and close it: for what a library opens by its name. Raises OSError."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE))
    close(path)


def write(path: Path, data: bytes) -> None:
    """Write a new file. Raises OSError, FileExistsError among them."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE)
    with open(handle, "wb") as target:
        target.write(data)


def close(path: Path) -> None:
    """Take away what others may do with a folder or file of ours. Nothing happens where it is not there, not ours,
    behind a link, or on a file system without modes."""
    with contextlib.suppress(OSError):
        info = os.lstat(path)
        if info.st_uid != os.geteuid() or not info.st_mode & 0o077:
            return
        if stat.S_ISDIR(info.st_mode) or stat.S_ISREG(info.st_mode):
            os.chmod(path, stat.S_IMODE(info.st_mode) & 0o700, follow_symlinks=False)


def close_tree(root: Path, ours: Collection[str]) -> None:
    """Close a folder with the entries called as in `ours`; a name ending in `*` stands for all that begin so.

    The folder itself keeps its mode when it holds anything else, since it is then not (only) ours: `--data-dir /srv`.
    """
    names = [entry.name for entry in os.scandir(root)]
    known = [name for name in names if any(_called(name, own) for own in ours)]
    for name in known:
        close(root / name)
    if len(known) == len(names):
        close(root)


def _called(name: str, own: str) -> bool:
    return name.startswith(own[:-1]) if own.endswith("*") else name == own


def check_socket_folder(path: Path) -> None:
    """Raise OpenToOthers when somebody else could put another socket where this one is to be.

    Its folder may not be written by others, not even a shared temporary one, where they could be first; nor may it lie
    behind a link. Above it, sticky folders will do, and links that only root can change.
    """
    parent = Path(os.path.abspath(path)).parent
    if parent.is_symlink():
        raise OpenToOthers(
            f"The socket's folder {parent} is a link.", f"Name the folder itself: {os.path.realpath(parent)}."
        )
    for place in (parent, *parent.parents):
        try:
            info = os.lstat(place)
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(info.st_mode):
            if info.st_uid != 0:
                raise OpenToOthers(
                    f"The socket {path} lies behind the link {place}.",
                    f"Name its folder without links: {os.path.realpath(parent)}.",
                )
            continue
        if info.st_uid not in (0, os.geteuid()):
            raise OpenToOthers(
                f"The socket {path} lies in {place}, which belongs to another user.",
                "Give a place of your own with --socket or SKILLDECK_SOCKET.",
            )
        open_ = info.st_mode & 0o022
        if open_ and (place == parent or not info.st_mode & stat.S_ISVTX):
            raise OpenToOthers(
                f"Others can write to {place}, so they could stand in for the daemon.",
                f"Run: chmod go-w {place}, or give another place with --socket or SKILLDECK_SOCKET."
                if not info.st_mode & stat.S_ISVTX
                else f"Use a folder of your own in it, like {place / f'skilldeck-{os.geteuid()}' / path.name}.",
            )

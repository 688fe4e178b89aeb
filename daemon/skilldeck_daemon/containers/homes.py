"""Where one daemon keeps its containers, its hold on that place, the directory of each; skills brought within reach."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from pathlib import Path

from skilldeck_daemon.containers import artifacts
from skilldeck_daemon.containers.errors import ContainerError
from skilldeck_daemon.containers.sandbox import bwrap

PROBE_ID = "probe"
STATE_DIR = Path("/var/lib/skilldeck")


class RootLock:
    """One daemon's hold on the directory of its containers; the kernel drops it when the daemon dies.

    Args:
        own: the directory was made by us, outside the one that was asked for: when nothing is kept in it, it goes too.

    Raises: `ContainerError` when another daemon has it.
    """

    def __init__(self, base: Path, *, own: bool) -> None:
        self._base = base
        self._own = own
        path = base / ".lock"
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(fd)
                raise ContainerError(
                    f"Another daemon already uses {base}.",
                    "Stop it (skilldeck status shows its pid), or choose another --data-dir.",
                ) from error
            # Whoever stopped in between may have removed the file: then this lock guards nothing.
            if path.exists() and os.fstat(fd).st_ino == path.stat().st_ino:
                self._fd = fd
                return
            os.close(fd)

    def release(self) -> None:
        if self._own and {item.name for item in self._base.iterdir()} == {".lock"}:
            (self._base / ".lock").unlink()
            self._base.rmdir()
        os.close(self._fd)


def base_for(root: Path, kind: str = "containers") -> Path:
    """The directory that `root` (of the containers, or of another kind) really is: `root`, or for root's daemon one
    that the containers' user can enter."""
    if os.geteuid() != 0:
        return root
    # Only the way there matters: the containers' own directory is opened to that user by us.
    above = root.parent if root.exists() else root
    while not above.exists():
        above = above.parent
    if bwrap.passable(above, bwrap.SANDBOX_UID):
        return root
    digest = hashlib.sha256(os.fsencode(os.path.abspath(root))).hexdigest()[:16]
    return STATE_DIR / f"{kind}-{digest}"


def make_home(home: Path, owner: int | None) -> Path:
    """The folders of one container, made or set right; `owner` is whose its processes are, when they are not ours."""
    for folder, mode in (
        (home, 0o700),
        (home / "data", 0o755),
        (home / "home", 0o700),
        (home / "staging", 0o700),
    ):
        folder.mkdir(mode=mode, exist_ok=True)
        folder.chmod(mode)
        if owner is not None and folder.name != "staging":
            os.chown(folder, owner, owner)
    for left in (home / "staging").iterdir():  # of a put that a crash interrupted
        left.unlink()
    return home


def within_reach(mounts: list[tuple[str, Path]], copies: Path, uid: int) -> list[tuple[str, Path]]:
    """Skill folders the sandbox's user can read: themselves, or copies."""
    result = []
    for name, path in mounts:
        if not bwrap.tree_readable(path, uid):
            copy = copies / name
            if copy.exists():
                artifacts.delete_tree(copy)
            copies.mkdir(mode=0o755, exist_ok=True)
            shutil.copytree(path, copy, symlinks=True)
            for folder, _, files in os.walk(copy):
                os.chmod(folder, 0o755)
                for file in files:
                    item = os.path.join(folder, file)
                    if not os.path.islink(item):
                        os.chmod(item, 0o755 if os.stat(item).st_mode & 0o100 else 0o644)
            path = copy
        result.append((name, path))
    return result


def discard(home: Path) -> None:
    """Removes a container's directory; what a crash interrupts is removed at the next start."""
    trash = home.parent / f".trash-{os.urandom(8).hex()}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(home, trash)
        artifacts.delete_tree(trash)


def sweep_unfinished(base: Path) -> None:
    """Removes what a crash left half made or half removed."""
    old = time.time() - 3600  # a doctor that runs now is left alone
    for item in base.iterdir():
        ours = item.name.startswith((".trash-", f".{PROBE_ID}-"))
        if ours or (item.name.startswith(".doctor-") and item.stat().st_mtime < old):
            artifacts.delete_tree(item)

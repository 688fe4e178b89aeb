"""Making a base of the sandbox (`bases.py`): a virtual environment by uv, and Node's packages by npm where it is here.

Only wheels are installed, and npm runs no scripts: nothing of a package is executed on this machine while it is built.
A build lies in a folder of its own until it is whole, then one link is exchanged: whoever kills it leaves the base that
was there, and what it had begun is removed by the next one. Blocks throughout.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import uv

from skilldeck_daemon.containers import artifacts
from skilldeck_daemon.containers.network.indexes import Indexes
from skilldeck_daemon.containers.packages.bases import CURRENT, place_of
from skilldeck_daemon.containers.sandbox import bwrap
from skilldeck_shared import private
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.skills.base_packages import NPM_MARK

_BEGUN = ".building-"
_MADE = "base-"
_NOTES = "base.json"
_NEWEST = 2  # a container that runs still reads from the one before


class BuildFailed(SkilldeckError):
    """The base could not be built; the one that was there is as it was."""

    code = "build_failed"


@dataclass(frozen=True)
class Built:
    """A base that is there now."""

    folder: str
    python: str
    wanted: list[str]
    packages: int
    bytes: int
    seconds: float


def place_for(data_dir: Path, uid: int) -> Path:
    """Where the bases of a data directory lie: made, and opened to `uid` when a root daemon's containers are its."""
    private.folder(data_dir)
    if uid != os.geteuid():
        bwrap.open_way(data_dir, uid)
    root = place_of(data_dir / "sandbox", uid)
    private.folder(root)
    if uid != os.geteuid():
        bwrap.open_way(root, uid)
    return root


def build(
    root: Path, python: Path, wanted: Sequence[str], node: Sequence[str] = (), indexes: Indexes = Indexes()
) -> Built:
    """Make a base of these packages and use it from now on. uv and npm report their progress on stderr, and take what
    they are configured to here, unless `indexes` are the operator's own.

    Raises: `BuildFailed`; nothing has changed then.
    """
    started = time.monotonic()
    with _alone(root) as lock:
        _sweep(root)
        name = secrets.token_hex(6)
        folder = root / f"{_BEGUN}{name}"
        before = os.umask(0o022)  # the containers' user reads it
        try:
            _python_packages(folder, root / "cache", python, wanted, indexes, lock)
            if node:
                _node_packages(folder, root / "cache", node, indexes, lock)
            built = Built(
                str(root / f"{_MADE}{name}"),
                str(python),
                [*wanted, *(f"{NPM_MARK}{package}" for package in node)],
                len(list(folder.glob("lib/python*/site-packages/*.dist-info"))),
                size(folder),
                round(time.monotonic() - started, 1),
            )
            (folder / _NOTES).write_text(json.dumps(asdict(built)))
            os.rename(folder, built.folder)
            _lead_to(root, f"{_MADE}{name}")
        finally:
            os.umask(before)
            artifacts.delete_tree(folder)
        _sweep(root)
    return built


def wanted_before(root: Path) -> list[str]:
    """What the present base was asked for."""
    try:
        wanted = json.loads((root / CURRENT / _NOTES).read_text())["wanted"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in wanted]


def _python_packages(
    folder: Path, cache: Path, python: Path, wanted: Sequence[str], indexes: Indexes, lock: int
) -> None:
    program = [uv.find_uv_bin(), "--cache-dir", str(cache)]
    # What uv takes for its own project or environment here is none of this.
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "UV_PROJECT", "PYTHONPATH")}
    env |= indexes.chosen() | {"UV_PYTHON_DOWNLOADS": "never"}
    # In the containers, where it is read-only, every import would compile it once more.
    env.setdefault("UV_COMPILE_BYTECODE", "1")
    _run([*program, "venv", "--quiet", "--relocatable", "--python", str(python), str(folder)], env, lock)
    install = [*program, "pip", "install", "--only-binary", ":all:", "--python", str(folder / "bin/python3")]
    _run([*install, "--", "pip", *wanted], env, lock)


def _node_packages(folder: Path, cache: Path, node: Sequence[str], indexes: Indexes, lock: int) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise BuildFailed("There is no npm here.", f"Run: {bwrap.install_hint('npm')}. Or leave out npm: packages.")
    (folder / "package.json").write_text("{}")
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--cache", str(cache / "npm")]
    _run([*command, "--prefix", str(folder), "--", *node], {**os.environ, **indexes.chosen()}, lock)


def _run(command: Sequence[str], env: dict[str, str], lock: int) -> None:
    """Raises BuildFailed. The child holds the lock too: while it still writes, nobody removes what it writes to."""
    try:
        code = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[lock]).returncode
    except OSError as error:
        raise BuildFailed(f"{command[0]} cannot be run: {error.strerror}.", "Install skilldeck anew.") from error
    if code:
        raise BuildFailed(
            f"{Path(command[0]).name} ended with {code}; what it said is above. Nothing was changed.",
            "Mend what it names. Packages must come as wheels: nothing is compiled here.",
        )


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[int]:
    """Holds the lock of the place, as an open descriptor. Raises BuildFailed when somebody builds already."""
    lock = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildFailed("Another build is under way there.", "Wait for its end.") from None
        yield lock
    finally:
        os.close(lock)


def _lead_to(root: Path, name: str) -> None:
    link = root / f"{_BEGUN}link"
    link.unlink(missing_ok=True)
    os.symlink(name, link)
    os.rename(link, root / CURRENT)


def _sweep(root: Path) -> None:
    """Remove what builds that were killed had begun, and bases that were replaced, but the last."""
    used = os.readlink(root / CURRENT) if (root / CURRENT).is_symlink() else ""
    made = sorted((item for item in root.glob(f"{_MADE}*") if item.name != used), key=lambda item: item.stat().st_mtime)
    for item in (*root.glob(f"{_BEGUN}*"), *made[: max(0, len(made) - _NEWEST + 1)]):
        if item.is_symlink():
            item.unlink()
        else:
            artifacts.delete_tree(item)


def size(folder: Path) -> int:
    """Bytes on disk; a file with several names counts once."""
    seen = {}
    for place, _, files in os.walk(folder):
        for name in files:
            info = os.lstat(os.path.join(place, name))
            seen[info.st_ino] = info.st_blocks * 512
    return sum(seen.values())

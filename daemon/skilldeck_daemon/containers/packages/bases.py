"""The base of the sandbox: the packages that commands find there.

The bare interpreter of a distribution has next to none, and what is installed for the daemon is the daemon's own. A
base is what `skilldeckd sandbox build` made (`base_build.py`; `<folder>/current` leads to it, so a running daemon uses
a new one from the next container on), or a virtual environment or prefix of the operator's (setting sandbox_python).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path

from skilldeck_daemon.containers.errors import SandboxUnavailable
from skilldeck_daemon.containers.homes import base_for
from skilldeck_daemon.containers.packages.layers import BASE_PLACE, Base, Python
from skilldeck_daemon.containers.sandbox import bwrap
from skilldeck_shared.skills.base_packages import BUILD, known_modules

log = logging.getLogger(__name__)

CURRENT = "current"
_LOOK = """
import json, site, sys
print(json.dumps([sys.base_prefix, sys.prefix, f"{sys.version_info[0]}.{sys.version_info[1]}", site.getsitepackages()]))
"""
_SECONDS = 30
INTERPRETERS = ("node", "ruby", "perl", "php", "Rscript")


def place_of(folder: Path, uid: int) -> Path:
    """Where the bases really lie: another place than `folder` when `uid`, who is not ours, cannot come that way."""
    return folder if uid == os.geteuid() else base_for(folder, "sandbox")


def look(folder: Path, place: str, uid: int) -> Base:
    """What the virtual environment or prefix `folder` is, shown at `place`. Blocks: it asks its interpreter.

    Raises: `SandboxUnavailable` that says why commands cannot have it.
    """
    executable = folder / "bin" / "python3"
    if not executable.exists():
        raise SandboxUnavailable(f"{folder} holds no bin/python3.", "Name a virtual environment or a prefix of Python.")
    if uid != os.geteuid() and not bwrap.passable(folder, uid):
        raise SandboxUnavailable(
            f"The sandbox's user (uid {uid}) cannot enter {folder}.", f"Move it, or open the way: chmod o+x {folder}."
        )
    real = Path(os.path.realpath(executable))
    base_prefix, prefix, version, folders = _ask(real)
    python = bwrap.shown(real, Path(os.path.realpath(base_prefix)), uid)
    if python is None:
        raise SandboxUnavailable(
            f"The interpreter of {folder}, {real}, cannot be shown inside.", "Make it with a Python in /usr."
        )
    over = next((item for item in folders if os.path.isdir(item)), "")
    if not (folder / "pyvenv.cfg").exists():
        return Base(folder, prefix, python, over=over)
    site = f"lib/python{version}/site-packages"
    if not (folder / site).is_dir():
        raise SandboxUnavailable(
            f"{folder} was made for another Python than {real} is by now ({version}).", "Make it anew."
        )
    if not over:
        raise SandboxUnavailable(f"{real} has no folder for packages: {', '.join(folders)}.", f"Make {folders[0]}.")
    return Base(folder, place, python, site, over)


def _ask(python: Path) -> tuple[str, str, str, list[str]]:
    try:
        said = subprocess.run(
            [str(python), "-I", "-c", _LOOK], capture_output=True, text=True, timeout=_SECONDS, check=True
        ).stdout
        base_prefix, prefix, version, folders = json.loads(said)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SandboxUnavailable(f"{python} does not run: {error}.", "Name another Python.") from error
    return base_prefix, prefix, version, folders


class Bases:
    """Which base there is now.

    Args:
        folder: where `skilldeckd sandbox build` puts them.
        chosen: the operator's own (sandbox_python), instead of those.
    """

    def __init__(self, folder: Path, chosen: Path | None = None) -> None:
        self._folder = folder
        self._chosen = chosen
        self._place: Path | None = None
        self._seen = ""
        self._base: Base | None = None

    def current(self, uid: int) -> Base | None:
        """The base, None when there is none. Blocks only when another one is there than at the last call.

        Raises: `SandboxUnavailable` when the operator's own cannot be used. One that was built and cannot be used any
        more (the host has another Python by now) is none, and the log says what to do.
        """
        if self._chosen is not None:
            if self._base is None:
                self._base = look(self._chosen, str(self._chosen), uid)
            return self._base
        if self._place is None:
            self._place = place_of(self._folder, uid)
        try:
            name = os.readlink(self._place / CURRENT)
        except OSError:
            name = ""
        if name != self._seen:
            self._seen = name
            self._base = _built(self._place / name, uid) if name else None
        return self._base


def _built(folder: Path, uid: int) -> Base | None:
    try:
        return look(folder, BASE_PLACE, uid)
    except SandboxUnavailable as error:
        log.warning("the sandbox's base is not used: %s Run: %s", error.title, BUILD)
        return None


def packages_of(python: Python) -> str:
    """The folder that an interpreter has its packages in, "" where there is none. Blocks."""
    return next((item for item in _ask(python.executable)[3] if os.path.isdir(item)), "")


def modules(base: Base | None, python: Python) -> frozenset[str]:
    """The names that can be imported in a container beside the standard library. Blocks: it lists folders."""
    interpreter = base.python if base is not None else python
    folders = [Path(item) for item in _ask(interpreter.executable)[3]]
    if base is not None and base.site:
        folders = [base.folder / base.site, *(item for item in folders if str(item) != base.over)]
    return frozenset(name for folder in folders for name in names_in(folder))


def programs(importable: Collection[str]) -> tuple[str, ...]:
    """What runs scripts in a container beside bash: python3 with those of its packages that everybody knows, and the
    system's other interpreters. Blocks: it looks for files."""
    known = [module for module in known_modules() if module in importable]
    python = f"python3 (with {', '.join(known)})" if known else "python3 (without packages)"
    place = os.pathsep.join(folder for folder in bwrap.SYSTEM_PATH.split(os.pathsep) if folder.startswith("/usr/"))
    return (python, *(name for name in INTERPRETERS if shutil.which(name, path=place)))


def names_in(folder: Path) -> Iterator[str]:
    """What can be imported of a folder of packages. Blocks."""
    try:
        items = list(os.scandir(folder))
    except OSError:
        return
    for item in items:
        name, _, kind = item.name.partition(".")
        if name.isidentifier() and (kind == "py" or kind.endswith("so") or (not kind and item.is_dir())):
            yield name

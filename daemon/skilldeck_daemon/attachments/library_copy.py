"""The Python packages that document conversion needs, where the sandbox's user can reach them.

A daemon of an ordinary user shows its own site-packages. Root's daemon runs containers as another user, who often
cannot enter the environment (below /root): then the needed packages alone are put beside the containers, by hard links
where the file system allows it. Blocks; call it in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import stat
from pathlib import Path

from skilldeck_daemon.containers.sandbox.bwrap import passable, tree_readable

PACKAGE = "markitdown"
EXTRAS = ("docx", "pdf", "pptx")
WORKBOOKS = "openpyxl"
PREFIX = ".library-"
# Guesses what a file is, with a neural network and its runtime: nothing that is converted here needs it.
LEFT_OUT = ("magika",)


def site_packages() -> Path | None:
    """The folder with the converter's package, None when it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    return Path(found.origin).parent.parent if found is not None and found.origin else None


def within_reach(site: Path, uid: int, base: Path) -> Path:
    """`site`, or a folder under `base` with the needed packages when `uid` cannot read them there."""
    if uid == os.geteuid() or (passable(site, uid) and tree_readable(site / PACKAGE, uid)):
        return site
    return copy(site, base)


def copy(site: Path, base: Path) -> Path:
    """The needed packages under `base`; what an earlier version of them left there goes."""
    needed = distributions()
    versions = "".join(sorted(f"{name}={found.version};" for name, found in needed.items()))
    target = base / f"{PREFIX}{hashlib.sha256(f'{site};{versions}'.encode()).hexdigest()[:16]}"
    if target.is_dir():
        return target
    remove(base)
    partial = base / f"{PREFIX}partial"
    partial.mkdir(mode=0o755)
    partial.chmod(0o755)
    for distribution in needed.values():
        for file in distribution.files or ():
            source = Path(os.path.normpath(str(distribution.locate_file(file))))
            if source.is_relative_to(site) and source.suffix != ".pyc" and source.is_file():
                _place(source, partial, source.relative_to(site))
    partial.rename(target)
    return target


def remove(base: Path) -> None:
    """Remove every copy under `base`."""
    for old in base.glob(f"{PREFIX}*"):
        shutil.rmtree(old, ignore_errors=True)


def distributions() -> dict[str, importlib.metadata.Distribution]:
    """The converters' distributions and all they require, by normalised name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    wanted = [PACKAGE, WORKBOOKS]
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found or name in LEFT_OUT:
            continue
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # of another platform or Python version
            found[name] = importlib.metadata.distribution(name)
            wanted += [_name(entry) for entry in found[name].requires or () if _applies(entry, name)]
    return found


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
    return match.group() if match else ""


def _applies(requirement: str, of: str) -> bool:
    extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", requirement)
    return extra is None or (of == PACKAGE and extra.group(1) in EXTRAS)


def _place(source: Path, root: Path, relative: Path) -> None:
    folder = root
    for part in relative.parent.parts:
        folder = folder / part
        if not folder.exists():
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)
    target = root / relative
    if source.stat().st_mode & stat.S_IROTH:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    target.chmod(0o644)

"""Read-only trees of skill versions, for containers to mount.

One tree per bundle digest, shared by every run that mounts it: folders 0555, files 0444 or 0555, readable by any user,
since a sandboxed process may be another one. A tree appears whole (written aside, then renamed) and never changes, so
a container that has it mounted keeps what it began with. Trees are a cache and not synced to disk: one that a power
cut left short is made anew. `collect` removes those nobody asked for in a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from weakref import WeakValueDictionary

from skilldeck_shared.bundle import Entry


class MountCache:
    """Trees under `root`, by digest.

    Args:
        root: folder of its own; created when missing.
        blob: where the content with a SHA-256 lies; raises when it is missing.
        link: share the bytes of stored files with the trees, so that a new version of a large skill costs no copy.
            Only where nothing that reads a tree could write through the link.
    """

    def __init__(self, root: Path, blob: Callable[[str], Path], *, link: bool = True) -> None:
        self.root = root
        self._link = link
        self._blob = blob
        self._making: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # Digests whose tree this process has made or looked through.
        self._sound: set[str] = set()

    async def path(self, digest: str, files: Iterable[Entry], blob: Callable[[str], Path] | None = None) -> Path:
        """The folder with exactly these files; made on first use, then a look-up.

        Args:
            digest: the bundle's digest, the folder's name.
            files: what the bundle holds.
            blob: where the contents lie when they are not in the store.
        """
        target, entries = self.root / digest, list(files)
        async with self._making.setdefault(digest, asyncio.Lock()):
            if digest not in self._sound and not await asyncio.to_thread(_whole, target, entries):
                await asyncio.to_thread(self._make, target, entries, blob or self._blob)
            self._sound.add(digest)
            try:
                # Marks it as used, for `collect`.
                os.utime(target)
            except FileNotFoundError:
                await asyncio.to_thread(self._make, target, entries, blob or self._blob)
        return target

    def _make(self, target: Path, files: list[Entry], blob: Callable[[str], Path]) -> None:
        _remove(target)
        self.root.mkdir(parents=True, exist_ok=True)
        partial = self.root / f".{target.name}.{secrets.token_hex(6)}"
        try:
            partial.mkdir()
            for entry in files:
                place = partial / entry.path
                place.parent.mkdir(parents=True, exist_ok=True)
                self._put(blob(entry.sha256), place, entry.executable, stored=blob is self._blob)
            for folder, _, _ in os.walk(partial):
                Path(folder).chmod(0o555)
            partial.rename(target)
        except BaseException:
            _remove(partial)
            raise

    def _put(self, source: Path, place: Path, executable: bool, stored: bool) -> None:
        """One file. A stored blob that is 0444 as well is shared; an executable one needs bytes of its own."""
        if stored and self._link and not executable and source.stat().st_mode & 0o777 == 0o444:
            try:
                os.link(source, place)
                return
            except OSError:  # another file system, or too many links: copied like the others
                pass
        shutil.copyfile(source, place)
        place.chmod(0o555 if executable else 0o444)

    async def collect(self, keep: Iterable[str] = (), unused_seconds: float = 7 * 86_400) -> int:
        """Remove trees not in `keep` (digests) that nobody asked for in `unused_seconds`; returns how many."""
        removed = await asyncio.to_thread(self._collect, frozenset(keep), time.time() - unused_seconds)
        self._sound.difference_update(removed)
        return len(removed)

    def _collect(self, keep: frozenset[str], before: float) -> list[str]:
        removed = []
        for tree in list(self._trees()):
            if tree.name in keep or tree.stat().st_mtime > before:
                continue
            _remove(tree)
            removed.append(tree.name)
        return removed

    def _trees(self) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError):
            yield from self.root.iterdir()


def _whole(tree: Path, files: list[Entry]) -> bool:
    """Whether every file is there with its size."""
    try:
        return all((tree / entry.path).stat().st_size == entry.size for entry in files)
    except OSError:
        return False


def _remove(tree: Path) -> None:
    """Remove a read-only tree."""
    for folder, _, _ in os.walk(tree):
        with contextlib.suppress(OSError):
            Path(folder).chmod(0o755)
    shutil.rmtree(tree, ignore_errors=True)

"""Trees of skill versions, for containers to mount read-only.

One tree per bundle digest, shared by every run that mounts it and readable by any user, since a sandboxed process may
be another one; the folder around them is closed to all but the two. Folders and executables are 0755 and files 0644, as
their author has them: what a command copies out takes the modes along, and a copied template must be editable and a
copied folder removable. It is the read-only bind that keeps the tree itself. A tree appears whole (written aside, then
renamed) and its bytes never change, so a container that has it mounted keeps what it began with. Trees are a cache and
not synced to disk: one that a power cut left short is made anew. `collect` removes those nobody asked for in a while.
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

from skilldeck_shared import private
from skilldeck_shared.skills.bundle import Entry


class MountCache:
    """Trees under `root`, by digest.

    Args:
        root: folder of its own; created when missing.
        blob: where the content with a SHA-256 lies; raises when it is missing.
        bound: commands see trees through read-only binds alone. Then trees share the bytes of stored files, so that a
            new version of a large skill costs no copy. Without a bind (`--sandbox none`) a tree has bytes of its own,
            and its modes (0555, 0444) are all that keeps it from a careless command.
    """

    def __init__(self, root: Path, blob: Callable[[str], Path], *, bound: bool = True) -> None:
        self.root = root
        self._bound = bound
        self._folder_mode, self._file_mode = (0o755, 0o644) if bound else (0o555, 0o444)
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
            if digest not in self._sound and not await asyncio.to_thread(self._usable, target, entries):
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
        if not self.root.is_dir():  # the containers may have opened it to their user
            private.folder(self.root)
        partial = self.root / f".{target.name}.{secrets.token_hex(6)}"
        try:
            partial.mkdir()
            for entry in files:
                place = partial / entry.path
                place.parent.mkdir(parents=True, exist_ok=True)
                self._put(blob(entry.sha256), place, entry.executable, stored=blob is self._blob)
            for folder, _, _ in os.walk(partial):
                Path(folder).chmod(self._folder_mode)
            partial.rename(target)
        except BaseException:
            _remove(partial)
            raise

    def _put(self, source: Path, place: Path, executable: bool, stored: bool) -> None:
        """One file. A stored blob is shared and gets the tree's mode with it; an executable needs bytes of its own."""
        if not (stored and self._bound and not executable and _linked(source, place)):
            shutil.copyfile(source, place)
        place.chmod(self._mode(executable))

    def _mode(self, executable: bool) -> int:
        return self._folder_mode if executable else self._file_mode

    def _usable(self, tree: Path, files: list[Entry]) -> bool:
        """Whether every file of a tree that was found is there with its size; its modes, which an earlier version or
        another setting made otherwise, are set right."""
        try:
            for entry in files:
                place = tree / entry.path
                state = place.stat()
                if state.st_size != entry.size or (state.st_nlink > 1 and not self._bound):
                    return False
                if state.st_mode & 0o777 != self._mode(entry.executable):
                    place.chmod(self._mode(entry.executable))
            for folder, _, _ in os.walk(tree):
                if os.stat(folder).st_mode & 0o777 != self._folder_mode:
                    os.chmod(folder, self._folder_mode)
        except OSError:
            return False
        return True

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


def _linked(source: Path, place: Path) -> bool:
    """Share the bytes; not across file systems, nor beyond the most links a file may have."""
    try:
        os.link(source, place)
    except OSError:
        return False
    return True


def _remove(tree: Path) -> None:
    """Remove a tree, also one whose folders are read-only."""
    for folder, _, _ in os.walk(tree):
        with contextlib.suppress(OSError):
            Path(folder).chmod(0o755)
    shutil.rmtree(tree, ignore_errors=True)

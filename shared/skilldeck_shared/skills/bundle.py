"""A skill's folder as a sorted list of files with one digest, and the zip that carries it.

The digest covers path, executable bit and content of every file, so the client that scans a folder and the daemon that
reads the zip made of it agree on whether anything changed. Scanning blocks (run it in a thread); with the tree of the
scan before it reads only what changed. Nothing here writes.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
import time
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from zipstream import ZipStream

from skilldeck_shared.errors import BadRequest
from skilldeck_shared.skills.ignore import Ignoring, secret

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one bundle may hold; the hosted service's numbers, and a cap on what a zip may unpack to."""

    zip_bytes: int = 50 * MIB
    files: int = 500
    file_bytes: int = 25 * MIB
    total_bytes: int = 500 * MIB
    inline_characters: int = 70_254_592
    path_bytes: int = 1024
    path_part_bytes: int = 255
    skills_per_environment: int = 200


LIMITS = Limits()

# Folders and files that editors, version control and interpreters leave beside the real ones.
IGNORED_FOLDERS = frozenset(
    {".git", ".hg", ".svn", "__pycache__", "__MACOSX", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".idea"}
)
IGNORED_FILES = (
    *("4913", "*~", "*.swp", "*.swo", "*.swx", ".#*", "#*#", "*___jb_tmp___", "*___jb_old___", ".goutputstream-*"),
    *(".DS_Store", "Thumbs.db", "*.pyc"),
)

LINKED_FOLDERS = 2000

# A file changed within this time of the scan may change again without its mtime telling (kernel ticks are 1 to 10 ms).
RACY_NS = 50_000_000


class BundleError(BadRequest):
    """The folder or zip is no usable bundle; the title names the file."""

    code = "invalid_skill"

    def __init__(self, title: str, hint: str = "", *, param: str | None = "files", code: str | None = None) -> None:
        super().__init__(title, hint, param=param, code=code)


class ChangedWhileReading(BundleError):
    """A file changed between the scan and the upload: scan again."""

    code = "changed_while_reading"


class Entry(NamedTuple):
    """One file: relative path with slashes, bytes, hex SHA-256, whether its owner may execute it."""

    path: str
    size: int
    sha256: str
    executable: bool


class Stamp(NamedTuple):
    """What says without reading that a file is the one scanned before."""

    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int


@dataclass(frozen=True)
class Tree:
    """The files of a bundle, sorted by path, and the digest over them (64 hex digits)."""

    entries: tuple[Entry, ...]
    digest: str
    stamps: dict[str, Stamp] = field(default_factory=dict, repr=False, compare=False)
    secrets: tuple[str, ...] = field(default=(), compare=False)
    """Files that hold secrets by their name and were left out."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries)


def digest(entries: Iterable[Entry]) -> str:
    """SHA-256 over the sorted (path, executable, content hash) of every file."""
    total = hashlib.sha256()
    for entry in sorted(entries):
        mode = b"x" if entry.executable else b"-"
        total.update(entry.path.encode() + b"\0" + mode + b"\0" + entry.sha256.encode() + b"\n")
    return total.hexdigest()


def ignored(name: str, *, folder: bool = False) -> bool:
    """Whether a file or folder of this name is left out wherever it lies in the bundle."""
    if folder:
        return name in IGNORED_FOLDERS
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in IGNORED_FILES)


def check_paths(paths: Iterable[str]) -> None:
    """Refuse paths that clash on a file system that ignores case or composes characters, and overlong ones.

    Raises:
        BundleError: naming both files.
    """
    seen: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        too_long = max(len(os.fsencode(part)) for part in parts) > LIMITS.path_part_bytes
        if too_long or len(os.fsencode(path)) > LIMITS.path_bytes:
            raise BundleError(f"The file name {path[:60]!r}… is too long.", "Use shorter file and folder names.")
        # The folders count as well: `a` cannot be a file and `A/b` lie beside it.
        key = unicodedata.normalize("NFC", path).casefold()
        if key in seen:
            other = seen[key]
            if other == path:
                raise BundleError(f"The file {path!r} is there twice.", "Keep one of them.")
            raise BundleError(
                f"The files {other!r} and {path!r} have the same name where case is ignored.", "Rename one of them."
            )
        seen[key] = path
    for key, path in seen.items():
        parts = key.split("/")
        for depth in range(1, len(parts)):
            if (clash := "/".join(parts[:depth])) in seen:
                raise BundleError(
                    f"{seen[clash]!r} is a file, and {path!r} needs it as a folder.", "Rename one of them."
                )


def check_sizes(sizes: Iterable[tuple[str, int]]) -> None:
    """Refuse too many, too large or altogether too large files.

    Raises:
        BundleError: naming the file and the limit.
    """
    total = 0
    for count, (path, size) in enumerate(sizes, start=1):
        if count > LIMITS.files:
            raise BundleError(f"The skill has more than {LIMITS.files} files.", "Remove what the skill does not need.")
        if size > LIMITS.file_bytes:
            raise BundleError(
                f"{path!r} has {size / MIB:.1f} MiB; at most {LIMITS.file_bytes // MIB} MiB a file are allowed.",
                "Split it, or have a script download it.",
            )
        total += size
    if total > LIMITS.total_bytes:
        raise BundleError(
            f"The skill has {total / MIB:.0f} MiB; at most {LIMITS.total_bytes // MIB} MiB are allowed.",
            "Remove what the skill does not need.",
        )


def scan(folder: Path, previous: Tree | None = None, *, within: Path | None = None, ignoring: bool = False) -> Tree:
    """Read a skill's folder.

    Args:
        folder: holds SKILL.md; not checked here.
        previous: the tree of the scan before; files whose time, size and inode are unchanged are not read again.
        within: a fetched collection that the folder is part of: links to files and folders inside it are followed.
        ignoring: for a folder that somebody works in: leave out what its .gitignore and .skillignore name, packages,
            caches and .env files (see `ignore`).
    Raises:
        BundleError: a link that leaves the folder (or `within`), a device, a name that is no text, a limit, no folder.
        ChangedWhileReading: a file went away or changed during the scan.
    """
    root = folder.resolve()
    if not root.is_dir():
        hint = "Give the folder that holds SKILL.md."
        hint += " Of an archive: skilldeck install FILE" if folder.is_file() else ""
        raise BundleError(f"{str(folder)!r} is not a folder.", hint)
    began = time.time_ns()
    bounds = _Bounds(within.resolve() if within is not None else root, within is not None)
    rules = Ignoring() if ignoring else None
    # One more than allowed: `check_sizes` refuses it, and nobody waits for a million.
    found = sorted(islice(_walk(bounds, root, "", rules), LIMITS.files + 1))
    check_paths(path for path, _, _ in found)
    check_sizes((path, state.st_size) for path, _, state in found)
    known = {entry.path: entry for entry in previous.entries} if previous is not None else {}
    stamps: dict[str, Stamp] = {}
    entries: list[Entry] = []
    for path, real, state in found:
        stamp = _stamp(state)
        executable = bool(state.st_mode & stat.S_IXUSR)
        if previous is not None and path in known and previous.stamps.get(path) == stamp:
            sha = known[path].sha256
        else:
            sha = _hash(path, real, stamp)
        entries.append(Entry(path, state.st_size, sha, executable))
        if stamp.mtime_ns < began - RACY_NS and stamp.ctime_ns < began - RACY_NS:
            stamps[path] = stamp
    return Tree(tuple(entries), digest(entries), stamps, tuple(sorted(bounds.secrets)))


@dataclass
class _Bounds:
    """Where links may lead, whether to folders too; how many folders have been entered, which secrets left out."""

    root: Path
    folders: bool
    entered: int = 0
    secrets: list[str] = field(default_factory=list)


def _walk(
    bounds: _Bounds, folder: Path, prefix: str, rules: Ignoring | None, above: tuple[Path, ...] = ()
) -> Iterator[tuple[str, Path, os.stat_result]]:
    if bounds.folders:
        real = folder.resolve()
        if real in above:
            raise BundleError(f"{prefix.rstrip('/')!r} is a link to a folder that holds it.", "Remove the link.")
        above = (*above, real)
        bounds.entered += 1
        if bounds.entered > LINKED_FOLDERS:  # links side by side multiply at every level
            raise BundleError(f"The skill has more than {LINKED_FOLDERS} folders.", "Remove links to folders.")
    try:
        listing = list(os.scandir(folder))
    except FileNotFoundError as error:
        raise ChangedWhileReading(f"{str(folder)!r} went away while it was read.", "Try again.") from error
    rules = rules.below(folder, prefix) if rules is not None else None
    for item in listing:
        path = f"{prefix}{item.name}"
        is_folder = item.is_dir(follow_symlinks=False)
        if ignored(item.name, folder=is_folder):
            continue
        if rules is not None and rules.leaves_out(path, folder=is_folder):
            if not is_folder and secret(path):
                bounds.secrets.append(path)
            continue
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise BundleError(f"The file name {path!r} is not UTF-8.", "Rename the file.") from error
        if "\\" in path or any(ord(character) < 32 or ord(character) == 127 for character in path):
            raise BundleError(f"The file name {path!r} holds a backslash or control character.", "Rename the file.")
        if is_folder or (bounds.folders and _inner_folder(bounds.root, folder / item.name)):
            yield from _walk(bounds, folder / item.name, f"{path}/", rules, above)
        else:
            yield path, *_real(bounds.root, folder / item.name, path)


def _inner_folder(root: Path, link: Path) -> bool:
    """Whether a link leads to a folder inside `root`."""
    try:
        real = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    return real.is_dir() and real.is_relative_to(root)


def _real(root: Path, item: Path, path: str) -> tuple[Path, os.stat_result]:
    """The regular file behind an entry; a link is followed inside the folder only."""
    try:
        if item.is_symlink():
            target = item.resolve(strict=True)
            if not target.is_relative_to(root):
                raise BundleError(
                    f"{path!r} is a link that leaves the skill's folder.", "Copy the file into the folder instead."
                )
            if target.is_dir():
                raise BundleError(f"{path!r} is a link to a folder.", "Copy the folder instead.")
        else:
            target = item
        state = target.stat()
    except FileNotFoundError as error:
        if item.is_symlink():
            raise BundleError(f"{path!r} is a link to nothing.", "Remove it.") from error
        raise ChangedWhileReading(f"{path!r} went away while the folder was read.", "Try again.") from error
    except (OSError, RuntimeError) as error:
        raise BundleError(f"{path!r} cannot be read: {error}.", "Check the link and its permissions.") from error
    if not stat.S_ISREG(state.st_mode):
        raise BundleError(f"{path!r} is not a regular file.", "Remove devices, pipes and sockets from the folder.")
    return target, state


def _stamp(state: os.stat_result) -> Stamp:
    return Stamp(state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino)


def _hash(path: str, real: Path, stamp: Stamp) -> str:
    try:
        with real.open("rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
            after = _stamp(os.fstat(file.fileno()))
    except FileNotFoundError as error:
        raise ChangedWhileReading(f"{path!r} went away while it was read.", "Try again.") from error
    except PermissionError as error:
        raise BundleError(f"{path!r} may not be read.", "Check its permissions.") from error
    if after != stamp:
        raise ChangedWhileReading(f"{path!r} changed while it was read.", "Try again.")
    return sha


class BundleZip:
    """The zip of a scanned folder, made while it is read: stored, of known `size`, executable bits kept.

    With `only` (SHA-256s) it holds one file of each such content; `listing` names all files as the zip would.

    Iterating raises `ChangedWhileReading` as soon as a file is not the one scanned; what was sent by then is no zip.
    """

    def __init__(self, folder: Path, tree: Tree, only: Collection[str] | None = None) -> None:
        self._root = folder.resolve()
        self._tree = tree
        self._zip = ZipStream(sized=True)
        self._name = self._root.name or "skill"
        self._sent = list(tree.entries)
        if only is not None:
            self._sent = list({entry.sha256: entry for entry in tree.entries if entry.sha256 in only}.values())
        try:
            for entry in self._sent:
                self._zip.add_path(self._root / entry.path, f"{self._name}/{entry.path}", recurse=False)
        except OSError as error:
            raise ChangedWhileReading(f"{entry.path!r} went away before it was sent.", "Try again.") from error
        self.size = len(self._zip)
        if self.size > LIMITS.zip_bytes:
            raise BundleError(
                f"The skill's zip would have {self.size / MIB:.1f} MiB; at most {LIMITS.zip_bytes // MIB} are allowed.",
                "Remove what the skill does not need.",
            )

    @property
    def listing(self) -> list[Entry]:
        """All files of the folder, each with the zip's top folder before its path."""
        return [entry._replace(path=f"{self._name}/{entry.path}") for entry in self._tree.entries]

    def __iter__(self) -> Iterator[bytes]:
        """Chunks of at most about a megabyte. Blocks on the disk."""
        for entry in self._sent:
            before = self._check(entry)
            try:
                yield from self._zip.file()
            except (OSError, RuntimeError) as error:
                raise ChangedWhileReading(f"{entry.path!r} changed while it was sent.", "Try again.") from error
            if self._check(entry) != before:
                raise ChangedWhileReading(f"{entry.path!r} changed while it was sent.", "Try again.")
        yield from self._zip.footer()

    def _check(self, entry: Entry) -> Stamp:
        try:
            state = (self._root / entry.path).stat()
        except OSError as error:
            raise ChangedWhileReading(f"{entry.path!r} went away before it was sent.", "Try again.") from error
        stamp = _stamp(state)
        scanned = self._tree.stamps.get(entry.path, stamp)
        if stamp != scanned or stamp.size != entry.size or bool(state.st_mode & stat.S_IXUSR) != entry.executable:
            raise ChangedWhileReading(f"{entry.path!r} changed after it was scanned.", "Try again.")
        return stamp


def zip_stream(folder: Path, tree: Tree, only: Collection[str] | None = None) -> BundleZip:
    """The zip of `folder` as `scan` found it; see `BundleZip`."""
    return BundleZip(folder, tree, only)

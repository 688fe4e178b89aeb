"""The skills of a fetched source: where they lie, what they are called, which ones are meant."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.skills.clutter import clutter
from skilldeck_shared.skills.manifest import Manifest, decode_manifest, parse_manifest

FOLDERS = 5000
SHOWN = 20


@dataclass(frozen=True)
class Source:
    """A source as it was written. `path` is the folder of the skill inside it, `ref` a branch or tag."""

    kind: Literal["git", "zip", "url", "folder"]
    url: str
    path: str = ""
    ref: str = ""


@dataclass(frozen=True)
class Fetched:
    """A skill's folder; the text that says where it came from; its path in the source, whose folder is `within`."""

    folder: Path
    source: str
    path: str
    within: Path

    def manifest(self) -> Manifest:
        """Its SKILL.md, read as other clients do. Raises SkilldeckError, OSError."""
        (file, *_) = (name for name in sorted(os.listdir(self.folder)) if name.lower() == "skill.md")
        real = (self.folder / file).resolve(strict=True)
        if not real.is_relative_to(self.within.resolve()):
            raise BadRequest(f"{file!r} is a link that leaves the source.", param="source")
        return parse_manifest(decode_manifest(real.read_bytes()), self.folder.name, lenient=True)

    @property
    def name(self) -> str:
        """What it is called, by its SKILL.md or else its folder."""
        try:
            return self.manifest().name
        except (SkilldeckError, OSError):
            return self.folder.name


def choose(root: Path, source: Source, exact: str, every: bool, names: Sequence[str] = ()) -> list[Fetched]:
    """The skill that was meant, those of these names, or all. Blocks.

    Args:
        root: where the source lies.
        exact: what it is exactly (commit, digest), for the text that says where a skill came from.
    Raises:
        BadRequest: nothing is there by that name, or several and none was named.
    """
    start = _start(root, source)
    found = [
        Fetched(folder, _installed_from(source, path, exact), path or folder.name, root)
        for folder in sorted(_skills(start, root), key=lambda folder: (_hidden(root, folder), folder))
        for path in [_within(root, folder)]
    ]
    if not found:
        raise BadRequest(
            f"{source.url}{f'#{source.path}' if source.path else ''} holds no SKILL.md.",
            "Name the skill's folder: SOURCE#path/to/skill.",
            param="source",
        )
    if names:
        return _named(found, names, source)
    if len(found) > 1 and not every:
        raise BadRequest(
            f"{source.url} holds {len(found)} skills: {_listed(skill.path for skill in found)}.",
            f"Name one ({source.url}#{found[0].path}), or --skill NAME, --list to see them, --all for all.",
            param="source",
        )
    return found


def _start(root: Path, source: Source) -> Path:
    """The folder that was named inside the source."""
    start = root / source.path
    if _inside(start, root):
        return start
    # A zip of a forge has one top folder that nobody writes down.
    tops = [item for item in root.iterdir() if item.is_dir()] if root.is_dir() else []
    if len(tops) == 1 and _inside(tops[0] / source.path, root):
        return tops[0] / source.path
    raise BadRequest(f"{source.url} holds no folder {source.path!r}.", param="source")


def _inside(folder: Path, root: Path) -> bool:
    return folder.is_dir() and folder.resolve().is_relative_to(root.resolve())


def _named(found: list[Fetched], names: Sequence[str], source: Source) -> list[Fetched]:
    """By the name in SKILL.md, the folder's name, or the path in the source."""
    called = [(skill, skill.name) for skill in found]
    chosen: dict[Path, Fetched] = {}
    for name in names:
        wanted = name.strip("/")
        matching = [skill for skill, own in called if wanted in (own, skill.path)]
        matching = matching or [skill for skill, _ in called if skill.folder.name == wanted]
        if not matching:
            there = _listed(own for _, own in called)
            raise BadRequest(f"{source.url} holds no skill {name!r}.", f"There are: {there}.", param="skill")
        if len(matching) > 1:
            paths = ", ".join(skill.path for skill in matching)
            raise BadRequest(f"{name!r} is the name of several skills.", f"Name its folder: {paths}.", param="skill")
        chosen[matching[0].folder] = matching[0]
    return list(chosen.values())


def _listed(names: Iterator[str]) -> str:
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


def _skills(start: Path, root: Path) -> list[Path]:
    """The folders with a SKILL.md below `start`, itself included; none inside another.

    Links to folders are followed inside `root`, after all else: what they lead to is one skill, where it really lies.
    So is a folder that holds nothing but a link to the SKILL.md of another.
    """
    found: list[Path] = []
    seen: set[Path] = set()
    waiting, links = [start], list[Path]()
    while (waiting or links) and len(seen) < FOLDERS:
        folder = waiting.pop(0) if waiting else links.pop(0)
        real = folder.resolve()
        if real in seen or not real.is_relative_to(root.resolve()):
            continue
        seen.add(real)
        try:
            items = sorted(os.scandir(folder), key=lambda item: item.name)
        except OSError:
            continue
        if any(item.name.lower() == "skill.md" and not item.is_dir() for item in items):
            other = (folder / items[0].name).resolve() if len(items) == 1 and items[0].is_symlink() else None
            if other is not None and other.is_file() and other.name.lower() == "skill.md":
                links.append(other.parent)
            else:
                found.append(folder)
            continue
        for item in items:
            if item.is_dir() and not clutter(item.name):
                (links if item.is_symlink() else waiting).append(Path(item.path))
    return found


def _hidden(root: Path, folder: Path) -> bool:
    """Copies for one client or another lie in hidden folders: of two skills of a name the other one counts."""
    return any(part.startswith(".") for part in folder.relative_to(root).parts)


def _within(root: Path, folder: Path) -> str:
    path = folder.relative_to(root).as_posix()
    return "" if path == "." else path


def _installed_from(source: Source, path: str, exact: str) -> str:
    """`git+URL@commit#path`, with the branch or tag that was asked for `git+URL@commit(REF)#path`, `URL@sha256:…#path`,
    or the folder."""
    if source.kind == "folder":
        return str(Path(source.url) / path)
    parts = urlsplit(source.url)
    ref = f"({source.ref})" if source.ref and not set(source.ref) & set("()#") else ""
    # What opens the door is not written down.
    shown = parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]).geturl() if parts.scheme else source.url
    return f"{'git+' if source.kind == 'git' else ''}{shown}@{exact}{ref}{f'#{path}' if path else ''}"

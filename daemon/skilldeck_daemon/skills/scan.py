"""Finding skills on disk: `.agents/skills` of a project and of the home (and `.claude/skills` when asked).

Contract: reads folders and SKILL.md files and writes nothing. Every folder below a root that holds a file `SKILL.md`
is a skill; nothing is looked for inside one. Depth and number of folders are bounded, so a link to a huge tree costs
little. Other clients wrote these skills, so reading is lenient: a bad name is mended with a warning, a skill without
a description or with unreadable frontmatter is left out with a warning. Blocks; run it in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.skills.manifest import decode_manifest, parse_manifest

Scope = Literal["project", "user"]

DEPTH = 6
FOLDERS = 2000
SKIPPED = frozenset({".git", "node_modules"})
MANIFEST_BYTES = 1 << 20
AGENTS, CLAUDE = ".agents/skills", ".claude/skills"


@dataclass(frozen=True)
class DiskSkill:
    """A skill found on disk. `path` is its real folder; `shadowed`: another of its name wins."""

    name: str
    description: str
    path: Path
    scope: Scope
    warnings: tuple[str, ...] = ()
    shadowed: bool = False


@dataclass(frozen=True)
class Root:
    """A folder to look in. A link out of `within` is not followed (None: links are the owner's own)."""

    path: Path
    scope: Scope
    within: Path | None = None


@dataclass(frozen=True)
class Found:
    """What a scan found, the winner of each name first, and what a person should hear of."""

    skills: tuple[DiskSkill, ...] = ()
    warnings: tuple[str, ...] = ()


def project_of(folder: Path) -> Path:
    """The project a working directory belongs to: the nearest folder up with .agents or .git, else itself."""
    folder = folder.resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / ".git").exists() or (candidate / ".agents").is_dir():
            return candidate
    return folder


def roots(project: Path | None, home: Path, claude: bool = False) -> list[Root]:
    """Where to look, in the order of precedence: the project before the home, .agents before .claude."""
    places = (AGENTS, CLAUDE) if claude else (AGENTS,)
    found = []
    if project is not None and project.resolve() != home.resolve():
        found += [Root(project / place, "project", project.resolve()) for place in places]
    return found + [Root(home / place, "user") for place in places]


def discover(places: Iterable[Root]) -> Found:
    """Scan the roots in order; of skills with one name the first wins, with a warning."""
    scan = _Scan()
    for root in places:
        if root.path.is_dir():
            scan.root(root)
    first: dict[str, DiskSkill] = {}
    for position, skill in enumerate(scan.skills):
        winner = first.setdefault(skill.name, skill)
        if winner is not skill:
            scan.warnings.append(
                f"The {skill.scope} skill {skill.path} is hidden by {winner.path}: both are {skill.name!r}."
            )
            scan.skills[position] = replace(skill, shadowed=True)
    ordered = sorted(scan.skills, key=lambda skill: (skill.shadowed, skill.name))
    return Found(tuple(ordered), tuple(scan.warnings))


class _Scan:
    def __init__(self) -> None:
        self.skills: list[DiskSkill] = []
        self.warnings: list[str] = []
        self._seen: set[tuple[int, int]] = set()
        self._folders = 0

    def root(self, root: Root) -> None:
        self._folders = 0
        for folder in self._walk(root, root.path, 0):
            skill = self._read(folder, root.scope)
            if skill is not None:
                self.skills.append(skill)

    def _walk(self, root: Root, folder: Path, depth: int) -> Iterator[Path]:
        """Folders with a SKILL.md, by name."""
        self._folders += 1
        if self._folders > FOLDERS:
            if self._folders == FOLDERS + 1:
                self.warnings.append(f"{root.path} has more than {FOLDERS} folders; the rest was not looked at.")
            return
        try:
            real = folder.resolve(strict=True)
            state = real.stat()
            names = sorted(os.listdir(real))
        except (OSError, RuntimeError) as error:
            self.warnings.append(f"{folder} cannot be read: {getattr(error, 'strerror', None) or error}.")
            return
        if root.within is not None and not real.is_relative_to(root.within):
            self.warnings.append(f"{folder} is a link that leaves the project; it is left out.")
            return
        if (state.st_dev, state.st_ino) in self._seen:
            return
        self._seen.add((state.st_dev, state.st_ino))
        if depth and "SKILL.md" in names:
            yield real
            return
        if depth == DEPTH:
            return
        for name in names:
            if name not in SKIPPED and (real / name).is_dir():
                yield from self._walk(root, folder / name, depth + 1)

    def _read(self, folder: Path, scope: Scope) -> DiskSkill | None:
        path = folder / "SKILL.md"
        try:
            if not path.is_file() or path.stat().st_size > MANIFEST_BYTES:
                raise SkilldeckError(f"SKILL.md is no file of at most {MANIFEST_BYTES >> 20} MiB.")
            manifest = parse_manifest(decode_manifest(path.read_bytes()), folder.name, lenient=True)
        except OSError as error:
            self.warnings.append(f"{path} cannot be read: {error.strerror}.")
            return None
        except SkilldeckError as error:
            self.warnings.append(f"{folder} is left out: {error.title}")
            return None
        warnings = tuple(str(problem) for problem in manifest.warnings)
        return DiskSkill(manifest.name, manifest.description, folder, scope, warnings)

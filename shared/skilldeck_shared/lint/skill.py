"""A skill as the rules see it: its files, and SKILL.md split into frontmatter and body with their lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from skilldeck_shared.skills.manifest import Manifest

TEXT_BYTES = 256 * 1024
"""More of one file is not read: nobody writes so much, programs do."""

_ASIDE = frozenset(
    {"test", "tests", "evals", "assets", "templates", "template", "examples", "samples", "fixtures", "__tests__"}
)
_FENCE = re.compile(r"^ {0,3}(?:>\s*)?(?:[-*]\s+|\d+\.\s+)?\s*(`{3,}|~{3,})")


@dataclass(frozen=True)
class File:
    """A file of the skill: `path` inside it, `place` on the disk."""

    path: str
    place: Path
    executable: bool
    size: int


@dataclass(frozen=True)
class Neighbour:
    """Another skill that a model would choose among."""

    name: str
    description: str


class Skill:
    """A folder's files; texts are read when a rule asks. `manifest` is None when SKILL.md cannot be used at all."""

    def __init__(
        self, folder: Path, files: Sequence[File], manifest_path: str, text: str, manifest: Manifest | None
    ) -> None:
        self.folder = folder
        self.files = {file.path: file for file in files}
        self.manifest_path = manifest_path
        self.source = text
        self.manifest = manifest
        self._texts: dict[str, str | None] = {manifest_path: text}

    def text(self, path: str) -> str | None:
        """A file's text with its line ends as they are; None for a large one and for what is no text."""
        if path not in self._texts:
            self._texts[path] = _read(self.files[path])
        return self._texts[path]

    @cached_property
    def texts(self) -> dict[str, str]:
        """Every file that is text."""
        found = ((path, self.text(path)) for path in self.files)
        return {path: text for path, text in found if text is not None}

    @cached_property
    def lines(self) -> list[str]:
        return self.source.split("\n")

    @cached_property
    def closing(self) -> int:
        """Index of the line that closes the frontmatter; 0 when there is none."""
        ends = (index for index in range(1, len(self.lines)) if self.lines[index].rstrip() == "---")
        return next(ends, 0)

    def field_line(self, name: str) -> int:
        """The line, from 1, that a field of the frontmatter begins in; 1 when it is not there."""
        found = (i for i in range(1, self.closing) if re.match(rf"[\"']?{re.escape(name)}[\"']?\s*:", self.lines[i]))
        return next(found, 0) + 1

    @cached_property
    def folders(self) -> frozenset[str]:
        """Every folder that files lie in."""
        return frozenset(str(parent) for path in self.files for parent in PurePosixPath(path).parents) - {"."}


def _read(file: File) -> str | None:
    if file.size > TEXT_BYTES:
        return None
    try:
        data = file.place.read_bytes()
    except OSError:
        return None
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def aside(path: str) -> bool:
    """Whether a file is no part of what the model works with: a test, or a form that is filled in and put elsewhere."""
    return not _ASIDE.isdisjoint(PurePosixPath(path).parts[:-1])


def prose(text: str) -> Iterator[tuple[int, str, bool]]:
    """The lines of a Markdown text: number from 1, line, whether it is code (inside a fence)."""
    fence = ""
    for number, line in enumerate(text.split("\n"), start=1):
        opened = _FENCE.match(line)
        if opened and not fence:
            fence = opened[1]
            continue
        if opened and opened[1].startswith(fence) and not line.strip("`~> \t\r"):
            fence = ""
            continue
        yield number, line, bool(fence)


def offset(text: str, line: int) -> int:
    """Where a line, from 1, begins."""
    at = 0
    for _ in range(line - 1):
        at = text.index("\n", at) + 1
    return at

"""What a skill says that it needs: requirements.txt, pyproject.toml, PEP 723 headers of its scripts, package.json; and
of what its files import beyond, what its words install (`install_lines.py`) and what is well known.

Read when a version is made; nothing is run. Only names of an index and their versions are taken. A line that leads
elsewhere (a path, a URL, an option such as --index-url) is left out, and a sentence with its place says so.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from skilldeck_daemon.skills.install_lines import InstallLines
from skilldeck_shared.json_types import JsonObject
from skilldeck_shared.requirements import canonical, requirement
from skilldeck_shared.skills.base_packages import KNOWN, distribution
from skilldeck_shared.skills.node_imports import node_packages
from skilldeck_shared.skills.python_imports import third_party_places

FILE_BYTES = 256 * 1024
SCRIPTS = 200
"""Python files whose header is looked for."""
MOST = 200
"""Requirements of one skill."""
Places = Sequence[tuple[str, int]]
"""Files and lines."""

_ASIDE = frozenset({"test", "tests", "evals", "node_modules", "examples", "assets", "templates", "template"})
"""Folders whose files are not for the skill itself: what is in a template belongs to what is made of it."""
_HEADER = re.compile(r"^# /// script\s*$\n(?P<lines>(?:^#(?:| .*)$\n?)+?)^# ///\s*$", re.MULTILINE)
_INCLUDED = re.compile(r"(?:-r|--requirement)[\s=]+(?P<path>\S+)")
_HASH = re.compile(r"\s--hash[=\s]\s*(sha256:[0-9a-f]{64})")
_COMMENT = re.compile(r"(^|\s)#.*$")
_NODE_NAME = re.compile(r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*")
_NODE_RANGE = re.compile(r"[0-9A-Za-z.^~<>=|*+ -]{1,100}")
_ELSEWHERE = frozenset({"index", "index-url", "extra-index-url", "default-index", "find-links", "sources"})
_OUTSIDE = "is left out: only packages of the index are installed"


@dataclass(frozen=True)
class Need:
    """One requirement: as it is handed to uv or npm (`NAME@RANGE` there), and where the skill says so."""

    text: str
    path: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"

    @property
    def name(self) -> str:
        """Of a Python package, as the index has it."""
        return canonical(re.split(r"[^\w.-]", self.text, maxsplit=1)[0])


@dataclass(frozen=True)
class Needs:
    """All of a skill's. `refused` are sentences about lines that are left out."""

    python: tuple[Need, ...] = ()
    node: tuple[Need, ...] = ()
    refused: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.python or self.node)

    def kept(self) -> JsonObject:
        """As a version keeps it."""
        return {
            "python": [[need.text, need.path, need.line] for need in self.python],
            "node": [[need.text, need.path, need.line] for need in self.node],
            "refused": list(self.refused),
        }

    @classmethod
    def of(cls, kept: JsonObject | None) -> Needs:
        """Versions of before these were read have none."""
        kept = kept or {}
        python, node = (tuple(Need(*need) for need in kept.get(name, ())) for name in ("python", "node"))
        return cls(python, node, tuple(kept.get("refused", ())))


@dataclass
class _Reading:
    files: dict[str, Path]
    python: dict[str, Need] = field(default_factory=dict)  # by text: said twice it is needed once
    node: dict[str, Need] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def text(self, path: str) -> str:
        """Empty for what is no text of a reasonable size."""
        place = self.files[path]
        if place.stat().st_size > FILE_BYTES:
            return ""
        try:
            return place.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError:
            return ""

    def refuse(self, path: str, line: int, what: str, why: str = _OUTSIDE) -> None:
        self.refused.append(f"{path}:{line}: {what[:80]!r} {why}")

    def add(self, text: str, path: str, line: int, hashes: Sequence[str] = ()) -> None:
        """A Python requirement."""
        found = requirement(text)
        if found is None:
            outside = text.startswith((".", "/", "-", "git+", "file:")) or "://" in text or "/" in text
            self.refuse(path, line, text, _OUTSIDE if outside else "is left out: it is no requirement (PEP 508)")
            return
        if found.url is not None:
            self.refuse(path, line, text)
            return
        plain = str(found)
        for one in hashes:
            plain += f" --hash={one}"
        self.python.setdefault(plain, Need(plain, path, line))

    def requirements(self, path: str) -> None:
        if path in self.seen:
            return
        self.seen.add(path)
        for number, line in _joined(self.text(path)):
            included = _INCLUDED.fullmatch(line)
            if included is not None:
                inner = _within(PurePosixPath(path).parent / included["path"])
                if inner in self.files:
                    self.requirements(inner)
                else:
                    self.refuse(path, number, line, "is left out: the skill has no such file")
            elif line.startswith("-"):
                self.refuse(path, number, line)
            else:
                self.add(_HASH.sub("", line).strip(), path, number, _HASH.findall(line))

    def project(self, path: str) -> None:
        text = self.text(path)
        try:
            whole = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError):
            self.refuse(path, 1, PurePosixPath(path).name, "is not read: it is no TOML")
            return
        table = whole.get("project", {})
        self._elsewhere(whole, text, path)
        self._listed(table.get("dependencies") if isinstance(table, dict) else None, text, path)

    def script(self, path: str) -> None:
        text = self.text(path)
        found = _HEADER.search(text)
        if found is None:
            return
        lines = [line[2:] for line in found["lines"].splitlines()]
        try:
            table = tomllib.loads("\n".join(lines))
        except (tomllib.TOMLDecodeError, RecursionError):
            self.refuse(path, text.count("\n", 0, found.start()) + 1, "# /// script", "is not read: it is no TOML")
            return
        self._elsewhere(table, text, path)
        self._listed(table.get("dependencies"), text, path)

    def _elsewhere(self, table: JsonObject, text: str, path: str) -> None:
        """Where uv itself would look: its packages come from the index all the same."""
        tool = table.get("tool")
        settings = tool.get("uv") if isinstance(tool, dict) else None
        for name in sorted(_ELSEWHERE.intersection(settings if isinstance(settings, dict) else ())):
            at = re.search(rf"^[#\s\[]*(?:tool\.uv\.)?{name}\b", text, re.MULTILINE)
            self.refuse(path, text.count("\n", 0, at.end()) + 1 if at else 1, f"tool.uv.{name}")

    def _listed(self, listed: Any, text: str, path: str) -> None:
        for item in listed if isinstance(listed, list) else ():
            if isinstance(item, str):
                at = text.find(item)
                self.add(item.strip(), path, text.count("\n", 0, at) + 1 if at >= 0 else 1)

    def package(self, path: str) -> None:
        text = self.text(path)
        try:
            listed = json.loads(text).get("dependencies")
        except (ValueError, AttributeError, RecursionError):
            self.refuse(path, 1, PurePosixPath(path).name, "is not read: it is no JSON object")
            return
        for name, wanted in listed.items() if isinstance(listed, dict) else ():
            at = text.find(json.dumps(name), max(text.find('"dependencies"'), 0))
            line = text.count("\n", 0, at) + 1 if at >= 0 else 1
            said = f"{name}@{wanted}"
            if not _NODE_NAME.fullmatch(name) or not isinstance(wanted, str) or not _NODE_RANGE.fullmatch(wanted):
                self.refuse(path, line, said)
            else:
                self.node.setdefault(name, Need(said, path, line))

    def words(self, imports: Mapping[str, Places], node: Iterable[str]) -> None:
        """What is imported and declared nowhere: as the skill's words install it, else when it is well known."""
        declared = {need.name for need in self.python.values()}
        modules = [module for module in imports if canonical(distribution(module)) not in declared]
        packages = [name for name in node if name not in self.node]
        if not modules and not packages:
            return
        lines = InstallLines((path, place) for path, place in self.files.items() if not _aside(path))
        for module in modules:
            if (said := lines.bringing(module)) is not None:
                self.add(*said)
            elif distribution(module) in KNOWN:
                self.add(distribution(module), *imports[module][0])
        for name in packages:
            if (said := lines.bringing_node(name)) is not None:
                self.node.setdefault(name, Need(*said))


def _aside(path: str) -> bool:
    return bool(_ASIDE & {part.lower() for part in PurePosixPath(path).parts[:-1]})


def read_needs(
    files: Iterable[tuple[str, Path]], imports: Mapping[str, Places] | None = None, node: Iterable[str] | None = None
) -> Needs:
    """What the files of a skill (path in it, place on disk) say it needs, in the order of their paths. Blocks.

    Args:
        imports, node: modules (with file and line) and packages of Node that they import from elsewhere, when that is
            known already.
    """
    every = dict(sorted(files))
    reading = _Reading(every)
    scripts = 0
    for path in reading.files:
        if _aside(path):
            continue
        name = PurePosixPath(path).name
        if name == "requirements.txt":
            reading.requirements(path)
        elif name == "pyproject.toml":
            reading.project(path)
        elif name == "package.json":
            reading.package(path)
        elif name.endswith(".py") and scripts < SCRIPTS:
            scripts += 1
            reading.script(path)
    reading.words(
        third_party_places(every.items()) if imports is None else imports,
        node_packages(every.items()) if node is None else node,
    )
    many = len(reading.python) + len(reading.node) - MOST
    if many > 0:
        return Needs(refused=(f"{many + MOST} packages are required; at most {MOST} are installed for a skill",))
    return Needs(tuple(reading.python.values()), tuple(reading.node.values()), tuple(reading.refused[:20]))


def read_folder(folder: Path, most: int = 2000) -> Needs:
    """The same of a skill where it lies. Blocks."""
    found: list[tuple[str, Path]] = []
    for place in _files(folder, most):
        found.append((place.relative_to(folder).as_posix(), place))
    return read_needs(found)


def _files(folder: Path, most: int) -> Iterator[Path]:
    """Regular files, no hidden folder, no link out of the skill."""
    waiting = [folder]
    while waiting and most > 0:
        try:
            items = sorted(waiting.pop().iterdir())
        except OSError:
            continue
        for item in items:
            most -= 1
            if item.is_symlink() or item.name.startswith(".") or item.name in ("node_modules", "venv"):
                continue
            if item.is_dir():
                waiting.append(item)
            elif item.is_file():
                yield item


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, without comments, continued ones as one under the number of their first."""
    begun, number = "", 0
    for index, raw in enumerate(text.split("\n"), 1):
        line = _COMMENT.sub("", raw).strip()
        if not begun:
            number = index
        if line.endswith("\\"):
            begun += f"{line[:-1].strip()} "
            continue
        if begun + line:
            yield number, (begun + line).strip()
        begun = ""
    if begun.strip():
        yield number, begun.strip()


def _within(path: PurePosixPath) -> str:
    """A path without steps back; one that leaves the skill is none of its files."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            if not parts:
                return ""
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)

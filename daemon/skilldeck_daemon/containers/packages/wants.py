"""What an environment is to be made of, what a base has of it already, and what uv and npm say when it cannot be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path

from skilldeck_daemon.containers.packages.layers import Base, node_packages
from skilldeck_shared.requirements import canonical, requirement


@dataclass(frozen=True)
class Wanted:
    """Requirements as uv takes them (PEP 508, perhaps with hashes), and packages of npm as NAME@RANGE. Both sorted."""

    python: tuple[str, ...] = ()
    node: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.python or self.node)


@dataclass(frozen=True)
class Versions:
    """Of the packages that a base has, by name."""

    python: Mapping[str, str] = field(default_factory=dict)
    node: Mapping[str, str] = field(default_factory=dict)

    def without(self, wanted: Wanted) -> Wanted:
        """What is left to be built: the packages of an interpreter are wholly there, or wholly wanted."""
        python = () if all(map(self._has, wanted.python)) else wanted.python
        node = () if all(map(self._has_for_node, wanted.node)) else wanted.node
        return Wanted(python, node)

    def _has(self, text: str) -> bool:
        need = requirement(text.partition(" --hash=")[0])
        if need is None:
            return False
        if need.marker is not None and not need.marker.evaluate():
            return True
        version = self.python.get(canonical(need.name))
        # Which extras were installed is not written down anywhere.
        return version is not None and not need.extras and need.specifier.contains(version, prereleases=True)

    def _has_for_node(self, item: str) -> bool:
        name, wanted = split(item)
        return name in self.node and in_range(self.node[name], wanted)


def versions_of(base: Base | None) -> Versions:
    """Those of a base that was built or is an environment of the operator's. Blocks: it reads their metadata."""
    if base is None:
        return Versions()
    python: dict[str, str] = {}
    if base.site:
        for found in distributions(path=[str(base.folder / base.site)]):
            python[canonical(found.metadata["Name"])] = found.version
    folder = base.folder / "node_modules"
    return Versions(python, {name: _version(folder / name) for name in node_packages(folder)})


def _version(package: Path) -> str:
    try:
        return str(json.loads((package / "package.json").read_text("utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


_NUMBERS = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?")
_SIGN = re.compile(r"\^|~|>=|=|")


def in_range(version: str, wanted: str) -> bool:
    """Whether a version of npm is in a range of the simple forms (1.2.3, ^, ~, >=, *, latest); in doubt it is not."""
    wanted = wanted.strip()
    if wanted in ("", "*", "x", "latest"):
        return True
    sign = _SIGN.match(wanted)
    assert sign is not None
    least, there = _NUMBERS.fullmatch(wanted[sign.end() :].strip()), _NUMBERS.fullmatch(version)
    if least is None or there is None:
        return False
    low, have = (tuple(int(part or 0) for part in found.groups()) for found in (least, there))
    given = sum(part is not None for part in least.groups())
    if have < low:
        return False
    if sign[0] == ">=":
        return True
    if sign[0] == "^":  # up to the first number that is not 0
        same = next((index + 1 for index, part in enumerate(low) if part), 3)
    else:
        same = 2 if sign[0] == "~" else 3
    return have[: min(same, given)] == low[: min(same, given)]


def split(item: str) -> tuple[str, str]:
    """NAME@RANGE; a name may begin with an @ itself."""
    at = item.index("@", 1)
    return item[:at], item[at + 1 :]


_DECORATION = re.compile(r"[╰├─▶│×\s]+")
_BEGINNING = re.compile(r"^(?:error|cause|code \S+ errno \S+)[: ]+", re.IGNORECASE)
REASON_CHARS = 600


def reason(log: Sequence[str]) -> str:
    """What uv or npm gave as the reason, in one line; "" when they gave none."""
    return " ".join(_said(log))[:REASON_CHARS]


def _said(log: Sequence[str]) -> Iterator[str]:
    begun = False
    for line in log:
        lower = line.lstrip().lower()
        begun = begun or lower.startswith(("error", "×", "npm error", "npm err!"))
        if begun and "complete log of this run" not in lower and "_logs" not in lower:
            text = _DECORATION.sub(" ", re.sub(r"^\s*npm err(?:or|!)\s?", "", line)).strip()
            text = _BEGINNING.sub("", text)
            if text:
                yield text

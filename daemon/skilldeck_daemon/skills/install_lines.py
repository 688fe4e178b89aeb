"""Packages that a skill's own words install: `pip install pandas` in SKILL.md, or in what a script prints without it.

Most published skills name what they need there and nowhere else. Such a line counts only for what the skill's files
import: instructions also name what is for other ways to work. Names and versions of the index alone are taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from skilldeck_shared.requirements import canonical, requirement
from skilldeck_shared.skills.base_packages import distribution

if TYPE_CHECKING:
    from packaging.requirements import Requirement

FILE_BYTES = 256 * 1024
FILES = 100
_PIP = re.compile(r"\b(?:pip3?[ \t]+install|uv[ \t]+add)[ \t]+([^\n`;&|#()\\]{1,500})")
_NPM = re.compile(r"\b(?:npm[ \t]+(?:install|i|add)|yarn[ \t]+add|pnpm[ \t]+add)[ \t]+([^\n`;&|#()\\]{1,500})")
_NAME = re.compile(r"((?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*)(?:@([0-9A-Za-z.^~-]{1,40}))?")
_VALUED = """
-r -e -c -i -f -t --requirement --editable --constraint --index-url --extra-index-url --find-links --target --prefix
--python --registry
"""
_TAKES_VALUE = frozenset(_VALUED.split())

Said = tuple[str, str, int]
"""A requirement as it is handed on, the file that says it, and its line."""


class InstallLines:
    """Those of a skill's files (path in it, place on disk). Blocks: it reads them."""

    def __init__(self, files: Iterable[tuple[str, Path]]) -> None:
        self._python: dict[str, list[tuple[Requirement, str, int]]] = {}
        self._node: dict[str, Said] = {}
        wanted = [(path, place) for path, place in files if path.lower().endswith((".md", ".py"))]
        # Instructions say it better than what a script prints.
        for path, place in sorted(wanted, key=lambda item: (not item[0].lower().endswith(".md"), item[0]))[:FILES]:
            if place.stat().st_size > FILE_BYTES:
                continue
            for number, line in enumerate(place.read_bytes().decode("utf-8", "replace").splitlines(), 1):
                if " " in line and ("install" in line or " add " in line):
                    self._read(line, path, number)

    def _read(self, line: str, path: str, number: int) -> None:
        for found in _PIP.finditer(line):
            for word in _words(found[1]):
                asked = requirement(word)
                if asked is not None and asked.url is None:
                    self._python.setdefault(canonical(asked.name), []).append((asked, path, number))
        for found in _NPM.finditer(line):
            for word in _words(found[1]):
                package = _NAME.fullmatch(word)
                if package is not None:
                    self._node.setdefault(package[1], (f"{package[1]}@{package[2] or '*'}", path, number))

    def bringing(self, module: str) -> Said | None:
        """What installs a module for Python: of several lines the one without extras."""
        for name in dict.fromkeys(map(canonical, (distribution(module), module))):
            said = self._python.get(name)
            if said:
                asked, path, number = min(said, key=lambda one: len(one[0].extras))
                return str(asked), path, number
        return None

    def bringing_node(self, package: str) -> Said | None:
        return self._node.get(package)


def _words(text: str) -> Iterator[str]:
    """The arguments, without options and their values."""
    words = iter(text.split())
    for word in words:
        if word in _TAKES_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            yield word.strip("\"'").rstrip(".,:")

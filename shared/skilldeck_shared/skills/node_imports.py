"""What the JavaScript files of a skill require or import that neither Node nor the skill itself holds.

Read by patterns; nothing is run. Left out is what a program goes on without (a require inside `try`), comments, tests,
and what lies in assets and templates, which belongs to what is made of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from skilldeck_shared.skills.base_packages import BUILD, NODE, NPM_MARK

FILE_BYTES = 256 * 1024
TOTAL_BYTES = 4 * 1024 * 1024
SHOWN = 12
"""Packages of one skill that are warned of."""

_ASIDE = frozenset({"test", "tests", "__tests__", "evals", "node_modules", "examples", "assets"})
_ASIDE |= {"templates", "template", "static", "public"}
_COMMENT = re.compile(r"/\*.*?\*/|(?m:^\s*//.*$)", re.DOTALL)
_NAMED = re.compile(
    r"""(?:\brequire\s*\(\s*|\bimport\s*\(\s*|^\s*import\s+|^\s*(?:import|export)\b[^'"`;()]*?\bfrom\s*)(['"])([^'"\n]+)\1""",
    re.MULTILINE,
)
_TRY = re.compile(r"\btry\s*\{[^}]*$")
_PACKAGE = re.compile(r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*")
_TRY_CHARS = 200
_BUILTIN = """
assert async_hooks buffer child_process cluster console constants crypto dgram diagnostics_channel dns domain events fs
http http2 https inspector module net os path perf_hooks process punycode querystring readline repl stream
string_decoder sys timers tls trace_events tty url util v8 vm wasi worker_threads zlib
"""
BUILTIN = frozenset(_BUILTIN.split())


def node_packages(files: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    """Each package that has to come from elsewhere, with the files that name it, sorted. Blocks.

    Args:
        files: path in the skill and place on disk of all its files.
    """
    every = [(path, place) for path, place in files if not _ASIDE & set(PurePosixPath(path).parts[:-1])]
    own = {_own(place) for path, place in every if PurePosixPath(path).name == "package.json"}
    found: dict[str, set[str]] = {}
    left = TOTAL_BYTES
    for path, place in every:
        if not path.endswith((".js", ".mjs", ".cjs")):
            continue
        size = place.stat().st_size
        left -= size
        if size > FILE_BYTES or left < 0:
            continue
        for name in _named(place.read_bytes().decode("utf-8", "replace")):
            if name not in own:
                found.setdefault(name, set()).add(path)
    return {name: sorted(paths) for name, paths in sorted(found.items())}


def _own(place: Path) -> str:
    try:
        return str(json.loads(place.read_bytes()).get("name"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""


def _named(text: str) -> Iterator[str]:
    text = _COMMENT.sub("", text)
    for match in _NAMED.finditer(text):
        said = match[2]
        name = "/".join(said.split("/")[: 2 if said.startswith("@") else 1])
        if said.startswith((".", "/", "#", "@/")) or ":" in said or name in BUILTIN or not _PACKAGE.fullmatch(name):
            continue
        if not _TRY.search(text, max(0, match.start() - _TRY_CHARS), match.start()):
            yield name


def node_warnings(packages: Mapping[str, Sequence[str]], there: Callable[[str], bool]) -> list[str]:
    """A sentence for each package that nothing provides."""
    lacking = {name: paths for name, paths in packages.items() if not there(name)}
    said = []
    for name, paths in list(lacking.items())[:SHOWN]:
        more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
        build = BUILD if name in NODE else f"{BUILD} --with {NPM_MARK}{name}"
        said.append(
            f"{paths[0]}{more} imports the Node package {name}: not in this sandbox;"
            f" add it to package.json or run {build}"
        )
    if len(lacking) > SHOWN:
        said.append(f"{len(lacking) - SHOWN} more Node packages are imported that are not in this sandbox")
    return said

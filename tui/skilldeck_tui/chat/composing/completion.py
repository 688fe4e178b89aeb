"""What `@` and `/` offer while a message is written, and which pasted text is a path. Reads directories: blocks."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlparse

from skilldeck_shared.paths import expanded
from skilldeck_tui.chat.composing import tree
from skilldeck_tui.chat.composing.mentions import ranged

LIMIT = 40
_SCANNED = 2000
_TOKEN = re.compile(r"(?:^|(?<=\s))([@/])([^\s@]*)$")


@dataclass(frozen=True)
class Candidate:
    """`value` is a skill id, the name of a skill on disk, a command, a file id or a path with its range."""

    kind: Literal["skill", "disk", "command", "file", "path", "folder"]
    value: str
    label: str
    note: str = ""


def token(before: str) -> tuple[str, str] | None:
    """The sign and the word being written at the end of `before`, if it asks for a completion."""
    found = _TOKEN.search(before)
    return (found[1], found[2]) if found else None


def skills(word: str, known: Iterable[dict[str, Any]], disk: Iterable[dict[str, Any]] = ()) -> list[Candidate]:
    """Skills whose name holds the word; those that begin with it first. Of `disk` those that prompts may name; an
    uploaded skill hides one of its name."""
    rows = [Candidate("skill", str(s["id"]), str(s.get("name", "")), _about(s)) for s in known]
    names = {row.label for row in rows}
    for skill in disk:
        name = str(skill.get("name", ""))
        if skill.get("offered") and name not in names:
            rows.append(Candidate("disk", name, name, f"on disk · {_about(skill)}"))
    return rank(word, rows)


def commands(word: str, known: Iterable[tuple[str, str]]) -> list[Candidate]:
    """Commands (name, what it does) whose name begins with the word."""
    return [Candidate("command", name, name, what) for name, what in known if name.startswith(word.lower())]


def _about(skill: dict[str, Any]) -> str:
    return " ".join(str(skill.get("description") or "").split())


def files(word: str, known: Iterable[dict[str, Any]], folder: Path) -> list[Candidate]:
    """Files of the daemon, then those of the directory that the word leads to, then all below `folder` that hold its
    letters. A range (`#20-45`) stays with what it is of."""
    name, lines = ranged(word)
    if lines is not None:
        part, note = word[len(name) :], "line " + word[len(name) + 1 :]
        return [
            Candidate("path", row.value + part, row.label + part, note)
            for row in files(name, (), folder)
            if row.kind == "path"
        ]
    rows = [
        Candidate("file", str(f["id"]), str(f.get("filename", "")), "on the daemon") for f in known if "/" not in word
    ]
    found = rank(word, rows)[: LIMIT // 2] + paths(word, folder)
    if not word or word.startswith(("/", "~", ".")):
        return found
    there = {row.label for row in found}
    for path in tree.matching(word, tree.below(folder), LIMIT):
        if path not in there:
            found.append(Candidate("folder" if path.endswith("/") else "path", str(folder / path), path))
    return found[:LIMIT]


def paths(word: str, folder: Path, *, folders_only: bool = False) -> list[Candidate]:
    """Entries of the directory that a path so far leads to."""
    head, _, tail = word.rpartition("/")
    base = expanded(head + "/" if word.startswith("/") and not head else head or ".")
    base = base if base.is_absolute() else folder / base
    rows = []
    try:
        with os.scandir(base) as entries:
            for entry, _ in zip(entries, range(_SCANNED), strict=False):
                if entry.name.startswith(".") and not tail.startswith("."):
                    continue
                is_folder = entry.is_dir()
                if folders_only and not is_folder:
                    continue
                shown = f"{head}/{entry.name}" if head or word.startswith("/") else entry.name
                kind: Literal["folder", "path"] = "folder" if is_folder else "path"
                rows.append(Candidate(kind, str(base / entry.name), shown + ("/" if is_folder else "")))
    except OSError:
        return []
    return rank(tail, rows, key=lambda c: c.label.rstrip("/").rpartition("/")[2])


def rank(word: str, rows: Iterable[Candidate], key: Any = lambda c: c.label) -> list[Candidate]:
    low = word.lower()
    scored = [(not key(row).lower().startswith(low), key(row).lower(), row) for row in rows if low in key(row).lower()]
    return [row for _, _, row in sorted(scored, key=lambda entry: entry[:2])][:LIMIT]


def pasted_paths(text: str) -> list[Path]:
    """The files that pasted (or dropped) text names; none unless all of it is paths of existing files."""
    text = text.strip()
    if not text or len(text) > 16_384 or "\0" in text:
        return []
    found = []
    for line in text.splitlines():
        line = line.strip()
        whole = _path(line)
        if whole is not None:
            found.append(whole)
            continue
        try:
            words = shlex.split(line)
        except ValueError:
            return []
        several = [_path(word) for word in words]
        if not several or None in several:
            return []
        found += [path for path in several if path is not None]
    return found


def _path(text: str) -> Path | None:
    if text.startswith("file://"):
        text = unquote(urlparse(text).path)
    # A word alone is a word, even if a file happens to be called so.
    if "/" not in text:
        return None
    path = expanded(text)
    return path if os.path.isfile(path) else None

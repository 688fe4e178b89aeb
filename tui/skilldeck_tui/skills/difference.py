"""What differs between two versions of a skill: files, and lines within them. Pure functions."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from skilldeck_shared.terminal import clean
from skilldeck_tui.text.format import size
from skilldeck_tui.widgets.files.preview import as_text

LIMIT = 512 * 1024
"""Bytes of a file that are compared line by line."""


@dataclass(frozen=True)
class FileChange:
    """One file that differs. `mode`: only the executable bit does."""

    path: str
    kind: Literal["added", "removed", "changed", "mode"]


@dataclass(frozen=True)
class Line:
    """`kind` is one of: context, added, removed, place, note."""

    kind: str
    text: str


def changes(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[FileChange]:
    """Compare two trees as `Client.skill_tree` gives them; sorted by path."""
    before, after = {str(f["path"]): f for f in old}, {str(f["path"]): f for f in new}
    found = []
    for path in sorted(before.keys() | after.keys()):
        a, b = before.get(path), after.get(path)
        if a is None:
            found.append(FileChange(path, "added"))
        elif b is None:
            found.append(FileChange(path, "removed"))
        elif a.get("sha256") != b.get("sha256"):
            found.append(FileChange(path, "changed"))
        elif bool(a.get("executable")) != bool(b.get("executable")):
            found.append(FileChange(path, "mode"))
    return found


def lines(change: FileChange, old: bytes, new: bytes) -> list[Line]:
    """The unified diff of one file, three lines of context. Costs time: not for the event loop."""
    if change.kind == "mode":
        return [Line("note", "Only the executable bit differs.")]
    before, after = as_text(old), as_text(new)
    if before is None or after is None or max(len(old), len(new)) >= LIMIT:
        return [Line("note", f"Not compared line by line: {size(len(old))} → {size(len(new))}.")]
    found = []
    rows = difflib.unified_diff(_split(before), _split(after), lineterm="", n=3)
    kinds: Mapping[str, str] = {"+": "added", "-": "removed", "@": "place"}
    for number, row in enumerate(rows):
        if number >= 2:  # after the two names
            found.append(Line(kinds.get(row[:1], "context"), clean(row)))
    if before and after and before.endswith("\n") != after.endswith("\n"):
        found.append(Line("note", "The last line's newline was " + ("added." if after.endswith("\n") else "removed.")))
    return found


def _split(text: str) -> list[str]:
    parts = text.split("\n")
    return parts[:-1] if parts and not parts[-1] else parts


def as_patch(path: str, rows: list[Line]) -> str:
    return "\n".join([f"--- a/{path}", f"+++ b/{path}", *(row.text for row in rows)]) + "\n"

"""Blocks of code within a text: what is copied by itself, and which of them are diffs. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

MARKS = {"[ ] ": False, "[x] ": True}
"""How an item of a list of tasks begins, and whether it is done."""
_DIFFS = frozenset({"diff", "patch", "udiff"})
_HUNK = re.compile(r"^@@ -\d+(,\d+)? \+\d+(,\d+)? @@", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A part of an item that is copied by itself; `what` names it for people."""

    text: str
    what: str


def is_diff(code: str, language: str) -> bool:
    """Whether a fence holds a diff: it says so, or says nothing and looks like one."""
    name = (language.split() or [""])[0].lower()
    return name in _DIFFS or (not name and _HUNK.search(code) is not None)


def fences(text: str) -> list[Block]:
    """The blocks of code of a Markdown text, in order."""
    from markdown_it import MarkdownIt  # a tenth of what the first paint would import

    found = []
    for token in MarkdownIt("gfm-like", {"html": False}).parse(text):
        if token.type in ("fence", "code_block"):
            name = (token.info.split() or ["code"])[0]
            found.append(Block(token.content.rstrip("\n"), name))
    return found

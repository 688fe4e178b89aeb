"""Marks of what find has found, within the texts of widgets.

What a widget shows is exchanged for the same text with marks, so a match is marked however the text is wrapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from weakref import WeakKeyDictionary

from textual.content import Content
from textual.widgets import Static

STYLE = "on $warning 40%"

_marked: WeakKeyDictionary[Static, tuple[Content, Content]] = WeakKeyDictionary()
"""By widget: the text without marks, and the one with marks that took its place."""


def mark(widgets: Iterable[Static], pattern: str) -> None:
    """Mark what matches `pattern` (lower case) in place of what was marked before; nothing when it is empty."""
    for widget in widgets:
        shown = widget.content
        if not isinstance(shown, Content):
            continue
        plain, marks = _marked.get(widget, (shown, shown))
        if shown is not marks:  # it was written anew
            plain = shown
        found = list(matches(plain.plain, pattern))
        new = plain
        for start, end in found:
            new = new.stylize(STYLE, start, end)
        if new is not shown:
            widget.update(new, layout=False)
        if found:
            _marked[widget] = (plain, new)
        else:
            _marked.pop(widget, None)


def matches(text: str, pattern: str) -> Iterator[tuple[int, int]]:
    """Where `pattern` (lower case) is in `text`, without regard to case."""
    lowered, at = text.lower(), 0
    while pattern and (start := lowered.find(pattern, at)) >= 0:
        at = start + len(pattern)
        yield start, at

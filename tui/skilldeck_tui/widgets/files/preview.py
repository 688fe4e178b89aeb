"""The beginning of a file, as text with colours, or what it is when it is no text."""

from __future__ import annotations

import re
from pathlib import PurePath

from rich.syntax import Syntax
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.highlight import highlight
from textual.widgets import Static

from skilldeck_shared.terminal import clean
from skilldeck_tui.text.format import size

LIMIT = 64 * 1024
LINES = 2000
FRONT = re.compile(r"---\n.*?\n---[ \t]*\n", re.DOTALL)


class Preview(VerticalScroll, can_focus=True):
    BINDING_GROUP_TITLE = "Preview"
    DEFAULT_CSS = """
    Preview { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; border-title-color: $muted; }
    Preview Static { height: auto; width: 1fr; }
    """

    def __init__(self, **kwargs: str) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.shown = ""

    def compose(self) -> ComposeResult:
        yield Static(Content(""), markup=False)

    def say(self, text: str) -> None:
        """Something about there being nothing to show."""
        self.shown = ""
        self.query_one(Static).update(Content.styled(text, "$faint"))

    def show(self, name: str, data: bytes, total: int) -> None:
        """`data` is at most the first `LIMIT` bytes of `total`."""
        self.shown = name
        text = as_text(data)
        if text is None:
            kind = PurePath(name).suffix.lstrip(".") or "binary"
            self.query_one(Static).update(Content.styled(f"{kind} · {size(total)} · not text", "$faint"))
            return
        lines = clean(text).split("\n")
        cut = len(lines) > LINES or total > len(data)
        body = coloured("\n".join(lines[:LINES]), language(name))
        if cut:
            body = Content.assemble(body, (f"\n⋯ {size(total)} in all; this is the beginning", "$faint"))
        self.query_one(Static).update(body)
        self.scroll_home(animate=False)


def coloured(text: str, language: str) -> Content:
    """Text in the colours of its language; what stands before Markdown between two lines of dashes is YAML."""
    front = FRONT.match(text) if language == "markdown" else None
    if front is None:
        return highlight(text, language=language)
    rest = highlight(text[front.end() :], language=language)
    return Content("\n").join([highlight(front[0], language="yaml"), rest])


def language(name: str) -> str:
    if PurePath(name).name.lower() == "skill.md":
        return "markdown"
    return str(Syntax.guess_lexer(name)) or "text"


def as_text(data: bytes) -> str | None:
    """The text of the beginning of a file; None when it is none."""
    if b"\0" in data[:8192]:
        return None
    text = data.decode("utf-8", "replace")
    return None if text.count("\ufffd") > max(3, len(text) // 20) else text

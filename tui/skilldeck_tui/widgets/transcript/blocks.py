"""Markdown as answers have it: Textual's own blocks, and what is different here.

- A line stays a line (answers often hold what a command printed), and HTML, for which Textual has no widget, is text.
- Code wraps where it is too long: a transcript has no keys to scroll a block sideways, and what streams in wraps, too.
- A fence of a diff is coloured by its signs, a table aligned as it asks (`:-:`), a list item of `[x]` is a box.
"""

from __future__ import annotations

from collections.abc import Iterable

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from textual.app import ComposeResult
from textual.content import Content
from textual.css.query import NoMatches
from textual.geometry import Size
from textual.widgets import Label, Markdown, Static
from textual.widgets._markdown import MarkdownTable, MarkdownTableContent, MarkdownTH, MarkdownUnorderedListItem
from textual.widgets.markdown import MarkdownBlock, MarkdownFence

from skilldeck_tui.chat.transcripts.fences import MARKS, is_diff
from skilldeck_tui.widgets.marks import mark
from skilldeck_tui.widgets.transcript.described import diff_lines
from skilldeck_tui.widgets.transcript.item_view import unbounded

BOXES = {False: "☐", True: "☑"}


class Fence(MarkdownFence):
    """Code. Its marks stay when Textual colours it anew, which it does whenever its style may have changed."""

    DEFAULT_CSS = """
    Fence { overflow: hidden hidden; }
    Fence > Label { width: 1fr; }
    Fence.-block { background: $accent 18%; }
    """

    @property
    def allow_horizontal_scroll(self) -> bool:
        return False

    @classmethod
    def highlight(cls, code: str, language: str, ansi: bool = False, dark: bool = False) -> Content:
        if is_diff(code, language):
            return diff_lines(code.split("\n"))
        return super().highlight(code, language, ansi, dark)

    def set_content(self, content: Content) -> None:
        super().set_content(content)
        if isinstance(self._markdown, Blocks):
            mark(self.query(Label), self._markdown.pattern)


class TableContent(MarkdownTableContent):
    DEFAULT_CSS = """
    TableContent > .-right { text-align: right; }
    TableContent > .-center { text-align: center; }
    """

    def __init__(self, headers: list[Content], rows: list[list[Content]], sides: list[str]) -> None:
        super().__init__(headers, rows)
        self.sides = sides

    def compose(self) -> ComposeResult:
        for at, cell in enumerate(super().compose()):
            if side := self.sides[at % len(self.sides)]:
                cell.add_class(f"-{side}")
            yield cell


class Table(MarkdownTable):
    def compose(self) -> ComposeResult:
        sides = [_side(block) for block in _within(self) if isinstance(block, MarkdownTH)]
        self._headers, self._rows = self._get_headers_and_rows()
        yield TableContent(self._headers, self._rows, sides or [""])


class ListItem(MarkdownUnorderedListItem):
    def __init__(self, markdown: Markdown, token: Token, bullet: str) -> None:
        task = token.meta.get("task")
        super().__init__(markdown, token, bullet if task is None else f"{BOXES[task]} ")


class Blocks(Markdown):
    """Give a text that goes on to `append` from its first block on: after a text that it was made with, or that it was
    given by `update`, Textual (8.2.8) takes the last block for one that goes on, and writes the next one over it.
    """

    BLOCKS = {
        **Markdown.BLOCKS,
        "fence": Fence,
        "code_block": Fence,
        "table_open": Table,
        "list_item_unordered_open": ListItem,
    }

    def __init__(self, text: str = "") -> None:
        super().__init__(text, parser_factory=parser, open_links=False)
        self.pattern = ""

    def mark(self, pattern: str) -> None:
        self.pattern = pattern
        mark(self.query(Static), pattern)

    def fence(self, index: int) -> Fence | None:
        """The block of code of that number in the text."""
        try:
            return self.query(Fence)[index]
        except (IndexError, NoMatches):
            return None

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return super().get_content_height(unbounded(container), viewport, width)


def parser() -> MarkdownIt:
    """Textual's own choice of Markdown, without HTML, with lines and boxes."""
    found = MarkdownIt("gfm-like", {"html": False})
    found.core.ruler.push("lines", _keep_lines)
    found.core.ruler.push("tasks", _tasks)
    return found


def _keep_lines(state: StateCore) -> None:
    for token in state.tokens:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"


def _tasks(state: StateCore) -> None:
    """Items that begin with a box: `meta["task"]` says whether it is ticked; in a numbered list the text has it."""
    for item, paragraph, inline in zip(state.tokens, state.tokens[1:], state.tokens[2:], strict=False):
        if (item.type, paragraph.type, inline.type) != ("list_item_open", "paragraph_open", "inline"):
            continue
        text = next(iter(inline.children or ()), None)
        if text is None or text.type != "text" or text.content[:4].lower() not in MARKS:
            continue
        ticked = MARKS[text.content[:4].lower()]
        text.content = text.content[4:] if not item.info else f"{BOXES[ticked]} {text.content[4:]}"
        if not item.info:
            item.meta = {**item.meta, "task": ticked}


def _within(block: MarkdownBlock) -> Iterable[MarkdownBlock]:
    for inner in block._blocks:
        yield from _within(inner)
        yield inner


def _side(block: MarkdownBlock) -> str:
    style = str(block._token.attrs.get("style") or "")
    return next((side for side in ("right", "center") if style == f"text-align:{side}"), "")

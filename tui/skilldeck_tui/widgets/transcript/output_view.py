"""The output of one command: folded to a few lines, or all of them; long lines are wrapped, stderr is tinted.

Drawn line by line, so only what is on the screen costs anything. Folded, a frame looks at no more lines than it shows,
however much was written.
"""

from __future__ import annotations

from itertools import pairwise

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip

from skilldeck_tui.chat.transcripts.items import Command
from skilldeck_tui.text.ansi import Span
from skilldeck_tui.text.format import plural, size
from skilldeck_tui.widgets.line_view import LineView
from skilldeck_tui.widgets.marks import matches

Row = tuple[str, str, tuple[Span, ...]]
"""What kind of line it is of, its text, and which of it the command coloured."""
HEAD = 4


class OutputView(LineView):
    """Shows `command.output`; `sync` after it changed. `lines` is how many a folded view shows."""

    COMPONENT_CLASSES = {"output--stdout", "output--stderr", "output--mark", "output--match"}
    DEFAULT_CSS = """
    OutputView { height: auto; width: 1fr; }
    OutputView .output--stdout { color: $foreground 82%; }
    OutputView .output--stderr { color: $warning; }
    OutputView .output--mark { color: $faint; text-style: italic; }
    OutputView .output--match { background: $warning 40%; }
    """

    def __init__(self, command: Command, lines: int = 12) -> None:
        super().__init__()
        self.command = command
        self.limit = lines
        self.folded = True
        self.pattern = ""
        self._painted = -1
        self._width = 0
        self._rows: list[Row] = []
        # Expanded: rows of lines that cannot change any more, and how many lines they are.
        self._kept = 0
        self._fixed = 0
        self._first = 0

    def sync(self, *, force: bool = False) -> None:
        output = self.command.output
        if output.revision == self._painted and not force:
            return
        self._painted = output.revision
        before = len(self._rows)
        self._build(force)
        self.refresh(layout=len(self._rows) != before)

    def toggle(self) -> None:
        self.folded = not self.folded
        self.sync(force=True)

    @property
    def foldable(self) -> bool:
        return self.command.output.total > self.limit

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return container.width

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        if width != self._width:
            self._width = width
            self._build(True)
        return len(self._rows)

    def row_of(self, line: int) -> int:
        """The first row of a line (counted from the first ever written); for scrolling to it."""
        row = 0
        for _, text in self.command.output.lines[: max(0, line - self.command.output.first)]:
            row += len(wrap(text, self._width))
        return row

    # ------------------------------------------------------------ rows

    def _build(self, force: bool) -> None:
        width = max(1, self._width)
        if self.folded:
            self._kept = self._fixed = 0
            self._rows = self._folded_rows(width)
            return
        output = self.command.output
        if force or output.first != self._first:
            self._rows, self._kept, self._fixed, self._first = [], 0, output.first, output.first
            if output.first:
                self._rows.append(
                    ("mark", f"⋯ {plural(output.first, 'earlier line')} not kept · the daemon has them", ())
                )
                self._kept = 1
        del self._rows[self._kept :]
        for number in range(self._fixed, output.closed):
            self._rows += self._wrapped(number, width)
        self._fixed, self._kept = output.closed, len(self._rows)
        for number in range(output.closed, output.total):
            self._rows += self._wrapped(number, width)

    def _wrapped(self, number: int, width: int) -> list[Row]:
        """The rows of a line, counted from the first ever written."""
        output = self.command.output
        stream, text = output.lines[number - output.first]
        spans, at = output.colours.get(number, ()), 0
        rows: list[Row] = []
        for row in wrap(text, width):
            rows.append((stream, row, shifted(spans, at)))
            at += len(row)
        return rows

    def _cropped(self, number: int, width: int) -> Row:
        output = self.command.output
        stream, text = output.lines[number - output.first]
        return stream, crop(text, width), output.colours.get(number, ())

    def _folded_rows(self, width: int) -> list[Row]:
        output, live = self.command.output, self.command.outcome is None
        if output.total <= self.limit:
            rows = [row for number in range(output.first, output.total) for row in self._wrapped(number, width)]
            if len(rows) <= 2 * self.limit:
                return rows
        head = 0 if live or output.first else HEAD
        tail = self.limit - head - 1
        hidden = output.total - head - tail
        if hidden <= 0:
            head, tail, hidden = 0, min(tail, output.total), 0
        total = f" · {size(output.total_bytes)}"
        mark: Row = ("mark", crop(f"⋯ {plural(max(hidden, 0), 'line')} folded{total} · enter unfolds", width), ())
        first = [self._cropped(number, width) for number in range(output.first, output.first + head)]
        last = [self._cropped(number, width) for number in range(max(output.first, output.total - tail), output.total)]
        return [*first, mark, *last]

    def render_line(self, y: int) -> Strip:
        width = self._width
        if y >= len(self._rows):
            return Strip.blank(width, self.line_style)
        kind, text, spans = self._rows[y]
        style = self.get_component_rich_style(f"output--{kind}")
        if self.pattern and kind != "mark":
            found = self.get_component_rich_style("output--match")
            spans += tuple(Span(start, end, found) for start, end in matches(text, self.pattern))
        segments = [Segment(text[start:end], own) for start, end, own in cut(len(text), style, spans)]
        return Strip(segments).adjust_cell_length(width, self.line_style)


def wrap(text: str, width: int) -> list[str]:
    if len(text) <= width and (text.isascii() or cell_len(text) <= width):
        return [text]
    return chop_cells(text, max(1, width)) or [""]


def crop(text: str, width: int) -> str:
    if len(text) <= width and (text.isascii() or cell_len(text) <= width):
        return text
    return chop_cells(text, max(1, width - 1))[0] + "…"


def shifted(spans: tuple[Span, ...], by: int) -> tuple[Span, ...]:
    """The spans of a row that begins at character `by` of its line."""
    return tuple(Span(max(0, s.start - by), s.end - by, s.style) for s in spans if s.end > by) if by else spans


def cut(length: int, style: Style, spans: tuple[Span, ...]) -> list[tuple[int, int, Style]]:
    """A text of `length` characters in pieces of one style each; where spans lie over each other, the last counts."""
    edges = sorted({0, length, *(min(at, length) for span in spans for at in (span.start, span.end))})
    pieces = []
    for start, end in pairwise(edges):
        own = sum((span.style for span in spans if span.start <= start < span.end), style)
        pieces.append((start, end, own))
    return pieces

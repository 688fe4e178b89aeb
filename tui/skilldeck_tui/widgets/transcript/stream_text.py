"""Plain text that grows at its end, drawn line by line.

However much was written, a frame wraps only the lines that are new or changed, and draws only those that are seen. At
1,000 deltas/s a text wrapped as a whole costs 4 ms a frame, and one cut into widgets 8 ms for each that is mounted.
"""

from __future__ import annotations

from rich.segment import Segment
from textual.content import Content
from textual.geometry import Region, Size
from textual.strip import Strip

from skilldeck_shared.terminal import clean
from skilldeck_tui.widgets.line_view import LineView
from skilldeck_tui.widgets.marks import matches


class StreamText(LineView):
    COMPONENT_CLASSES = {"stream--match"}
    DEFAULT_CSS = """
    StreamText { width: 1fr; height: auto; color: $foreground; }
    StreamText .stream--match { background: $warning 40%; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._ended: list[str] = []  # lines of the text that have ended
        self._open = ""  # and the one that is being written
        self._width = 0
        self._rows: list[str] = []  # of the lines that have ended, wrapped, then of the open one
        self._fixed = 0  # how many of the rows are of lines that have ended
        self._height = 1
        self._pattern = ""

    def write(self, text: str) -> None:
        """Show `text` in place of what is there."""
        self._ended, self._open, self._fixed = [], "", 0
        self.append(text)
        # What was here stands elsewhere now: drawn before that is laid out, it would be missing for a frame.
        self.refresh(layout=True)

    def append(self, text: str) -> None:
        """`text` goes on where the last one ended."""
        before, height = self._fixed, self._height
        *ended, self._open = (self._open + clean(text)).split("\n")
        self._ended += ended
        self._wrap(ended)
        if self._height != height or not self._width:
            self.refresh(layout=True)
        else:
            self.refresh(Region(0, before, self.size.width, max(1, height - before)))

    def mark(self, pattern: str) -> None:
        """Mark what matches (lower case) in each row."""
        if pattern != self._pattern:
            self._pattern = pattern
            self.refresh()

    def _wrap(self, ended: list[str]) -> None:
        """Rows of the lines that ended now and of the open one."""
        del self._rows[self._fixed :]
        for line in ended:
            self._rows += wrap(line, self._width)
        self._fixed = len(self._rows)
        self._rows += wrap(self._open, self._width)
        # Blank rows at the end show nothing, and would come and go between two paragraphs.
        self._height = next((at for at in range(len(self._rows), 1, -1) if self._rows[at - 1].strip()), 1)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        if width != self._width:
            self._width, self._fixed = width, 0
            self._wrap(self._ended)
        return self._height

    def render_line(self, y: int) -> Strip:
        text = self._rows[y] if y < self._height else ""
        segments, at = [], 0
        for start, end in matches(text, self._pattern):
            marked = self.line_style + self.get_component_rich_style("stream--match")
            segments += [Segment(text[at:start], self.line_style), Segment(text[start:end], marked)]
            at = end
        segments.append(Segment(text[at:], self.line_style))
        return Strip(segments).adjust_cell_length(self.size.width, self.line_style)


def wrap(line: str, width: int) -> list[str]:
    """The rows of one line, broken between words."""
    if len(line) <= width // 2 or not width:  # no character is wider than two cells
        return [line]
    return [row.plain for row in Content(line).wrap(width)]

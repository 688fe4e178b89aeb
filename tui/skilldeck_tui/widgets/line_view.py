"""Base of the widgets that draw themselves line by line, so that only what is on the screen costs anything."""

from __future__ import annotations

from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from skilldeck_tui.widgets.settled import settled


class LineView(Widget):
    """`line_style` is the widget's own style, for `render_line`."""

    virtual_size = settled()
    line_style = Style()

    def render_lines(self, crop: Region) -> list[Strip]:
        self.line_style = self.rich_style  # computed at each use: a fifth of a frame if by the line
        return super().render_lines(crop)

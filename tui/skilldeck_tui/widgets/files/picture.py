"""A picture in a terminal: whole where that is known to work (kitty.py), else two pixels a cell, which every terminal
with colours shows.

Pillow comes with the daemon; where it is not, the picture is named instead of shown.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, NamedTuple

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from skilldeck_tui.widgets.files import kitty

MOST_PIXELS = 40_000_000
"""Of a picture that is decoded: more is refused, since a small file may hold it."""
SENT = 1600
"""Pixels of either side of what a terminal is sent whole."""
CACHE = 4


class Decoded(NamedTuple):
    """An image of Pillow's, or why there is none."""

    image: Any = None
    problem: str = ""


def decode(data: bytes) -> Decoded:
    """Read an image file. Costs time: not for the event loop."""
    try:
        from PIL import Image

        image: Image.Image = Image.open(BytesIO(data))
        if image.width * image.height > MOST_PIXELS:
            return Decoded(problem=f"{image.width} × {image.height} pixels are too many to be shown here")
        image.draft("RGB", (SENT, SENT))  # a JPEG is decoded no larger than is needed
        image = image.convert("RGBA")
        image.thumbnail((SENT, SENT))
        return Decoded(image)
    except ImportError:
        return Decoded(problem="pictures are shown where Pillow is installed: pip install pillow")
    except Exception as error:  # what it raises of broken files has no common base
        return Decoded(problem=f"this is no picture that can be read ({type(error).__name__})")


class Picture(Widget):
    """Shows an image, at most `rows` cells high and as wide as there is room."""

    DEFAULT_CSS = "Picture { height: auto; width: 1fr; }"

    def __init__(self, decoded: Decoded, rows: int = 16) -> None:
        super().__init__()
        self.rows = min(rows, kitty.MOST)
        self._image, self.problem = decoded
        self._drawn: dict[int, list[Strip]] = {}
        self._sent: list[int] = []  # what the terminal was given

    def _fit(self, width: int) -> tuple[int, int]:
        """Columns and rows of cells."""
        image = self._image
        columns = max(1, min(width, kitty.MOST, image.width, self.rows * 2 * image.width // max(1, image.height)))
        return columns, max(1, min(self.rows, -(-columns * image.height // image.width // 2)))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return 1 if self._image is None else self._fit(max(1, width))[1]

    def _strips(self, width: int) -> list[Strip]:
        if width not in self._drawn:
            if len(self._drawn) >= CACHE:
                self._drawn.clear()
                self._forget()
            self._drawn[width] = self._draw(width)
        return self._drawn[width]

    def _draw(self, width: int) -> list[Strip]:
        if self._image is None:
            return [Strip([Segment(self.problem[:width], self.rich_style)])]
        columns, rows = self._fit(width)
        if kitty.understood() and self.app.console.color_system == "truecolor" and not self.app.is_web:
            return self._placed(columns, rows)
        small = self._image.resize((columns, rows * 2))
        behind = self.background_colors[1].rgb
        pixels = small.load()

        def colour(x: int, y: int) -> Color:
            red, green, blue, alpha = pixels[x, y]
            mixed = (b + (p - b) * alpha // 255 for p, b in zip((red, green, blue), behind, strict=True))
            return Color.from_rgb(*mixed)

        return [
            Strip([Segment("▀", Style(color=colour(x, 2 * y), bgcolor=colour(x, 2 * y + 1))) for x in range(columns)])
            for y in range(rows)
        ]

    def _placed(self, columns: int, rows: int) -> list[Strip]:
        """Send the picture, and draw the cells that stand for it."""
        file = BytesIO()
        self._image.save(file, "PNG", compress_level=1)
        number = kitty.new_id()
        self._send(kitty.sent(number, file.getvalue(), columns, rows))
        self._sent.append(number)
        style = Style(color=Color.from_rgb(number >> 16, number >> 8 & 255, number & 255))
        return [Strip([Segment(kitty.row(y, columns), style)], columns) for y in range(rows)]

    def _send(self, sequences: str) -> None:
        if (driver := self.app._driver) is not None:
            driver.write(sequences)

    def _forget(self) -> None:
        for number in self._sent:
            self._send(kitty.forgotten(number))
        self._sent.clear()

    def on_unmount(self) -> None:
        self._forget()

    def render_line(self, y: int) -> Strip:
        width = self.content_size.width
        strips = self._strips(max(1, width))
        strip = strips[y] if y < len(strips) else Strip([])
        return strip.adjust_cell_length(width, self.rich_style)

"""A picture in a terminal: two pixels a cell, which every terminal with colours shows.

Pillow comes with the daemon; where it is not, the picture is named instead of shown.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

MOST_PIXELS = 40_000_000
"""Of a picture that is decoded: more is refused, since a small file may hold it."""
CACHE = 4


class Picture(Widget):
    """Shows an image file's bytes, at most `rows` cells high and as wide as there is room."""

    DEFAULT_CSS = "Picture { height: auto; width: 1fr; }"

    def __init__(self, data: bytes, rows: int = 16) -> None:
        super().__init__()
        self.rows = rows
        self.problem = ""
        self._image = self._read(data)
        self._drawn: dict[int, list[Strip]] = {}

    def _read(self, data: bytes) -> Any:
        try:
            from PIL import Image

            image = Image.open(BytesIO(data))
            if image.width * image.height > MOST_PIXELS:
                self.problem = f"{image.width} × {image.height} pixels are too many to be shown here"
                return None
            image.draft("RGB", (800, 800))  # a JPEG is decoded no larger than is needed
            return image.convert("RGBA")
        except ImportError:
            self.problem = "pictures are shown where Pillow is installed: pip install pillow"
        except Exception as error:  # what it raises of broken files has no common base
            self.problem = f"this is no picture that can be read ({type(error).__name__})"
        return None

    def _fit(self, width: int) -> tuple[int, int]:
        """Columns and rows of cells."""
        image = self._image
        columns = max(1, min(width, image.width, self.rows * 2 * image.width // max(1, image.height)))
        return columns, max(1, min(self.rows, -(-columns * image.height // image.width // 2)))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return 1 if self._image is None else self._fit(max(1, width))[1]

    def _strips(self, width: int) -> list[Strip]:
        if width not in self._drawn:
            if len(self._drawn) >= CACHE:
                self._drawn.clear()
            self._drawn[width] = self._draw(width)
        return self._drawn[width]

    def _draw(self, width: int) -> list[Strip]:
        if self._image is None:
            return [Strip([Segment(self.problem[:width], self.rich_style)])]
        columns, rows = self._fit(width)
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

    def render_line(self, y: int) -> Strip:
        width = self.content_size.width
        strips = self._strips(max(1, width))
        strip = strips[y] if y < len(strips) else Strip([])
        return strip.adjust_cell_length(width, self.rich_style)

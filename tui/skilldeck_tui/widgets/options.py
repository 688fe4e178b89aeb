"""A list of options that may be squeezed to nothing."""

from __future__ import annotations

from textual.geometry import Size
from textual.widgets import OptionList


class Options(OptionList):
    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        # In a terminal of a few columns nothing is left beside the padding, and Textual (8.2.8) wraps to no width.
        padding = self.get_component_styles("option-list--option").padding.width
        return super().get_content_height(container, viewport, max(width, padding + 2))

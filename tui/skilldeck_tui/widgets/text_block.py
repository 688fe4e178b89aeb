"""A text that is often written anew: its neighbours are laid out again only when it needs another room.

A layout of a screen takes 5 to 20 ms, drawing a changed line one. Most events of a stream lengthen a line, the clock of
a run writes another number in the same place, and most news of the daemon change nothing of what a line says.
"""

from __future__ import annotations

from typing import Any, cast

from textual.content import Content
from textual.css.styles import RulesMap
from textual.widgets import Static

from skilldeck_tui.widgets.settled import settled

EMPTY = Content("")


class TextBlock(Static):
    virtual_size = settled()

    def __init__(self, content: Content = EMPTY, **options: Any) -> None:
        """`options` are those of every widget: `id`, `classes`."""
        super().__init__(content, markup=False, **options)
        self._written = content

    def write(self, content: Content) -> None:
        """Show `content` in place of what is there."""
        if not content.is_same(self._written):
            self._written = content
            self.update(content, layout=not self._fits(content))

    def _fits(self, content: Content) -> bool:
        room, styles = self.content_size, self.styles
        if not room.width:
            return False
        if styles.width is not None and styles.width.is_auto and content.cell_length != room.width:
            return False
        fixed = styles.height is not None and not styles.height.is_auto
        return fixed or content.get_height(cast(RulesMap, styles), room.width) == room.height

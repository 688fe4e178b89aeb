"""Jump mode: a letter on everything that takes the focus; the letter puts it there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.events import Key
from textual.geometry import Offset
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from skilldeck_tui.screens.dialogs.dialog import Dialog

LETTERS = "asdfghjklqwertyuiopzxcvbnm"


class Jump(Dialog[Widget | None]):
    BINDINGS = [Binding("escape", "leave", "Cancel")]
    DEFAULT_CSS = """
    Jump { background: $background 30%; }
    Jump Static {
        position: absolute; width: auto; height: 1; background: $accent; color: $background; text-style: bold;
        padding: 0 1;
    }
    """

    def __init__(self, widgets: Iterable[Widget]) -> None:
        super().__init__()
        self.places = dict(zip(LETTERS, widgets, strict=False))
        self._labels = {letter: Static(Content(letter), markup=False) for letter in self.places}

    def compose(self) -> ComposeResult:
        yield from self._labels.values()

    def on_resize(self) -> None:
        # After the screen below has found its places; what it hides now cannot be jumped to.
        self.call_after_refresh(self._place)

    def on_mount(self) -> None:
        self._place()

    def _place(self) -> None:
        for letter, label in self._labels.items():
            widget = self.places[letter]
            label.display = widget in targets(widget.screen)
            label.absolute_offset = Offset(widget.region.x + 1, widget.region.y)

    def on_key(self, event: Key) -> None:
        if event.key in self.places:
            event.stop()
            self.dismiss(self.places[event.key])

    def action_leave(self) -> None:
        self.dismiss(None)


def targets(screen: Screen[Any]) -> list[Widget]:
    """What can take the focus and is on the screen, from the top left."""
    shown = [widget for widget in screen.focus_chain if widget.region.area]
    return sorted(shown, key=lambda widget: (widget.region.y, widget.region.x))

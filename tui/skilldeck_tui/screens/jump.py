"""Jump mode: a letter on everything that takes the focus; the letter puts it there."""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.events import Key
from textual.geometry import Offset
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Static

LETTERS = "asdfghjklqwertyuiopzxcvbnm"


class Jump(ModalScreen[Widget | None]):
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

    def compose(self) -> ComposeResult:
        for letter, widget in self.places.items():
            label = Static(Content(letter), markup=False)
            label.absolute_offset = Offset(widget.region.x + 1, widget.region.y)
            yield label

    def on_key(self, event: Key) -> None:
        if event.key in self.places:
            event.stop()
            self.dismiss(self.places[event.key])

    def action_leave(self) -> None:
        self.dismiss(None)


def targets(screen: Screen[None]) -> list[Widget]:
    """What can take the focus and is on the screen, from the top left."""
    shown = [widget for widget in screen.focus_chain if widget.region.area]
    return sorted(shown, key=lambda widget: (widget.region.y, widget.region.x))

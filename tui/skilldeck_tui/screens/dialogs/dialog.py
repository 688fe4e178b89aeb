"""What every screen above a mode has in common: it is answered once."""

from __future__ import annotations

from textual.await_complete import AwaitComplete
from textual.command import CommandPalette
from textual.screen import ModalScreen, ScreenResultType


class Dialog(ModalScreen[ScreenResultType]):
    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Close it with an answer. Keys that came in one burst with the one that closed it are still handled here, and
        must not close what lies below: Textual would take whatever is on top."""
        return super().dismiss(result) if self.is_active else AwaitComplete()


class Palette(CommandPalette):
    """The command palette, as a dialog."""

    def __init__(self) -> None:
        super().__init__(id="--command-palette")  # by which Textual knows that one is open

    def dismiss(self, result: None = None) -> AwaitComplete:
        return super().dismiss(result) if self.is_active else AwaitComplete()

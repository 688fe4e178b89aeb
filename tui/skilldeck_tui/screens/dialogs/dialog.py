"""What every screen above a mode has in common: it is opened once, and answered once."""

from __future__ import annotations

from typing import Any

from textual._context import active_message_pump
from textual.app import App
from textual.await_complete import AwaitComplete
from textual.command import CommandPalette
from textual.screen import ModalScreen, Screen, ScreenResultType
from textual.widget import Widget


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
        if not self.is_active:
            return AwaitComplete()
        self._cancel_gather_commands()
        return super().dismiss(result)

    def _gather_commands(self, search_value: str) -> Any:
        """Look for commands; not for letters that are handled after it was closed, which would find no list and end the
        app."""
        return super()._gather_commands(search_value) if self.is_active else None


def covered(app: App[None]) -> bool:
    """Whether who is acting lies below the dialog that is open.

    Keys that came in one burst with the one that opened it are still handled there, and must not open another for each:
    a hundred of them, one drawn upon the other, are more than Python's stack holds.
    """
    acting = active_message_pump.get(None)
    if not isinstance(app.screen, Dialog | Palette) or not isinstance(acting, Widget):
        return False
    return (acting if isinstance(acting, Screen) else acting.screen) is not app.screen

"""What every screen above a mode has in common: it is opened once, and answered once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from textual._context import active_message_pump
from textual.app import App
from textual.await_complete import AwaitComplete
from textual.command import CommandPalette
from textual.screen import ModalScreen, Screen, ScreenResultType
from textual.widget import Widget
from textual.worker import Worker, active_worker

from skilldeck_tui.screens.base import Pressable


class Dialog(Pressable[ScreenResultType], ModalScreen[ScreenResultType]):
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


class Dialogs(App[None]):
    """Opens them one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._later: deque[Callable[[], object]] = deque()

    def push_screen(self, screen: Any, *arguments: Any, **options: Any) -> Any:
        """Keys that came in one burst with the one that opened a dialog are still handled by what lies below it, and
        must not open another for each: a hundred of them, one drawn upon the other, are more than Python's stack holds.
        What had to be fetched meanwhile is no such key: it opens when the one that is open closes."""
        if isinstance(screen, Dialog) and not options.get("wait_for_dismiss") and self._covers(_acting()):
            if _worker():
                here, push = copy_context(), super().push_screen
                self._later.append(lambda: here.run(push, screen, *arguments, **options))
            return AwaitComplete()
        return super().push_screen(screen, *arguments, **options)

    def pop_screen(self) -> AwaitComplete:
        popped = super().pop_screen()
        if self._later and not isinstance(self.screen, Dialog | Palette):
            self.call_later(self._later.popleft())
        return popped

    def action_command_palette(self) -> None:
        if not isinstance(self.screen, Palette):
            self.push_screen(Palette())

    def _covers(self, acting: object) -> bool:
        """Whether the dialog that is open lies above who is acting."""
        if not isinstance(self.screen, Dialog | Palette) or not isinstance(acting, Widget):
            return False
        return (acting if isinstance(acting, Screen) else acting.screen) is not self.screen


def _worker() -> Worker[Any] | None:
    """The worker that is acting; a widget that one mounted inherits its context, and handles keys of its own."""
    worker = active_worker.get(None)
    return worker if worker is not None and worker._task is asyncio.current_task() else None


def _acting() -> object:
    worker = _worker()
    return worker.node if worker is not None else active_message_pump.get(None)

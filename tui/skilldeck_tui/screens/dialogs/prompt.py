"""One line of text, or a path with completions."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from skilldeck_shared.paths import expanded
from skilldeck_tui.chat.composing import completion
from skilldeck_tui.screens.base import is_open
from skilldeck_tui.screens.dialogs.dialog import Dialog
from skilldeck_tui.widgets.options import Options


class Prompt(Dialog[str | None]):
    """`paths` completes paths ("file", "folder" or None for plain text). The answer is the text, None when left."""

    BINDINGS = [
        Binding("escape", "leave", "Cancel", priority=True),
        Binding("tab", "complete", "Complete", priority=True, show=False),
        Binding("down", "move(1)", "Next", priority=True, show=False),
        Binding("up", "move(-1)", "Previous", priority=True, show=False),
    ]
    DEFAULT_CSS = """
    Prompt { align: center middle; background: $background 60%; }
    Prompt > Vertical {
        width: 84; max-width: 94%; height: auto; padding: 1 2; background: $surface; border: round $border;
    }
    Prompt Input { margin: 1 0 0 0; border: round $border; height: 3; background: transparent; }
    Prompt Input:focus { border: round $primary; }
    Prompt OptionList { height: auto; max-height: 8; background: transparent; border: none; padding: 0; display: none; }
    Prompt .error { color: $error; height: auto; display: none; }
    """

    def __init__(self, title: str, detail: str = "", *, value: str = "", paths: str | None = None) -> None:
        super().__init__()
        self.heading, self.detail, self.value, self.paths = title, detail, value, paths

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content.styled(self.heading, "bold"), markup=False)
            if self.detail:
                yield Static(Content.styled(self.detail, "$muted"), markup=False)
            yield Input(self.value, placeholder="path · tab completes" if self.paths else "")
            yield Static("", classes="error", markup=False)
            options = Options(markup=False, compact=True)
            options.can_focus = False
            yield options

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _changed(self) -> None:
        self._refuse("")
        if self.paths:
            self._offer(self.query_one(Input).value)

    @work(exclusive=True, group="offer")
    async def _offer(self, value: str) -> None:
        found = await asyncio.to_thread(completion.paths, value, Path.cwd(), folders_only=self.paths == "folder")
        if not is_open(self):
            return
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(candidate.label) for candidate in found if candidate.label != value)
        options.display = options.option_count > 0 and bool(value)

    def action_move(self, step: int) -> None:
        options = self.query_one(OptionList)
        if options.option_count:
            now = options.highlighted
            options.highlighted = 0 if now is None else (now + step) % options.option_count

    def action_complete(self) -> None:
        options, line = self.query_one(OptionList), self.query_one(Input)
        if options.option_count:
            line.value = str(options.get_option_at_index(options.highlighted or 0).prompt)
            line.cursor_position = len(line.value)

    @on(OptionList.OptionSelected)
    def _picked(self, event: OptionList.OptionSelected) -> None:
        line = self.query_one(Input)
        line.value = str(event.option.prompt)
        line.cursor_position = len(line.value)
        line.focus()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        value = event.value.strip()
        if not value:
            return
        if self.paths:
            path = expanded(value)
            good = os.path.isdir(path) if self.paths == "folder" else os.path.isfile(path)
            if not good:
                kind = "folder" if self.paths == "folder" else "file"
                self._refuse(f"There is no {kind} “{value}”.")
                return
        self.dismiss(value)

    def _refuse(self, why: str) -> None:
        error = self.query_one(".error", Static)
        error.display = bool(why)
        error.update(why)

    def action_leave(self) -> None:
        self.dismiss(None)

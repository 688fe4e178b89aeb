"""A run saved as a test of its skill: what may be demanded is listed, and ticked what must hold."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.css.query import NoMatches
from textual.widgets import Input, SelectionList, Static
from textual.widgets.selection_list import Selection

from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.paths import expanded
from skilldeck_shared.terminal import clean
from skilldeck_tui.screens.base import is_open
from skilldeck_tui.screens.deck import Deck
from skilldeck_tui.screens.dialogs.dialog import Dialog
from skilldeck_tui.text.format import one_line

if TYPE_CHECKING:
    from skilldeck_tui.skill_tests.recording import Proposal


class SaveTest(Dialog[str | None]):
    """The answer is the name of the test that was written, None when left. `run_id` is a run that is over."""

    BINDINGS = [
        Binding("escape", "leave", "Cancel", priority=True),
        Binding("ctrl+s", "save", "Save", priority=True),
    ]
    DEFAULT_CSS = """
    SaveTest { align: center middle; background: $background 60%; }
    SaveTest > Vertical {
        width: 96; max-width: 94%; height: auto; max-height: 90%; padding: 1 2; background: $surface;
        border: round $border;
    }
    SaveTest Static { height: auto; }
    SaveTest Input { margin: 1 0 0 0; border: round $border; height: 3; background: transparent; }
    SaveTest Input:focus { border: round $primary; }
    SaveTest SelectionList {
        height: auto; max-height: 12; border: none; background: transparent; padding: 0; margin: 1 0 0 0;
    }
    SaveTest .error { color: $error; display: none; }
    """

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id
        self.proposal: Proposal | None = None

    @property
    def deck(self) -> Deck:
        return cast(Deck, self.app)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content.styled("Save as a test", "bold"), markup=False)
            yield Static(Content.styled("Reading the run…", "$muted"), classes="about", markup=False)
            yield SelectionList[int]()
            yield Input(placeholder="the test's name", classes="name")
            yield Input(placeholder="the skill's folder", classes="folder")
            yield Static("", classes="error", markup=False)
            yield Static(Content.styled("space ticks · ctrl+s saves · esc leaves", "$faint"), markup=False)

    def on_mount(self) -> None:
        self._read()

    @work(exclusive=True, group="read")
    async def _read(self) -> None:
        from skilldeck_tui.skill_tests.recording import propose

        try:
            proposal = await propose(self.deck.client, self.run_id)
        except SkilldeckError as error:
            if is_open(self):
                self.dismiss(None)
            self.deck.show_error(error)
            return
        # When the whole app ends, the screen is open to the last but its parts are gone.
        with suppress(NoMatches):
            self._propose(proposal)

    def _propose(self, proposal: Proposal) -> None:
        self.proposal = proposal
        files = "".join(f" · {clean(name)}" for name, _ in proposal.files)
        about = f"What must hold when “{one_line(proposal.name)}” is asked again?{files}"
        self.query_one(".about", Static).update(Content.styled(about, "$muted"))
        ticks = self.query_one(SelectionList)
        ticks.add_options(
            Selection(Content(one_line(check.text)), number, check.ticked)
            for number, check in enumerate(proposal.checks)
        )
        self.query_one(".name", Input).value = proposal.name
        self.query_one(".folder", Input).value = str(proposal.folder or "")
        ticks.focus()

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.action_save()

    @work(exclusive=True, group="save")
    async def action_save(self) -> None:
        from skilldeck_tui.skill_tests.recording import write

        if (proposal := self.proposal) is None:
            return
        chosen = [proposal.checks[number] for number in sorted(self.query_one(SelectionList).selected)]
        folder = self.query_one(".folder", Input).value.strip()
        name = self.query_one(".name", Input).value
        if not folder:
            self._refuse("Name the skill's folder.")
            self.query_one(".folder", Input).focus()
            return
        try:
            path, called = await asyncio.to_thread(write, proposal, expanded(folder), chosen, name)
        except SkilldeckError as error:
            self._refuse(error.message)
            return
        if is_open(self):
            self.dismiss(called)
        self.app.notify(f"Written to {path}. T in Skills runs it at every save.", timeout=5, markup=False)

    def _refuse(self, why: str) -> None:
        error = self.query_one(".error", Static)
        error.display = bool(why)
        error.update(why)

    def action_leave(self) -> None:
        self.dismiss(None)

"""One of several, found by typing: the letters typed must come in a row's text in their order.

Where there is more to look through than the rows hold, `search` is asked for what is typed once that stands still; what
it finds comes below.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.fuzzy import Matcher
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from skilldeck_shared.terminal import clean
from skilldeck_tui.screens.base import is_open
from skilldeck_tui.screens.dialogs.dialog import Dialog
from skilldeck_tui.text.format import one_line
from skilldeck_tui.widgets.options import Options

MOST = 200
"""Rows that are shown of those that match."""
STILL_SECONDS = 0.25
SOUGHT = 3
"""Characters from which it is searched."""


@dataclass(frozen=True)
class Row:
    """`value` is the answer, `label` what is read and searched, `note` stands beside it."""

    value: str
    label: str
    note: str = ""


class Pick(Dialog[str | None]):
    """The answer is the value of a row, None when left."""

    BINDINGS = [
        Binding("escape", "leave", "Cancel", priority=True),
        Binding("enter", "choose", "Choose", priority=True),
        Binding("down", "move(1)", "Next", priority=True, show=False),
        Binding("up", "move(-1)", "Previous", priority=True, show=False),
    ]
    DEFAULT_CSS = """
    Pick { align: center middle; background: $background 60%; }
    Pick > Vertical {
        width: 84; max-width: 94%; height: auto; padding: 1 2; background: $surface; border: round $border;
    }
    Pick Input { margin: 1 0; border: round $border; height: 3; background: transparent; }
    Pick Input:focus { border: round $primary; }
    Pick OptionList { height: auto; max-height: 12; background: transparent; border: none; padding: 0; }
    """

    def __init__(
        self,
        title: str,
        rows: Sequence[Row],
        *,
        empty: str = "Nothing matches.",
        value: str = "",
        search: Callable[[str], Awaitable[Sequence[Row]]] | None = None,
    ) -> None:
        super().__init__()
        self.heading, self.rows, self.empty, self.value = title, list(rows), empty, value
        self.search = search
        self._shown: list[Row] = []

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content.styled(self.heading, "bold"), markup=False)
            yield Input(placeholder="type to find")
            options = Options(markup=False, compact=True)
            options.can_focus = False
            yield options

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self._offer("")
        at = next((at for at, row in enumerate(self._shown) if row.value == self.value), 0)
        self.query_one(OptionList).highlighted = at if self._shown else None

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        typed = event.value.strip()
        self._offer(typed)
        if self.search is not None and len(typed) >= SOUGHT:
            self._search(self.search, typed)

    @work(exclusive=True, group="search")
    async def _search(self, search: Callable[[str], Awaitable[Sequence[Row]]], typed: str) -> None:
        await asyncio.sleep(STILL_SECONDS)
        found = await search(typed)
        if not is_open(self) or self.query_one(Input).value.strip() != typed:
            return
        more = [row for row in found if row.value not in {shown.value for shown in self._shown}][:MOST]
        options = self.query_one(OptionList)
        if more and not self._shown:
            options.clear_options()
        self._shown += more
        options.add_options(Option(_line(row)) for row in more)
        if options.highlighted is None and self._shown:
            options.highlighted = 0

    def _offer(self, typed: str) -> None:
        found = self.rows
        if typed:
            matcher = Matcher(typed)
            scored = [(matcher.match(row.label), at, row) for at, row in enumerate(self.rows)]
            found = [row for score, _, row in sorted(scored, key=lambda s: (-s[0], s[1])) if score > 0]
        self._shown = found[:MOST]
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(_line(row)) for row in self._shown)
        if not self._shown:
            options.add_option(Option(Content.styled(self.empty, "$faint"), disabled=True))
        options.highlighted = 0 if self._shown else None

    def action_move(self, step: int) -> None:
        options = self.query_one(OptionList)
        if self._shown:
            options.highlighted = ((options.highlighted or 0) + step) % len(self._shown)

    def action_choose(self) -> None:
        at = self.query_one(OptionList).highlighted
        if at is not None and at < len(self._shown):
            self.dismiss(self._shown[at].value)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._shown[event.option_index].value)

    def action_leave(self) -> None:
        self.dismiss(None)


def _line(row: Row) -> Content:
    label = one_line(row.label)
    gap = " " * max(2, 28 - cell_len(label))
    return Content.assemble(label, (f"{gap}{clean(row.note)}", "$faint")) if row.note else Content(label)

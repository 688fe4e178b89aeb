"""The log of the Daemon screen.

It is read while that mode is visible, and again from its tail when it becomes visible; records are lost only to the
daemon's own bounded memory of them.
"""

from __future__ import annotations

from textual import on, work

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.client.client import LogRecord
from skilldeck_tui.screens.base import ModeScreen
from skilldeck_tui.widgets.find_bar import FindBar
from skilldeck_tui.widgets.log_pane import LEVELS, LogPane

TAIL = 1000
FRAME = 1 / 30


class DaemonLog(ModeScreen):
    def __init__(self) -> None:
        super().__init__()
        self._pending: list[LogRecord] = []

    def show_section(self, section: str) -> None:
        """Go to a section, where they are shown one at a time."""
        raise NotImplementedError

    # ------------------------------------------------------------ the log

    @work(exclusive=True, group="log")
    async def _follow_log(self) -> None:
        pane = self.query_one(LogPane)
        try:
            async with self.client.logs(tail=TAIL, follow=True, level="debug") as records:
                self._pending.clear()
                pane.clear()
                async for record in records:
                    # One timer for all that comes within a frame; none while nothing comes.
                    if not self._pending:
                        self.set_timer(FRAME, self._frame)
                    self._pending.append(record)
        except SkilldeckError:
            # The daemon is away, which the banner says; `changed` reads again once it is back.
            pass

    def _frame(self) -> None:
        if self._pending:
            records, self._pending = self._pending, []
            self.query_one(LogPane).add(records)

    def action_level(self) -> None:
        self._show_log()
        pane = self.query_one(LogPane)
        pane.set_level(LEVELS[(LEVELS.index(pane.level) + 1) % len(LEVELS)])
        self.changed(set())

    def action_follow(self) -> None:
        self._show_log()
        pane = self.query_one(LogPane)
        pane.following = not pane.following
        if pane.following:
            pane.scroll_end(animate=False)
        self.changed(set())

    def action_find(self) -> None:
        self._show_log()
        self.query_one(FindBar).open()

    def _show_log(self) -> None:
        if self.has_class("-tabs") and not self.has_class("-log"):
            self.show_section("log")

    @on(FindBar.Changed)
    def _find_changed(self, event: FindBar.Changed) -> None:
        self.query_one(LogPane).find(event.pattern)

    @on(FindBar.Step)
    def _find_step(self, event: FindBar.Step) -> None:
        self.query_one(LogPane).action_match(event.step)

    @on(FindBar.Closed)
    def _find_closed(self) -> None:
        self.query_one(LogPane).focus()

    @on(LogPane.Matched)
    def _matched(self, event: LogPane.Matched) -> None:
        self.query_one(FindBar).found(event.position, event.total)

    @on(LogPane.CopyAsked)
    def _copy_log(self, event: LogPane.CopyAsked) -> None:
        self.deck.copy(event.text, "the log")

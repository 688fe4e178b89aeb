"""The list of sessions with their live state, and below them, folded, the runs that belong to none: of commands, tests
and other clients."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from skilldeck_tui import actions
from skilldeck_tui.chat.sessions import GLYPHS, Session
from skilldeck_tui.format import age, plural
from skilldeck_tui.widgets.options import Options

OTHERS = "\0others"


class SessionList(Options):
    """Rows of `Session`; `show` keeps the highlight on the same session.

    Of the runs without a session those are shown that go on or ask, and the one that is open; enter on the heading
    shows all.
    """

    BINDINGS = actions.bindings("sessions")
    BINDING_GROUP_TITLE = "Session list"
    DEFAULT_CSS = """
    SessionList {
        width: 100%; height: 1fr; border: none; background: transparent; padding: 0;
        scrollbar-size-vertical: 1;
    }
    SessionList:focus { border: none; }
    SessionList > .option-list--option { padding: 0 1; }
    """

    class Opened(Message):
        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class DeleteAsked(Message):
        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class BulkAsked(Message):
        """All the runs without a session are to be deleted."""

    def __init__(self, **kwargs: str) -> None:
        super().__init__(markup=False, **kwargs)  # type: ignore[arg-type]
        self._shown: list[tuple[Session, str]] = []
        self._given: tuple[Sequence[Session], str, float] = ((), "", 0.0)
        self.folded = True

    def show(self, rows: Sequence[Session], current: str, now: float) -> None:
        self._given = (rows, current, now)
        new = [(row, age(row.at, now)) for row in self._rows(rows, current)]
        keys = [row.key for row, _ in new]
        if keys == [row.key for row, _ in self._shown]:
            for old, fresh in zip(self._shown, new, strict=True):
                if old != fresh:
                    self.replace_option_prompt(fresh[0].key, self._row(*fresh))
            self._shown = new
        else:
            self._shown = new
            self.clear_options()
            self.add_options(Option(self._row(*row), id=row[0].key) for row in new)
        if current in keys and (not self.has_focus or self.highlighted is None):
            with self.prevent(OptionList.OptionHighlighted):
                self.highlighted = keys.index(current)
        elif current not in keys and not self.has_focus:
            self.highlighted = None

    def _rows(self, rows: Sequence[Session], current: str) -> list[Session]:
        """Those that are shown: sessions and what goes on, then the others below their heading."""
        first = [row for row in rows if not row.is_run or row.state in ("busy", "asking") or row.key == current]
        rest = [row for row in rows if row not in first]
        if not rest:
            return first
        title = f"{'▸' if self.folded else '▾'} {plural(len(rest), 'other run')}"
        return [*first, Session(OTHERS, title, "idle", 0.0), *([] if self.folded else rest)]

    def _row(self, row: Session, old: str) -> Content:
        if row.key == OTHERS:
            return Content.styled(row.title, "$muted")
        glyph, style = GLYPHS[row.state]
        room = max(8, (self.size.width or 28) - 6 - len(old))
        title = row.title if len(row.title) <= room else row.title[: room - 1] + "…"
        return Content.assemble((f"{glyph} ", style), title.ljust(room), (f" {old}", "$faint"))

    def on_resize(self) -> None:
        shown, at, self._shown = self._shown, self.highlighted, []
        self.clear_options()
        self._shown = shown
        self.add_options(Option(self._row(*row), id=row[0].key) for row in shown)
        with self.prevent(OptionList.OptionHighlighted):
            self.highlighted = at

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id == OTHERS:
            self.folded = not self.folded
            self.show(*self._given)
        elif event.option_id:
            self.post_message(self.Opened(event.option_id))

    def action_delete_session(self) -> None:
        if self.highlighted is None:
            return
        key = self._shown[self.highlighted][0].key
        self.post_message(self.BulkAsked() if key == OTHERS else self.DeleteAsked(key))

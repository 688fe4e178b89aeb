"""The list of sessions with their live state."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from skilldeck_tui import actions
from skilldeck_tui.chat.sessions import GLYPHS, Session
from skilldeck_tui.format import age
from skilldeck_tui.widgets.options import Options


class SessionList(Options):
    """Rows of `Session`; `show` keeps the highlight on the same session."""

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

    def __init__(self, **kwargs: str) -> None:
        super().__init__(markup=False, **kwargs)  # type: ignore[arg-type]
        self._shown: list[tuple[Session, str]] = []

    def show(self, rows: Sequence[Session], current: str, now: float) -> None:
        new = [(row, age(row.at, now)) for row in rows]
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

    def _row(self, row: Session, old: str) -> Content:
        glyph, style = GLYPHS[row.state]
        room = max(8, (self.size.width or 28) - 6 - len(old))
        title = row.title if len(row.title) <= room else row.title[: room - 1] + "…"
        return Content.assemble((f"{glyph} ", style), title.ljust(room), (f" {old}", "$faint"))

    def on_resize(self) -> None:
        shown, self._shown = self._shown, []
        self.clear_options()
        self._shown = shown
        self.add_options(Option(self._row(*row), id=row[0].key) for row in shown)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id:
            self.post_message(self.Opened(event.option_id))

    def action_delete_session(self) -> None:
        if self.highlighted is not None:
            self.post_message(self.DeleteAsked(self._shown[self.highlighted][0].key))

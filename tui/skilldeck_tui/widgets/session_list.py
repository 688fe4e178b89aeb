"""The list of sessions with their live state, and below them, folded, the runs that belong to none: of commands, tests
and other clients, grouped by who asked."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from skilldeck_shared.terminal import clean
from skilldeck_tui import actions
from skilldeck_tui.chat.sessions import GLYPHS, Session
from skilldeck_tui.text.format import age, plural
from skilldeck_tui.widgets.options import Options

GROUP = "\0group:"
"""Before the origin in the key of a heading."""


class SessionList(Options):
    """Rows of `Session`; `show` keeps the highlight on the same session.

    Of the runs without a session those are shown that go on or ask, and the one that is open; enter on the heading of
    an origin shows its others. Space marks rows, to be deleted together.
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
        """These are to be deleted, after a question; the runs of a group are `group`'s."""

        def __init__(self, keys: Sequence[str], group: str = "") -> None:
            super().__init__()
            self.keys, self.group = list(keys), group

    class CompareAsked(Message):
        """The session is to stand beside the one that is open."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, **kwargs: str) -> None:
        super().__init__(markup=False, **kwargs)  # type: ignore[arg-type]
        self._shown: list[tuple[Session, str]] = []
        self._given: tuple[Sequence[Session], str, float] = ((), "", 0.0)
        self._groups: dict[str, list[str]] = {}  # by the key of its heading: the keys of its runs
        self._marked: set[str] = set()
        self.open_groups: set[str] = set()

    def show(self, rows: Sequence[Session], current: str, now: float) -> None:
        self._given = (rows, current, now)
        self._marked &= {row.key for row in rows}
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
        """Those that are shown: sessions and what goes on, then the others below the headings of their origins."""
        first = [row for row in rows if not row.is_run or row.state in ("busy", "asking") or row.key == current]
        groups: dict[str, list[Session]] = {}
        for row in rows:
            if row not in first:
                groups.setdefault(row.origin, []).append(row)
        self._groups = {GROUP + origin: [row.key for row in runs] for origin, runs in groups.items()}
        for origin, runs in groups.items():
            is_open = GROUP + origin in self.open_groups
            name = f"{clean(origin)} · {len(runs)}" if origin else plural(len(runs), "other run")
            first += [Session(GROUP + origin, f"{'▾' if is_open else '▸'} {name}", "idle", 0.0)]
            first += runs if is_open else []
        return first

    def _row(self, row: Session, old: str) -> Content:
        if row.key in self._groups:
            return Content.styled(row.title, "$muted")
        glyph, style = ("■", "$accent") if row.key in self._marked else GLYPHS[row.state]
        room = max(8, (self.size.width or 28) - 6 - len(old))
        title = row.title if cell_len(row.title) <= room else set_cell_size(row.title, room - 1).rstrip() + "…"
        return Content.assemble((f"{glyph} ", style), set_cell_size(title, room), (f" {old}", "$faint"))

    def on_focus(self) -> None:
        if self.highlighted is None and self._shown:  # else enter would do nothing
            self.highlighted = 0

    def on_resize(self) -> None:
        shown, at, self._shown = self._shown, self.highlighted, []
        self.clear_options()
        self._shown = shown
        self.add_options(Option(self._row(*row), id=row[0].key) for row in shown)
        with self.prevent(OptionList.OptionHighlighted):
            self.highlighted = at

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id in self._groups:
            self.open_groups ^= {event.option_id}
            self.show(*self._given)
            self.highlighted = self.get_option_index(event.option_id)
        elif event.option_id:
            self.post_message(self.Opened(event.option_id))

    def action_mark(self) -> None:
        """Mark the row, or all of a group's, and go on to the next; or take the mark away."""
        at = self.highlighted
        if at is None:
            return
        row = self._shown[at][0]
        keys = set(self._groups.get(row.key, [row.key]))
        self._marked = self._marked - keys if keys <= self._marked else self._marked | keys
        for shown in self._shown:
            if shown[0].key in keys:
                self.replace_option_prompt(shown[0].key, self._row(*shown))
        self.highlighted = min(at + 1, len(self._shown) - 1)

    def action_compare_session(self) -> None:
        if self.highlighted is not None and (key := self._shown[self.highlighted][0].key) not in self._groups:
            self.post_message(self.CompareAsked(key))

    def action_delete_session(self) -> None:
        if self.highlighted is None:
            return
        key = self._shown[self.highlighted][0].key
        if self._marked:
            self.post_message(self.DeleteAsked([row.key for row in self._given[0] if row.key in self._marked]))
        elif key in self._groups:
            self.post_message(self.DeleteAsked(self._groups[key], key.removeprefix(GROUP) or "no session"))
        else:
            self.post_message(self.DeleteAsked([key]))

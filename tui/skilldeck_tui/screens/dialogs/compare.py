"""Two sessions side by side: what was asked, run and answered, line by line; what is equal is folded."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from skilldeck_tui.compared import Line, Row, summary
from skilldeck_tui.screens.dialogs.dialog import Dialog
from skilldeck_tui.text.format import clean, one_line, plural

STYLES = {"asked": "bold", "command": "$accent", "output": "$muted", "answer": "", "figures": "$faint"}
SIDES = {"left": "on $error 12%", "right": "on $success 12%"}


class Compare(Dialog[None]):
    BINDINGS = [Binding("escape,q", "leave", "Close")]
    DEFAULT_CSS = """
    Compare { background: $background; }
    Compare .head { height: 1; padding: 0 1; background: $panel; }
    Compare .head Static { width: 1fr; }
    Compare .keys { height: 1; padding: 0 1; color: $faint; }
    Compare VerticalScroll { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    Compare VerticalScroll Static { height: auto; }
    """

    def __init__(self, titles: tuple[str, str], rows: Sequence[Row]) -> None:
        super().__init__()
        self.titles, self.rows = titles, rows

    def compose(self) -> ComposeResult:
        with Horizontal(classes="head"):
            for title in self.titles:
                yield Static(Content.styled(one_line(title, 100), "bold"), markup=False)
        with VerticalScroll():
            yield Static("", markup=False)
        yield Static(Content(f"{summary(self.rows)} · arrows scroll · esc closes"), classes="keys", markup=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def on_resize(self) -> None:
        self.query_one("VerticalScroll Static", Static).update(drawn(self.rows, max(20, self.size.width - 4)))

    def action_leave(self) -> None:
        self.dismiss(None)


def drawn(rows: Sequence[Row], width: int) -> Content:
    """The rows in two columns within `width` cells."""
    room = max(8, (width - 3) // 2)
    lines = []
    for row in rows:
        if row.kind == "folded":
            lines.append(Content.styled(f"⋯ {plural(row.left_out, 'equal line')}", "$faint"))
            continue
        left, right = (_side(row, line, side, room) for line, side in ((row.left, "left"), (row.right, "right")))
        for at in range(max(len(left), len(right))):
            one = left[at] if at < len(left) else Content("")
            other = right[at] if at < len(right) else Content("")
            gap = " " * max(0, room - one.cell_length)
            lines.append(Content.assemble(one, gap, (" │ ", "$border"), other))
    return Content("\n").join(lines)


def _side(row: Row, line: Line | None, side: str, room: int) -> list[Content]:
    if line is None:
        return []
    marked = row.kind == "differs" and line.kind != "figures"
    style = f"{STYLES[line.kind]} {SIDES[side] if marked else ''}".strip()
    return [part.rstrip() for part in Content.styled(clean(line.text) or " ", style).wrap(room)]

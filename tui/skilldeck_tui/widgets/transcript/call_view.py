"""The view of a call that `described.py` has a form for: a line, and below it the body, folded to a few lines."""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from skilldeck_tui.chat.transcripts.items import Item
from skilldeck_tui.text.format import plural
from skilldeck_tui.widgets.transcript.described import DESCRIBED, pictures
from skilldeck_tui.widgets.transcript.item_view import ItemView
from skilldeck_tui.widgets.transcript.pictures import Pictures

MOST = 2_000
"""Lines of a body that are shown unfolded."""


class CallView(ItemView):
    """`lines` is how many of the body a folded view shows."""

    DEFAULT_CSS = """
    CallView .head { color: $muted; height: auto; }
    CallView .body { padding: 0 0 0 2; height: auto; }
    """

    def __init__(self, item: Item, lines: int = 12) -> None:
        super().__init__(item)
        self.lines = lines
        self.folded = True

    def compose(self) -> ComposeResult:
        yield Static(Content(""), classes="head", markup=False)
        yield Static(Content(""), classes="body", markup=False)
        yield Pictures()

    def on_mount(self) -> None:
        self.repaint()

    def paint(self, now: float) -> None:
        if not self.children:
            self.painted = -1
            return
        shown = DESCRIBED[self.item.shown_as](self.item)
        rows = shown.body.split("\n") if shown.body.plain else []
        most = MOST if not self.folded else 0 if shown.folded else self.lines
        kept, hidden = rows[:most], max(0, len(rows) - most)
        sign = ("✗ ", "$error") if shown.failed else ("▸ " if hidden else "▾ ", "$accent")
        note = f"  {shown.note}" if shown.note else ""
        asks = ("  ? waits for approval", "$warning") if self.item.waiting else ""
        head = Content.assemble(sign, (shown.head, "$foreground"), (note, "$error" if shown.failed else "$faint"), asks)
        self.query_one(".head", Static).update(head)
        if hidden and kept:
            kept.append(Content.styled(f"⋯ {plural(hidden, 'line')} folded · enter unfolds", "italic $faint"))
        body = self.query_one(".body", Static)
        body.display = bool(kept)
        body.update(Content("\n").join(kept))
        self.query_one(Pictures).show(pictures(self.item))

    def toggle(self) -> None:
        self.folded = not self.folded
        self.repaint()

    def mark(self, pattern: str) -> None:
        if pattern and self.folded and pattern in self.item.plain().lower():
            self.toggle()
        super().mark(pattern)

    def texts(self) -> Iterable[Static]:
        return self.query(Static)

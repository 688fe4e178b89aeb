"""An item without a view of its own: its type, and its JSON when unfolded."""

from __future__ import annotations

import json

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from skilldeck_shared.terminal import clean
from skilldeck_tui.chat.transcripts.items import Item
from skilldeck_tui.text.format import one_line
from skilldeck_tui.widgets.transcript.item_view import ItemView


class OtherView(ItemView):
    DEFAULT_CSS = """
    OtherView { color: $muted; }
    OtherView .body { padding: 0 0 0 2; }
    """

    def __init__(self, item: Item) -> None:
        super().__init__(item)
        self.folded = True

    def compose(self) -> ComposeResult:
        yield Static(Content(""), classes="head", markup=False)
        yield Static(Content(""), classes="body", markup=False)

    def on_mount(self) -> None:
        self.painted = -1
        self.sync(0)

    def paint(self, now: float) -> None:
        if not self.children:
            self.painted = -1
            return
        raw = self.item.raw
        name = str(raw.get("name") or "")
        kind = str(raw.get("type") or "item").replace("_", " ")
        text = f"{'▸' if self.folded else '▾'} {kind} {clean(name)}"
        asks = ("  ? waits for approval", "$warning") if self.item.waiting else ""
        self.query_one(".head", Static).update(
            Content.assemble(text, (f"  {one_line(self.item.plain(), 80)}", "$faint"), asks)
        )
        body = self.query_one(".body", Static)
        body.display = not self.folded
        if not self.folded:
            body.update(Content(clean(json.dumps(raw, indent=2, ensure_ascii=False))))

    def toggle(self) -> None:
        self.folded = not self.folded
        self.painted = -1
        self.sync(0)

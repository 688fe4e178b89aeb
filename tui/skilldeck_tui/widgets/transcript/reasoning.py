"""The model's reasoning: one line, unfolded on demand."""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from skilldeck_shared.terminal import clean
from skilldeck_tui.chat.transcripts.items import ReasoningItem
from skilldeck_tui.text.format import duration, one_line
from skilldeck_tui.widgets.text_block import TextBlock
from skilldeck_tui.widgets.transcript.item_view import ItemView


class ReasoningView(ItemView):
    DEFAULT_CSS = """
    ReasoningView { color: $muted; }
    ReasoningView .body { padding: 0 0 0 2; color: $muted; text-style: italic; }
    """

    def __init__(self, item: ReasoningItem) -> None:
        super().__init__(item)
        self.reasoning = item
        self.folded = True

    def compose(self) -> ComposeResult:
        yield TextBlock(classes="head")
        yield TextBlock(classes="body")

    def on_mount(self) -> None:
        self.sync(0)

    def paint(self, now: float) -> None:
        if not self.children:
            self.painted = -1
            return
        item = self.reasoning
        text = item.text
        words = f"{len(text.split()):,} words"
        if item.done:
            spent = f"{duration(item.ended - item.started)} · " if item.ended > item.started > 0 else ""
            head = f"{'▸' if self.folded else '▾'} thought · {spent}{words}"
        else:
            last = one_line(text.rstrip().rsplit("\n", 1)[-1], 100) if self.folded else ""
            head = f"{'▸' if self.folded else '▾'} thinking · {words}  {last}"
        self.query_one(".head", TextBlock).write(Content(head))
        body = self.query_one(".body", TextBlock)
        body.display = not self.folded
        if not self.folded:
            body.write(Content(clean(text).strip()))

    def toggle(self) -> None:
        self.folded = not self.folded
        self.painted = -1
        self.sync(0)

    def mark(self, pattern: str) -> None:
        if pattern and pattern in self.reasoning.text.lower() and self.folded:
            self.toggle()
        super().mark(pattern)

    def texts(self) -> Iterable[Static]:
        return self.query(".body").results(Static)

"""Base of the widgets that show one item of a transcript."""

from __future__ import annotations

from collections.abc import Iterable

from textual.containers import Vertical
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from skilldeck_tui.chat.transcripts.items import Item
from skilldeck_tui.widgets.marks import mark
from skilldeck_tui.widgets.settled import settled


class Column(Vertical):
    """A column that draws nothing but its sides: no border or padding above or below, so all its lines are the same."""

    virtual_size = settled()

    def render_lines(self, crop: Region) -> list[Strip]:
        # What grows with a stream forgets its lines in each frame, a line made anew costs 50 µs, and three columns lie
        # behind each of 30 lines of a transcript.
        return super().render_lines(Region(crop.x, 0, crop.width, 1)) * crop.height


class Stack(Column):
    """A column as high as what is in it, whatever room there is."""

    DEFAULT_CSS = "Stack { height: auto; }"

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return super().get_content_height(unbounded(container), viewport, width)


def unbounded(container: Size) -> Size:
    """The room that content as high as it likes is arranged in.

    Textual keeps each arrangement by the room there was. That of a transcript grows with every line that is streamed,
    and all the blocks above, which nobody had changed, would be arranged anew in each frame.
    """
    return Size(container.width, 0)


class ItemView(Stack):
    """Shows `item`; `sync` brings it up to date, at most once a frame. Never focusable: the transcript has a cursor."""

    DEFAULT_CSS = """
    ItemView { margin: 0 0 1 0; padding: 0 1; border-left: blank; }
    ItemView.-cursor { border-left: outer $primary; }
    """

    class Clicked(Message):
        """A person clicked the item."""

        def __init__(self, view: ItemView) -> None:
            super().__init__()
            self.view = view

    def __init__(self, item: Item) -> None:
        super().__init__()
        self.item = item
        self.painted = -1
        self.now = 0.0
        self.pattern = ""

    def sync(self, now: float) -> None:
        """Paint what changed; `now` in unix seconds, for what is counted while it runs."""
        self.now = now or self.now
        if self.item.revision != self.painted:
            self.painted = self.item.revision
            self.paint(now)
            if self.pattern:
                mark(self.texts(), self.pattern)

    def paint(self, now: float) -> None:
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Ten times a second while the run is live."""

    def ask(self, waiting: bool) -> None:
        """Whether its call waits for an approval."""
        if waiting != self.item.waiting:
            self.item.waiting = waiting
            self.repaint()

    def repaint(self) -> None:
        """Paint the item as it is, whether or not it changed."""
        self.painted = -1
        self.sync(self.now)

    def toggle(self) -> None:
        """Fold or unfold."""

    def mark(self, pattern: str) -> None:
        """Mark what matches (lower case), or nothing when empty, now and in what comes."""
        self.pattern = pattern
        mark(self.texts(), pattern)

    def texts(self) -> Iterable[Static]:
        """The widgets that show the item's text."""
        return self.query(Static)

    def block(self, index: int) -> Widget | None:
        """The widget that shows one of the item's blocks, where there is one for it alone."""
        return None

    def target(self, line: int) -> tuple[Widget, int]:
        """The widget and row that shows a line of the item's text."""
        return self, 0

    def on_click(self, event: Click) -> None:
        event.stop()
        self.post_message(self.Clicked(self))

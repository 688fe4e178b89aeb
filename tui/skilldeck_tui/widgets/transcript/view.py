"""The transcript of the session that is shown: turns, a cursor over their items, find.

It follows its end until a person scrolls away. Only what is mounted costs anything: beyond `MAX_LINES` lines the oldest
turns are removed from the screen (never from the daemon) and a mark says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from skilldeck_tui import actions
from skilldeck_tui.chat.transcripts.items import Item
from skilldeck_tui.chat.transcripts.transcript import ShownRun
from skilldeck_tui.cited import made_by
from skilldeck_tui.demonstration import BUNDLED
from skilldeck_tui.text.format import clean, plural
from skilldeck_tui.widgets.settled import settled
from skilldeck_tui.widgets.transcript.item_view import Column, ItemView, Stack
from skilldeck_tui.widgets.transcript.made_files import MadeFiles
from skilldeck_tui.widgets.transcript.run_footer import RunFooter
from skilldeck_tui.widgets.transcript.views import view_of

MAX_LINES = 100_000


class RunView(Stack):
    def __init__(self, turn: ShownRun, lines: int) -> None:
        super().__init__()
        self.turn = turn
        self.views: list[ItemView] = []
        self._lines = lines
        self._made = MadeFiles()
        self._footer = RunFooter(turn)

    def compose(self) -> ComposeResult:
        self.views = [view_of(item, self._lines) for item in self.turn.all_items]
        if self.turn.branch:
            text = f"↳ from here on a branch of “{clean(self.turn.branch)}” · files are as they were left there"
            yield Static(Content(text), classes="mark", markup=False)
        yield from self.views
        yield self._made
        yield self._footer

    def on_mount(self) -> None:
        self.sync(self._footer.now)

    def sync(self, now: float, *, tick: bool = False) -> None:
        if not self._footer.children:
            return
        new = [view_of(item, self._lines) for item in self.turn.all_items[len(self.views) :]]
        if new:
            self.views += new
            self.mount_all(new, before=self._made)
        for view in self.views:
            view.sync(now)
            if tick:
                view.tick(now)
        if tick or not self.turn.live:
            self._footer.sync(now)
        if not self.turn.live:
            self._made.show(made_by(self.turn.response))

    def waiting(self, calls: set[str]) -> None:
        for view in self.views:
            view.ask(view.item.call_id in calls)

    def demonstrate(self) -> None:
        """Say below the answer that the model is one for demonstration."""
        self._footer.demonstrate()

    @property
    def lines(self) -> int:
        return sum(view.item.plain().count("\n") + 2 for view in self.views)


class TranscriptView(VerticalScroll, can_focus=True):
    virtual_size = settled()
    BINDINGS = actions.bindings("transcript")
    BINDING_GROUP_TITLE = "Transcript"
    DEFAULT_CSS = """
    TranscriptView { height: 1fr; padding: 1 1 0 1; scrollbar-size-vertical: 1; }
    TranscriptView .turns { height: auto; min-height: 100%; }
    TranscriptView .mark { color: $faint; text-align: center; margin: 0 0 1 0; }
    """

    class Write(Message):
        """A person wants to write."""

    class FindAsked(Message):
        """A person wants to find something."""

    class Copied(Message):
        def __init__(self, text: str, what: str) -> None:
            super().__init__()
            self.text, self.what = text, what

    class ExportAsked(Message):
        """Save `item`, or the whole transcript when it is None."""

        def __init__(self, item: Item | None) -> None:
            super().__init__()
            self.item = item

    class CopyAllAsked(Message):
        """Copy the whole transcript."""

    class Replaced(Message):
        """Something else is shown, in which nothing was looked for yet."""

    class Matched(Message):
        """`position` of `total`, counted from 1."""

        def __init__(self, position: int, total: int) -> None:
            super().__init__()
            self.position, self.total = position, total

    def __init__(self, lines: int = 12) -> None:
        super().__init__()
        self.lines = lines
        self.turn_views: list[RunView] = []
        self.pruned = 0
        self.more = False
        self._cursor: ItemView | None = None
        self._block = -1  # of its blocks the one that was copied last
        self._pattern = ""
        self._matches: list[tuple[ItemView, int]] = []
        self._match = -1
        self._at_match = False  # a person went there, and not to an end since
        self._lines: dict[ItemView, tuple[int, list[int]]] = {}  # that match, by the revision they were looked for in
        self._waiting: set[str] = set()
        self._demonstrated = False

    # ------------------------------------------------------------ content

    def compose(self) -> ComposeResult:
        # At least as high as the view: an anchored view puts lower content at its bottom, and leaves
        # a negative scroll position behind.
        with Column(classes="turns"):
            yield Static("", classes="mark", markup=False)

    @property
    def _turns(self) -> Column:
        return self.query_one(".turns", Column)

    def on_mount(self) -> None:
        self._turns.query_children(".mark").first().display = False
        self.anchor()

    async def show(self, turns: Sequence[ShownRun], *, more: bool = False) -> None:
        """Replace everything. `more`: there are earlier runs."""
        self._cursor, self._pattern, self._matches, self._match, self.pruned = None, "", [], -1, 0
        self._demonstrated = False
        # Who opens another session meanwhile cancels this, but must not cancel what ends in the views' own tasks: the
        # app waits for those, and would end with them.
        await asyncio.shield(self.query(RunView).remove())
        self.turn_views = [RunView(turn, self.lines) for turn in turns]
        await self._turns.mount_all(self.turn_views)
        self.more = more
        self._mark()
        self.anchor()
        self.post_message(self.Replaced())

    async def add(self, turn: ShownRun) -> RunView:
        view = RunView(turn, self.lines)
        self.turn_views.append(view)
        await self._turns.mount(view)
        self.anchor()
        return view

    async def prepend(self, turns: Sequence[ShownRun], *, more: bool) -> None:
        views = [RunView(turn, self.lines) for turn in turns]
        await self._turns.mount_all(views, after=self._turns.query_children(".mark").first())
        self.turn_views[:0] = views
        self.more = more
        self._mark()

    def sync(self, now: float, *, tick: bool = False) -> None:
        """Bring live turns, and those that just ended, up to date."""
        self._demonstrate()
        for view in self.turn_views[-8:]:
            view.sync(now, tick=tick)
            if tick:
                view.waiting(self._waiting)
        if tick and self._pattern:
            self._find_more()

    def _demonstrate(self) -> None:
        if not self._demonstrated:
            first = next((view for view in self.turn_views if view.turn.model == BUNDLED), None)
            if first is not None:
                self._demonstrated = True
                first.demonstrate()

    def waiting(self, calls: set[str]) -> None:
        """Which calls (by call id) wait for an approval."""
        self._waiting = calls
        for view in self.turn_views[-8:]:
            view.waiting(calls)

    def prune(self) -> None:
        """Remove the oldest turns while more than `MAX_LINES` lines are shown."""
        counts = [view.lines for view in self.turn_views]
        total = sum(counts)
        while total > MAX_LINES and len(self.turn_views) > 1:
            view = self.turn_views.pop(0)
            total -= counts.pop(0)
            self.pruned += 1
            view.remove()
        self._mark()

    def _mark(self) -> None:
        # None when the screen is on its way out.
        for mark in self._turns.query_children(".mark").results(Static):
            mark.display = bool(self.pruned or self.more)
            if self.pruned:
                mark.update(Content(f"⋯ {plural(self.pruned, 'earlier turn')} no longer shown · f9 exports all"))
            elif self.more:
                mark.update(Content("⋯ earlier turns · ctrl+home loads them"))

    # ------------------------------------------------------------ cursor

    @property
    def item_views(self) -> list[ItemView]:
        return [view for turn in self.turn_views for view in turn.views]

    @property
    def current(self) -> ItemView | None:
        views = self.item_views
        if self._cursor in views:
            return self._cursor
        return views[-1] if views else None

    @property
    def current_turn(self) -> ShownRun | None:
        """The run that the cursor is in, else the last one."""
        view = self.current
        found = next((turn for turn in self.turn_views if view in turn.views), None)
        return found.turn if found is not None else None

    def select(self, view: ItemView | None, *, scroll: bool = True) -> None:
        if self._cursor is not None:
            self._cursor.remove_class("-cursor")
            if self._block >= 0 and (block := self._cursor.block(self._block)) is not None:
                block.remove_class("-block")
        self._cursor, self._block = view, -1
        if view is not None:
            view.add_class("-cursor")
            if scroll:
                self.release_anchor()
                self.scroll_to_widget(view, animate=False)

    def on_blur(self) -> None:
        self.select(None)

    def on_item_view_clicked(self, event: ItemView.Clicked) -> None:
        event.stop()
        self.focus()
        already = self._cursor is event.view
        self.select(event.view, scroll=False)
        if already:
            event.view.toggle()

    def action_cursor(self, step: int) -> None:
        views = self.item_views
        if not views:
            return
        if self._cursor not in views:
            self.select(views[-1] if step < 0 else views[0])
            return
        position = views.index(self._cursor) + step
        if 0 <= position < len(views):
            self.select(views[position])
        elif step > 0:
            self.action_edge(1)

    def action_edge(self, direction: int) -> None:
        self.select(None)
        self._at_match = False
        if direction > 0:
            self.anchor()
        else:
            self.release_anchor()
            self.scroll_home(animate=False)

    def action_fold(self) -> None:
        if (view := self.current) is not None:
            view.toggle()

    def action_copy(self) -> None:
        if (view := self.current) is not None:
            what = "the command and its output" if view.item.kind == "shell" else "the item"
            self.post_message(self.Copied(view.item.plain(), what))

    def action_copy_block(self) -> None:
        """Copy the item's next block, or the item itself when it has none."""
        view = self.current
        blocks = view.item.blocks() if view is not None else []
        if view is None or not blocks:
            self.action_copy()
            return
        if view is not self._cursor:
            self.select(view)
        last = self._block + 1
        at = last % len(blocks)
        self.select(view, scroll=False)
        self._block = at
        shown = view.block(at)
        if shown is not None:
            shown.add_class("-block")
            self.release_anchor()
            self.scroll_to_widget(shown, animate=False)
        which = f", {at + 1} of {len(blocks)}" if len(blocks) > 1 else ""
        lines = plural(blocks[at].text.count("\n") + 1, "line")
        self.post_message(self.Copied(blocks[at].text, f"{clean(blocks[at].what)}: {lines}{which}"))

    def action_copy_all(self) -> None:
        self.post_message(self.CopyAllAsked())

    def action_export_item(self) -> None:
        if (view := self.current) is not None:
            self.post_message(self.ExportAsked(view.item))

    def action_write(self) -> None:
        self.post_message(self.Write())

    # ------------------------------------------------------------ find

    def action_find(self) -> None:
        self.post_message(self.FindAsked())

    @property
    def finding(self) -> bool:
        """Whether something is marked."""
        return bool(self._pattern)

    def find(self, pattern: str) -> int:
        """Find text (without regard to case) in every item; returns the number of lines that hold it."""
        self._pattern, self._match = pattern.lower(), -1
        self._lines.clear()
        self._matches = self._found()
        if self._matches:
            self.action_match(-1)
        else:
            self.post_message(self.Matched(0, 0))
        return len(self._matches)

    def _found(self) -> list[tuple[ItemView, int]]:
        """Every line that holds the pattern, in order. Only what is new or has grown is looked through."""
        found = []
        for view in self.item_views:
            if view.pattern != self._pattern:
                view.mark(self._pattern)
            revision, lines = self._lines.get(view, (-1, []))
            if self._pattern and revision != view.item.revision:
                written = view.item.plain().lower().split("\n")
                lines = [number for number, line in enumerate(written) if self._pattern in line]
                self._lines[view] = view.item.revision, lines
            found += [(view, number) for number in lines]
        return found

    def _find_more(self) -> None:
        """Count what has come since, too. Where a person is stays as it is: only they go to another match."""
        at = self._matches[self._match] if 0 <= self._match < len(self._matches) else None
        before, self._matches = (self._match, len(self._matches)), self._found()
        self._match = self._matches.index(at) if at in self._matches else -1
        if (now := (self._match, len(self._matches))) != before:
            self.post_message(self.Matched(now[0] + 1, now[1]))

    def action_match(self, step: int) -> None:
        if not self._matches:
            return
        if self._match < 0:
            self._match = len(self._matches) - 1 if step < 0 else 0
        else:
            self._match = (self._match + step) % len(self._matches)
        self.select(self._matches[self._match][0], scroll=False)
        self.release_anchor()
        self._at_match = True
        self._show_match()
        self.post_message(self.Matched(self._match + 1, len(self._matches)))

    def on_resize(self) -> None:
        """What was found stays in view: at another width it stands elsewhere."""
        if self._at_match and 0 <= self._match < len(self._matches):
            self._show_match()

    def _show_match(self) -> None:
        view, line = self._matches[self._match]
        widget, row = view.target(line)
        self.call_after_refresh(self._reveal, widget, row)  # a possible unfolding has been laid out then

    def _reveal(self, widget: Widget, row: int) -> None:
        top = widget.virtual_region.y
        node = widget.parent
        while isinstance(node, Widget) and node is not self:
            top += node.virtual_region.y
            node = node.parent
        self.scroll_to(y=max(0, top + row - self.size.height // 3), animate=False)

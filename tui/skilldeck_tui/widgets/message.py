"""The assistant's text, streamed.

What arrived since the last frame is plain text at the end ("the tail"); a few times a second what ends at a blank line
outside a code fence is committed to the Markdown widget, and when the message is complete the Markdown is rendered once
as a whole. Rendering Markdown per delta costs five times as much and falls seconds behind at 1,000 deltas/s.

Of a stream too fast to be read, what is committed stays plain text until the end: each block of Markdown takes 8 ms to
mount, and a plain text of any length less than one of them.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from textual.app import ComposeResult
from textual.content import Content
from textual.css.query import NoMatches
from textual.geometry import Size
from textual.widget import MountError
from textual.widgets import Markdown, Static

from skilldeck_tui.format import clean
from skilldeck_tui.transcript import TextItem
from skilldeck_tui.widgets.item_view import ItemView, unbounded

COMMIT_SECONDS = 0.3
"""Between two commits. Each mounts widgets and lays out all blocks of the message anew, which a fast stream would ask
for in every second frame."""
HURRY = 3_000
"""Characters a second from which a stream is too fast to be read: 500 words."""


class Blocks(Markdown):
    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return super().get_content_height(unbounded(container), viewport, width)


class MessageView(ItemView):
    DEFAULT_CSS = """
    /* Blocks of Markdown bring their own margin below. (A rule for the last child would cost a restyling of all.) */
    MessageView { padding: 0 1; margin: 0; }
    MessageView Markdown { padding: 0; margin: 0; height: auto; }
    MessageView .plain { height: auto; margin: 0 0 1 0; color: $foreground; }
    MessageView.-found { background: $warning 12%; }
    """

    def __init__(self, item: TextItem) -> None:
        super().__init__(item)
        self.message = item
        self._seen = 0
        self._tail = ""
        self._committed = 0.0
        self._whole = False
        self._hurried = False
        self._rendering: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        # A message that is complete already needs no streaming.
        self._whole = self.message.done
        text = clean(self.message.text) if self._whole else None
        yield Blocks(text, parser_factory=_parser, open_links=False)
        yield _plain("", "tail")

    def on_mount(self) -> None:
        if not self.children:  # the app ends meanwhile: nothing is composed any more
            return
        if self._whole:
            self.query_one(".tail").display = False
            self.painted = self.item.revision
        else:
            self.query_one(Markdown).display = False
            self.sync(0)

    def paint(self, now: float) -> None:
        if not self.children or not self.query_one(Markdown).is_mounted:
            # A Markdown that is not mounted yet would replace what it is given now by its first content.
            self.painted = -1
            self.call_after_refresh(self.sync, now)
            return
        if self._whole:
            return
        message = self.message
        self._tail += "".join(message.pieces[self._seen :])
        self._seen = len(message.pieces)
        if not message.done:
            self._commit()
        else:
            self._whole = True
            # The last of a fast stream is seen before all of it is rendered, which takes half a second for 60 blocks.
            self.call_after_refresh(self._begin_whole)
        self._show_tail()

    def _show_tail(self) -> None:
        self.query_one(".tail", Static).update(Content(clean(self._tail).rstrip("\n")))

    def _begin_whole(self) -> None:
        # A task of its own. This widget's removal waits for its messages, which so must not wait for blocks that are
        # removed with it; and a worker would be cancelled with it, and the blocks' own tasks by that.
        self._rendering = asyncio.create_task(self._render_whole())

    async def _render_whole(self) -> None:
        # Another session may have been opened meanwhile, before this and while the blocks are mounted.
        with suppress(NoMatches, MountError):
            text, markdown = clean(self.message.text), self.query_one(Markdown)
            with self.app.batch_update():
                await markdown.update(text)
                markdown.display = bool(text.strip())
                self.query_one(".tail").display = False
                await self.query(".committed").remove()

    def _commit(self) -> bool:
        """Give what is complete to the Markdown, when it is time. Whether there was any."""
        now = time.monotonic()
        passed = now - self._committed
        if passed < COMMIT_SECONDS:
            return False
        commit, self._tail = split(self._tail)
        if commit:
            # Not by the first, which may be all that was written before anybody looked.
            self._hurried = self._hurried or (self._committed > 0 and len(commit) / passed > HURRY)
            self._committed = now
            if self._hurried:
                self.mount(_plain(clean(commit).rstrip("\n"), "committed"), before=".tail")
            else:
                markdown = self.query_one(Markdown)
                markdown.display = True
                markdown.append(clean(commit))
        return bool(commit)

    def tick(self, now: float) -> None:
        # A stream that pauses leaves no paragraph behind.
        if self._tail and not self.message.done and self._commit():
            self._show_tail()

    def mark(self, pattern: str) -> None:
        self.set_class(bool(pattern) and pattern in self.message.text.lower(), "-found")


def _plain(text: str, name: str) -> Static:
    return Static(Content(text), classes=f"plain {name}", markup=False)


def _parser() -> MarkdownIt:
    """Textual's own choice of Markdown, but a line stays a line: answers often hold what a command printed."""
    parser = MarkdownIt("gfm-like")
    parser.core.ruler.push("lines", _keep_lines)
    return parser


def _keep_lines(state: StateCore) -> None:
    for token in state.tokens:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"


def split(text: str) -> tuple[str, str]:
    """What can be rendered for good (up to the last blank line outside a fence) and the rest."""
    fence = ""
    commit = position = 0
    for line in text.splitlines(keepends=True):
        position += len(line)
        bare = line.strip()
        mark = bare[:3]
        if mark in ("```", "~~~"):
            fence = "" if fence == mark else fence or mark
        elif not bare and not fence and line.endswith("\n"):
            commit = position
    return text[:commit], text[commit:]

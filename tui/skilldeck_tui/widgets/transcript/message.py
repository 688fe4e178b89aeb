"""The assistant's text, streamed.

What arrives is plain text at the end ("the tail"); a few times a second what ends at a blank line outside a code fence
goes on to the Markdown widget, and when the message is complete the Markdown is rendered once as a whole. Rendering
Markdown per delta costs five times as much and falls seconds behind at 1,000 deltas/s.

A stream too fast to be read stays plain text until its end: each block of Markdown takes 8 ms to mount.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress

from textual.app import ComposeResult
from textual.css.query import NoMatches
from textual.widget import AwaitMount, MountError, Widget
from textual.widgets import Static
from textual.widgets.markdown import MarkdownBlock

from skilldeck_shared.terminal import clean
from skilldeck_tui.chat.transcripts.items import TextItem
from skilldeck_tui.widgets.transcript.blocks import Blocks
from skilldeck_tui.widgets.transcript.item_view import ItemView
from skilldeck_tui.widgets.transcript.stream_text import StreamText

COMMIT_SECONDS = 0.3
"""Between two commits. Each mounts widgets and lays out all blocks of the message anew, which a fast stream would ask
for in every second frame."""
HURRY = 3_000
"""Characters a second from which a stream is too fast to be read: 500 words."""


class MessageView(ItemView):
    DEFAULT_CSS = """
    /* Blocks of Markdown bring their own margin below. (A rule for the last child would cost a restyling of all.) */
    MessageView { padding: 0 1; margin: 0; }
    MessageView Markdown { padding: 0; margin: 0; height: auto; }
    MessageView StreamText { margin: 0 0 1 0; }
    """

    def __init__(self, item: TextItem) -> None:
        super().__init__(item)
        self.message = item
        self._stream = StreamText()
        self._blocks: Blocks | None = None  # made when there is something for it: the first word need not wait for it
        self._seen = 0
        self._tail = ""
        self._committed = 0.0
        self._whole = item.done
        self._hurried = False
        self._committing: asyncio.Task[None] | None = None
        self._rendering: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        if self._whole:  # a message that is complete already needs no streaming
            self._blocks = Blocks(clean(self.message.text))
            yield self._blocks
        else:
            yield self._stream

    def on_mount(self) -> None:
        self.sync(0)

    def paint(self, now: float) -> None:
        if self._whole:
            return
        if not self.children:
            self.painted = -1
            self.call_after_refresh(self.sync, now)
            return
        message = self.message
        new = "".join(message.pieces[self._seen :])
        self._seen = len(message.pieces)
        self._tail += new
        self._stream.append(new)
        if message.done:
            self._whole = True
            # The last of a fast stream is seen before all of it is rendered, which takes half a second for 60 blocks.
            self.call_after_refresh(self._begin_whole)
        else:
            self._commit()

    def _begin_whole(self) -> None:
        # A task of its own. This widget's removal waits for its messages, which so must not wait for blocks that are
        # removed with it; and a worker would be cancelled with it, and the blocks' own tasks by that.
        self._rendering = asyncio.create_task(self._render_whole())

    async def _render_whole(self) -> None:
        if self._committing is not None:
            await self._committing
        # Another session may have been opened meanwhile, before this and while the blocks are mounted.
        with suppress(NoMatches, MountError):
            text = clean(self.message.text)
            with self.app.batch_update():
                if self._blocks is not None:
                    await self._blocks.update(text)
                elif text.strip():
                    await self._mount_blocks(text)
                self._stream.display = False
                self._mark_blocks()

    def _mount_blocks(self, text: str = "") -> AwaitMount:
        self._blocks = Blocks(text)
        return self.mount(self._blocks, before=self._stream)

    def _commit(self) -> None:
        """Begin to give what is complete to the Markdown, when it is time."""
        now = time.monotonic()
        passed = now - self._committed
        if self._hurried or passed < COMMIT_SECONDS or (self._committing is not None and not self._committing.done()):
            return
        commit, _ = split(self._tail)
        if not commit:
            return
        # Not by the first, which may be all that was written before anybody looked.
        self._hurried = self._committed > 0 and len(commit) / passed > HURRY
        self._committed = now
        if not self._hurried:
            self._committing = asyncio.create_task(self._move(commit))  # of its own, as the last rendering

    async def _move(self, commit: str) -> None:
        """`commit`, the beginning of the tail, becomes Markdown: in no frame is it both or neither."""
        with suppress(NoMatches, MountError), self.app.batch_update():
            if self._blocks is None:
                await self._mount_blocks()
            assert self._blocks is not None
            await self._blocks.append(clean(commit))
            self._tail = self._tail[len(commit) :]
            self._stream.write(self._tail)
            self._mark_blocks()

    def _mark_blocks(self) -> None:
        if self._blocks is not None and self._blocks.pattern + self.pattern:
            self._blocks.mark(self.pattern)

    def texts(self) -> Iterable[Static]:
        return ()

    def block(self, index: int) -> Widget | None:
        return self._blocks.fence(index) if self._blocks is not None else None

    def tick(self, now: float) -> None:
        # A stream that pauses leaves no paragraph behind.
        if self._tail and not self.message.done:
            self._commit()

    def mark(self, pattern: str) -> None:
        super().mark(pattern)
        self._stream.mark(pattern)
        self._mark_blocks()

    def target(self, line: int) -> tuple[Widget, int]:
        for block in self._blocks.children if self._blocks is not None else ():
            first, end = block.source_range if isinstance(block, MarkdownBlock) else (0, 0)
            if line < end:
                return block, max(0, min(line - first, block.size.height - 1))
        return (self._stream, 0) if self._stream.display and self._blocks is not None else (self, 0)


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

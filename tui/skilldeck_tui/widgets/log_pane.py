"""The daemon's log: the last records, filtered by level, with find. Follows its end until a person scrolls up."""

from __future__ import annotations

import time
from collections import deque

from rich.segment import Segment
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from skilldeck_shared.terminal import clean
from skilldeck_tui import actions
from skilldeck_tui.client.types import LogRecord
from skilldeck_tui.widgets.transcript.output_view import crop

KEEP = 5000
LEVELS = ("debug", "info", "warning", "error")
RANK = {"debug": 0, "info": 1, "warning": 2, "warn": 2, "error": 3, "critical": 3}


class LogPane(ScrollView, can_focus=True):
    BINDINGS = actions.bindings("logs")
    BINDING_GROUP_TITLE = "Log"
    COMPONENT_CLASSES = {
        "log--time",
        "log--logger",
        "log--debug",
        "log--info",
        "log--warning",
        "log--error",
        "log--match",
    }
    DEFAULT_CSS = """
    LogPane { height: 1fr; overflow-x: hidden; background: transparent; scrollbar-size-vertical: 1; padding: 0 1; }
    LogPane .log--time { color: $faint; }
    LogPane .log--logger { color: $faint; }
    LogPane .log--debug { color: $faint; }
    LogPane .log--info { color: $foreground 85%; }
    LogPane .log--warning { color: $warning; }
    LogPane .log--error { color: $error; }
    LogPane .log--match { background: $warning 40%; }
    """

    class CopyAsked(Message):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Matched(Message):
        def __init__(self, position: int, total: int) -> None:
            super().__init__()
            self.position, self.total = position, total

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[LogRecord] = deque(maxlen=KEEP)
        self.level = "info"
        self.pattern = ""
        self.following = True
        self._rows: list[LogRecord] = []
        self._matches: list[int] = []
        self._match = -1

    def add(self, records: list[LogRecord]) -> None:
        self.records.extend(records)
        shown = [record for record in records if self._shown(record)]
        self._rows += shown
        if len(self._rows) > KEEP:
            del self._rows[: len(self._rows) - KEEP]
        if shown:
            self._resize()

    def clear(self) -> None:
        self.records.clear()
        self._rows = []
        self._resize()

    def set_level(self, level: str) -> None:
        self.level = level
        self._rows = [record for record in self.records if self._shown(record)]
        self.find(self.pattern)
        self._resize()

    def _shown(self, record: LogRecord) -> bool:
        return RANK.get(record.level.lower(), 1) >= RANK[self.level]

    def _resize(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self._rows))
        if self.following:
            self.scroll_end(animate=False, immediate=True, force=True)
        self.refresh()

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        if new < old and new < self.max_scroll_y:
            self.following = False
        elif new >= self.max_scroll_y:
            self.following = True

    def on_resize(self) -> None:
        self._resize()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        index = y + self.scroll_offset.y
        if index >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        record = self._rows[index]
        level = record.level.lower()
        kind = level if level in LEVELS else "error" if level == "critical" else "info"
        at = time.strftime("%H:%M:%S ", time.localtime(record.time))
        logger = clean(record.logger).removeprefix("skilldeck_daemon.").removeprefix("skilldeck.")
        name = f"{logger[:14]:<14} " if width > 60 else ""
        text = crop(" ".join(clean(record.message).split("\n")), max(1, width - len(at) - len(name)))
        body = self.get_component_rich_style(f"log--{kind}")
        segments = [
            Segment(at, self.get_component_rich_style("log--time")),
            Segment(name, self.get_component_rich_style("log--logger")),
        ]
        start, lowered = 0, text.lower()
        if self.pattern:
            match = body + self.get_component_rich_style("log--match")
            while (found := lowered.find(self.pattern, start)) >= 0:
                end = found + len(self.pattern)
                segments += [Segment(text[start:found], body), Segment(text[found:end], match)]
                start = end
        segments.append(Segment(text[start:], body))
        return Strip(segments).adjust_cell_length(width, self.rich_style)

    # ------------------------------------------------------------ find

    def find(self, pattern: str) -> None:
        self.pattern = pattern.lower()
        self._matches = [
            number
            for number, record in enumerate(self._rows)
            if self.pattern and self.pattern in record.message.lower()
        ]
        self._match = len(self._matches)
        if self._matches:
            self.action_match(-1)
        else:
            self.post_message(self.Matched(0, 0))
        self.refresh()

    def action_match(self, step: int) -> None:
        if self._matches:
            self._match = (self._match + step) % len(self._matches)
            self.following = False
            self.scroll_to(y=max(0, self._matches[self._match] - self.size.height // 2), animate=False)
            self.post_message(self.Matched(self._match + 1, len(self._matches)))

    def action_copy(self) -> None:
        rows = [
            f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(r.time))} {r.level.upper():<7} {r.logger}: {r.message}"
            for r in self._rows
        ]
        self.post_message(self.CopyAsked("\n".join(rows)))

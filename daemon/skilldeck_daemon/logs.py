"""The daemon's log: JSON lines on stderr, and the newest records in memory for those who ask over the socket.

The ring is bounded (`CAPACITY` records): the oldest are lost. A follower that reads slowly loses records, never the
daemon's time. Records of other threads are taken in; followers run on the event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import traceback
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, TextIO

from skilldeck_daemon.agent.services import LogEntry
from skilldeck_shared.terminal import clean

CAPACITY = 5_000
FOLLOWER_CAPACITY = 1_000
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, what `extra` brought, and the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, default=str, ensure_ascii=False)


class PlainFormatter(logging.Formatter):
    """For a person at a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s  %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record))


class LogRing(logging.Handler):
    """See the module."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        super().__init__()
        self._entries: deque[LogEntry] = deque(maxlen=capacity)
        self._followers: set[tuple[asyncio.AbstractEventLoop, asyncio.Queue[LogEntry]]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        entry = LogEntry(record.created, record.levelname.lower(), record.name, message)
        self._entries.append(entry)
        for loop, queue in list(self._followers):
            try:
                loop.call_soon_threadsafe(_offer, queue, entry)
            except RuntimeError:  # its loop has ended
                self._followers.discard((loop, queue))

    def tail(self, count: int, level: str = "") -> list[LogEntry]:
        """The last `count` records of at least `level`, oldest first."""
        wanted = [entry for entry in list(self._entries) if _rank(entry.level) >= _rank(level)]
        return wanted[-count:] if count > 0 else []

    async def follow(self, count: int, level: str = "") -> AsyncIterator[LogEntry]:
        """`tail`, then every new record."""
        queue: asyncio.Queue[LogEntry] = asyncio.Queue(FOLLOWER_CAPACITY)
        follower = (asyncio.get_running_loop(), queue)
        self._followers.add(follower)
        try:
            for entry in self.tail(count, level):
                yield entry
            while True:
                entry = await queue.get()
                if _rank(entry.level) >= _rank(level):
                    yield entry
        finally:
            self._followers.discard(follower)


def _offer(queue: asyncio.Queue[LogEntry], entry: LogEntry) -> None:
    if not queue.full():
        queue.put_nowait(entry)


def _rank(level: str) -> int:
    return logging.getLevelNamesMapping().get(level.upper(), 0)


def configure(level: str, stream: TextIO | None = None) -> LogRing:
    """Send the process's log to the stream (stderr) and to a new ring, which is returned."""
    stream = stream or sys.stderr
    writer = logging.StreamHandler(stream)
    writer.setFormatter(PlainFormatter() if stream.isatty() else JsonFormatter())
    ring = LogRing()
    root = logging.getLogger()
    root.handlers[:] = [writer, ring]
    root.setLevel(logging.WARNING)
    for name in ("skilldeck_daemon", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())
    # One line a request says nothing that the runs do not say better.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    return ring

"""Watches the event loop: while it stands still nobody is answered, whoever's request it was that holds it.

The loop beats ten times a second and a thread looks at the beats. A stall over `STALL_S` is logged once, with the stack
that held the loop while it did, and counted (`/metrics`). One over `LONG_S` is logged while it lasts, too: its end may
never come. A loop that was merely not given the processor, because the
machine is busy, was suspended or sleeps, is none: it waits for its sockets then and has used no processor time. Both
sides cost 20 µs a beat.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType

log = logging.getLogger(__name__)

STALL_S = 0.25
LONG_S = 5.0
BEAT_S = 0.1
FRAMES = 12
"""Innermost frames that are logged."""
_WAITING = ("asyncio/runners.py", "asyncio/base_events.py", "selectors.py")
"""Where a loop that has nothing to do is found; uvloop waits in C, below the first."""


class Stalls:
    """One event loop's. `count`, `seconds` and `longest` are of all stalls since `start`."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.longest = 0.0
        self._beat = 0.0
        self._used = 0.0  # processor seconds of the loop's thread at the beat
        self._clock = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._ident = 0
        self._held: list[str] = []  # the stack of the stall that goes on
        self._busy = False  # it holds the loop, whatever processor time it takes

    def start(self) -> None:
        """Watch the loop that runs."""
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self._ident)
        self._over.clear()
        self._beat, self._used = time.monotonic(), time.clock_gettime(self._clock)
        self._next()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _next(self) -> None:
        assert self._loop is not None
        self._timer = self._loop.call_later(BEAT_S, self._tick)

    def _tick(self) -> None:
        now, used = time.monotonic(), time.clock_gettime(self._clock)
        stood, worked = now - self._beat - BEAT_S, used - self._used
        self._beat, self._used = now, used
        held, busy, self._held, self._busy = self._held, self._busy, [], False
        # Work of many short steps uses the processor as well; then the beat came in between, as soon as it could.
        if stood > STALL_S and (busy or worked > STALL_S):
            self._note(stood if busy else min(stood, worked), held)
        self._next()

    def _note(self, seconds: float, held: list[str]) -> None:
        self.count += 1
        self.seconds += seconds
        self.longest = max(self.longest, seconds)
        stack = "".join(held) or "  (native code that let no other thread run)\n"
        log.warning("the event loop stood still for %.2f s, held by:\n%s", seconds, stack.rstrip())

    def _watch(self) -> None:
        told = 0.0  # the beat before the stall that was logged while it lasted
        while not self._over.wait(BEAT_S):
            beat = self._beat
            stood = time.monotonic() - beat - BEAT_S
            if stood < STALL_S or (self._held and (stood < LONG_S or told == beat)):
                continue
            frame = sys._current_frames().get(self._ident)
            if frame is None or _waits(frame):
                continue
            held = [line[:500] for line in traceback.format_stack(frame)[-FRAMES:]]
            del frame
            if self._beat != beat:  # it went on meanwhile
                continue
            self._held, self._busy = held, True
            if stood >= LONG_S:
                told = beat
                log.error("the event loop has stood still for %.0f s, held by:\n%s", stood, "".join(held).rstrip())


def _waits(frame: FrameType) -> bool:
    return frame.f_code.co_filename.endswith(_WAITING)

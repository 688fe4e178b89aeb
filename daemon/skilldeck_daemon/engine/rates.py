"""What engines report about themselves: rates over the last seconds, and the memory of this process."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

_WINDOW_S = 5.0
_SLOW_S = 60.0
"""The longest step that counts over its own time where it is longer than the window: a busy machine is not idle."""


class Rate:
    """Events per second over the last five seconds, or over the last step where that took longer. Written by one
    thread, readable from any."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque(maxlen=4096)
        self.last = 0.0  # monotonic seconds of the last event, 0 when there was none

    def add(self, count: int) -> None:
        self.last = time.monotonic()
        self._steps.append((self.last, count))

    def per_second(self) -> float:
        """0 when nothing happened lately."""
        now = time.monotonic()
        every = list(self._steps)
        steps = [(at, count) for at, count in every if at > now - _WINDOW_S]
        if len(steps) < 2 and len(every) > 1:
            took = every[-1][0] - every[-2][0]
            steps = every[-2:] if took <= _SLOW_S and now - every[-1][0] <= 2 * took else []
        if len(steps) < 2:
            return 0.0
        return sum(count for _, count in steps[1:]) / max(steps[-1][0] - steps[0][0], 1e-6)


def process_memory() -> tuple[int, int]:
    """Resident bytes of this process, and of the machine; zeros where /proc is missing."""
    try:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return resident, int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0, 0

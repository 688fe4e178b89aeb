"""A program in a terminal of its own: what it draws, when it drew it, and the processor time it took. Linux only."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from skilldeck_daemon.bench.local import environment
from skilldeck_shared.errors import Unavailable

PATIENCE = 120.0
KEPT = 1 << 20
SIZE = (120, 40)
CLIENT = (sys.executable, "-m", "skilldeck_tui")
"""The client is another program: the daemon's package knows it by name only."""


class NotDrawn(Unavailable):
    """The program under measurement never showed what was waited for."""


def client_environment(home: Path) -> dict[str, str]:
    """The environment of a client that knows nobody: no settings, no memory, no daemon but the one it is given."""
    return {
        **environment("XDG_", "COLUMNS", "LINES"),
        "XDG_CONFIG_HOME": str(home / "config"), "XDG_STATE_HOME": str(home / "state"),
        "XDG_DATA_HOME": str(home / "share"), "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8",
    }  # fmt: skip


class Terminal:
    """`draws` are (seconds of perf_counter, text) as the program wrote them."""

    def __init__(self, process: asyncio.subprocess.Process, master: int, begun: float) -> None:
        self.process, self.begun = process, begun
        self.draws: list[tuple[float, str]] = []
        self._master = master
        self._changed = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, command: Sequence[str], home: Path) -> AsyncIterator[Terminal]:
        """Start `command`; it is killed at the end."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
        begun = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *command, stdin=slave, stdout=slave, stderr=slave, env=client_environment(home), cwd=home,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        terminal = cls(process, master, begun)
        loop = asyncio.get_running_loop()
        loop.add_reader(master, terminal._read)
        try:
            yield terminal
        finally:
            loop.remove_reader(master)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            os.close(master)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # the program ended
            asyncio.get_running_loop().remove_reader(self._master)
            return
        self.draws.append((time.perf_counter(), data.decode("utf-8", "replace")))
        self._changed.set()
        self._changed = asyncio.Event()

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    async def drawn(self, text: str) -> float:
        """When `text` was first drawn. Raises NotDrawn after `PATIENCE` seconds, or when the program ends before."""
        deadline, position, before = time.perf_counter() + PATIENCE, 0, ""
        while True:
            for when, piece in self.draws[position:]:
                before = before[-len(text) :] + piece
                if text in before:
                    return when
            position = len(self.draws)
            if self.process.returncode is not None or time.perf_counter() > deadline:
                raise NotDrawn(f"The terminal never showed {text!r}.", f"The last it drew: {before[-200:]!r}")
            changed = self._changed
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await changed.wait()

    def newest(self, pattern: str) -> list[tuple[float, int]]:
        """(when, the largest number that `pattern`'s group drew then), for each drawing that shows a larger one."""
        found: list[tuple[float, int]] = []
        for when, text in self.draws:
            numbers = [int(number) for number in re.findall(pattern, text)]
            if numbers and (not found or max(numbers) > found[-1][1]):
                found.append((when, max(numbers)))
        return found

    def processor_seconds(self) -> float:
        """Processor time so far, of all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def lags(drawn: Sequence[tuple[float, int]], made: Sequence[float]) -> list[float]:
    """For each thing made, the seconds until it, or a later one, was drawn. What never was is left out."""
    found, number = [], 0
    for when, newest in drawn:
        while number <= newest and number < len(made):
            found.append(when - made[number])
            number += 1
    return found

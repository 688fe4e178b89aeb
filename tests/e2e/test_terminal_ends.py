"""What is left when a terminal is closed or a process is told to end: nothing of the demo's, and every daemon that was
started for itself. The terminals are pseudo-terminals whose other end is closed."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skilldeck_daemon import demo
from support.programs import serving

PATIENCE = 120.0
HOLD = """
import sys, time
from pathlib import Path
from skilldeck_daemon import demo
with demo._folder() as home, demo.daemon(home) as running:
    print(running.process.pid, flush=True)
    time.sleep(600)
"""


def _until(condition: Callable[[], object], what: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE} s: {what()}")
        time.sleep(0.05)


class Terminal:
    """A program in a pseudo-terminal of 80×24. `close` closes the terminal; `controlling` tells whether the kernel then
    sends the program a signal."""

    def __init__(self, command: list[str], environment: dict[str, str], *, controlling: bool) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        take = (lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if controlling else None
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=take,
            env={**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
        )  # fmt: skip
        os.close(theirs)
        self.written = b""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._closing = threading.Event()
        self._reading.start()

    def _read(self) -> None:
        os.set_blocking(self._ours, False)
        while not self._closing.wait(0.02):
            try:
                self.written += os.read(self._ours, 1 << 16)
            except BlockingIOError:
                continue
            except OSError:
                return

    def shows(self, text: bytes) -> None:
        _until(lambda: text in self.written, lambda: self.written[-2000:])

    def close(self) -> None:
        self._closing.set()
        self._reading.join()
        os.close(self._ours)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {f"XDG_{name}_HOME": str(tmp_path / name.lower()) for name in ("CONFIG", "STATE", "DATA")}


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    with serving(tmp_path, "--model", "") as (process, _):
        yield tmp_path / "s"
        assert process.poll() is None  # a daemon that was started for itself stays


def _tui(socket: Path, environment: dict[str, str], *, controlling: bool) -> Terminal:
    command = [sys.executable, "-m", "skilldeck_tui", "--socket", str(socket), "--no-start"]
    terminal = Terminal(command, environment, controlling=controlling)
    terminal.shows(b"ready")
    return terminal


def test_a_terminal_ui_ends_with_its_terminal_and_by_signals(socket: Path, environment: dict[str, str]) -> None:
    told, gone, quietly = (_tui(socket, environment, controlling=c) for c in (True, True, False))
    told.process.send_signal(signal.SIGTERM)
    gone.close()
    quietly.close()
    assert told.process.wait(PATIENCE) == 128 + signal.SIGTERM
    told.shows(b"\x1b[?1049l")  # the screen as it was before
    assert gone.process.wait(PATIENCE) == 128 + signal.SIGHUP
    assert quietly.process.wait(PATIENCE) == 128 + signal.SIGHUP


def _processes(word: str) -> list[str]:
    """The command lines that name `word`, of processes that are no zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            continue
        if word in line:
            found.append(line)
    return found


@pytest.fixture
def near() -> Iterator[Path]:
    """A folder for temporary files whose sockets have names that are short enough, unlike a parallel test's."""
    with tempfile.TemporaryDirectory(prefix="ends-", dir="/tmp") as folder:
        yield Path(folder)


def test_nothing_is_left_of_a_demo_whose_terminal_is_closed(near: Path, environment: dict[str, str]) -> None:
    places = environment | {"TMPDIR": str(near)}
    terminal = Terminal([sys.executable, "-m", "skilldeck_daemon", "demo"], places, controlling=True)
    terminal.shows(b"\x1b[?1049h")  # the TUI is there
    assert _processes(str(near / "skilldeck-demo-"))
    terminal.close()
    assert terminal.process.wait(PATIENCE) == 128 + signal.SIGHUP
    assert not _processes(str(near))
    assert not list(near.glob("skilldeck-demo-*"))


def test_a_killed_demo_takes_its_daemon_along_and_the_next_removes_its_folder(
    near: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {**os.environ, **environment, "TMPDIR": str(near)}
    holding = subprocess.Popen([sys.executable, "-c", HOLD], env=variables, stdout=subprocess.PIPE, text=True)
    assert holding.stdout is not None
    assert holding.stdout.readline().strip().isdecimal()
    holding.kill()
    holding.communicate(timeout=PATIENCE)
    _until(lambda: not _processes(str(near / "skilldeck-demo-")))
    (left,) = near.glob("skilldeck-demo-*")
    monkeypatch.setattr(tempfile, "tempdir", str(near))
    with demo._folder() as home:
        assert list(near.glob("skilldeck-demo-*")) == [home] != [left]
    assert not list(near.glob("skilldeck-demo-*"))

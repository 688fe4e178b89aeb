"""A program in a terminal: tmux is the terminal, with a server of its own below a folder."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 90.0


def surroundings(home: Path) -> dict[str, str]:
    """The environment of a program whose files all lie below `home`."""
    # The workers of the test run are told a size of 80×24, which would go before the terminal's own.
    left = ("SKILLDECK_", "XDG_", "TMUX", "COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left)}
    places = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CONFIG", "STATE", "DATA")}
    return {**kept, **places, "LANG": "C.UTF-8", "PWD": str(home)}


class Tmux:
    """One window with a program in it."""

    def __init__(self, home: Path, width: int, height: int, command: str, environment: dict[str, str]) -> None:
        self._server = ["tmux", "-S", str(home / "tmux"), "-f", os.devnull]
        size = ["-x", str(width), "-y", str(height)]
        self._run("new-session", "-d", "-s", "t", *size, "-c", str(home), command, env=environment)

    def _run(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        done = subprocess.run([*self._server, *arguments], env=env, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise AssertionError(f"tmux {arguments[0]}: {done.stderr}")
        return done.stdout

    def keys(self, *names: str) -> None:
        """As `tmux send-keys` names them."""
        self._run("send-keys", "-t", "t", *names)

    def type(self, text: str) -> None:
        self._run("send-keys", "-t", "t", "-l", text)

    def paste(self, text: str) -> None:
        """As a terminal pastes: in brackets, where the program asked for that."""
        self._run("set-buffer", "--", text)
        self._run("paste-buffer", "-p", "-t", "t")

    def stay(self) -> None:
        """From now on the last screen stays when what runs there has ended, whatever is typed then."""
        self._run("set-option", "-t", "t", "remain-on-exit", "on")

    def ended(self) -> bool:
        """Whether what ran there has ended; see `stay`."""
        return self._run("display-message", "-t", "t", "-p", "#{pane_dead}").strip() == "1"

    def pid(self) -> int:
        """Of what was started there."""
        return int(self._run("display-message", "-t", "t", "-p", "#{pane_pid}"))

    def again(self, command: str) -> None:
        """Start anew what has run here."""
        self._run("respawn-pane", "-k", "-t", "t", command)

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-t", "t", "-x", str(width), "-y", str(height))

    def screen(self, back: int = 0) -> str:
        """What it shows, with as many lines of what has left it above."""
        return self._run("capture-pane", "-t", "t", "-p", "-S", str(-back))

    def size(self) -> str:
        return self._run("display-message", "-t", "t", "-p", "#{window_width}x#{window_height}").strip()

    def until(self, condition: Callable[[str], bool]) -> str:
        deadline = time.monotonic() + PATIENCE
        while not condition(screen := self.screen()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {PATIENCE} s; the terminal of {self.size()} shows:\n{screen}")
            time.sleep(0.1)
        return screen

    def shows(self, *texts: str) -> str:
        return self.until(lambda screen: all(text in screen for text in texts))

    def repeats(self, key: str, *texts: str) -> None:
        """Press `key` until the terminal shows every text."""
        deadline = time.monotonic() + PATIENCE
        while not all(text in (screen := self.screen()) for text in texts):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {PATIENCE} s; the terminal of {self.size()} shows:\n{screen}")
            self.keys(key)
            time.sleep(0.5)

    def close(self) -> None:
        subprocess.run([*self._server, "kill-server"], capture_output=True, timeout=60)

"""What a person who looks elsewhere should hear of, and how: a notice of the operating system, through the terminal.

That works over SSH and needs no program.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from skilldeck_tui.state import BUSY
from skilldeck_tui.text.format import one_line


class News:
    """What is new since it was last asked: each approval that waits, and each end of a run that was seen running."""

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._status: dict[str, str] = {}

    def known(self, runs: Iterable[dict[str, Any]]) -> None:
        """How runs stand now is no news: the daemon was just found."""
        self._status = {run["id"]: str(run.get("status")) for run in runs}

    def waiting(self, approvals: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for approval in approvals:
            if approval["id"] not in self._asked:
                self._asked.add(approval["id"])
                yield approval

    def ended(self, runs: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
        """(how it ended, its title) of each."""
        for run in runs:
            before, now = self._status.get(run["id"]), str(run.get("status"))
            self._status[run["id"]] = now
            if before in BUSY and now not in BUSY:
                yield {"completed": "done"}.get(now, now), str(run.get("title") or "")


def notice(title: str, text: str) -> str:
    """A bell, OSC 9 (iTerm2, Windows Terminal, kitty) and OSC 777 (foot, WezTerm, urxvt)."""
    title, text = one_line(title, 80).replace(";", ","), one_line(text, 160).replace(";", ",")
    return f"\a\x1b]9;{title}: {text}\x1b\\\x1b]777;notify;{title};{text}\x1b\\"

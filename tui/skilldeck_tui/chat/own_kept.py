"""Commands of a person's own that the model was not told of yet, by session: kept in a file of the state directory, so
that they and what they printed are there when the session is opened again, also after the program was closed.

Losing it costs no data of the daemon's, so nothing here raises; what cannot be read is left out.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skilldeck_shared import private
from skilldeck_tui.chat.transcripts.items import Command, ShellItem
from skilldeck_tui.chat.transcripts.transcript import ShownRun

MOST = 50
"""Sessions; of more, those go whose last command is the oldest."""
COMMANDS = 50
LONGEST = 40_000
"""Characters of each stream of a command; of more, the middle is left out."""


@dataclass
class Done:
    """A command that has ended. `started` and `ended` in unix seconds; `outcome` is an exit code or "timeout"."""

    text: str
    stdout: str
    stderr: str
    outcome: int | str
    started: float
    ended: float
    container: str

    def command(self) -> Command:
        made = Command(self.text, started=self.started, ended=self.ended, outcome=self.outcome)
        made.output.set(self.stdout, self.stderr)
        made.printed = made.output.total_bytes
        return made

    def shown(self) -> ShownRun:
        """As it is shown among the runs of its session."""
        raw = {"environment": {"container_id": self.container}}
        item = ShellItem("", raw, done=True, commands=[self.command()])
        turn = ShownRun("", items=[item], status="completed", started=self.started, ended=self.ended)
        turn.container = self.container
        return turn


@dataclass
class Kept:
    """Of one session: its commands, and the container that was made for them with what it was asked to be."""

    commands: list[Done] = field(default_factory=list)
    container: str = ""
    asked: dict[str, Any] = field(default_factory=dict)


class OwnCommands:
    """`path` None: kept only as long as the program runs. Keys are those of the session list; "" is a new session."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._kept = self._read()

    def of(self, key: str) -> Kept:
        """What is kept of a session. To be changed by the methods here only."""
        return self._kept.get(key) or Kept()

    def made(self, key: str, container: str, asked: dict[str, Any]) -> None:
        """A container was made for the commands of a session."""
        kept = self._kept.setdefault(key, Kept())
        kept.container, kept.asked = container, asked

    def add(self, key: str, done: Done) -> None:
        done.stdout, done.stderr = shortened(done.stdout), shortened(done.stderr)
        kept = self._kept.pop(key, None) or Kept()
        self._kept[key] = kept  # the newest session last
        kept.commands = [*kept.commands, done][-COMMANDS:]
        self._write()

    def told(self, key: str, commands: list[Done]) -> None:
        """The model was told of these."""
        if commands and key in self._kept:
            kept = self._kept[key]
            kept.commands = [done for done in kept.commands if not any(done is other for other in commands)]
            self._write()

    def move(self, before: str, key: str) -> None:
        if before in self._kept:
            self._kept[key] = self._kept.pop(before)
            self._write()

    def forget(self, key: str) -> None:
        if self._kept.pop(key, None) is not None:
            self._write()

    def _read(self) -> dict[str, Kept]:
        found: dict[str, Kept] = {}
        try:
            known = json.loads(self._path.read_text("utf-8")) if self._path is not None else {}
            for key, kept in known.items():
                commands = [Done(**done) for done in kept["commands"]]
                found[str(key)] = Kept(commands, str(kept["container"]), dict(kept["asked"]))
        except (OSError, ValueError, AttributeError, TypeError, KeyError):
            pass
        return found

    def _write(self) -> None:
        if self._path is None:
            return
        kept = [(key, kept) for key, kept in self._kept.items() if kept.commands][-MOST:]
        # What reaches the network may hold secrets: of such a container it is forgotten what it was asked to be.
        known = {key: {**asdict(kept), "asked": without_network(kept.asked)} for key, kept in kept}
        try:
            private.folder(self._path.parent)
            partial = self._path.with_suffix(".part")
            private.file(partial)
            partial.write_text(json.dumps(known), "utf-8")
            os.replace(partial, self._path)
        except OSError:
            pass


def without_network(asked: dict[str, Any]) -> dict[str, Any]:
    return asked if asked.keys() <= {"type", "skills"} else {}


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}\n[…]\n{text[-LONGEST // 2 :]}"

"""The commands that a skill's instructions show, and what a small model's next turn is to be.

A model that calls the shell by a block of commands (`engine/chat/styles.py`) is helped on twice:

- a run that was asked for begins inside its block, with what all commands of the instructions begin with: of
  `python3 /mnt/skills/x/scripts/a.py <file>` all but the file, and the file too where there is one only;
- when the skill's scripts have run on all files, or the model only repeats itself, what is left is to answer: that
  turn has no block, and reads what was printed last. With a sentence behind it, Qwen2.5-Coder-0.5B gave 4 right answers
  of 15, most of them that sentence again; with the sentence before it 15.

After a command that failed the turn is the model's: begun for it, Qwen2.5-Coder-0.5B ran the very same again.
Steps that are numbered are gone through in their order. All of it is taken from the instructions alone; what else is
in a block (setting up, changing folders) is no command here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from skilldeck_daemon.agent.skill_paths import FOLDER
from skilldeck_daemon.wire.item_kinds import Item

_BLOCK = re.compile(r"^[ \t]*```[ \t]*(?:bash|sh|shell|console|zsh)\b[^\n]*\n(?P<body>.*?)^[ \t]*```", re.M | re.S)
_INLINE = re.compile(rf"`((?:[\w.+-]+ )?(?=[^`\n]*{re.escape(FOLDER)}/)[^`\n]+)`")
_SETTING_UP = re.compile(r"(?:sudo |uv )?(?:pip3?|npm|npx|apt|apt-get|brew|git|cd|export|mkdir|chmod|source)\b")
_PLACEHOLDER = re.compile(r"[<{\[$]|\b[A-Z][A-Z_]+\b")
_FILE_PLACE = re.compile(
    r"<(?!out)(?:[\w -]+ )?(?:input[ _-]?)?(?:file|path|input|document)(?:[ _-](?:name|path))?>"
    r"|<(?!out)[\w-]+\.\w{1,5}>|\{(?:input_?)?(?:file|path|input)\}|\b(?:INPUT_FILE|FILE|INPUT)\b"
)
_OWN = re.compile(rf"{re.escape(FOLDER)}/[^\s\"'`;|&<>]+")
_NUMBERED = re.compile(r"^[ \t#*]*(?:step )?\d[.):]", re.M | re.I)
RAN = "The command ran well. Answer with what it printed:"
FAILED = "Answer with what the command printed:"
FAILURES = 3
"""Commands that fail one after the other before the model is to answer with what it has."""


class Ran(NamedTuple):
    """A command of this run, and whether it ended well."""

    command: str
    well: bool


class NextTurn(NamedTuple):
    """begin: the turn is a block of commands that begins so; None: the model's choice. like: first words of commands
    that may follow in the block, none: any. answer: how the turn is asked for, which is words and not a block; ""."""

    begin: str | None = None
    like: tuple[str, ...] = ()
    answer: str = ""


def commands_ran(output: Sequence[Item]) -> list[Ran]:
    """The shell's commands of a run, one for each call."""
    calls = {item["call_id"]: item for item in output if item.get("type") == "shell_call"}
    ran = []
    for item in output:
        if item.get("type") == "shell_call_output" and item["call_id"] in calls:
            entries = item["output"]
            command = "\n".join(calls[item["call_id"]]["action"]["commands"])
            ran.append(Ran(command, all(entry["outcome"].get("exit_code") == 0 for entry in entries)))
    return ran


def filled(instructions: str, path: str) -> str:
    """With the path in the commands that have one place to fill in, which is for a file: SmolLM2-135M copies `<file>`
    as it stands. With more places Qwen2.5-Coder-0.5B copies the others when one of them is filled."""

    def fill(line: str) -> str:
        shown = _FILE_PLACE.sub(lambda _: shlex.quote(path), line, count=1)
        return line if re.search(r"<\w[^<>]*>|\{\w+\}", shown) else shown

    return _BLOCK.sub(lambda block: "\n".join(map(fill, block[0].split("\n"))), instructions)


@dataclass(frozen=True)
class SkillCommands:
    """The command lines of the instructions, those of the skill's own scripts where there are any."""

    lines: tuple[str, ...] = ()
    steps: bool = False

    @classmethod
    def of(cls, instructions: str) -> SkillCommands:
        lines: list[str] = []
        for block in _BLOCK.finditer(instructions):
            body = re.sub(r"[ \t]*\\\n[ \t]*", " ", block["body"])
            written = (line.strip().removeprefix("$ ") for line in body.split("\n"))
            lines += [line for line in written if line and line[0] != "#" and not _SETTING_UP.match(line)]
        own = [line for line in lines if _OWN.search(line)]
        own = own or [line for line in _INLINE.findall(_BLOCK.sub("", instructions)) if " " in line]
        return cls(tuple(dict.fromkeys(own or lines)), len(_NUMBERED.findall(instructions)) >= len(own) > 1)

    def beginning(self, ran: Sequence[Ran] = ()) -> str:
        """What all of them begin with, in whole words or folders, up to what is to be filled in; of steps the next."""
        done = "\n".join(one.command for one in ran if one.well)
        left = [line for line in self.lines if not all(path in done for path in _OWN.findall(line))]
        shared = left[0] if self.steps and left else _shared(self.lines)
        place = _PLACEHOLDER.search(shared)
        if shared not in self.lines or place:
            shared = shared[: place.start()] if place else shared
            shared = shared[: max(shared.rfind(" "), shared.rfind("/")) + 1]
        return shared.rstrip(" -\"'")

    @property
    def first_words(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(line.split()[0] for line in self.lines))

    @property
    def scripts(self) -> frozenset[str]:
        """The skill's own files that they name."""
        return frozenset(path for line in self.lines for path in _OWN.findall(line))

    def next_turn(self, ran: Sequence[Ran], files: Collection[str], asked: bool) -> NextTurn:
        """After the commands of this run. `files`: names of those that the request brought; `asked`: for a run."""
        if not ran:
            return self._begun(ran) if asked else NextTurn()
        same = len(ran) > 1 and " ".join(ran[-1].command.split()) == " ".join(ran[-2].command.split())
        failing = len(ran) >= FAILURES and not any(one.well for one in ran[-FAILURES:])
        well = "\n".join(one.command for one in ran if one.well)
        seen = all(path in well for path in self.scripts)
        if same or failing or (self.scripts and ran[-1].well and seen and all(name in well for name in files)):
            return NextTurn(answer=RAN if ran[-1].well else FAILED)
        next_step = self.steps and ran[-1].well and not seen
        return self._begun(ran) if asked and next_step else NextTurn()

    def _begun(self, ran: Sequence[Ran]) -> NextTurn:
        begin = self.beginning(ran)
        return NextTurn(begin, self.first_words if begin else ())


def _shared(lines: Sequence[str]) -> str:
    """The characters that all of them begin with."""
    first, last = min(lines, default=""), max(lines, default="")
    return first[: next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]

"""The commands that a skill's instructions show, and what a small model's next turn is to be.

A model that calls the shell by a block of commands (`engine/chat/styles.py`) is helped on twice:

- a run that was asked for begins inside its block, with what all commands of the instructions begin with: of
  `python3 /mnt/skills/x/scripts/a.py <file>` all but the file, and the file too where there is one only;
- when the skill's scripts have run on all files, or the model only repeats itself, what is left is to answer: that
  turn has no block, and reads what was printed last. With a sentence behind it, Qwen2.5-Coder-0.5B gave 4 right answers
  of 15, most of them that sentence again; with the sentence before it 15.

After a command that failed the next one is begun where the error says what to change (`retries.py`); begun as the first
was, Qwen2.5-Coder-0.5B ran the very same again. An answer that begins to repeat what was printed goes on to its end:
small models stop behind the first line of a list. Steps that are numbered are gone through in their order. All of it
is taken from the instructions alone; what else is in a block (setting up, changing folders) is no command here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from skilldeck_daemon.agent.guidance.retries import ON, retry
from skilldeck_daemon.agent.guidance.skill_options import Option
from skilldeck_daemon.agent.guidance.skill_paths import FOLDER
from skilldeck_daemon.engine.grammar.text import pattern
from skilldeck_daemon.wire.item_kinds import CALLS, OUTPUTS, Item, call_key

_BLOCK = re.compile(r"^[ \t]*```[ \t]*(?:bash|sh|shell|console|zsh)\b[^\n]*\n(?P<body>.*?)^[ \t]*```", re.M | re.S)
_INLINE = re.compile(rf"`((?:[\w.+-]+ )?(?=[^`\n]*{re.escape(FOLDER)}/)[^`\n]+)`")
_SETTING_UP = re.compile(r"(?:sudo |uv )?(?:pip3?|npm|npx|apt|apt-get|brew|git|cd|export|mkdir|chmod|source)\b")
_PLACEHOLDER = re.compile(r"[<{\[$]|\b[A-Z][A-Z_]+\b")
_FILE_PLACE = re.compile(
    r"<(?!out)(?:[\w -]+ )?(?:input[ _-]?)?(?:file|path|input|document)(?:[ _-](?:name|path))?>"
    r"|<(?!out)[\w-]+\.\w{1,5}>|\{(?:input_?)?(?:file|path|input)\}|\b(?:INPUT_FILE|FILE|INPUT)\b"
)
_PLACE = re.compile(r"<\w[^<>]*>|\{\w+\}|\b(?:INPUT_FILE|FILE|INPUT)\b")
_NO_FILE = re.compile(
    r"\b(?:number|amount|count|name|title|phrase|words?|term|query|url|date|time|unit|colou?r|many|text|out\w*|n|id|from"
    r"|to|rate|years?|days?|size|value|key|language|people|persons?|guests?|seats?|levels?|width|height)\b",
    re.I,
)
_OWN = re.compile(rf"{re.escape(FOLDER)}/[^\s\"'`;|&<>]+")
_NUMBERED = re.compile(r"^[ \t#*]*(?:step )?\d[.):]", re.M | re.I)
RAN = "The command ran well. Answer with what it printed:"
FAILED = "Answer with what the command printed:"
LINES, CHARACTERS, LINE = 30, 1500, 100
"""Of an output that an answer may repeat wholly."""
FILLED_IN = r"/(.|\n)*/ & ~/(.|\n)* <(.|\n)*/"
"""A command without `<file>`: one that is begun is meant to be run."""
FAILURES = 3
"""Commands that fail one after the other before the model is to answer with what it has."""


Part = Literal["commands", "retries", "answers"]
PARTS: frozenset[Part] = frozenset(get_args(Part))
"""What of a small model's turns is chosen for it: the commands of a skill, those after one that failed, answers."""


class Ran(NamedTuple):
    """A command of this run, whether it ended well, and what it printed."""

    command: str
    well: bool
    printed: str = ""


class NextTurn(NamedTuple):
    """begin: the turn is a block of commands that begins so; None: the model's choice. like: first words of commands
    that may follow in the block, none: any. answer: how the turn is asked for, which is words and not a block; "".
    held: all that the model writes in it, as a terminal of a grammar; "": anything."""

    begin: str | None = None
    like: tuple[str, ...] = ()
    answer: str = ""
    held: str = ""

    def part(self, ran: Sequence[Ran]) -> Part:
        """Which part of the help it is, after these commands."""
        if self.answer or (self.held and self.begin is None):
            return "answers"
        return "retries" if ran and not ran[-1].well else "commands"


def commands_ran(output: Sequence[Item]) -> list[Ran]:
    """The shell's commands of a run, one for each call."""
    calls: dict[str, str] = {}
    ran = []
    for item in output:
        kind = item.get("type", "")
        if kind in CALLS and (commands := CALLS[kind].commands(item)):
            calls[call_key(item)] = "\n".join(commands)
        elif kind in OUTPUTS and item["call_id"] in calls:
            ran.append(Ran(calls[item["call_id"]], OUTPUTS[kind].well(item), OUTPUTS[kind].printed(item)))
    return ran


def filled(instructions: str, path: str) -> str:
    """With the path in the commands that have one place to fill in, which is for a file: SmolLM2-135M copies `<file>`
    as it stands. With more places Qwen2.5-Coder-0.5B copies the others when one of them is filled."""

    def fill(line: str) -> str:
        place = _file_place(line)
        if place is None or len(_PLACE.findall(line)) > 1:
            return line
        return _filled_in(line, place, path) + line[place[1] :]

    return _BLOCK.sub(lambda block: "\n".join(map(fill, block[0].split("\n"))), instructions)


def _file_place(line: str) -> tuple[int, int] | None:
    """Where in a command the only file goes: the one place that is called like a file, or that alone is not called like
    something else."""
    named = [match.span() for match in _FILE_PLACE.finditer(line)]
    other = [match.span() for match in _PLACE.finditer(line) if not _NO_FILE.search(match[0])]
    found = named or other
    return found[0] if len(found) == 1 else None


def _filled_in(line: str, place: tuple[int, int], path: str) -> str:
    """The line up to the end of the path that stands in its place."""
    quoted = line[: place[0]].endswith(("'", '"'))
    return line[: place[0]] + (path if quoted else shlex.quote(path))


@dataclass(frozen=True)
class SkillCommands:
    """The command lines of the instructions, those of the skill's own scripts where there are any. Of the request they
    are for: `options` are those it asks for, `file` is the path of the only one it brings, `question` whether it asks
    something, so that a part of what is printed may be the answer."""

    lines: tuple[str, ...] = ()
    steps: bool = False
    text: str = ""
    options: tuple[Option, ...] = ()
    file: str = ""
    question: bool = True

    @classmethod
    def of(
        cls, instructions: str, options: Iterable[Option] = (), file: str = "", question: bool = True
    ) -> SkillCommands:
        lines: list[str] = []
        for block in _BLOCK.finditer(instructions):
            body = re.sub(r"[ \t]*\\\n[ \t]*", " ", block["body"])
            written = (line.strip().removeprefix("$ ") for line in body.split("\n"))
            lines += [line for line in written if line and line[0] != "#" and not _SETTING_UP.match(line)]
        own = [line for line in lines if _OWN.search(line)]
        own = own or [line for line in _INLINE.findall(_BLOCK.sub("", instructions)) if " " in line]
        steps = len(_NUMBERED.findall(instructions)) >= len(own) > 1
        return cls(tuple(dict.fromkeys(own or lines)), steps, instructions, tuple(options), file, question)

    def beginning(self, ran: Sequence[Ran] = ()) -> str:
        """What all of them begin with, in whole words or folders, up to what is to be filled in; of steps the next."""
        done = "\n".join(one.command for one in ran if one.well)
        left = [line for line in self.lines if not all(path in done for path in _OWN.findall(line))]
        shared = left[0] if self.steps and left else _shared(self.lines)
        place = _PLACEHOLDER.search(shared)
        if shared in self.lines and not place:
            return " ".join([shared, *(option.name for option in self.options)])
        for_file = _file_place(shared) if self.file and shared in self.lines else None
        if place and for_file and for_file[0] == place.start():
            return _filled_in(shared, for_file, self.file)
        shared = shared[: place.start()] if place else shared
        whole = shared[: max(shared.rfind(" "), shared.rfind("/")) + 1]
        quote = shared[len(whole) :] if shared[len(whole) :] in ("'", '"') else ""  # what is filled in stands in quotes
        return f"{whole}{quote}" if quote else whole.rstrip(" -\"'")

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
            if not ran[-1].well:
                return NextTurn(answer=FAILED)
            return NextTurn(answer=RAN, held=wholly(ran[-1].printed, self.question))
        if not ran[-1].well:
            return self._once_more(ran[-1])
        return self._begun(ran) if asked and self.steps and not seen else NextTurn()

    def _begun(self, ran: Sequence[Ran]) -> NextTurn:
        begin = self.beginning(ran)
        goes_on = not ran and self.options and self.options[-1].value and begin.endswith(self.options[-1].name)
        filled_in = "" if any(" <" in _PLACE.sub("", line) for line in self.lines) else FILLED_IN
        held = " & ".join(filter(None, (ON if goes_on else "", filled_in)))
        return NextTurn(begin, self.first_words if begin else (), held=held)

    def _once_more(self, failed: Ran) -> NextTurn:
        script = next((path for path in _OWN.findall(failed.command) if path in self.scripts), "")
        found = retry(failed.command.strip(), script, failed.printed, self.text, self.file) if script else None
        return NextTurn() if found is None else NextTurn(found.begin, self.first_words, held=found.held)


def wholly(printed: str, question: bool) -> str:
    """What an answer may be: of a short output all of it first, where nothing was asked but to run the skill, or where
    it is one line; to a question not only its first lines. As a terminal of a grammar; "" for a long output."""
    lines = [re.escape(line.strip()) for line in printed.splitlines() if line.strip()]
    if not lines or len(lines) > LINES or len(printed) > CHARACTERS:
        return ""
    if not question or len(lines) == 1:
        whole = r"[ \t]*\n[ \t\n]*([-*] )?".join(lines)
        return pattern(rf"[ \t]*([-*] )?{whole}(.|\n)*") if len(lines) > 1 or len(printed) <= LINE else ""
    begun = ""
    for line in reversed(lines[:-1]):
        begun = rf"[ \t]*([-*] )?{line}[ \t]*(\n[ \t\n]*({begun})?)?"
    return rf"/(.|\n)+/ & ~{pattern(begun)}"


def _shared(lines: Sequence[str]) -> str:
    """The characters that all of them begin with."""
    first, last = min(lines, default=""), max(lines, default="")
    return first[: next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]

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
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal, NamedTuple, get_args

from skilldeck_daemon.agent.guidance.file_places import PLACE, file_place, filled_in
from skilldeck_daemon.agent.guidance.retries import ON, retry
from skilldeck_daemon.agent.guidance.shown_code import COMMANDS, OWN, Language, Piece, alike, pieces
from skilldeck_daemon.agent.guidance.skill_options import Option
from skilldeck_daemon.agent.guidance.skill_paths import FOLDER
from skilldeck_daemon.engine.grammar.text import pattern
from skilldeck_daemon.wire.item_kinds import CALLS, OUTPUTS, Item, call_key

_INLINE = re.compile(rf"`((?:[\w.+-]+ )?(?=[^`\n]*{re.escape(FOLDER)}/)[^`\n]+)`")
_PLACEHOLDER = re.compile(
    r"[<{\[$]|\b[A-Z][A-Z_]+\b|(?<=\s)v?\d[\w.,%]*(?=\s|$)|(?<=\s[\"'])[^\"'<{/][^\"']*(?=[\"'](?:\s|$))"
)
"""What is filled in, values that stand for the user's (`--rate 0.19`) among it."""
_NUMBER = re.compile(r"(?:^|\s)[#*]*(step )?(\d)(?:[.):]|[ \t]+[—–-])", re.IGNORECASE)
_FILE = re.compile(r"<[^<>]+>|\{\w+\}|(?<![\w.-])[\w./-]*[\w-]\.[a-z]\w{1,4}\b", re.IGNORECASE)
_IMPORT = re.compile(
    r"^(?:import [\w., ]+|from [\w.]+ import [\w*, ]+|const (?:\w+|\{[^{}=]+\}) = require\([\"'][^\"'\n]+[\"']\);?)$",
    re.MULTILINE,
)
IMPORTS, OPENING = 5, 8  # lines
PROGRAMS: dict[Language, str] = {"python": "python3 - <<'EOF'\n", "node": "node - <<'EOF'\n"}
"""How a program of the model's own begins, by its language."""
ANSWER = "Answer with what the command printed:"
"""Behind "The command ran well." Qwen2.5-Coder-1.5B said of an invoice, with two problems printed, that it adds up."""
CANNOT = "The command cannot run here. Tell the user why, and what they can do about it:"
LINES, CHARACTERS, LINE = 30, 1500, 100
"""Of an output that an answer may repeat wholly."""
_LACKING = re.compile(r"ModuleNotFoundError|No module named|Cannot find (?:module|package) '[^./]")
"""A package that is not in the sandbox, where the model cannot bring it."""
FILLED_IN = r"/(.|\n)*/ & ~/(.|\n)* <(.|\n)*/"
"""A command without `<file>`: one that is begun is meant to be run."""
SAME = 400  # characters by which a program that failed is known
CODE = pattern(r"[ \t\n]*[^ \t\n`#](.|\n)*")
"""A program that goes on: SmolLM2-135M closed the block behind the comment that says what it is for."""
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


@dataclass(frozen=True)
class SkillCommands:
    """The command lines of the instructions, those of the skill's own scripts where there are any; of several scripts
    those of the one that the request is most like. Of the request they are for: `options` are those it asks for,
    `file` is the path of the only one it brings, `question` whether it asks something, so that a part of what is
    printed may be the answer. `program`: how one begins that the model is to write, where the instructions show code
    and no command that the request is more like; "". `fits`: the request is like something that they show; `meant`:
    what that is, as it stands there."""

    lines: tuple[str, ...] = ()
    steps: bool = False
    text: str = ""
    options: tuple[Option, ...] = ()
    file: str = ""
    question: bool = True
    program: str = ""
    fits: bool = True
    meant: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        instructions: str,
        options: Iterable[Option] = (),
        file: str = "",
        question: bool = True,
        said: str = "",
    ) -> SkillCommands:
        """`said`: the request, without the names of files."""
        found = pieces(instructions)
        shown = [piece for piece in found if piece.language == "bash"]
        programs = [piece for piece in found if piece.language != "bash"]
        own = [piece for piece in shown if piece.runs] if any(piece.own for piece in shown) else []
        inline = [Piece("bash", line) for line in _INLINE.findall(COMMANDS.sub("", instructions)) if " " in line]
        lines = own or inline or ([] if programs else shown)
        likes = alike([*lines, *programs], said)
        # What works on a file of its kind fits, whatever is said; of two such the words say which.
        ranks = [
            like + (0.01 if file and file in one.code else 0)
            for one, like in zip([*lines, *programs], likes, strict=True)
        ]
        begin, best = "", max(ranks[len(lines) :], default=0.0)
        meant: list[Piece] = []
        if best > max(ranks[: len(lines)], default=0.0):
            meant = [one for one, rank in zip(programs, ranks[len(lines) :], strict=True) if rank == best]
            # A piece without imports goes on from those before it.
            language = meant[0].language
            imports = [_imports(one) for one in (meant[0], *programs) if one.language == language]
            begin = PROGRAMS[language] + next(filter(None, imports), "") + _opening(meant[0], file)
        steps = _in_steps(own, file)
        if not steps:
            lines = _chosen(lines, likes, file, bool(re.search(r"\d", said)))
        plain = tuple(dict.fromkeys(piece.code for piece in lines))
        fits = max(likes, default=0.0) > 0
        # Of two programs Qwen2.5-Coder-0.5B writes off the last that it is shown, whatever is asked.
        codes = tuple(piece.code for piece in meant[:1]) or tuple(" ".join(line.split()[:2]) for line in plain)
        return cls(plain, steps, instructions, tuple(options), file, question, begin, fits, codes)

    def beginning(self, ran: Sequence[Ran] = ()) -> str:
        """What all of them begin with, in whole words or folders, up to what is to be filled in; of steps the next."""
        if self.program:
            return self.program
        done = "\n".join(one.command for one in ran if one.well)
        left = [line for line in self.lines if not all(path in done for path in OWN.findall(line))]
        shared = left[0] if self.steps and left else _shared(self.lines)
        place = _PLACEHOLDER.search(shared)
        if shared in self.lines and not place:
            return " ".join([shared, *(option.name for option in self.options)])
        for_file = file_place(shared) if self.file and shared in self.lines else None
        if place and for_file and for_file[0] == place.start():
            return filled_in(shared, for_file, self.file)
        shared = shared[: place.start()] if place else shared
        whole = shared[: max(shared.rfind(" "), shared.rfind("/")) + 1]
        quote = shared[len(whole) :] if shared[len(whole) :] in ("'", '"') else ""  # what is filled in stands in quotes
        return f"{whole}{quote}" if quote else whole.rstrip(" -\"'")

    @property
    def first_words(self) -> tuple[str, ...]:
        return () if self.program else tuple(dict.fromkeys(line.split()[0] for line in self.lines))

    @property
    def scripts(self) -> frozenset[str]:
        """The skill's own files that they name."""
        return frozenset(path for line in self.lines for path in OWN.findall(line))

    def next_turn(self, ran: Sequence[Ran], files: Collection[str], asked: bool) -> NextTurn:
        """After the commands of this run. `files`: names of those that the request brought; `asked`: for a run."""
        if not ran:
            return self._begun(ran) if asked else NextTurn()
        same = len(ran) > 1 and " ".join(ran[-1].command.split()) == " ".join(ran[-2].command.split())
        failing = len(ran) >= FAILURES and not any(one.well for one in ran[-FAILURES:])
        lacking = [one for one in ran if not one.well and _LACKING.search(one.printed)]
        if len(lacking) > (1 if self.program else 0) and not ran[-1].well:
            return NextTurn(answer=CANNOT)  # a program may do with another library, a script of the skill not
        if same or failing or self._done(ran, files):
            return NextTurn(answer=ANSWER, held=wholly(ran[-1].printed, self.question) if ran[-1].well else "")
        if not ran[-1].well or self._silent(ran):
            return self._once_more(ran[-1], asked)
        return self._begun(ran) if asked and self.steps and not self.program else NextTurn()

    def _done(self, ran: Sequence[Ran], files: Collection[str]) -> bool:
        """Whether what the request needs has run: of steps all, else one of the scripts, on all files; a program."""
        if not ran[-1].well:
            return False
        if self.program:
            return not self._silent(ran)
        well = "\n".join(one.command for one in ran if one.well)
        seen = [path in well for path in self.scripts]
        return bool(seen) and (all(seen) if self.steps else any(seen)) and all(name in well for name in files)

    def _silent(self, ran: Sequence[Ran]) -> bool:
        """Whether a program for a question has printed nothing, the first time."""
        return bool(self.program) and self.question and len(ran) == 1 and not ran[0].printed.strip()

    def _begun(self, ran: Sequence[Ran]) -> NextTurn:
        begin = self.beginning(ran)
        if self.program:
            return NextTurn(begin, held=CODE)
        goes_on = not ran and self.options and self.options[-1].value and begin.endswith(self.options[-1].name)
        filled_in = "" if any(" <" in PLACE.sub("", line) for line in self.lines) else FILLED_IN
        held = " & ".join(filter(None, (ON if goes_on else "", filled_in)))
        return NextTurn(begin, self.first_words if begin else (), held=held)

    def _written_anew(self, failed: Ran) -> NextTurn:
        """The program once more, and not as it was; without its imports where one of them failed."""
        body = failed.command.strip().removeprefix(self.program.strip()).strip()
        written = r"\n".join(map(re.escape, body[:SAME].split("\n")))
        same = pattern(rf"[ \n]*{written}(.|\n)*") if body else ""
        begin = self.program.partition("\n")[0] + "\n" if _LACKING.search(failed.printed) else self.program
        return NextTurn(begin, held=f"{CODE} & ~{same}" if same else CODE)

    def _once_more(self, failed: Ran, asked: bool) -> NextTurn:
        if self.program:
            return self._written_anew(failed) if asked else NextTurn()
        script = next((path for path in OWN.findall(failed.command) if path in self.scripts), "")
        found = retry(failed.command.strip(), script, failed.printed, self.text, self.file) if script else None
        return NextTurn() if found is None else NextTurn(found.begin, self.first_words, held=found.held)


def _imports(piece: Piece) -> str:
    """What a program begins with: the imports of the one that is shown."""
    found = [match[0] for match in _IMPORT.finditer(piece.code)]
    return "".join(f"{line.strip()}\n" for line in found[:IMPORTS])


def _opening(piece: Piece, file: str) -> str:
    """How the program that is shown opens the user's file: its line, with what is indented below; "" where it does not.
    Behind its imports alone Qwen2.5-Coder-0.5B went on with what is done to the rows, and read none."""
    lines = piece.code.split("\n")
    at = next((number for number, line in enumerate(lines) if file and file in line), len(lines))
    below = takewhile(lambda line: line.startswith((" ", "\t")), lines[at + 1 :])
    found = [*lines[at : at + 1], *(below if at < len(lines) and lines[at].rstrip().endswith((":", "{")) else ())]
    plain = lines[at : at + 1] and not lines[at].startswith((" ", "\t", "#", "/")) and len(found) <= OPENING
    return "".join(f"{line.rstrip()}\n" for line in found) if plain else ""


def _in_steps(own: Sequence[Piece], file: str) -> bool:
    """Whether several commands are one after the other: each stands below a number of its own, which is called a step,
    or one reads what the one before it wrote. `### 2. The other tool` is none."""
    said = [_NUMBER.findall(piece.about) for piece in own]
    numbers = [int(found[-1][1]) if found else 0 for found in said]
    if len(set(numbers)) < 2 or not all(numbers) or numbers != sorted(numbers):
        return False
    files = [_FILE.findall(OWN.sub("", piece.code)) for piece in own]
    written = [set(names[1:]) - {file} for names in files]  # what a command takes first it reads
    following = [at for at in range(1, len(own)) if numbers[at] != numbers[at - 1]]
    chained = all(set(files[at]) & written[at - 1] for at in following)
    return chained or all(found[-1][0] for found in said)


def _chosen(lines: Sequence[Piece], likes: Sequence[float], file: str, figures: bool) -> list[Piece]:
    """The commands of the one script that the request is most like, those with its file where there are any; all of
    them where no script is more like it than another. `figures`: the request has some, which a command is to take."""
    having = [number for number, piece in enumerate(lines) if file and file in piece.code]
    left = having or list(range(len(lines)))
    best: dict[tuple[str, ...], float] = {}
    for number in left:
        script = tuple(OWN.findall(lines[number].code)[:1])
        best[script] = max(best.get(script, 0.0), likes[number])
    most = max(best.values(), default=0.0)
    wanted = [script for script, like in best.items() if like == most]
    if most and len(wanted) == 1:
        left = [number for number in left if tuple(OWN.findall(lines[number].code)[:1]) == wanted[0]]
    taking = [number for number in left if _PLACEHOLDER.search(lines[number].code)] if figures and not file else []
    return [lines[number] for number in taking or left]


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

"""What a run did with its skills: which of their files its commands read, which of their programs they ran. Pure.

Read from the commands as they were written, without a shell: a path is known when it is written out below the folder
where skills lie, or below the folder that a `cd` of the same command went to. What a program reads by itself is not
seen. The exit code is that of the whole command; where several programs were run by one, it is shown at the last.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from skilldeck_tui.skill_tests.checking.ran import with_results

Object = dict[str, Any]
Kind = Literal["read", "ran", "listed", "used"]

MOUNTS = "/mnt/skills/"
READERS = frozenset(
    ("cat", "head", "tail", "sed", "grep", "rg", "egrep", "awk", "less", "more", "nl", "bat", "wc", "view")
)
LISTERS = frozenset(("ls", "find", "tree", "stat", "file", "du"))
RUNNERS = frozenset(
    ("python", "python3", "bash", "sh", "zsh", "node", "ruby", "perl", "deno", "bun", "tsx", "php", "Rscript")
)
BEFORE = frozenset(
    ("sudo", "env", "time", "timeout", "nohup", "exec", "command", "uv", "npx", "run", "then", "do", "else", "!")
)
"""Words that may stand before the program."""
_ENDS = re.compile(r"^[;&|()\n]+$")
_NUMBERED = re.compile(r"(?<=\s)\d+(?=[<>])")  # the 2 of "2>"
_REDIRECTS = re.compile(r"^&?[<>]+&?$")
_ASSIGNED = re.compile(r"^\w+=")
_PATHS = re.compile(rf"{re.escape(MOUNTS)}[\w./-]+")
_RANGE = re.compile(r"^(\d+)(?:,(\d+|\$))?p$")


@dataclass(frozen=True)
class Step:
    """`path` is within the skill; `detail` says which lines, or with which arguments; `code` is an exit code,
    "timeout", or None where it is not known."""

    kind: Kind
    path: str
    detail: str = ""
    code: int | str | None = None


@dataclass
class Use:
    """One skill in one run. `opened`: its instructions were put before the model, since the user's words mean it."""

    name: str
    opened: bool = False
    steps: list[Step] = field(default_factory=list)

    def of(self, *kinds: Kind) -> list[Step]:
        return [step for step in self.steps if step.kind in kinds]


def uses(output: Sequence[Object], opened: Iterable[str] = ()) -> list[Use]:
    """The skills that the items of a run say were touched, in the order they were."""
    found = {name: Use(name, True) for name in opened}
    for name, step in _steps(output):
        found.setdefault(name, Use(name)).steps.append(step)
    return list(found.values())


def _steps(output: Sequence[Object]) -> Iterator[tuple[str, Step]]:
    for item, commands in with_results(output):
        for command, result in commands:
            yield from of_command(command, result)
        if item.get("type") == "code_interpreter_call":
            for path in dict.fromkeys(_PATHS.findall(str(item.get("code") or ""))):
                if (place := _place(path)) is not None:
                    yield place[0], Step("used", place[1], "in Python")


def of_command(command: str, result: Object) -> list[tuple[str, Step]]:
    """What one command did; `result` is its entry of the call's output."""
    outcome = result.get("outcome") or {}
    code = "timeout" if outcome.get("type") == "timeout" else outcome.get("exit_code")
    folder, found = "", list[tuple[str, Step]]()
    parts = list(_parts(command))
    for words in parts:
        if words[0] == "cd":
            folder = posixpath.normpath(posixpath.join(folder, words[1])) if len(words) > 1 else ""
            continue
        found += _part(words, folder)
    ran = [at for at, (_, step) in enumerate(found) if step.kind == "ran"]
    for at in ran:
        name, step = found[at]
        if code == 0 or at == ran[-1]:
            found[at] = name, Step("ran", step.path, step.detail, code)
    if len(parts) == 1 and len(found) == 1 and found[0][1].detail == WHOLE and code == 0:
        name, step = found[0]
        lines = str(result.get("stdout") or "").rstrip("\n").count("\n") + 1
        found[0] = name, Step("read", step.path, f"all {lines:,} lines")
    return found


WHOLE = "all of it"


def _parts(command: str) -> Iterator[list[str]]:
    """The simple commands of a line of shell, each as its program and words."""
    command = _NUMBERED.sub("", command)
    lexer = shlex.shlex(command.replace("\\\n", " ").replace("\n", " ; "), posix=True, punctuation_chars=";&|()<>")
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        redirected = False
        for token in lexer:
            if _REDIRECTS.match(token):
                redirected = True
                continue
            if redirected:  # where it goes, or comes from
                redirected = False
                continue
            if _ENDS.match(token):
                if words:
                    yield words
                words = []
            elif words or not (token in BEFORE or _ASSIGNED.match(token) or token.isdigit()):
                words.append(token)
    except ValueError:  # a quotation that does not end
        pass
    if words:
        yield words


def _part(words: list[str], folder: str) -> list[tuple[str, Step]]:
    program = posixpath.basename(words[0])
    places = [(at, place) for at, word in enumerate(words) if (place := _place(word, folder)) is not None]
    if not places:
        return []
    first, (name, path) = places[0]
    if first == 0 or (program in RUNNERS and all(word.startswith("-") for word in words[1:first])):
        arguments = " ".join(words[first + 1 :])
        rest = [(other, Step("used", inner)) for at, (other, inner) in places[1:] if words[at].startswith("/")]
        return [(name, Step("ran", path, arguments)), *rest]
    kind: Kind = "read" if program in READERS else "listed" if program in LISTERS else "used"
    detail = _lines(program, words[1:]) if kind == "read" else "" if kind == "listed" else program
    return [(name, Step(kind, path, detail)) for _, (name, path) in places]


def _place(word: str, folder: str = "") -> tuple[str, str] | None:
    """The skill and the path within it that a word names."""
    whole = (
        word if word.startswith("/") else posixpath.join(folder, word) if folder and not word.startswith("-") else ""
    )
    if not whole.startswith(MOUNTS) and not (folder + "/").startswith(MOUNTS):
        return None
    path = posixpath.normpath(whole)
    if not path.startswith(MOUNTS):
        return None
    name, _, inner = path.removeprefix(MOUNTS).partition("/")
    # Below a folder any word could be a path: one that looks like a name of a file is meant.
    looks = word.startswith("/") or "/" in word or "." in posixpath.basename(word)
    return (name, inner or ".") if name and looks else None


def _lines(program: str, words: list[str]) -> str:
    """Which lines a reader shows."""
    plain = [word for word in words if not word.startswith("-")]
    numbers = re.findall(r"(?:^| )-(?:n ?|c ?)?(\d+)(?: |$)", " ".join(words))
    match program:
        case "cat" | "less" | "more" | "nl" | "bat" | "view":
            return WHOLE
        case "head":
            return f"lines 1–{numbers[0] if numbers else 10}"
        case "tail":
            return f"the last {numbers[0] if numbers else 10} lines"
        case "sed" if plain and (found := _RANGE.match(plain[0])):
            return f"lines {found[1]}–{'end' if found[2] == '$' else found[2]}" if found[2] else f"line {found[1]}"
        case "grep" | "rg" | "egrep" if plain:
            return f"lines with {plain[0]}"
        case "wc":
            return "counted"
    return program

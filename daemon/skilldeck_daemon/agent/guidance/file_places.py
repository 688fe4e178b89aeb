"""Where in the commands and programs of a skill's instructions the user's file goes, and they with it in its place.

A place is written `<file>`, or as a file that is not there: `report.py data.csv` means the user's table. SmolLM2-135M
copies `<file>` as it stands, and Qwen2.5-Coder-0.5B opened `document.pdf`. With more places than one Qwen2.5-Coder-0.5B
copies the others when one of them is filled, so a line with several stays as it is.
"""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath

from skilldeck_daemon.agent.guidance.shown_code import COMMANDS

PLACE = re.compile(r"<\w[^<>]*>|\{\w+\}|\b(?:INPUT_FILE|FILE|INPUT)\b")
_FILE_PLACE = re.compile(
    r"<(?!out)(?:[\w -]+ )?(?:input[ _-]?)?(?:file|path|input|document)(?:[ _-](?:name|path))?>"
    r"|<(?!out)[\w-]+\.\w{1,5}>|\{(?:input_?)?(?:file|path|input)\}|\b(?:INPUT_FILE|FILE|INPUT)\b"
)
_NO_FILE = re.compile(
    r"\b(?:number|amount|count|name|title|phrase|words?|term|query|url|date|time|unit|colou?r|many|text|out\w*|n|id|from"
    r"|to|rate|years?|days?|size|value|key|language|people|persons?|guests?|seats?|levels?|width|height)\b",
    re.I,
)
_PROGRAM = re.compile(
    r"^[ \t]*```[ \t]*(?:python3?|py|javascript|js|node)\b[^\n]*\n(?P<body>.*?)^[ \t]*```", re.M | re.S
)
_WRITTEN = re.compile(
    r"(?:>>?|\s-o|\s--out\w*)[ =]*[\"']?$|(?:^|[\s/\"'=])(?:out|result|new|merged|cleaned|fixed)[\w-]*\.\w+$"
)
"""An output: what stands before a name, or the name."""
_READ = (
    r"(?P<before>\b(?:[\w.]*(?:open|load|read)\w*|\w*Reader|Document|Presentation|convert_from_path)"
    r"\(\s*(?P<quote>[\"']))"
)


def filled(instructions: str, path: str) -> str:
    """With the path in the commands that have one place to fill in, which is for a file, in those that name a file of
    its kind which is not there, and where programs read such a file."""
    kind = re.escape(PurePosixPath(path).suffix)

    def fill(line: str) -> str:
        place = file_place(line)
        if place is not None and len(PLACE.findall(line)) == 1:
            return filled_in(line, place, path) + line[place[1] :]
        example = _example(line, kind) if place is None and not PLACE.search(line) else None
        return line if example is None else filled_in(line, example, path) + line[example[1] :]

    text = COMMANDS.sub(lambda block: "\n".join(map(fill, block[0].split("\n"))), instructions)
    if not kind:
        return text
    read = re.compile(rf"{_READ}[\w. -]+{kind}(?P=quote)(?![ \t]*,[ \t]*[\"'][wax])", re.IGNORECASE)
    return _PROGRAM.sub(
        lambda block: read.sub(lambda match: f"{match['before']}{path}{match['quote']}", block[0]), text
    )


def file_place(line: str) -> tuple[int, int] | None:
    """Where in a command the only file goes: the one place that is called like a file, or that alone is not called like
    something else."""
    named = [match.span() for match in _FILE_PLACE.finditer(line)]
    other = [match.span() for match in PLACE.finditer(line) if not _NO_FILE.search(match[0])]
    found = named or other
    return found[0] if len(found) == 1 else None


def _example(line: str, kind: str) -> tuple[int, int] | None:
    """Where the first file of a kind stands that a command reads, and that is named without a folder."""
    if not kind or line.lstrip().startswith("#"):
        return None
    found = re.finditer(rf"(?<![\w./*-])[\w-]+{kind}(?![\w.-])", line, re.IGNORECASE)
    return next(
        (
            match.span()
            for match in found
            if not _WRITTEN.search(line[: match.start()]) and not _WRITTEN.search(line[: match.end()])
        ),
        None,
    )


def filled_in(line: str, place: tuple[int, int], path: str) -> str:
    """The line up to the end of the path that stands in its place."""
    quoted = line[: place[0]].endswith(("'", '"'))
    return line[: place[0]] + (path if quoted else shlex.quote(path))

"""The code that a skill's instructions show: command lines, and programs in Python or JavaScript, with what is said of
each, and which of it a request is like.

Most published skills show more than one thing to do: several scripts, or pieces of a library's use with names of files
that stand for the user's (`document.pdf`). A small model that reads all of it takes the first or the last. What is said
of a piece are the headings it stands below, the line before it, its comments and its own words; a word that many pieces
share says little of any. Pieces that are shown as wrong are none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Literal, NamedTuple

from skilldeck_daemon.agent.guidance.likeness import deeds
from skilldeck_daemon.agent.guidance.skill_paths import FOLDER

Language = Literal["bash", "python", "node"]
LANGUAGES: dict[str, Language] = {
    **dict.fromkeys(("bash", "sh", "shell", "console", "zsh"), "bash"),
    **dict.fromkeys(("python", "python3", "py"), "python"),
    **dict.fromkeys(("javascript", "js", "node", "mjs"), "node"),
}
_FENCED = re.compile(r"^(?P<indent>[ \t]*)```[ \t]*(?P<language>\w*)[^\n]*\n(?P<body>.*?)^[ \t]*```", re.M | re.S)
COMMANDS = re.compile(r"^[ \t]*```[ \t]*(?:bash|sh|shell|console|zsh)\b[^\n]*\n(?P<body>.*?)^[ \t]*```", re.M | re.S)
"""A block of commands."""
_HEADING = re.compile(r"^(?P<level>#{1,6})[ \t]+(?P<text>.+)$", re.MULTILINE)
_SETTING_UP = re.compile(r"(?:sudo |uv )?(?:pip3?|npm|npx|apt|apt-get|brew|git|cd|export|mkdir|chmod|source)\b")
_WRONG = re.compile(r"\u274c|^\W*(?:wrong|bad|never|don't|do not|avoid|incorrect)\b", re.IGNORECASE)
_COMMENT = re.compile(r"(?:^|\s)(?:#|//)[ \t]*(?P<text>.*)$", re.MULTILINE)
_INTERPRETED = re.compile(r"(?:python3?|node|bash|sh)\s")
OWN = re.compile(rf"{re.escape(FOLDER)}/[^\s\"'`;|&<>]+")
"""A path in a skill."""


class Piece(NamedTuple):
    """One command line, or one program. `about`: what is said of it; `place`: of its block in the instructions."""

    language: Language
    code: str
    about: str = ""
    place: int = 0

    @property
    def own(self) -> bool:
        """It runs a file of the skill."""
        return OWN.search(self.code) is not None

    @property
    def runs(self) -> bool:
        """It runs a file of the skill, or what an interpreter has."""
        return self.own or _INTERPRETED.match(self.code) is not None


def pieces(instructions: str) -> list[Piece]:
    """In the order of the instructions."""
    found: list[Piece] = []
    plain = _FENCED.sub(lambda block: re.sub(r"[^\n]", "`", block[0]), instructions)  # a comment is no heading
    for block in _FENCED.finditer(instructions):
        language = LANGUAGES.get(block["language"].lower())
        if language is None:
            continue
        said = [*_headings(plain, block.start()), _before(plain, block.start())]
        about = " ".join(filter(None, said))
        if language == "bash":
            found += _lines(block["body"], about, block.start())
        elif not any(map(_WRONG.search, [*said, _first_comment(block["body"])])):
            comments = " ".join(match["text"] for match in _COMMENT.finditer(block["body"]))
            found.append(Piece(language, block["body"], f"{about} {comments}".strip(), block.start()))
    prose = [line for line in plain.splitlines() if "." in line]
    return [_with_mentions(piece, prose) for piece in found]


def _with_mentions(piece: Piece, prose: Sequence[str]) -> Piece:
    """With the lines of prose that name its script."""
    names = [path.rpartition("/")[2] for path in OWN.findall(piece.code)]
    said = [line for line in prose for name in names if "." in name and name in line]
    return piece._replace(about=" ".join([piece.about, *said])) if said else piece


def _lines(body: str, about: str, place: int) -> Iterator[Piece]:
    """The command lines of a block, each with the comment before it."""
    comment = ""
    for line in re.sub(r"[ \t]*\\\n[ \t]*", " ", body).split("\n"):
        line = line.strip().removeprefix("$ ")
        if line.startswith("#"):
            comment = line.lstrip("# ")
        elif line and not _SETTING_UP.match(line):
            yield Piece("bash", line, f"{about} {comment}".strip(), place)


def _headings(text: str, at: int) -> list[str]:
    """Those that a place stands below, the outermost first."""
    below: dict[int, str] = {}
    for match in _HEADING.finditer(text, 0, at):
        level = len(match["level"])
        below = {other: said for other, said in below.items() if other < level} | {level: match["text"]}
    return list(below.values())


def _before(text: str, at: int) -> str:
    """The line of prose before a place."""
    line = text[:at].rstrip().rpartition("\n")[2].strip()
    return "" if line.startswith(("#", "`" * 3)) else line


def _first_comment(body: str) -> str:
    match = _COMMENT.search(body)
    return match["text"] if match else ""


def likeness(texts: Sequence[Collection[str]], wanted: Collection[str]) -> list[float]:
    """How alike each text's stems are to those that are wanted; one that many texts have counts for little."""
    weights = {}
    for stem in wanted:
        having = sum(stem in text for text in texts)
        weights[stem] = math.log((len(texts) + 1) / having) if having else 0.0
    return [sum(weight for stem, weight in weights.items() if stem in text) for text in texts]


def alike(found: Sequence[Piece], said: str) -> list[float]:
    """How alike each piece is to what was said: what is said of it counts whole, its own words half."""
    wanted = deeds(said)
    about = likeness([deeds(piece.about) for piece in found], wanted)
    own = likeness([deeds(OWN.sub(_script, piece.code)) for piece in found], wanted)
    return [whole + half / 2 for whole, half in zip(about, own, strict=True)]


def _script(path: re.Match[str]) -> str:
    """Of a path in the skill the name of the file, in words."""
    return path[0].rpartition("/")[2].replace("_", " ").replace("-", " ")

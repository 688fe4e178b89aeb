"""Options that a skill's instructions list, and which of them a request asks for.

A small model that is shown a whole command runs it as it stands: of "… and give me the medians too" neither
Qwen2.5-Coder-0.5B nor, for a file to write, the 1.5B made `--full` or `--output`. An option is asked for by a word of
its description that neither the skill's own description nor another option has. One that takes a number or a path is
only where the request has such a thing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from skilldeck_daemon.agent.guidance.likeness import stems

_LISTED = re.compile(
    r"^[ \t]*(?:[-*+]|\|)[ \t]+`(?:-\w, )?(?P<option>--[A-Za-z][\w-]*)(?:[ =](?P<value>[^`\n]+))?`"
    r"[ \t:|—–-]*(?P<about>.+)$",
    re.MULTILINE,
)
_PATH = re.compile(r"path|file|folder|dir|out|dest", re.IGNORECASE)
_NUMBER = re.compile(
    r"[<{\[]?(?:N|K|X|num\w*|count|int\w*|percent|max|min|limit|size|depth|width)[>}\]]?", re.IGNORECASE
)
_A_PATH = re.compile(r"(?<![\w./-])(?:/[\w.-]+)+|(?<![\w./-])[\w-]+\.[a-z]\w{0,4}\b", re.IGNORECASE)


class Option(NamedTuple):
    """`value`: what stands for its value in the instructions, "" for none."""

    name: str
    value: str
    about: str


def listed(instructions: str) -> list[Option]:
    """The items of lists and rows of tables that begin with an option."""
    found = {match["option"]: match for match in _LISTED.finditer(instructions)}
    return [Option(name, match["value"] or "", match["about"]) for name, match in found.items()]


def wanted(instructions: str, said: str, about: str, files: Iterable[str] = ()) -> list[Option]:
    """Those that the request asks for, at most one with a value, which is the last.

    Args:
        said: the request's words; about: the skill's name and description; files: names of the attached ones.
    """
    for name in files:
        said = said.replace(name, " ")
    words, options = stems(said) - stems(about), listed(instructions)
    asked = []
    for option in options:
        others = {word for other in options if other is not option for word in stems(other.about)}
        if words & (stems(f"{option.name} {option.about}") - others) and _there(option.value, said):
            asked.append(option)
    flags, valued = [one for one in asked if not one.value], [one for one in asked if one.value]
    return flags + (valued if len(valued) == 1 else [])


def _there(value: str, said: str) -> bool:
    if _PATH.search(value):
        return _A_PATH.search(said) is not None
    return not _NUMBER.fullmatch(value) or re.search(r"\d", said) is not None

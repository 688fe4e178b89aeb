"""V4A diffs: reading them strictly and applying them to text. Pure functions; nothing is read or written here.

A diff of a new file has a `+` before each line. A diff of an existing file is one or more hunks:

    @@ class Basket            a line of the file that the hunk comes after (optional; several narrow it down)
     unchanged line            context
    -old line
    +new line
    *** End of File            the hunk ends where the file ends (optional)

There are no line numbers. A hunk applies where its context and old lines stand together, after the hunk before it. It
must be found, and found once unless an `@@` line leads to it: a patch is applied as it was meant or not at all. Line
endings and a missing last newline stay as the file has them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

END_OF_FILE = "*** End of File"
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
MOST_PLACES = 5
"""Places of an ambiguous hunk that an error names."""
_SHOWN = 6
"""Lines of a hunk that an error repeats."""


class PatchError(ValueError):
    """A diff that cannot be applied; the message says why and what would be right, for the model."""


@dataclass(frozen=True)
class Summary:
    """What a patch did, in lines."""

    added: int
    removed: int


@dataclass
class _Hunk:
    number: int
    anchors: list[str] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)  # (" ", "-" or "+", text)
    at_end: bool = False

    @property
    def old(self) -> list[str]:
        return [text for sign, text in self.lines if sign != "+"]


def create(diff: str) -> tuple[str, Summary]:
    """The text of a new file. Raises PatchError."""
    lines = _diff_lines(diff)
    for number, line in enumerate(lines, 1):
        if not line.startswith("+"):
            raise PatchError(
                f"Line {number} of the diff does not begin with '+', as all lines of a new file do: {line[:80]!r}"
            )
    newline = "\r\n" if "\r\n" in diff else "\n"
    return "".join(line[1:] + newline for line in lines), Summary(len(lines), 0)


def update(text: str, diff: str) -> tuple[str, Summary]:
    """The text with the diff applied. Raises PatchError; then nothing of it applies."""
    hunks = _hunks(diff)
    pieces = _LINE.findall(text)
    lines = [piece.rstrip("\n").removesuffix("\r") for piece in pieces]
    newline = "\r\n" if pieces and pieces[0].endswith("\r\n") else "\n"
    last_open = bool(pieces) and not pieces[-1].endswith("\n")
    file = _File(lines)
    result: list[str] = []
    done = 0  # lines of the file that are dealt with
    added = removed = 0
    for hunk in hunks:
        place = _place(hunk, file, done)
        result += pieces[done:place]
        at = place
        for sign, line in hunk.lines:
            if sign == "+":
                if result and not result[-1].endswith("\n"):
                    result[-1] += newline  # the last line of the file had no newline, and is not the last any more
                result.append(line + newline)
                added += 1
            else:
                if sign == " ":
                    result.append(pieces[at])
                else:
                    removed += 1
                at += 1
        done = at
    result += pieces[done:]
    if last_open and result:
        result[-1] = result[-1].rstrip("\n").removesuffix("\r")
    return "".join(result), Summary(added, removed)


def _diff_lines(diff: str) -> list[str]:
    lines = [line.removesuffix("\r") for line in diff.split("\n")]
    if lines and lines[-1] == "":
        lines.pop()
    for line in lines:
        if line.startswith(("*** Begin Patch", "*** End Patch", "*** Add File", "*** Update File", "*** Delete File")):
            raise PatchError(f"The diff holds the lines of one file only, without {line.split(':')[0]!r}.")
    return lines


def _hunks(diff: str) -> list[_Hunk]:
    hunks: list[_Hunk] = []
    current: _Hunk | None = None
    for number, line in enumerate(_diff_lines(diff), 1):
        if line == "@@" or line.startswith("@@ "):
            if current is None or current.lines:
                current = _Hunk(number)
                hunks.append(current)
            anchor = line[3:]
            if re.fullmatch(r"-\d+(,\d+)? \+\d+(,\d+)? @@.*", anchor):
                anchor = anchor.split("@@", 1)[1].strip()  # a unified diff's line numbers mean nothing here
            if anchor.strip():
                current.anchors.append(anchor)
            continue
        if current is not None and current.at_end:
            raise PatchError(f"Line {number} of the diff comes after {END_OF_FILE!r}: begin a new hunk with '@@'.")
        if current is None:
            current = _Hunk(number)
            hunks.append(current)
        if line == END_OF_FILE:
            current.at_end = True
        elif line == "":
            current.lines.append((" ", ""))  # an empty line of context that lost its space
        elif line[0] in " +-":
            current.lines.append((line[0], line[1:]))
        else:
            raise PatchError(f"Line {number} of the diff begins with none of ' ', '+', '-' and '@@': {line[:80]!r}")
    if not hunks:
        raise PatchError("The diff is empty.")
    for hunk in hunks:
        if all(sign == " " for sign, _ in hunk.lines):
            raise PatchError(f"The hunk at line {hunk.number} of the diff changes nothing.")
    return hunks


class _File:
    """The lines of the file, and where each stands: a diff of many hunks reads the file once, not once for each."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self._places: dict[Callable[[str], str], dict[str, list[int]]] = {}

    def places(self, line: str, same: Callable[[str], str]) -> list[int]:
        """The indexes, ascending, of the lines that are this one."""
        if same not in self._places:
            places: dict[str, list[int]] = {}
            for index, text in enumerate(self.lines):
                places.setdefault(same(text), []).append(index)
            self._places[same] = places
        return self._places[same].get(same(line), [])

    def find(self, old: list[str], start: int, same: Callable[[str], str], most: int) -> list[int]:
        """The first `most` places from `start` on where these lines stand, looked for by the rarest of them."""
        offset, places = min(
            ((offset, self.places(line, same)) for offset, line in enumerate(old)), key=lambda found: len(found[1])
        )
        found: list[int] = []
        for number in range(bisect_left(places, start + offset), len(places)):
            place = places[number] - offset
            if place + len(old) <= len(self.lines) and _matches(self.lines, old, place, same):
                found.append(place)
                if len(found) == most:
                    break
        return found


def _place(hunk: _Hunk, file: _File, start: int) -> int:
    """The index of the line where the hunk's old lines begin."""
    lines = file.lines
    for anchor in hunk.anchors:
        start = _after_anchor(anchor, file, start)
    old = hunk.old
    if not old:
        if hunk.at_end or not lines:
            return len(lines)
        if hunk.anchors:
            return start
        raise PatchError(
            f"The hunk at line {hunk.number} of the diff only adds lines and does not say where:"
            " give unchanged lines around them, or an '@@' line."
        )
    if hunk.at_end:
        place = len(lines) - len(old)
        if place >= start and _matches(lines, old, place, str.rstrip):
            return place
        raise PatchError(_missing(hunk, "at the end of the file"))
    found: list[int] = []
    for same in (_itself, str.rstrip):  # trailing blanks are the one thing that may differ
        found = file.find(old, start, same, 1 if hunk.anchors else MOST_PLACES)
        if found:
            break
    if not found:
        raise PatchError(_missing(hunk, f"after line {start}" if start else "in the file"))
    if len(found) > 1 and not hunk.anchors:
        places = ", ".join(str(place + 1) for place in found)
        raise PatchError(
            f"The hunk at line {hunk.number} of the diff fits at lines {places}:"
            " give more unchanged lines around it, or an '@@' line before it."
        )
    return found[0]


def _after_anchor(anchor: str, file: _File, start: int) -> int:
    for same in (_itself, str.strip):
        places = file.places(anchor, same)
        at = bisect_left(places, start)
        if at < len(places):
            return places[at] + 1
    raise PatchError(
        f"No line of the file{f' after line {start}' if start else ''} is {anchor[:120]!r}, which '@@' names."
    )


def _itself(text: str) -> str:
    return text


def _matches(lines: list[str], old: list[str], place: int, same: Callable[[str], str]) -> bool:
    return all(same(lines[place + offset]) == same(text) for offset, text in enumerate(old))


def _missing(hunk: _Hunk, where: str) -> str:
    shown = hunk.old[:_SHOWN]
    more = "" if len(shown) == len(hunk.old) else f"\n… ({len(hunk.old) - len(shown)} more)"
    wanted = "\n".join(shown)
    return (
        f"The lines that the hunk at line {hunk.number} of the diff changes are not {where}."
        f" Read the file again and repeat its lines exactly. Looked for:\n{wanted}{more}"
    )

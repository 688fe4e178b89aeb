"""Long instructions cut to what a request needs: their beginning, and the sections it is most like.

Published instructions go up to 20,000 characters, of which one request needs one section. Cut at the end, those of a
PDF library say how to merge files and not how to write one. What is left out is named by its heading.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from skilldeck_daemon.agent.guidance.likeness import deeds
from skilldeck_daemon.agent.guidance.shown_code import likeness

_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_HEADING = re.compile(r"(?m)^(?=#{1,4}[ \t]+\S)")
LEFT_OUT = "(not shown)"


def shortened(text: str, said: str, room: int, path: str, keep: Collection[str] = ()) -> str:
    """The text, or what fits into `room` characters of it and where the rest is (`path`). `keep`: what stands in
    sections that come first of all."""
    if len(text) <= room:
        return text
    parts = _sections(text)
    if len(parts) < 3:
        return _cut(text, room, path)
    wanted = deeds(said)
    likes = likeness([deeds(part) for part in parts], wanted)
    likes = [like + 100 * any(code in part for code in keep) for like, part in zip(likes, parts, strict=True)]
    # The beginning says what all of it is about.
    order = [0, *sorted(range(1, len(parts)), key=lambda number: -likes[number])]
    titles = [part.partition("\n")[0].strip() for part in parts]
    outlines = [f"{title} {LEFT_OUT}\n" for title in titles]
    left = room - sum(map(len, outlines))
    if left <= 0:
        return _cut(text, room, path)
    kept = set[int]()
    for number in order:
        more = len(parts[number]) - len(outlines[number])
        if more <= left:
            kept.add(number)
            left -= more
    shown = "".join(part if number in kept else outlines[number] for number, part in enumerate(parts))
    return f"{shown.rstrip()}\n(the rest is in {path})"


def _cut(text: str, room: int, path: str) -> str:
    cut = text.rfind("\n", 0, room)
    return f"{text[: max(cut, 0)]}\n(the rest is in {path})".lstrip()


def _sections(text: str) -> list[str]:
    """The text in pieces that begin with a heading, but for what stands before the first; `#` in code is none."""
    fences = [match.start() for match in _FENCE.finditer(text)]
    places = [
        match.start()
        for match in _HEADING.finditer(text)
        if match.start() and sum(fence < match.start() for fence in fences) % 2 == 0
    ]
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]

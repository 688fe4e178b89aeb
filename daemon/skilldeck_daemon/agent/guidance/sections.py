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
KEPT = 100.0  # more than any likeness


def shortened(
    text: str, said: str, room: int, path: str, keep: Collection[str] = (), titles: bool = True, only: bool = False
) -> str:
    """The text, or what fits into `room` characters of it and where the rest is (`path`).

    Args:
        said: the request.
        keep: what stands in sections that come before all others.
        titles: whether what is left out is named, for a model that opens it.
        only: no other section than those and the beginning.
    """
    parts = _sections(text)
    only = only and any(code in text for code in keep)
    if len(text) <= room and not only:
        return text
    if len(parts) < 3:
        return _cut(text, room, path)
    likes = likeness([deeds(part) for part in parts], deeds(said))
    likes = [like + KEPT * any(code in part for code in keep) for like, part in zip(likes, parts, strict=True)]
    alike = [number for number in range(1, len(parts)) if likes[number] >= (KEPT if only else 0.01)]
    alike = alike or list(range(1, len(parts)))
    kept, left = set[int](), room
    # The beginning says what all of it is about.
    for number in sorted([0, *alike], key=lambda number: (-likes[number] if number else -KEPT, number)):
        if len(parts[number]) <= left:
            kept.add(number)
            left -= len(parts[number])
    if not kept:
        return _cut(text, room, path)
    named = kept | {above for number in kept for above in _above(parts, number)}
    shown = "".join(
        part if number in kept else f"{_title(part)}\n" for number, part in enumerate(parts) if number in named
    )
    others = [_title(part).lstrip("# ") for number, part in enumerate(parts) if number not in named and _level(part)]
    rest = f"; also on: {', '.join(others)}" if titles and others else ""
    return f"{shown.rstrip()}\n(the rest is in {path}{rest})"


def _title(part: str) -> str:
    return part.partition("\n")[0].strip()


def _level(part: str) -> int:
    """1 for `# …`, 0 for what has no heading."""
    title = _title(part)
    return len(title) - len(title.lstrip("#"))


def _above(parts: list[str], number: int) -> list[int]:
    """The sections that a section is part of."""
    level, found = _level(parts[number]) or 1, []
    for above in range(number - 1, -1, -1):
        if 0 < _level(parts[above]) < level:
            level = _level(parts[above])
            found.append(above)
    return found


def _cut(text: str, room: int, path: str) -> str:
    if len(text) <= room:
        return text
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

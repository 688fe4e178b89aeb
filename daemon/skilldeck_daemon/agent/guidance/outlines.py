"""The headings that a skill without commands says its answer has, which a small model leaves out.

They stand in its instructions as a template (a ```markdown block) or by themselves (`## Decisions`). Where a request
asks for such a skill's work, all of them stand in the answer, in their order: Qwen2.5-Coder-0.5B stopped before the
last of three.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from skilldeck_daemon.engine.grammar.text import pattern

_TEMPLATE = re.compile(r"^[ \t]*```[ \t]*(?:markdown|md)[ \t]*\n(?P<body>.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^[ \t]*(#{1,4} [^\n\[\]<>{}]*[^\s\[\]<>{}])[ \t]*$", re.MULTILINE)
_INLINE = re.compile(r"`(#{1,4} [^`\n\[\]<>{}]+)`")
MOST = 12
OPENING, SECTION = 120, 1500
"""Characters before the first heading, and of what stands below each."""


def headings(instructions: str) -> tuple[str, ...]:
    """Those of the only template, or of at least two that are named by themselves; none where there is a choice."""
    templates = _TEMPLATE.findall(instructions)
    if templates:
        found = _HEADING.findall(templates[0]) if len(templates) == 1 else []
    else:
        found = _INLINE.findall(instructions)
    found = [heading.strip() for heading in found]
    return tuple(found) if 2 <= len(found) <= MOST and len(set(found)) == len(found) else ()


def held(wanted: Sequence[str]) -> str:
    """What an answer with these headings may be, as a terminal of a grammar; "" for none.

    Each comes within so many characters: a model that writes something else could not end otherwise."""
    if not wanted:
        return ""
    first, *others = (re.escape(heading) for heading in wanted)
    rest = "".join(rf"(.|\n){{0,{SECTION}}}\n{heading}[ ]*\n" for heading in others)
    return pattern(rf"((.|\n){{0,{OPENING}}}\n)?{first}[ ]*\n{rest}(.|\n)*")

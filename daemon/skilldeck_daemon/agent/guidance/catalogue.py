"""What the system message lists: the skills with their descriptions, and the files. It has a budget.

Descriptions take at most `SHARE` of the model's context, but never less than `LEAST` characters in all. Beyond that the
longest are shortened, all to one length; names stand whole, so that every skill can still be found.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from skilldeck_daemon.tools.context import Surroundings

log = logging.getLogger(__name__)

SHARE = 0.02
CHARS_PER_TOKEN = 4
LEAST = 8000
SHORTEST = 20  # characters of a description that say anything


def catalogue(around: Surroundings, context: int = 0) -> str:
    """`Skills:` and `Files:`, each left out when it is empty. `context` in tokens, 0: not known."""
    lines: list[str] = []
    if around.skills:
        abouts = [" ".join(about.split()) for _, about in around.skills]
        limit = longest(abouts, max(LEAST, int(context * SHARE * CHARS_PER_TOKEN)))
        cut = [name for (name, _), about in zip(around.skills, abouts, strict=True) if len(about) > limit]
        if cut:
            log.warning("descriptions of skills are shown with %d characters: %s", limit, ", ".join(cut))
        shown = (about if len(about) <= limit else f"{about[: limit - 1].rstrip()}…" for about in abouts)
        lines += ["Skills:", *(f"- {name}: {about}" for (name, _), about in zip(around.skills, shown, strict=True))]
    if around.files:
        lines += ["Files:", *(f"- {name}" for name in around.files)]
    return "\n\n" + "\n".join(lines) if lines else ""


def longest(texts: Sequence[str], room: int) -> int:
    """To how many characters each of the texts may go so that together they keep within `room`."""
    lengths = sorted(map(len, texts))
    for place, length in enumerate(lengths):
        share = room // (len(lengths) - place)
        if length > share:
            return max(share, SHORTEST)
        room -= length
    return lengths[-1] if lengths else 0

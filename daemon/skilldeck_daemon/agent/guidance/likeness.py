"""How alike two texts are by their words, whose first letters are compared: "summarize" is like "summarizes"."""

from __future__ import annotations

import re

STEM = 5
COMMON = frozenset(
    re.findall(
        r"\w+",
        "all and any are but can could does each every file for from give have how its make may mnt more not one only"
        " our out please run should skill some tell text than that the them then there these they this use user uses"
        " using was what when which will with would you your",
    )
)


def stems(text: str) -> set[str]:
    return {word[:STEM] for word in re.findall(r"[^\W_]{3,}", text.lower()) if word not in COMMON}

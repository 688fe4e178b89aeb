"""How alike two texts are by their words, whose first letters are compared: "summarize" is like "summarizes".

What is done to a file has several names: who says "make" means the section "Create" (`deeds`).
"""

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


_DEEDS = (
    "create creating creation make generate produce build write draw new",
    "extract read get pull text content list",
    "merge combine join concatenate together",
    "split separate divide",
    "sum total add",
    "average mean",
    "convert turn transform export",
    "check validate verify audit review",
    "missing gap empty null blank",
    "change edit modify update replace",
    "find search look",
    "chart plot graph diagram",
)
_DEED = {word[:STEM]: f"={words.split()[0]}" for words in _DEEDS for word in words.split()}
_DEED_WORDS = frozenset(word for words in _DEEDS for word in words.split())


def deeds(text: str) -> set[str]:
    """The words of a text, those for one deed as one."""
    words = re.findall(r"[^\W_]{3,}", text.lower())
    found = {word[:STEM] for word in words if word not in COMMON or word in _DEED_WORDS}
    return {_DEED.get(stem, stem) for stem in found}

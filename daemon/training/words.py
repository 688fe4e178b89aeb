"""Words, made-up words and filler sentences: the raw material of every scenario.

Owns the split of the vocabulary: a word belongs to training or to the held-out split, never to both. Words come from
`data/words.txt` (written for this project); made-up words come from syllables, and the two splits end them differently.
Deterministic; blocks only to read the file once.
"""

from __future__ import annotations

import functools
import random
import zlib
from pathlib import Path

ONSETS = [
    "b",
    "c",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "w",
    "z",
    "br",
    "ch",
    "cl",
    "cr",
    "dr",
    "fl",
    "gr",
    "kl",
    "pl",
    "pr",
    "sh",
    "sk",
    "sl",
    "st",
    "th",
    "tr",
]
NUCLEI = ["a", "e", "i", "o", "u", "ai", "ea", "oo", "ou"]
CODAS = ["", "", "", "n", "r", "s", "t", "l", "x", "m", "k", "nd", "sh", "ck"]

_PROSE = {
    "train": (
        "The {a} {b} stays with the {c}.",
        "Every {a} has a {b}.",
        "Use it when a {a} needs a {b}.",
        "A {a} may hold {b} or {c}.",
        "No {a} is read from the {b}.",
        "It works for {a} and {b} only.",
        "Large {a} files take a few seconds.",
        "Do not change the {a} of a {b}.",
        "It was made for {a}, {b} and {c}.",
        "Keep the {a} next to the {b}.",
        "The output shows each {a} with its {b}.",
        "Only the first {a} counts.",
        "If the {a} is missing, the {b} is used.",
        "It prints the {a} after the {b}.",
        "Works on `{a}` files of any {b}.",
        "Set `--{a}` for another {b}.",
        "See `references/{a}.md` for the {b}.",
        "The {b} is written as {a}.",
        "Do not read the script yourself.",
        "Show the output as printed.",
    ),
    "held": (
        "Nothing about the {a} leaves this {b}.",
        "Expect one {a} per {b}, never a {c}.",
        "People who keep a {a} like the {b}.",
        "When there is no {a}, ask for the {b}.",
        "The script treats {a} and {b} alike.",
        "Use `{a}` only together with a {b}.",
        "Once a {c} is found the {a} stops.",
    ),
}


@functools.cache
def vocabulary(split: str) -> tuple[str, ...]:
    """The real words of `split` ("train" or "held"), sorted; about one word in six is held out."""
    text = (Path(__file__).parent / "data" / "words.txt").read_text(encoding="utf-8")
    held = split == "held"
    return tuple(w for w in sorted(set(text.split())) if (zlib.crc32(w.encode()) % 6 == 0) == held)


@functools.cache
def _real() -> frozenset[str]:
    return frozenset(vocabulary("train")) | frozenset(vocabulary("held"))


def made_up(rng: random.Random, split: str) -> str:
    """A pronounceable word that is in no dictionary; held-out ones differ from every training one by their hash."""
    while True:
        word = "".join(
            rng.choice(ONSETS) + rng.choice(NUCLEI) + rng.choice(CODAS) for _ in range(rng.choice((1, 2, 2, 3)))
        )
        if (zlib.crc32(word.encode()) % 5 == 0) == (split == "held") and word not in _real():
            return word


class Atoms:
    """Hands out words for one scenario, never two that begin alike, so that no cue is shared by accident."""

    def __init__(self, rng: random.Random, split: str) -> None:
        self.rng = rng
        self.split = split
        self._words = vocabulary(split)
        self._used: set[str] = set()

    def word(self) -> str:
        """A real word of the split."""
        for _ in range(400):
            word = self.rng.choice(self._words)
            if word[:4] not in self._used:
                self._used.add(word[:4])
                return word
        return self.rng.choice(self._words)

    def made_up(self) -> str:
        """A made-up word of the split."""
        for _ in range(400):
            word = made_up(self.rng, self.split)
            if word[:3] not in self._used:
                self._used.add(word[:3])
                return word
        return made_up(self.rng, self.split)

    def atom(self) -> str:
        """A real or a made-up word, as likely one as the other."""
        return self.word() if self.rng.random() < 0.5 else self.made_up()

    def number(self) -> str:
        """A decimal number of one to four digits, each length as likely."""
        low, high = self.rng.choice(((0, 9), (10, 99), (100, 999), (1000, 9999)))
        return str(self.rng.randint(low, high))

    def sentence(self) -> str:
        """A filler sentence; templates and words belong to the split."""
        words = self.rng.choices(self._words, k=3)
        return self.rng.choice(_PROSE[self.split]).format(a=words[0], b=words[1], c=words[2])

"""Whether a turn goes round in circles: the same short unit over and over, in its text or inside a call's arguments.

`Loops` looks at tokens, and ends a turn that names no limit early. `Repetition` looks at the characters of whatever
engine, limit or not, so it has to leave alone what people ask for: rulers and tables, zeros, base64, indentation, rows
that are alike. What those repeat are marks, digits, white space or single letters; what a model that is lost repeats
has letters in it ("lelele", a word, a sentence). `Retold` looks at the lines of an answer that is to say what was
printed: a small model that has said it begins again, or counts on.
"""

from __future__ import annotations

import re
from collections import Counter, deque

LOOP = 128  # tokens. No answer worth reading repeats so few tokens so often.
LONGEST_CYCLE = 16  # tokens

BLOCK = 64  # characters between two looks
PROBE = 32  # characters whose last occurrence gives the period
LONGEST_UNIT = 256  # characters
SYLLABLES = 384  # characters of a unit of letters alone: "lelele"
SENTENCES = 1024  # characters of a unit with letters in it, at least LEAST times
LEAST = 6
MARKS = 8192  # characters of anything else: rulers, zeros, indentation, AAAA of base64
KEPT = MARKS + 2 * LONGEST_UNIT


AGAIN = 3  # lines that an answer says once more


class Loops:
    """Finds a cycle of tokens: the last LOOP tokens repeat one of at most LONGEST_CYCLE."""

    def __init__(self) -> None:
        self._last: deque[int] = deque(maxlen=LONGEST_CYCLE)
        self._runs = [0] * LONGEST_CYCLE  # by period - 1: for how many tokens each has been the one a period before

    def feed(self, token: int) -> bool:
        """Whether the turn loops, this token included."""
        for back, earlier in enumerate(reversed(self._last)):
            self._runs[back] = self._runs[back] + 1 if earlier == token else 0
        self._last.append(token)
        return max(self._runs) >= LOOP


class Repetition:
    """Finds a cycle of characters at the end of a text that is given in pieces, however it was cut."""

    def __init__(self) -> None:
        self.found = False
        self._tail = ""
        self._block = ""

    def feed(self, text: str) -> bool:
        """Whether the text goes round in circles, this piece included."""
        text, at = self._block + text, 0
        while len(text) - at >= BLOCK and not self.found:
            self._tail = (self._tail + text[at : at + BLOCK])[-KEPT:]
            at += BLOCK
            self.found = repeats(self._tail)
        self._block = text[at:]
        return self.found


def repeats(text: str) -> bool:
    """Whether the end of a text is one unit too often."""
    last = text[-PROBE:]
    before = text.rfind(last, max(0, len(text) - PROBE - LONGEST_UNIT), len(text) - 1)
    if len(text) < SYLLABLES or before < 0:
        return False
    period = len(text) - PROBE - before
    unit = text[-period:]
    letters = {char for char in unit if char.isalpha()}
    if len(letters) < 2:
        least = MARKS
    elif unit.isalpha() and period <= 16:
        least = SYLLABLES
    else:
        least = max(SENTENCES, LEAST * period)
    return len(text) >= least and text[-least:-period] == text[period - least :]


class Retold:
    """Whether an answer that is to tell what was printed goes on beyond it: with lines it has said already, or with
    ones like them whose numbers stand nowhere ("cue 31" of seven). The result does not depend on the cut."""

    def __init__(self, printed: str) -> None:
        lines = [_bare(line) for line in printed.splitlines()]
        self._left = Counter(lines)
        self._kinds = {_kind(line) for line in lines}
        self._numbers = set(re.findall(r"\d+", printed))
        self._line = ""
        self._again = 0

    def feed(self, text: str) -> bool:
        """Whether there is nothing to come, this piece included."""
        *lines, rest = (self._line + text).split("\n")
        self._line = rest
        for line in map(_bare, lines):
            if sum(char.isalpha() for char in line) < 3:
                continue
            counted = _kind(line) in self._kinds and not self._numbers.issuperset(re.findall(r"\d+", line))
            self._again += counted or (line in self._left and self._left[line] <= 0)
            self._left[line] -= 1
            self._kinds.add(_kind(line))
        return self._again >= AGAIN


def _bare(line: str) -> str:
    return line.strip(" \t*-•")


def _kind(line: str) -> str:
    return re.sub(r"\d+", "0", line)

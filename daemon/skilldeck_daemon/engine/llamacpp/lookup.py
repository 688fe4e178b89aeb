"""Guesses of a text's next tokens, looked up in the text itself (prompt lookup decoding), else in earlier answers.

What a model writes after a tool call is often a copy: a path from a catalogue, a file name from the request, a result
from an output. And it calls a tool with the same words each time. Checking several tokens takes little longer than
computing one, since reading the weights is most of either. A guess is only ever checked, never believed, so it changes
no text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

GRAM = 3
"""Tokens that must agree. With two, most guesses in prose are wrong; with four, copies begin later."""
FIRST, LEAST, LONGEST = 8, 8, 64
"""Tokens of a text's first guess, the fewest after one that was partly right, and the most. Beside one token, 8 take 3
times as long in the bundled model, 16 four to five and 64 nine to twelve times; in a 1.5B 9 and 16 take 3.5 times both.
First guesses of the skill task's three turns are right for 3, 3 and 8 tokens. After a miss, where a text is no copy, a
guess is `CAREFUL` tokens."""
CAREFUL = 2
KEPT, KEPT_TOKENS = 16, 1024
"""Answers that are remembered, and tokens of each. A miss looks into each: a microsecond for all."""

Grams = dict[tuple[int, ...], int]
"""The place after each gram's last occurrence."""


class _Answer(NamedTuple):
    salt: str
    tokens: list[int]
    after: Grams


class Answers:
    """What was written lately. An answer is looked up only for requests of its own `salt`: how fast a guess comes true
    would show others what it says."""

    def __init__(self) -> None:
        self._kept: deque[_Answer] = deque(maxlen=KEPT)

    def keep(self, salt: str, tokens: Sequence[int]) -> None:
        """`tokens` are of an answer, and best also the last `GRAM` of its prompt: many begin alike."""
        kept = list(tokens[:KEPT_TOKENS])
        self._kept.appendleft(
            _Answer(salt, kept, {tuple(kept[end - GRAM : end]): end for end in range(GRAM, len(kept))})
        )

    def guess(self, salt: str, gram: tuple[int, ...], most: int) -> list[int]:
        """At most `most` tokens that followed `gram` in the newest answer that has it."""
        for answer in self._kept:
            if answer.salt == salt and (place := answer.after.get(gram)) is not None:
                return answer.tokens[place : place + most]
        return []


class Lookup:
    """Of one text that grows at its end. `FIRST` tokens are guessed at first, then twice what was right last time."""

    def __init__(self) -> None:
        self._after: Grams = {}  # but of the gram at the text's end
        self._indexed = 0
        self._length = FIRST

    def guess(
        self, text: Sequence[int], token: int, most: int, answers: Answers | None = None, salt: str = ""
    ) -> list[int]:
        """What may follow `text` and `token`: at most `most` tokens that stand after such an end in `text`, else in one
        of the `answers`, maybe none.

        `text` begins with that of the call before.
        """
        for end in range(max(GRAM, self._indexed), len(text)):
            self._after[tuple(text[end - GRAM : end])] = end
        self._indexed = len(text)
        gram = (*text[1 - GRAM :], token)
        place = self._after.get(gram)
        if place is None:
            return answers.guess(salt, gram, min(most, self._length)) if answers is not None else []
        # Where the text repeats itself to its end, the guess goes on through that end.
        period = len(text) + 1 - place
        places = (place + step % period for step in range(min(most, self._length)))
        return [text[at] if at < len(text) else token for at in places]

    def right(self, count: int) -> None:
        """So many tokens of the last guess were the text's."""
        self._length = min(max(2 * count, LEAST), LONGEST) if count else CAREFUL

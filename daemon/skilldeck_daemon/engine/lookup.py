"""Guesses of a text's next tokens, looked up in the text itself (prompt lookup decoding).

What a model writes after a tool call is often a copy: a path from a catalogue, a file name from the request, a result
from an output. Checking several tokens takes little longer than computing one, since reading the weights is most of
either. A guess is only ever checked, never believed, so it changes no text.
"""

from __future__ import annotations

from collections.abc import Sequence

GRAM = 3
"""Tokens that must agree. With two, most guesses in prose are wrong; with four, copies begin later."""
FIRST, LONGEST = 8, 64


class Lookup:
    """Of one text that grows at its end. `FIRST` tokens are guessed at first, then twice what was right last time."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}  # the place after each gram's last occurrence but the text's end
        self._indexed = 0
        self._length = FIRST

    def guess(self, text: Sequence[int], token: int, most: int) -> list[int]:
        """What may follow `text` and `token`: at most `most` tokens that stand after such an end in `text`, maybe none.

        `text` begins with that of the call before.
        """
        for end in range(max(GRAM, self._indexed), len(text)):
            self._after[tuple(text[end - GRAM : end])] = end
        self._indexed = len(text)
        place = self._after.get((*text[1 - GRAM :], token))
        if place is None:
            return []
        # Where the text repeats itself to its end, the guess goes on through that end.
        period = len(text) + 1 - place
        places = (place + step % period for step in range(min(most, self._length)))
        return [text[at] if at < len(text) else token for at in places]

    def right(self, count: int) -> None:
        """So many tokens of the last guess were the text's."""
        self._length = min(max(2 * count, 2), LONGEST)

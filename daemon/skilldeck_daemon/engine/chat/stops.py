"""Stop strings in a text that comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Ends a text before the first stop string in it; holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.hit = False
        self.found: str | None = None  # the stop string that was hit
        self._stops = [_Stop(stop) for stop in stops if stop]
        self._held = ""

    def feed(self, text: str) -> str:
        """The text that may be shown now. After a hit always empty."""
        if self.hit or not self._stops:
            return "" if self.hit else text
        ends = [(stop.feed(text), stop.text) for stop in self._stops]
        before = len(self._held)
        found = [(before + end - len(stop), stop) for end, stop in ends if end]
        text = self._held + text
        if found:
            self.hit, self._held = True, ""
            at, self.found = min(found)
            return text[:at]
        keep = max(stop.matched for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        held, self._held = self._held, ""
        return "" if self.hit else held


class _Stop:
    """One stop string and how much of it the text ends with (Knuth, Morris, Pratt): linear, however long it is."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        self._shorter = [0] * len(text)  # the longest proper beginning that a beginning of each length ends with
        for index in range(1, len(text)):
            self._shorter[index] = self._extended(self._shorter[index - 1], text[index])

    def feed(self, piece: str) -> int:
        """How many characters of the piece complete the string for the first time, 0 when they do not."""
        for index, char in enumerate(piece):
            self.matched = self._extended(self.matched, char)
            if self.matched == len(self.text):
                return index + 1
        return 0

    def _extended(self, matched: int, char: str) -> int:
        while matched and self.text[matched] != char:
            matched = self._shorter[matched - 1]
        return matched + (self.text[matched] == char)

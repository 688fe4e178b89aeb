"""Whether guessing pays for a text, by the clock.

Several rows cost more than one, by how much depends on the model, its quantisation and the processor: three times as
much for nine rows of a 1.5B in Q4_K_M on two cores, hardly more on a card. So a check is held against the steps it
saved, and a text whose checks lose time is left alone a while, longer each time; one that pays ends that.
"""

from __future__ import annotations

FIRST, LONGEST = 4, 32
"""Steps without a guess after the first check in a row that lost time, and at most: it is doubled each time."""
_NEW = 0.2  # of the mean of a step, the part of the newest


class StepTime:
    """How long a step of one token takes: a mean that forgets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.seconds = seconds if not self.seconds else (1 - _NEW) * self.seconds + _NEW * seconds


class Worth:
    """Of one text."""

    def __init__(self) -> None:
        self._pause = 0
        self._left = 0

    def wait(self) -> bool:
        """Whether the next step goes without a guess. To be asked once a step."""
        if self._left:
            self._left -= 1
            return True
        return False

    def checked(self, right: int, seconds: float, one: float) -> None:
        """A check of a guess took `seconds` and gave `right` tokens beside the one that a step gives in `one` seconds
        (0 when that is not known)."""
        if not one or seconds <= one * (1 + right):
            self._pause = 0
        else:
            self._pause = min(max(FIRST, 2 * self._pause), LONGEST)
        self._left = self._pause

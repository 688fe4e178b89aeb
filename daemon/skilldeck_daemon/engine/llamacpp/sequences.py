"""Which request owns which sequence of the cache, and what the free ones still hold.

A finished sequence stays until its place is needed (least recently used first), so that the next prompt that begins
with the same tokens computes only what is new; a prompt may also copy its beginning from one that still runs. Nothing
is reused under another `salt`. Not thread-safe; the engine's thread owns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

WORTH = 32
"""Tokens of a common beginning from which copying a sequence, all of its memory, is cheaper than computing them."""


class Memory(Protocol):
    """The cache behind the table; see `LlamaModel`."""

    whole: bool

    def cut(self, sequence: int, tokens: int) -> bool: ...

    def copy(self, source: int, target: int, tokens: int) -> bool: ...

    def forget(self) -> None: ...


@dataclass
class Held:
    """One sequence: the tokens it holds, and the request that owns it, None when it is free."""

    number: int
    tokens: list[int] = field(default_factory=list)
    salt: str = ""
    owner: Any = None
    used: int = 0


class SequenceTable:
    """The sequences of one cache."""

    def __init__(self, memory: Memory, count: int) -> None:
        self._memory = memory
        self.held = [Held(number) for number in range(count)]
        self._clock = 0

    def claim(self, prompt: list[int], salt: str, owner: Any) -> tuple[Held, int]:
        """A sequence for this prompt and how many of its tokens it already holds; at least one is left to compute.

        There must be a free one. It is taken over when the prompt continues most of what it holds; otherwise the
        beginning is copied into the least recently used one, so that a branch does not destroy the trunk.
        """
        free = [held for held in self.held if held.owner is None]
        best, reuse = self._best(prompt, salt)
        if best is not None and best.owner is None and (2 * reuse >= len(best.tokens) or len(free) == 1):
            target = best
            if reuse < len(best.tokens) and not self._memory.cut(best.number, reuse):
                reuse = 0
        else:
            candidates = [held for held in free if held is not best]
            target = min(candidates, key=lambda held: (bool(held.tokens), held.used, held.number))
            if best is None or reuse < WORTH or not self._memory.copy(best.number, target.number, reuse):
                reuse = 0
        if not reuse:
            self._memory.cut(target.number, 0)
        target.tokens = prompt[:reuse]
        target.salt, target.owner, target.used = salt, owner, self._tick()
        return target, reuse

    def _best(self, prompt: list[int], salt: str) -> tuple[Held | None, int]:
        best, reuse = None, 0
        for held in self.held:
            if not held.tokens or held.salt != salt:
                continue
            length = _at_a_border(prompt, min(common_prefix(held.tokens, prompt), len(prompt) - 1))
            if self._memory.whole and (length < len(held.tokens) or held.owner is not None):
                continue  # a state can be gone on with, not gone back in
            if length > reuse:
                best, reuse = held, length
        return best, reuse

    def release(self, held: Held) -> None:
        """The request is over; its tokens stay for reuse."""
        held.owner, held.used = None, self._tick()

    def forget(self) -> None:
        """Drop everything, owned or not: after a failed step nobody knows what is there."""
        self._memory.forget()
        for held in self.held:
            held.tokens, held.owner, held.used = [], None, 0

    @property
    def live_tokens(self) -> int:
        """Tokens of owned sequences."""
        return sum(len(held.tokens) for held in self.held if held.owner is not None)

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def _at_a_border(prompt: Sequence[int], length: int) -> int:
    """The length, or that up to the image which it would cut in two: one's made-up ids count down from a negative."""
    while 0 < length < len(prompt) and prompt[length] < 0 and prompt[length - 1] == prompt[length] + 1:
        length -= 1
    return length


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix; compares slices, which run at the speed of C."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low

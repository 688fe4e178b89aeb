"""Long texts to token ids: in slices, apart from everything else, no further than anybody needs.

A text far beyond the context is refused by its bytes, untouched. What is encoded stops at the first token that is too
many, or when the client has left. Long texts have two threads of their own, so that those of one client delay neither
the loop nor the threads that everything else shares; what waits for one and is not wanted any more is dropped.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from skilldeck_daemon.engine.detokenize import Vocabulary
from skilldeck_daemon.engine.errors import too_long

LONG_TEXT = 20_000  # characters above which encoding is worth a thread: about 5 ms
SLICE = 64 * 1024  # characters
# Where every pre-tokenizer in use begins a new word, so that slices encoded apart join exactly. A text without such a
# place for a whole slice is cut anywhere: it reads the same, and one word of 64,000 letters is spelled otherwise.
_CUT = re.compile(r"[^\W_](?=[ \n][^\W_])")

_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="encode")

T = TypeVar("T")


class Encoder:
    """The way from text to ids for one vocabulary; `exact` where a text may be encoded in pieces."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._longest = vocabulary.longest
        self._added = sorted((text for text in vocabulary.added.values() if text), key=len, reverse=True)
        # Pieces encoded apart join exactly only where no space is put before each of them.
        self.exact = vocabulary.byte_level and not vocabulary.prefix_space

    def check(self, text: str, context: int, cure: str, param: str = "input") -> None:
        """Raise TooLong for a text whose bytes alone say that it has more tokens than the context."""
        most = context * self._longest
        if most and (len(text) >= most or (len(text) * 4 >= most and len(text.encode("utf-8", "replace")) >= most)):
            raise too_long(
                max(len(text) // max(self._longest, 1), context) + 1, context, cure, exact=False, param=param
            )

    async def encode(self, text: str, most: int) -> list[int]:
        """The ids; when there are more than `most`, some number of them above it."""
        if len(text) <= LONG_TEXT:
            return self._vocabulary.encode(text)

        def work(wanted: Callable[[], bool]) -> list[int]:
            ids: list[int] = []
            for piece in self._encoded(text, wanted):
                ids += piece
                if len(ids) > most:
                    break
            return ids

        return await apart(work)

    async def count(self, text: str) -> int:
        """How many ids the text has."""
        if len(text) <= LONG_TEXT:
            return len(self._vocabulary.encode(text))
        return await apart(lambda wanted: sum(len(piece) for piece in self._encoded(text, wanted)))

    def _encoded(self, text: str, wanted: Callable[[], bool]) -> Iterator[list[int]]:
        for piece in self.slices(text):
            if not wanted():
                return
            yield self._vocabulary.encode(piece)

    def slices(self, text: str) -> Iterator[str]:
        """The text in pieces of one or two slices' length."""
        at = 0
        while self.exact and len(text) - at > 2 * SLICE:
            found = _CUT.search(text, at + SLICE, at + 2 * SLICE)
            end = self._beside_added(text, found.end() if found else at + 2 * SLICE)
            yield text[at:end]
            at = end
        yield text[at:]

    def _beside_added(self, text: str, cut: int) -> int:
        """The cut, or the beginning of the added token that it would cut in two."""
        for added in self._added:
            start = text.find(added, max(0, cut - len(added) + 1), cut + len(added) - 1)
            if 0 <= start < cut:
                return start
        return cut


async def apart(work: Callable[[Callable[[], bool]], T]) -> T:
    """Do work in the threads for long texts. It is handed a function that says whether its result is still wanted; work
    that has not begun when its task is cancelled never does."""
    left = False
    future = _threads.submit(work, lambda: not left)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        left = True
        future.cancel()
        raise

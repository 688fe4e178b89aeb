"""Rendered prompts to token ids, such that a conversation that grows never changes the ids it already had.

A model may write a text in other tokens than the tokenizer would choose for it. Encoding the whole history again
would then differ from what the engine has in its cache, from that place on. So the ids of every finished turn are
remembered with their text: a prompt that continues it takes those ids and only encodes what follows. What is
remembered may be lost at any time; it only costs computing. It is found only under the salt that it was kept with: how
a prompt is cut into tokens would show others what was answered.
"""

from __future__ import annotations

from collections import OrderedDict

from skilldeck_daemon.engine.detokenize import Vocabulary

MOST_TURNS = 128
MOST_CHARACTERS = 16_000_000


class PromptMemory:
    """Ids of the latest turns by their text. Not thread-safe; used on the event loop."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._turns: OrderedDict[tuple[str, str], tuple[int, ...]] = OrderedDict()
        self._size = 0
        self._boundaries = tuple(content for content in vocabulary.added.values() if content)
        # pieces encoded apart join exactly only where no space is put before each of them
        self._exact = vocabulary.byte_level and not vocabulary.prefix_space

    def remember(self, text: str, ids: tuple[int, ...], salt: str = "") -> None:
        """`ids` are a prompt and the turn written after it, without its end token; `text` is what they spell."""
        if not self._exact or len(text) > MOST_CHARACTERS // 4:
            return
        key = (salt, text)
        self._size += len(text) if key not in self._turns else 0
        self._turns[key] = ids
        self._turns.move_to_end(key)
        while len(self._turns) > MOST_TURNS or self._size > MOST_CHARACTERS:
            (_, old), _ = self._turns.popitem(last=False)
            self._size -= len(old)

    def split(self, prompt: str, salt: str = "") -> tuple[tuple[int, ...], str]:
        """The ids of the longest remembered beginning of a prompt, and the text that is still to be encoded."""
        best = ""
        for owner, text in self._turns:
            if (
                owner == salt
                and len(text) > len(best)
                and prompt.startswith(text)
                and prompt.startswith(self._boundaries, len(text))
            ):
                best = text
        if not best:
            return (), prompt
        self._turns.move_to_end((salt, best))
        return self._turns[salt, best], prompt[len(best) :]

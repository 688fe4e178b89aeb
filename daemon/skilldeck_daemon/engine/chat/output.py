"""What a token engine reports of its tokens, in text: for chats and for completions alike."""

from __future__ import annotations

from skilldeck_daemon.engine.base import TextLogprob, TokenLogprob
from skilldeck_daemon.engine.detokenize import Vocabulary


def spelled_logprob(vocabulary: Vocabulary, given: TokenLogprob) -> TextLogprob:
    """A token's log probability, and those of its alternatives, with what they spell."""

    def spelled(token: int) -> tuple[str, tuple[int, ...]]:
        raw = vocabulary.bytes_of(token)
        return raw.decode("utf-8", "replace"), tuple(raw)

    text, raw = spelled(given.token)
    top = []
    for token, logprob in given.top:
        other, other_raw = spelled(token)
        top.append((other, logprob, other_raw))
    return TextLogprob(text, given.logprob, raw, tuple(top))

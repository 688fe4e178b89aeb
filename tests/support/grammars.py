"""Whether a grammar lets a turn be a text, over a vocabulary of single bytes."""

from __future__ import annotations

import itertools
from functools import cache

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from skilldeck_daemon.engine.grammar.text import terminal_grammar


@cache
def _tokenizer() -> LLTokenizer:
    return LLTokenizer("byte")


def allows(grammar: str, text: str) -> bool:
    matcher = LLMatcher(_tokenizer(), grammar)
    assert not matcher.is_error(), matcher.get_error()
    tokens = _tokenizer().tokenize_str(text)
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


def follows(terminal: str, text: str) -> bool:
    """The same for a turn that is one terminal (`ChatRequest.held`)."""
    return allows(terminal_grammar(terminal), text)


class _Pieces:
    """A vocabulary of bytes and every short piece of what calls begin with."""

    def __init__(self) -> None:
        words = ("".join(word) for length in (2, 3) for word in itertools.product('`\n {":}nsjt,', repeat=length))
        self.tokens = [*(bytes([byte]) for byte in range(256)), *(word.encode() for word in words), b"<end>"]
        self.eos_token_id = len(self.tokens) - 1
        self.bos_token_id = None
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


@cache
def _pieces() -> LLTokenizer:
    words = _Pieces()
    return LLTokenizer(TokenizerWrapper(words), eos_token=[words.eos_token_id])


def lasts(grammar: str, text: str) -> str:
    """Why the masks along a text cannot be computed, "" when they can: over tokens of several characters, which lead
    the lexer to far more states than the bytes of the text."""
    matcher = LLMatcher(_pieces(), grammar)
    for byte in text.encode():
        matcher.compute_bitmask()
        if matcher.is_error() or not matcher.consume_token(byte):
            break
    return str(matcher.get_error()).partition("\n")[0] if matcher.is_error() else ""

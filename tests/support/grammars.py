"""Whether a grammar lets a turn be a text, over a vocabulary of single bytes."""

from __future__ import annotations

from functools import cache

from llguidance import LLMatcher, LLTokenizer

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

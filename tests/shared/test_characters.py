"""Halves of surrogate pairs, in pieces of text and of JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skilldeck_shared.characters import Characters, EscapedCharacters, clean, clean_json


def cut(text: str, cuts: list[int]) -> list[str]:
    pieces, at = [], 0
    for size in [*cuts, len(text)]:
        pieces.append(text[at : at + size])
        at += size
    return pieces


HALVES = st.text(st.one_of(st.characters(), st.sampled_from("\ud83d\ude00\\u\"{d8'")))


@given(HALVES, st.lists(st.integers(0, 4), max_size=20))
def test_a_text_in_pieces_is_the_text_with_its_halves_joined(text: str, cuts: list[int]) -> None:
    characters = Characters()
    out = "".join(characters.feed(piece) for piece in cut(text, cuts)) + characters.flush()
    assert out == clean(text)
    out.encode()


@given(HALVES, st.lists(st.integers(0, 4), max_size=20))
def test_json_in_pieces_holds_whole_characters_and_stays_the_same_value(text: str, cuts: list[int]) -> None:
    written = json.dumps({"a": [text]})
    escapes = EscapedCharacters()
    out = "".join(escapes.feed(piece) for piece in cut(written, cuts)) + escapes.flush()
    assert out == clean_json(written)
    # Python's own reader joins a pair of escapes, so only a lone half differs.
    assert json.loads(out) == {"a": [clean(text)]}


@given(st.text(st.sampled_from('\\u\\ud8d3dcDF00e"nx ')), st.lists(st.integers(0, 3), max_size=30))
def test_text_that_is_no_json_is_cut_the_same_everywhere(text: str, cuts: list[int]) -> None:
    escapes = EscapedCharacters()
    out = "".join(escapes.feed(piece) for piece in cut(text, cuts)) + escapes.flush()
    assert out == clean_json(text)
    if "\\u" not in text:
        assert out == text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (r'{"a": "\ud83d\ude00"}', r'{"a": "\ud83d\ude00"}'),
        (r'{"a": "\ud83d"}', r'{"a": "\ufffd"}'),
        (r'{"a": "\ude00\ud83d"}', r'{"a": "\ufffd\ufffd"}'),
        (r'{"a": "\ud83dx"}', r'{"a": "\ufffdx"}'),
        (r'{"a": "\ud83d\n"}', r'{"a": "\ufffd\n"}'),
        (r'{"a": "\ud83d\ud83d\ude00"}', r'{"a": "\ufffd\ud83d\ude00"}'),
        (r'{"a": "\\ud83d"}', r'{"a": "\\ud83d"}'),  # a backslash, and letters
        (r'{"a": "\u12', r'{"a": "\u12'),
        (r'{"a": "\uzz"}', r'{"a": "\uzz"}'),
    ],
)
def test_only_a_lone_half_changes(written: str, expected: str) -> None:
    assert clean_json(written) == expected

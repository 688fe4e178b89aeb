"""A JSON string in pieces is what `json.loads` makes of the whole."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldeck_shared.characters import clean
from skilldeck_shared.json_strings import JsonString


def read(text: str, cuts: list[int], *, strict: bool = False) -> tuple[str, str, JsonString]:
    """What a string behind its quote spells, what is left behind it, and its reader."""
    string, out, rest = JsonString(strict=strict), "", ""
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        piece = text[start:end]
        decoded, at = string.feed(piece)
        out += decoded
        rest += piece[at:]
    return out, rest, string


@given(
    text=st.text(st.characters(codec=None)),
    ascii_only=st.booleans(),
    strict=st.booleans(),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_it_is_decoded_the_same_at_every_cut(text: str, ascii_only: bool, strict: bool, cuts: list[int]) -> None:
    spelled = json.dumps(text, ensure_ascii=ascii_only)[1:] + ', "b\\'
    out, rest, string = read(spelled, cuts, strict=strict)
    assert (out, rest) == (clean(text), ', "b\\')
    assert (string.closed, string.broken) == (True, False)


@pytest.mark.parametrize(
    ("spelled", "lenient", "strict"), [(r"a\xb", "axb", "a"), (r"a\u00zzb", "a\ufffdb", "a"), (r"a\u12", "a", "a")]
)
def test_what_is_no_escape_ends_a_strict_string(spelled: str, lenient: str, strict: str) -> None:
    for cuts in ([], list(range(len(spelled)))):
        assert read(spelled, cuts)[0] == lenient
        assert read(spelled, cuts, strict=True)[0] == strict
    assert not read(r"a\u12", [])[2].broken  # the rest may still come

"""The incremental reader of a shell call's arguments."""

from __future__ import annotations

import itertools
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from skilldeck_daemon.tools.partial import CommandReader
from skilldeck_daemon.wire.fields import clean


def read(text: str, cuts: list[int]) -> list[str]:
    """The commands reported for the text fed in pieces; the order of reports is checked."""
    reader = CommandReader()
    commands: list[str] = []
    ended = 0
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        for piece in reader.feed(text[start:end]):
            if piece.kind == "begin":
                assert piece.index == len(commands) == ended
                commands.append("")
            else:
                assert piece.index == len(commands) - 1
                commands[-1] += piece.text
                ended += piece.kind == "end"
    return commands


strings = st.text(st.characters(codec=None), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | strings,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    commands=st.lists(strings, max_size=4),
    before=st.dictionaries(strings.filter(lambda key: key != "commands"), values, max_size=2),
    after=st.dictionaries(strings.filter(lambda key: key != "commands"), values, max_size=2),
    ascii_=st.booleans(),
    indent=st.sampled_from([None, 1]),
    cuts=st.lists(st.integers(0, 10_000), max_size=8),
)
def test_it_reports_exactly_the_commands_however_the_text_is_cut(
    commands: list[str],
    before: dict[str, object],
    after: dict[str, object],
    ascii_: bool,
    indent: int | None,
    cuts: list[int],
) -> None:
    text = json.dumps({**before, "commands": commands, **after}, ensure_ascii=ascii_, indent=indent)
    if not ascii_:
        # A lone half of a surrogate pair can only be spelt as an escape.
        text = clean(text)
        commands = [clean(command) for command in commands]
    assert read(text, cuts) == [clean(command) for command in commands]


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from('{}[]",:\\u0d8commands ')), cuts=st.lists(st.integers(0, 100), max_size=4))
def test_it_never_fails_on_anything_else(text: str, cuts: list[int]) -> None:
    read(text, cuts)


def test_a_lone_string_counts_as_one_command_and_nested_ones_do_not() -> None:
    assert read('{"commands": "ls -l"}', [5]) == ["ls -l"]
    assert read('{"x": {"commands": ["no"]}, "commands": ["yes", ["no"], {"a": "no"}]}', []) == ["yes"]

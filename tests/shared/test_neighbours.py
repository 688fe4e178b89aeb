"""Neighbours of one kind become one; order stays."""

from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from skilldeck_shared.neighbours import Neighbours, joined


def _key(event: str) -> str | None:
    return event[0] if event[0] != "x" else None


@given(st.lists(st.sampled_from(["a1", "a2", "b1", "x1", "x2"])))
def test_what_is_joined_is_all_there_was_in_its_order(events: list[str]) -> None:
    expected = [
        part
        for kind, group in groupby(events, key=lambda event: event[0])
        for part in ([*group] if kind == "x" else ["".join(group)])
    ]
    assert list(joined(events, _key, "".join)) == expected


def test_no_more_than_a_bound_become_one_and_one_event_is_not_copied() -> None:
    waiting: Neighbours[list[int]] = Neighbours(lambda event: 0, lambda events: [sum(map(len, events))], most=2)
    first = [1]
    assert waiting.add(first)
    assert waiting.take() is first
    for _ in range(5):
        waiting.add([0])
    assert (len(waiting), waiting.take_all(), len(waiting)) == (3, [[2], [2], [0]], 0)

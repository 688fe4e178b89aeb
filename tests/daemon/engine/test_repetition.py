"""What is a turn that goes round in circles, and what only looks like one."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldeck_daemon.engine.chat.repetition import Repetition, Retold

LOST = {
    "syllables": "cat /mnt/skills/sal-" + "le" * 400,
    "a word": "the answer is " + "plum " * 400,
    "a sentence": "So. " + "The file is not found, so I look again. " * 60,
    "a paragraph": ("I will now run the script and tell what it prints.\nLet me look at the file first.\n\n") * 20,
    "a call's arguments": '{"commands": ["' + "cat x; " * 300,
    "one letter": "x" * 9000,
    "marks without an end": "-" * 9000,
}
SOUND = {
    "a ruler": "Title\n" + "-" * 2000 + "\ntext",
    "a table": "| name | sum |\n|------|-----|\n" + "".join(f"| row {n} | {n * 7} |\n" for n in range(400)),
    "an empty table": "| a | b |\n" + "|   |   |\n" * 200,
    "zeros": json.dumps([0] * 1500),
    "words of a list": json.dumps([None] * 100 + [True] * 100),
    "base64 of nothing": base64.b64encode(bytes(3000)).decode(),
    "base64 of spaces": base64.b64encode(b" " * 200).decode(),
    "indentation": "def f():\n" + " " * 2000 + "pass",
    "blank lines": "a\n" + "\n" * 2000 + "b",
    "rows that are alike": "id,name,ok\n" + "".join(f"{n},same,true\n" for n in range(500)),
    "laughter": "ha" * 60 + "!",
    "a refrain": "We shall not, we shall not be moved.\n" * 12,
    "html": "<ul>\n" + "<li></li>\n" * 40 + "</ul>",
    "a bar": "█" * 3000,
}


@pytest.mark.parametrize("case", LOST)
def test_a_text_that_goes_round_in_circles_is_found(case: str) -> None:
    assert Repetition().feed(LOST[case])


@pytest.mark.parametrize("case", SOUND)
def test_what_people_ask_for_is_let_through(case: str) -> None:
    reader = Repetition()
    assert not any(reader.feed(char) for char in SOUND[case])


@given(st.sampled_from([*LOST.values(), *SOUND.values()]), st.lists(st.integers(1, 500), max_size=40))
@settings(max_examples=60, deadline=None)
def test_it_is_found_at_the_same_place_however_the_text_was_cut(text: str, sizes: list[int]) -> None:
    whole = Repetition().feed(text)
    reader, place = Repetition(), 0
    for size in [*sizes, len(text)]:
        reader.feed(text[place : place + size])
        place += size
    assert reader.found == whole


FAST = "characters a second, at most 20\n"
PRINTED = f"rows: 12\ncue 3: 44 {FAST}cue 4: 25 {FAST}result: 2 problems\n"


@pytest.mark.parametrize(
    ("more", "over"),
    [
        ("", False),
        ("\nSo there are 2 problems in 12 rows.\n- rows: 12\n- result: 2 problems\n", False),
        (PRINTED, True),  # it begins again
        (f"cue 5: 25 {FAST}cue 6: 20 {FAST}", False),
        ("".join(f"cue {n}: 25 {FAST}" for n in range(5, 9)), True),  # it counts on
        ("I look.\n" * 3, False),
        ("I look.\n" * 4, True),
        ("-----\n" * 9 + "1 2 3\n" * 9, False),
    ],
)
def test_an_answer_that_goes_on_beyond_what_was_printed_is_found(more: str, over: bool) -> None:
    whole, pieces = Retold(PRINTED), Retold(PRINTED)
    text = f"{PRINTED}{more}"
    assert whole.feed(text) is over
    assert any([pieces.feed(char) for char in text]) is over

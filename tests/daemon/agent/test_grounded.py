"""Numbers, dates and names of an answer that nothing its run has read holds."""

from __future__ import annotations

import pytest

from skilldeck_daemon.agent.grounded import ASK, SHOWN, asked_again, places_of, ungrounded

READ = """rows: 12
missing values: 3 (region 1, quantity 1, total 1)
total (number): sum 1287.20, max 1,240
date: 2025-03-14 09:15:00 to 2025-03-21
customer: most often Brightwater School (3)
version v2.4, share 0.250
"""


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("It has 12 rows; 3 values are missing.", []),
        ("It has 13 rows.", ["13"]),
        ("The quantity column misses 3 values, the sum is 1,287.2.", []),  # both numbers stand there
        ("The sum is 1287.3, the largest 1240.00.", ["1287.3"]),
        ("The largest is 1 240, at 9:15.", []),
        ("From March 14, 2025 to the 21st of March.", []),
        ("From 14 March to 22 March 2025.", ["22 March 2025"]),
        ("On 2025-03-15 it failed.", ["2025-03-15"]),
        ("1. There are 12 rows.\n2. There are 5 columns.", ["5"]),  # the numbers of the list are its own
        ("The customer Brightwater orders most, then Holloway.", ["Holloway"]),
        ("Most orders are from Schools. Lately on Monday in May.", []),
        ("The CSV has 12 rows, in version v2.4.", []),
        ("A quarter is 0.25.", []),
        ("", []),
    ],
)
def test_what_nothing_holds_is_found(answer: str, found: list[str]) -> None:
    places = ungrounded(answer, [READ, "How many rows?"])
    assert [place.text for place in places] == found
    assert all(answer[start:end] == text for start, end, text in places)


def test_places_are_told_by_item_and_part_and_not_without_end() -> None:
    items = [
        {"type": "shell_call"},
        {"type": "message", "content": [{"type": "output_text", "text": "It has 13 rows."}]},
    ]
    place = {"output_index": 1, "content_index": 0, "start_index": 7, "end_index": 9, "text": "13"}
    call = {"role": "assistant", "content": "I think 13."}
    assert places_of(items, [call, {"role": "tool", "content": READ}]) == [place]
    assert places_of(items, [call, {"role": "tool", "content": [{"type": "text", "text": "13 rows"}]}]) == []
    assert places_of(items, [{"role": "user", "content": READ}]) == []  # what a model knows by itself stands nowhere
    assert asked_again([place, place])["content"] == ASK.format(places="13")
    assert len(ungrounded(" ".join(map(str, range(1000, 2000))), [""])) == SHOWN

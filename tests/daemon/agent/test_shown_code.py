"""What code instructions show, what is said of it, and which of it a request is like."""

from __future__ import annotations

import pytest

from skilldeck_daemon.agent.guidance.shown_code import alike, pieces

AT = "/mnt/skills/boats/scripts"
INSTRUCTIONS = f"""# Boats

`{AT}/sails.py` is for regattas.

## Hulls

Measure a hull:

```bash
# Its length
$ python3 {AT}/hull.py boat.csv \\
    --length
pip install numpy
# Its weight
python3 {AT}/hull.py boat.csv --weight
```

## Sails

```bash
python3 {AT}/sails.py boat.csv
```

## Creating drawings

```python
# A plan of the deck
import draw
draw.deck("boat.csv")
```

Never do it so:

```python
draw.by_hand()
```

```js
console.log("knots")
```

```json
{{"a": 1}}
```
"""


def test_pieces_are_lines_and_programs_with_what_is_said_of_them() -> None:
    assert [(piece.language, piece.code.strip().split("\n")[-1], piece.about) for piece in pieces(INSTRUCTIONS)] == [
        ("bash", f"python3 {AT}/hull.py boat.csv --length", "Boats Hulls Measure a hull: Its length"),
        ("bash", f"python3 {AT}/hull.py boat.csv --weight", "Boats Hulls Measure a hull: Its weight"),
        ("bash", f"python3 {AT}/sails.py boat.csv", f"Boats Sails `{AT}/sails.py` is for regattas."),
        ("python", 'draw.deck("boat.csv")', "Boats Creating drawings A plan of the deck"),
        ("node", 'console.log("knots")', "Boats Creating drawings"),
    ]


@pytest.mark.parametrize(
    ("said", "best"),
    [
        ("How heavy is the weight of my boat?", [1]),
        ("the length of the boat", [0]),
        ("Is it fit for the regatta?", [2]),
        ("a plan of the deck", [3]),
        ("hulls", [0, 1]),
        ("Make something", [3]),
        ("lunch", [0, 1, 2, 3, 4]),
    ],
)
def test_a_request_is_like_what_is_said_of_a_piece(said: str, best: list[int]) -> None:
    likes = alike(pieces(INSTRUCTIONS), said)
    assert [number for number, like in enumerate(likes) if like == max(likes)] == best

"""Whole pictures in terminals that have kitty's graphics protocol with placeholders: kitty itself and ghostty.

The picture is sent once, and cells that hold a placeholder stand for its parts: they scroll, are cut and covered like
any text. Which terminal it is says its environment; none is asked, for one that does not know the question would write
it on the screen, or answer into what a person types. Within tmux or screen, which pass nothing on unasked, it is left.
"""

from __future__ import annotations

import base64
import functools
import itertools
import os
import random
import unicodedata
from collections.abc import Mapping

PLACEHOLDER = "\U0010eeee"
PIECE = 4096
"""Characters of a picture that one sequence may carry."""
_ids = itertools.count(random.randrange(1, 1 << 23))


def understood(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the terminal shows placeholders."""
    if environment.get("TMUX") or environment.get("STY"):
        return False
    names = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    return names[0] in ("xterm-kitty", "xterm-ghostty") or names[1] in ("kitty", "ghostty")


def new_id() -> int:
    """A number for a picture: 24 bits, since the colour of its cells tells it."""
    return next(_ids) % (1 << 24) or new_id()


def sent(number: int, png: bytes, columns: int, rows: int) -> str:
    """What a terminal is sent so that the cells of `row` show the picture, `columns` by `rows` of them."""
    data = base64.b64encode(png).decode()
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    first = f"i={number},f=100,t=d,q=2,"
    sequences = [
        f"\x1b_G{first if at == 0 else ''}m={int(at + 1 < len(pieces))};{piece}\x1b\\"
        for at, piece in enumerate(pieces)
    ]
    return "".join(sequences) + f"\x1b_Ga=p,U=1,i={number},c={columns},r={rows},q=2\x1b\\"


def forgotten(number: int) -> str:
    """What frees the memory it takes there."""
    return f"\x1b_Ga=d,d=I,i={number},q=2\x1b\\"


def row(y: int, columns: int) -> str:
    """One row of the cells that stand for a picture. Not more rows or columns than `MOST`."""
    marks = _marks()
    return "".join(f"{PLACEHOLDER}{marks[y]}{marks[x]}" for x in range(columns))


MOST = 128


@functools.cache
def _marks() -> str:
    """The characters that count rows and columns: the combining ones above a letter (class 230) that no character is
    composed of and that are not composed themselves, in order. Unicode added none among the first 129 since the
    protocol was made."""
    made = (unicodedata.decomposition(chr(code)) for code in range(0xC0, 0x3000))
    used = {part for text in made if text and not text.startswith("<") for part in text.split()}
    above = (chr(code) for code in range(0x300, 0x830) if unicodedata.combining(chr(code)) == 230)
    return "".join(c for c in above if not unicodedata.decomposition(c) and f"{ord(c):04X}" not in used)

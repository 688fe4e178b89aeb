"""The colours of commands: SGR sequences (16, 256 and true colour, bold and the like), and none of the others.

`coloured` makes a line plain text with the spans that are styled; `Colours` passes the sequences on to a terminal. What
hides text (conceal) or blinks is dropped like every other sequence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rich.color import Color
from rich.style import Style

from skilldeck_shared.terminal import ESCAPES, clean

PLAIN = Style()
RESET = "\x1b[0m"
_SGR = re.compile(r"\x1b\[([0-9;:]*)m")
_OPEN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*)?$")
_LONGEST_OPEN = 64
_ON = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "reverse", 9: "strike", 21: "underline", 53: "overline"}
_OFF = {22: ("bold", "dim"), 23: ("italic",), 24: ("underline",), 27: ("reverse",), 29: ("strike",), 55: ("overline",)}


@dataclass(frozen=True)
class Span:
    """Characters from `start` to `end` of a line in a style."""

    start: int
    end: int
    style: Style


def coloured(line: str, style: Style = PLAIN) -> tuple[str, tuple[Span, ...], Style]:
    """The text of a line, its styled spans, and the style that the next line begins with.

    Args:
        style: the one that the line before ended with.
    """
    if "\x1b" not in line and style is PLAIN:
        return clean(line), (), style
    pieces: list[tuple[str, Style]] = []
    at = 0
    for found in ESCAPES.finditer(line):
        pieces.append((line[at : found.start()], style))
        at = found.end()
        if sgr := _SGR.fullmatch(found[0]):
            style = after(sgr[1], style)
    pieces.append((line[at:], style))
    text, spans = "", []
    for piece, own in _behind_return(pieces):
        start, text = len(text), text + clean(piece)
        if own != PLAIN and len(text) > start:
            spans.append(Span(start, len(text), own))
    return text, tuple(spans), style


def _behind_return(pieces: list[tuple[str, Style]]) -> list[tuple[str, Style]]:
    """What a carriage return lets a terminal show: the pieces behind the last one that anything follows."""
    whole = "".join(piece for piece, _ in pieces)
    gone = whole.rstrip("\r").rfind("\r") + 1
    kept = []
    for piece, style in pieces:
        kept.append((piece[gone:].replace("\r", ""), style))
        gone = max(0, gone - len(piece))
    return kept


def after(parameters: str, style: Style) -> Style:
    """The style behind an SGR sequence with these parameters."""
    codes = [int(code) if code else 0 for code in re.split("[;:]", parameters)]
    while codes:
        code = codes.pop(0)
        if code == 0:
            style = PLAIN
        elif code in _ON:
            style += Style(**{_ON[code]: True})  # type: ignore[arg-type]
        elif code in _OFF:
            style += Style(**dict.fromkeys(_OFF[code], False))  # type: ignore[arg-type]
        elif code in (38, 48):
            colour = _extended(codes)
            if colour is not None:
                style += Style(color=colour) if code == 38 else Style(bgcolor=colour)
        elif code in (39, 49):
            default = Color.default()
            style += Style(color=default) if code == 39 else Style(bgcolor=default)
        elif (number := _basic(code)) is not None:
            colour = Color.from_ansi(number)
            style += Style(color=colour) if code // 10 in (3, 9) else Style(bgcolor=colour)
    return style


def _basic(code: int) -> int | None:
    """Which of the 16 colours a code means: 30 to 37 and 90 to 97, as backgrounds 40 to 47 and 100 to 107."""
    tens, number = divmod(code, 10)
    if number > 7 or tens not in (3, 4, 9, 10):
        return None
    return number + 8 * (tens > 4)


def _extended(codes: list[int]) -> Color | None:
    """The colour that follows 38 or 48: `5;N`, or `2;R;G;B`. Takes its codes."""
    kind = codes.pop(0) if codes else 0
    if kind == 5 and codes:
        number = codes.pop(0)
        return Color.from_ansi(number) if number <= 255 else None
    if kind == 2 and len(codes) >= 3:
        red, green, blue = codes[:3]
        del codes[:3]
        return Color.from_rgb(red, green, blue) if max(red, green, blue) <= 255 else None
    codes.clear()  # what follows would be taken for codes of its own
    return None


class Colours:
    """A stream of output for a terminal: its text made safe, its colours kept. One for each stream."""

    def __init__(self) -> None:
        self._open = ""  # the beginning of a sequence, whose end comes with the next piece
        self._style = PLAIN

    def feed(self, text: str) -> str:
        """What to write for the next piece; colours that are on are off at its end, and on again with the next."""
        text = self._open + text
        unfinished = _OPEN.search(text[-_LONGEST_OPEN:])
        self._open = unfinished[0] if unfinished else ""
        text = text[: len(text) - len(self._open)]
        lines = []
        for line in text.split("\n"):
            plain, spans, self._style = coloured(line, self._style)
            lines.append(_painted(plain, spans))
        return "\n".join(lines)


def _painted(text: str, spans: tuple[Span, ...]) -> str:
    parts, at = [], 0
    for span in spans:
        parts += [text[at : span.start], span.style.render(text[span.start : span.end])]
        at = span.end
    return "".join([*parts, text[at:]])

"""Whole characters. JSON can spell half of a surrogate pair, no UTF-8 text can hold one: it becomes U+FFFD.

Models write characters beyond U+FFFF in pieces, and servers cut their streams where they like: the two halves of a
pair may come in two pieces of a text, as characters (`Characters`) or as escapes of JSON (`EscapedCharacters`).
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}")
_HIGH = re.compile(r"\\u[dD][89abAB]")
_LOW = re.compile(r"\\u[dD][c-fC-F]")
_BEGUN = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
"""An escape that a piece of text may end in the middle of."""
LOST = "\\ufffd"


def clean(text: str) -> str:
    """The text with its pairs joined and each lone half as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class Characters:
    """A text that arrives in pieces: `feed` returns whole characters, `flush` what is held back at the end."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        text, self._held = self._held + piece, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return clean(text)

    def flush(self) -> str:
        held, self._held = self._held, ""
        return clean(held)


class EscapedCharacters:
    """JSON text that arrives in pieces: a lone half that is written as an escape becomes the escape of U+FFFD.

    Everything else stays as it was written, a pair of escapes and a malformed escape too.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        return self._read(piece, last=False)

    def flush(self) -> str:
        return self._read("", last=True)

    def _read(self, piece: str, last: bool) -> str:
        text, self._held = self._held + piece, ""
        out: list[str] = []
        at = 0
        while (slash := text.find("\\", at)) >= 0:
            out.append(text[at:slash])
            at = slash
            if not last and _BEGUN.fullmatch(text, at):
                self._held = text[at:]
                return "".join(out)
            if not _ESCAPE.match(text, at):
                at += 2
                out.append(text[slash:at])
                continue
            at += 6
            escape = text[slash:at]
            if _HIGH.match(escape):
                if not last and (at == len(text) or _BEGUN.fullmatch(text, at)):
                    self._held = text[slash:]
                    return "".join(out)
                if _ESCAPE.match(text, at) and _LOW.match(text, at):
                    out.append(escape + text[at : at + 6])
                    at += 6
                    continue
                escape = LOST
            elif _LOW.match(escape):
                escape = LOST
            out.append(escape)
        return "".join([*out, text[at:]])


def clean_json(text: str) -> str:
    """JSON text without halves of surrogate pairs, written as characters or as escapes."""
    escapes = EscapedCharacters()
    return escapes.feed(clean(text)) + escapes.flush()

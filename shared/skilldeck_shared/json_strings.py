"""One JSON string whose characters arrive in pieces, decoded as they come.

Linear in the text, whatever the size of the pieces. Halves of surrogate pairs, written as escapes or as characters, are
joined across pieces; a lone half is U+FFFD.
"""

from __future__ import annotations

import re

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}
_PLAIN = re.compile('[^"\\\\\ud800-\udfff]+')
_UNICODE = 6
"""Characters of an escape like \\u00e9."""
LOST = "\ufffd"


class JsonString:
    """What stands behind an opening quote. `closed`: the closing quote was read; `broken`: it held an escape that JSON
    does not have. A strict reader reads nothing behind such an escape; another takes its character, or U+FFFD."""

    def __init__(self, *, strict: bool = False) -> None:
        self.closed = self.broken = False
        self._strict = strict
        self._held = ""  # an escape that is not all here
        self._high = ""  # a high surrogate that waits for its other half

    def feed(self, text: str, at: int = 0) -> tuple[str, int]:
        """Read `text` from `at` on: the decoded text, and the place behind what belongs to the string."""
        before = len(self._held)
        if before:  # it ended the piece before, so this one is read from its beginning
            text, self._held = self._held + text[at:], ""
            shift, at = at - before, 0
        else:
            shift = 0
        out: list[str] = []
        while at < len(text) and not (self.closed or (self.broken and self._strict)):
            plain = _PLAIN.match(text, at)
            if plain is not None:
                out.append(self._lone() + plain.group())
                at = plain.end()
            elif text[at] == '"':
                self.closed = True
                out.append(self._lone())
                at += 1
            elif text[at] != "\\":
                out.append(self._joined(text[at]))
                at += 1
            else:
                size = _UNICODE if text[at + 1 : at + 2] == "u" else 2
                if len(text) - at < size and not (self._strict and _wrong(text[at:])):
                    self._held = text[at:]
                    return "".join(out), len(text) + shift
                char = _decoded(text[at : at + size])
                self.broken |= char is None
                if char is not None or not self._strict:
                    out.append(self._joined(char or (LOST if size == _UNICODE else text[at + 1])))
                at += size
        return "".join(out), at + shift

    def _lone(self) -> str:
        """What stands for a high surrogate that no low one followed."""
        high, self._high = self._high, ""
        return LOST if high else ""

    def _joined(self, char: str) -> str:
        if "\udc00" <= char <= "\udfff":
            high, self._high = self._high, ""
            return chr(0x10000 + ((ord(high) - 0xD800) << 10) + (ord(char) - 0xDC00)) if high else LOST
        lost = self._lone()
        if "\ud800" <= char <= "\udbff":
            self._high = char
            return lost
        return lost + char


_HEX = re.compile(r"[0-9a-fA-F]{0,4}")


def _decoded(escape: str) -> str | None:
    """The character of a whole escape; None when JSON has no such escape."""
    if escape[1] != "u":
        return _ESCAPES.get(escape[1])
    return chr(int(escape[2:], 16)) if len(escape) == _UNICODE and _HEX.fullmatch(escape, 2) else None


def _wrong(begun: str) -> bool:
    """Whether an escape that is not all here is none already."""
    return begun.startswith("\\u") and _HEX.fullmatch(begun, 2) is None

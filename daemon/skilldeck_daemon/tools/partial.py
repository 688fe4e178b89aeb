"""Reading a call's arguments while the model is still writing them.

`CommandReader` is fed pieces of a JSON object and reports the strings of one top-level key as they grow. It
never raises: what is not JSON is simply not reported, and the caller parses the whole text when it is complete.
Linear in the text, whatever the size of the pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}


@dataclass(frozen=True)
class Piece:
    """Command number `index` began, grew by `text`, or ended (its whole text is the sum of its pieces)."""

    kind: Literal["begin", "text", "end"]
    index: int
    text: str = ""


class CommandReader:
    """Incremental reader of `{"commands": ["…", …], …}`; a lone string for the list counts as one command.

    Args:
        name: the key that is read.
    """

    def __init__(self, name: str = "commands") -> None:
        self._name = name
        self._depth = 0
        self._in_string = False
        self._escape = ""  # the escape sequence read so far, from its backslash
        self._surrogate = ""  # a high surrogate that waits for its other half
        self._string: list[str] = []  # the current string when it is (or may be) a key
        self._key = ""
        self._expects_key = False
        self._list_depth = 0  # depth inside the commands list, 0 outside
        self._command = False
        self._count = 0

    def feed(self, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        grown: list[str] = []

        def flush() -> None:
            if grown:
                pieces.append(Piece("text", self._count, "".join(grown)))
                grown.clear()

        for char in text:
            if self._in_string:
                if not self._escape and char == '"':
                    if self._surrogate:
                        (grown if self._command else self._string).append("\ufffd")
                        self._surrogate = ""
                    self._in_string = False
                    if self._command:
                        flush()
                        pieces.append(Piece("end", self._count))
                        self._command = False
                        self._count += 1
                    elif self._expects_key:
                        self._key = "".join(self._string)
                    continue
                decoded = self._decode(char)
                if decoded:
                    (grown if self._command else self._string).append(decoded)
            elif char == '"':
                self._in_string = True
                self._string.clear()
                if self._is_command():
                    self._command = True
                    pieces.append(Piece("begin", self._count))
            else:
                self._structure(char)
        flush()
        return pieces

    def _is_command(self) -> bool:
        if self._list_depth:
            return self._depth == self._list_depth
        return self._depth == 1 and not self._expects_key and self._key == self._name

    def _structure(self, char: str) -> None:
        if char in "{[":
            self._depth += 1
            if char == "[" and self._depth == 2 and self._key == self._name and not self._expects_key:
                self._list_depth = 2
            if self._depth == 1:
                self._expects_key = char == "{"
        elif char in "}]":
            if self._list_depth == self._depth:
                self._list_depth = 0
                self._key = ""
            self._depth -= 1
        elif char == ":" and self._depth == 1:
            self._expects_key = False
        elif char == "," and self._depth == 1:
            self._expects_key = True
            self._key = ""

    def _decode(self, char: str) -> str:
        """The text that `char` completes, empty while an escape sequence is open."""
        if not self._escape:
            if char == "\\":
                self._escape = char
                return ""
            return self._joined(char)
        self._escape += char
        if self._escape == "\\u" or (self._escape.startswith("\\u") and len(self._escape) < 6):
            return ""
        escape, self._escape = self._escape, ""
        if not escape.startswith("\\u"):
            return self._joined(_ESCAPES.get(escape[1], escape[1]))
        try:
            return self._joined(chr(int(escape[2:], 16)))
        except ValueError:
            return self._joined("\ufffd")

    def _joined(self, char: str) -> str:
        """Put the halves of a surrogate pair together; a lone half becomes U+FFFD."""
        high, self._surrogate = self._surrogate, ""
        if "\udc00" <= char <= "\udfff":
            if not high:
                return "\ufffd"
            return chr(0x10000 + ((ord(high) - 0xD800) << 10) + (ord(char) - 0xDC00))
        lost = "\ufffd" if high else ""
        if "\ud800" <= char <= "\udbff":
            self._surrogate = char
            return lost
        return lost + char

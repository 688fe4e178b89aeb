"""Reading a call's arguments while the model is still writing them.

`CommandReader` is fed pieces of a JSON object and reports the strings of one top-level key as they grow. It
never raises: what is not JSON is simply not reported, and the caller parses the whole text when it is complete.
Linear in the text, whatever the size of the pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from skilldeck_shared.json_strings import JsonString


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
        self._string: JsonString | None = None  # the one that is read
        self._spelled: list[str] = []  # its text when it is a key
        self._key = ""
        self._expects_key = False
        self._list_depth = 0  # depth inside the commands list, 0 outside
        self._command = False
        self._count = 0

    def feed(self, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        at = 0
        while at < len(text):
            if self._string is None:
                if text[at] == '"':
                    self._begin(pieces)
                else:
                    self._structure(text[at])
                at += 1
                continue
            decoded, at = self._string.feed(text, at)
            if self._command and decoded:
                pieces.append(Piece("text", self._count, decoded))
            elif self._expects_key:
                self._spelled.append(decoded)
            if self._string.closed:
                self._end(pieces)
        return pieces

    def _begin(self, pieces: list[Piece]) -> None:
        self._string = JsonString()
        self._spelled.clear()
        if self._is_command():
            self._command = True
            pieces.append(Piece("begin", self._count))

    def _end(self, pieces: list[Piece]) -> None:
        self._string = None
        if self._command:
            pieces.append(Piece("end", self._count))
            self._command = False
            self._count += 1
        elif self._expects_key:
            self._key = "".join(self._spelled)

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

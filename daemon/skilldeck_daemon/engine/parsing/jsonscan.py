"""A JSON scanner that takes one character at a time and always knows where it is.

It holds no text: it says whether the document is still valid, how deep it is and what is open, which is what reading
a tool call out of a stream needs (where a key ends, where a value begins, when the document is complete).
"""

from __future__ import annotations

import re
from enum import Enum


class At(Enum):
    """What the scanner expects next."""

    VALUE = "a value"
    VALUE_OR_END = "a value or ]"
    KEY = "a key"
    KEY_OR_END = "a key or }"
    COLON = "a colon"
    AFTER = "a comma or the end"
    STRING = "the rest of a string"
    ESCAPE = "an escape"
    HEX = "hexadecimal digits"
    LITERAL = "the rest of a number or word"
    DONE = "nothing"
    BAD = "valid JSON"


SPACE = " \t\r\n"
LITERAL = re.compile(r"true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")


class JsonScan:
    """Feed characters with `step`; read `at`, `depth` and `is_key`. Once BAD or DONE it stays so."""

    def __init__(self) -> None:
        self.at = At.VALUE
        self.is_key = False
        self._stack: list[str] = []
        self._literal: list[str] = []
        self._hex = 0

    @property
    def depth(self) -> int:
        return len(self._stack)

    def step(self, char: str) -> None:
        at = self.at
        if at is At.STRING:
            if char == '"':
                self.at = At.COLON if self.is_key else self._after_value()
            elif char == "\\":
                self.at = At.ESCAPE
            elif char < " ":
                self.at = At.BAD
        elif at is At.LITERAL:
            if char in ",]}" or char in SPACE:
                if LITERAL.fullmatch("".join(self._literal)):
                    self.at = self._after_value()
                    self.step(char)
                else:
                    self.at = At.BAD
            else:
                self._literal.append(char)
        elif at is At.ESCAPE:
            self._hex = 4
            self.at = At.HEX if char == "u" else At.STRING if char in '"\\/bfnrt' else At.BAD
        elif at is At.HEX:
            self._hex -= 1
            if char not in "0123456789abcdefABCDEF":
                self.at = At.BAD
            elif self._hex == 0:
                self.at = At.STRING
        elif char not in SPACE:
            self._structure(char)

    def finish(self) -> None:
        """The text has ended: a bare number or word is complete only now."""
        if self.at is At.LITERAL and not self._stack:
            self.at = At.DONE if LITERAL.fullmatch("".join(self._literal)) else At.BAD

    def _after_value(self) -> At:
        return At.AFTER if self._stack else At.DONE

    def _structure(self, char: str) -> None:
        at = self.at
        if at in (At.VALUE, At.VALUE_OR_END):
            if char in "{[":
                self._stack.append(char)
                self.at = At.KEY_OR_END if char == "{" else At.VALUE_OR_END
            elif char == '"':
                self.is_key, self.at = False, At.STRING
            elif char == "]" and at is At.VALUE_OR_END:
                self._pop("[")
            elif char in "-0123456789tfn":
                self._literal, self.at = [char], At.LITERAL
            else:
                self.at = At.BAD
        elif at in (At.KEY, At.KEY_OR_END):
            if char == '"':
                self.is_key, self.at = True, At.STRING
            elif char == "}" and at is At.KEY_OR_END:
                self._pop("{")
            else:
                self.at = At.BAD
        elif at is At.COLON:
            self.at = At.VALUE if char == ":" else At.BAD
        elif at is At.AFTER:
            if char == ",":
                self.at = At.KEY if self._stack[-1] == "{" else At.VALUE
            else:
                self._pop({"}": "{", "]": "["}.get(char, ""))
        else:
            self.at = At.BAD

    def _pop(self, opened: str) -> None:
        if self._stack and self._stack[-1] == opened:
            self._stack.pop()
            self.at = self._after_value()
        else:
            self.at = At.BAD

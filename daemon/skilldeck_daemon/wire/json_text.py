"""JSON as clients send it, made safe for everything behind: what comes out can be stored, copied and sent back.

Refused are NaN, infinities, numbers beyond a double, text that is not UTF-8, and values nested deeper than anything
behind could copy or write again. Half a surrogate pair, which JSON can spell and UTF-8 cannot, becomes U+FFFD. Refused
before they are made are more values than a request has use for: 60 MB of `[],[],` are twenty million lists, 3 GB and
13 s in which nothing else runs.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from skilldeck_shared.characters import clean
from skilldeck_shared.errors import BadRequest, TooLarge

MAX_DEPTH = 200
"""Arrays and objects inside one another. Copying takes two Python frames a level, of a thousand that there are."""

MAX_VALUES = 500_000
"""Values and keys of one body: 0.2 s to make. Beyond all text of a request, which is one value however long."""
# A string, or the rest of the text when it is not closed; possessive, so that it is read once.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z|\\)', re.DOTALL)


def parse_json(data: bytes, what: str = "The body", param: str | None = None) -> Any:
    """The value.

    Args:
        what: names the text in errors; param: the field that holds it, None when it is the whole body.
    Raises:
        BadRequest: saying what is wrong, with line and column where that helps. TooLarge: too many values.
    """
    try:
        return _parsed(data, what)
    except (BadRequest, TooLarge) as error:
        error.param = param
        raise


def _parsed(data: bytes, what: str) -> Any:
    _check_number(data, what)
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise BadRequest(
            f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            "Send a JSON object.",
            code="invalid_json",
        ) from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{what} is not UTF-8 (byte {error.start}).", code="invalid_json") from error
    except RecursionError:
        raise _too_deep(what) from None
    except _NotJson as error:
        raise BadRequest(f"{what} {error}", code="invalid_json") from None
    except ValueError as error:
        # Python refuses to convert integers of more than 4300 digits.
        raise BadRequest(f"{what} holds a number that is too long.", code="invalid_json") from error
    # Both can be ruled out without walking through a long body.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH or b"\\ud" in data or b"\\uD" in data:
        return _walked(value, what)
    return value


def _check_number(data: bytes, what: str) -> None:
    if too_many(data):
        raise TooLarge(
            f"{what} holds more than {MAX_VALUES:,} JSON values.",
            "Send large data as a file (POST /v1/files), or as text.",
            code="too_many_values",
        )


def too_many(data: bytes) -> bool:
    """Whether it holds more than MAX_VALUES values and keys. Text may hold as many commas as it likes."""
    if _separators(data, 0, len(data)) <= MAX_VALUES:
        return False
    count = at = 0
    for string in _STRING.finditer(data):  # a loop of Python's own, in which other threads have their turn
        count += _separators(data, at, string.start())
        if count > MAX_VALUES:
            return True
        at = string.end()
    return count + _separators(data, at, len(data)) > MAX_VALUES


def _separators(data: bytes, begin: int, end: int) -> int:
    """What stands before each value and key."""
    return sum(data.count(mark, begin, end) for mark in (b",", b":", b"[", b"{"))


def _walked(root: Any, what: str) -> Any:
    """The value with whole characters only. Raises BadRequest when it is too deep. No recursion: it may be."""
    holder = [root]
    waiting: list[tuple[Any, int]] = [(holder, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _too_deep(what)
        if isinstance(value, dict):
            items = [(clean(key), entry) for key, entry in value.items()]
            value.clear()
            value.update(items)
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(entry, str):
                value[key] = clean(entry)
            elif isinstance(entry, dict | list):
                waiting.append((entry, depth + 1))
    return holder[0]


def _too_deep(what: str) -> BadRequest:
    return BadRequest(f"{what} is nested too deeply.", f"At most {MAX_DEPTH} levels.", code="invalid_json")


class _NotJson(Exception):
    """A value that Python reads and JSON does not have; the text says what the document does."""


def _no_constant(name: str) -> NoReturn:
    raise _NotJson(f"is not JSON: {name} is no JSON number.")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _NotJson("holds a number beyond the range of doubles.")
    return value

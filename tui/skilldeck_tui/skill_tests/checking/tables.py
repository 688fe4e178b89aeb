"""What a check finds inside a file: a value of a JSON document, a cell of a CSV table, the bytes of a sample.

Each function returns the reasons why the file is not as it should be.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

_STEP = re.compile(r"""\.?([^.\[\]]+)|\[(-?\d+)\]|\[(?:'([^']*)'|"([^"]*)")\]""")


class NoSuchPath(Exception):
    """Nothing is where a path leads."""


def steps(path: str) -> list[str | int]:
    """`$.a.b[0]['c d']` as its keys and indexes; `$` and the first dot may be left out. Raises ValueError."""
    rest = path.removeprefix("$")
    found: list[str | int] = []
    while rest:
        match = _STEP.match(rest)
        if match is None:
            raise ValueError(f"{path!r} is no path: it cannot be read from {rest[:20]!r} on")
        key, index, single, double = match.groups()
        found.append(int(index) if index is not None else next(k for k in (key, single, double) if k is not None))
        rest = rest[match.end() :]
    return found


def at(document: Any, path: str) -> Any:
    """The value at a path. Raises NoSuchPath with how far it led."""
    value = document
    for number, step in enumerate(steps(path)):
        try:
            if isinstance(value, list):
                value = value[int(step)]
            elif isinstance(value, dict):
                value = value[str(step)]
            else:
                raise KeyError(step)
        except (KeyError, IndexError, ValueError):
            raise NoSuchPath(f"there is no {step!r} (step {number + 1} of {path})") from None
    return value


def close(value: float, wanted: float, tolerance: float) -> bool:
    return math.isclose(value, wanted, rel_tol=1e-9, abs_tol=tolerance)


def alike(value: Any, wanted: Any, tolerance: float) -> bool:
    """Equal; numbers within the tolerance, at any depth."""
    if isinstance(wanted, bool) or isinstance(value, bool):
        return value is wanted
    if isinstance(wanted, (int, float)) and isinstance(value, (int, float)):
        return close(value, wanted, tolerance)
    if isinstance(wanted, list) and isinstance(value, list):
        return len(value) == len(wanted) and all(alike(*pair, tolerance) for pair in zip(value, wanted, strict=True))
    if isinstance(wanted, dict) and isinstance(value, dict):
        return value.keys() == wanted.keys() and all(alike(value[key], wanted[key], tolerance) for key in wanted)
    return bool(value == wanted)


def found_in_json(name: str, text: str, wanted: dict[str, Any], tolerance: float) -> list[str]:
    try:
        document = json.loads(text.removeprefix("\ufeff"))
    except ValueError as error:
        return [f"{name!r} is no JSON: {error}"]
    reasons = []
    for path, value in wanted.items():
        try:
            there = at(document, path)
        except NoSuchPath as error:
            reasons.append(f"{name!r}: {error}")
            continue
        if not alike(there, value, tolerance):
            reasons.append(f"{name!r} has {_shown(there)} at {path}, expected {_shown(value)}")
    return reasons


def cell(name: str, text: str, wanted: dict[str, Any], tolerance: float) -> list[str]:
    """A cell: {column, equals}, and `row` (1: first under the heading, -1: last) or `where` {column: text}."""
    text = text.removeprefix("\ufeff")
    try:
        dialect: Any = csv.Sniffer().sniff(text[:4096], delimiters=",;\t|")
    except csv.Error:  # one column, or too little to tell
        dialect = csv.excel
    lines = [line for line in csv.reader(io.StringIO(text), dialect) if line]
    if not lines:
        return [f"{name!r} is an empty table"]
    head, rows = [heading.strip() for heading in lines[0]], lines[1:]
    where: dict[str, Any] = wanted.get("where") or {}
    for column in (wanted["column"], *where):
        if isinstance(column, str) and column not in head:
            return [f"{name!r} has no column {column!r} (columns: {', '.join(head)[:200]})"]

    def value(row: list[str], column: str | int) -> str:
        place = head.index(column) if isinstance(column, str) else column - 1
        return row[place].strip() if 0 <= place < len(row) else ""

    if where:
        rows = [row for row in rows if all(_equals(value(row, key), want, tolerance) for key, want in where.items())]
        place = f"where {', '.join(f'{key} is {want}' for key, want in where.items())}"
        number = 0
    else:
        place = f"in row {wanted['row']}"
        number = wanted["row"] - 1 if wanted["row"] > 0 else wanted["row"]
    try:
        there = value(rows[number], wanted["column"])
    except IndexError:
        return [f"{name!r} has no row {place}"]
    if _equals(there, wanted["equals"], tolerance):
        return []
    return [f"{name!r} has {there!r} in column {wanted['column']} {place}, expected {_shown(wanted['equals'])}"]


def _equals(there: str, wanted: Any, tolerance: float) -> bool:
    if isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
        try:
            return close(float(there.replace(",", "")), wanted, tolerance)
        except ValueError:
            return False
    return there == str(wanted)


def same(name: str, data: bytes, sample: Path, shown: str) -> list[str]:
    """The same bytes as a sample in the bundle; the first line that differs is shown."""
    try:
        expected = sample.read_bytes()
    except OSError as error:
        return [f"{shown} cannot be read: {error.strerror}"]
    if data == expected:
        return []
    ours, theirs = data.splitlines(), expected.splitlines()
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False), 1):
        if one != other:
            both = f"{_text(one)}, expected {_text(other)}"
            return [f"{name!r} differs from {shown} in line {number}: {both}"]
    if len(ours) != len(theirs):
        return [f"{name!r} has {len(ours)} lines, {shown} has {len(theirs)}"]
    return [f"{name!r} differs from {shown} in how its lines end"]


def _text(line: bytes) -> str:
    return repr(line[:120].decode(errors="replace"))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:119] + "…"

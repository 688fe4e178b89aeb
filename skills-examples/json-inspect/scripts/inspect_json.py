#!/usr/bin/env python3
"""Inspect JSON or JSON Lines: is it valid, what is its shape, which fields are there and how often.

The document is held in memory (64 MiB at most). A field's path is written like `items[].sku`; `[]` stands for every
element of a list. Exit status 0 for valid JSON, 2 with the line and column of the first error for anything else.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from typing import Any

sys.dont_write_bytecode = True  # a run leaves the skill folder as it was
from textfile import BadInput, read_text, run, short  # noqa: E402

SHOWN_FIELDS = 7
DEPTH_LIMIT = 200
STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]")
DUPLICATES: Counter[str] = Counter()


def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its members; keys written twice are counted, since most programs drop the first silently."""
    result = dict(items)
    if len(result) < len(items):
        DUPLICATES.update(key for key, count in Counter(key for key, _ in items).items() if count > 1)
    return result


def whole(digits: str) -> int | float:
    """An integer, or a float where the digits are too many for one."""
    return int(digits) if len(digits) < 400 else float(digits)


def no_constant(name: str) -> Any:
    """NaN and Infinity are no JSON, though Python reads them."""
    raise BadInput(f"not valid JSON: {name} is not a JSON value")


DECODER = json.JSONDecoder(object_pairs_hook=pairs, parse_int=whole, parse_constant=no_constant)


def load(text: str) -> tuple[str, Any]:
    """The format's name and the data of `text`; JSON Lines become a list."""
    if not text.strip():
        raise BadInput("the file holds only blank space, no JSON")
    try:
        return "JSON", DECODER.decode(text)
    except RecursionError:
        raise BadInput("the JSON is nested too deeply to read") from None
    except json.JSONDecodeError as problem:
        fault = problem
    if fault.msg != "Extra data":
        raise BadInput(f"not valid JSON: {fault.msg} at line {fault.lineno} column {fault.colno}")
    DUPLICATES.clear()
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                records.append(DECODER.decode(line))
            except RecursionError:
                raise BadInput("the JSON is nested too deeply to read") from None
            except json.JSONDecodeError as problem:
                if not records:
                    raise BadInput(f"not valid JSON: {fault.msg} at line {fault.lineno} column {fault.colno}") from None
                message = f"{problem.msg} at line {number} column {problem.colno}"
                raise BadInput(f"not valid JSON Lines: {message}") from None
    return "JSON Lines", records


def kind(value: Any) -> str:
    """The JSON name of a value's type; whole numbers are integers."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "integer" if isinstance(value, int) else "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


class Shape:
    """The paths of a document, with the types met on each."""

    def __init__(self, data: Any) -> None:
        self.types: dict[str, Counter[str]] = {}
        self.owners: dict[str, str] = {}  # of each named field, the path of the objects that may have it
        self.examples: dict[str, str] = {}
        self.objects: Counter[str] = Counter()
        self.depth = 0
        self.values = 0
        stack: list[tuple[str, Any, int]] = [("", data, 0)]  # a path, its value, its depth
        while stack:
            path, value, depth = stack.pop()
            self.depth = max(self.depth, depth)
            self.values += 1
            self.types.setdefault(path, Counter())[kind(value)] += 1
            if not isinstance(value, (dict, list)):
                self.examples.setdefault(path, short(json.dumps(value, ensure_ascii=False), 40))
                continue
            if isinstance(value, dict):
                self.objects[path] += 1
                members = [(f"{path}.{key}" if path else key, item) for key, item in value.items()]
                self.owners.update((name, path) for name, _ in members)
            else:
                members = [(f"{path}[]", item) for item in value]
            if members and depth >= DEPTH_LIMIT:
                raise BadInput(f"the JSON is nested more than {DEPTH_LIMIT} levels deep")
            stack.extend((name, item, depth + 1) for name, item in reversed(members))

    def fields(self) -> list[dict[str, Any]]:
        """Every named field in document order: path, types, count, how many objects could have it."""
        return [
            {
                "path": path,
                "types": dict(types),
                "present": sum(types.values()),
                "objects": self.objects[self.owners[path]],
                "example": self.examples.get(path),
            }
            for path, types in self.types.items()
            if path in self.owners
        ]


def at(data: Any, path: str) -> Any:
    """The value at a path such as `orders[0].id`."""
    value, position = data, 0
    while position < len(path):
        step = STEP.match(path, position)
        if not step:
            raise BadInput(
                f"--path {short(path)}: cannot read {short(path[position:], 20)}, write it like orders[0].id"
            )
        try:
            value = value[int(step[2])] if step[2] is not None else value[step[1]]
        except (KeyError, IndexError, TypeError):
            raise BadInput(f"--path {short(path)}: there is no {short(path[: step.end()])}") from None
        position = step.end()
    return value


def size(value: Any) -> str:
    """A value's type with its size, as a person says it."""
    if isinstance(value, list):
        kinds = sorted({kind(item) for item in value})
        return f"array of {len(value)} {kinds[0] + 's' if len(kinds) == 1 else 'items'}"
    return f"object with {len(value)} keys" if isinstance(value, dict) else kind(value)


def main() -> int:
    parser = argparse.ArgumentParser(description="Check JSON or JSON Lines and describe its shape.")
    parser.add_argument("file", help="the JSON document, or one JSON value a line")
    parser.add_argument("--path", metavar="PATH", help="print the value at this path instead, for example orders[0].id")
    parser.add_argument("--full", action="store_true", help="every field, with an example value")
    parser.add_argument("--json", action="store_true", help="all facts as JSON")
    options = parser.parse_args()
    form, data = load(read_text(options.file))
    if options.path is not None:
        print(json.dumps(at(data, options.path), indent=2, ensure_ascii=False))
        return 0
    shape = Shape(data)
    fields = shape.fields()
    if options.json:
        facts = {"format": form, "root": size(data), "depth": shape.depth, "values": shape.values}
        print(
            json.dumps({**facts, "duplicate_keys": sorted(DUPLICATES), "fields": fields}, indent=2, ensure_ascii=False)
        )
        return 0
    print(f"format: {form}, valid")
    print(f"root: {size(data)}")
    print(f"depth: {shape.depth}")
    print(f"fields: {len(fields)}")
    if DUPLICATES:
        print(f"duplicate keys: {short(', '.join(sorted(DUPLICATES)))}")
    shown = fields if options.full else fields[:SHOWN_FIELDS]
    for field in shown:
        met = set(field["types"])
        types = " or ".join(sorted(met - {"integer"} if "number" in met else met))
        lacking = field["objects"] - field["present"]
        example = f", for example {field['example']}" if options.full and field["example"] is not None else ""
        print(f"{short(field['path'], 50)}: {types}" + (f", missing in {lacking}" if lacking else "") + example)
    if len(shown) < len(fields):
        print(f"more fields: {len(fields) - len(shown)}")
    return 0


if __name__ == "__main__":
    run(main)

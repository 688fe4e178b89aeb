"""What of a JSON Schema a grammar can hold, and how large it is: read before anything is compiled.

`read_form` walks a schema once. It measures what makes compiling dangerous, collects what no grammar can follow, each
with its path, and writes the schema that is left: known keywords in their right form, every definition that is
referred to under `$defs`, annotations left out. Patterns are only collected: whether a grammar holds one is found by
compiling it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from skilldeck_shared.json_types import JsonObject

TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
MAX_BYTES = 256 << 10  # of one schema, descriptions not counted
MAX_CHAIN = 256  # schemas inside one another, `$ref`s followed: llguidance takes 5 KB of stack for each
MAX_NESTING = 128  # objects and arrays inside one another
HELD_NESTING = 50  # schemas inside one another: llguidance reads no JSON of more than 128 levels, two or more for each
# Of a schema that is compiled without being tried first: a stack of 300 is 1.5 MB, and nothing in it multiplies.
PLAIN_NODES = 300
PLAIN_BYTES = 16 << 10
PLAIN_COUNT = 1 << 16

_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_MAPS = ("properties", "patternProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("additionalProperties", "additionalItems")
# Known to mean something that no grammar here follows; everything else that is not read is an annotation.
_UNHELD = {"not", "if", "then", "else", "propertyNames", "dependencies", "dependentRequired", "dependentSchemas"}
_UNHELD |= {"contains", "minContains", "maxContains", "uniqueItems", "unevaluatedItems", "unevaluatedProperties"}
_UNHELD |= {"$dynamicRef", "$recursiveRef"}
# Linear to compile whatever they hold. The others have products in them (allOf, several anyOf), or regexes.
_PLAIN = {"type", "properties", "required", "items", "additionalProperties", "enum", "const", "$ref", "format", "anyOf"}
_PLAIN |= {"minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum"}


@dataclass(frozen=True)
class Fault:
    """Something no grammar follows; `path` begins below the schema, with a dot or a bracket."""

    path: str
    why: str


@dataclass
class Form:
    """A schema as it was read. `large` says why it is too large for any grammar ("" when it is not); `plain` that it
    may be compiled without being tried first."""

    held: Any = True
    faults: list[Fault] = field(default_factory=list)
    unheld: list[str] = field(default_factory=list)  # paths of keywords that mean something and are not followed
    patterns: list[tuple[str, str]] = field(default_factory=list)  # (path, regex)
    large: str = ""
    plain: bool = True
    nodes: int = 0
    size: int = 0


def read_form(schema: Any) -> Form:
    """Read a schema. Never raises, whatever it is."""
    form = Form()
    if _nesting(schema) > MAX_NESTING:
        form.large = f"is nested in more than {MAX_NESTING} levels"
        return form
    _Reader(schema, form).read()
    if not form.large:
        form.size = len(json.dumps(form.held, ensure_ascii=False))
        if form.size > MAX_BYTES:
            form.large = f"has more than {MAX_BYTES >> 10} KiB"
    form.plain = form.plain and form.nodes <= PLAIN_NODES and form.size <= PLAIN_BYTES
    return form


def without(form: Form, paths: Iterable[str], schema: Any) -> Form:
    """The form read again with the patterns at these paths left out."""
    again = Form()
    _Reader(schema, again, frozenset(paths)).read()
    again.size = len(json.dumps(again.held, ensure_ascii=False))
    again.plain = False
    return again


def _nesting(value: Any) -> int:
    """Objects and arrays inside one another, counted up to one more than is allowed; no recursion."""
    level = [value]
    for depth in range(MAX_NESTING + 1):
        level = [holder for holder in level if isinstance(holder, dict | list)]
        if not level:
            return depth
        level = [entry for holder in level for entry in (holder.values() if isinstance(holder, dict) else holder)]
    return MAX_NESTING + 1


class _Reader:
    """One reading; definitions are read from a list, so that their chains take no stack."""

    def __init__(self, root: Any, form: Form, leave_out: frozenset[str] = frozenset()) -> None:
        self._root, self._form, self._leave_out = root, form, leave_out
        self._own_id = root["$id"] if isinstance(root, dict) and isinstance(root.get("$id"), str) else ""
        self._names: dict[str, str] = {}  # by place of a definition
        self._waiting: list[tuple[str, Any, str]] = []
        self._anchors: JsonObject | None = None
        self._edges: dict[str, list[tuple[int, str]]] = {}
        self._deepest: dict[str, int] = {}
        self._here = ""  # the definition that is being read; the root has no name

    def read(self) -> None:
        self._edges[""] = []
        held = self._schema(self._root, "", 0)
        found: JsonObject = {}
        while self._waiting and not self._form.large:
            self._here, schema, path = self._waiting.pop()
            self._edges[self._here] = []
            found[self._here] = self._schema(schema, path, 0)
        if found and isinstance(held, dict):
            held = {**held, "$defs": found}
        self._form.held = held
        if self._chain() > MAX_CHAIN:
            self._form.large = f"has chains of more than {MAX_CHAIN} schemas that lead to one another"

    def _fault(self, path: str, why: str) -> None:
        self._form.faults.append(Fault(path, why))

    def _schema(self, schema: Any, path: str, depth: int) -> Any:
        self._form.nodes += 1
        self._deepest[self._here] = max(self._deepest.get(self._here, 0), depth + 1)
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            self._fault(path, "must be a schema (an object or a boolean)")
            return True
        if depth > HELD_NESTING:
            self._fault(path, f"is nested in more than {HELD_NESTING} levels")
            return True
        out: JsonObject = {}
        for key, value in schema.items():
            reader = _READERS.get(key)
            if reader is None:
                if key in _UNHELD:
                    self._form.unheld.append(f"{path}.{key}")
                continue
            if key not in _PLAIN or (key == "anyOf" and "anyOf" in path):
                self._form.plain = False
            kept = reader(self, key, value, f"{path}.{key}", depth)
            if kept is not _DROPPED:
                out[key] = kept
        _modern(out)
        self._satisfiable(out, path)
        return out

    def _satisfiable(self, out: JsonObject, path: str) -> None:
        """A required property that may not be there would make the whole schema impossible."""
        if out.get("additionalProperties") is False and "patternProperties" not in out and "required" in out:
            known = out.get("properties") or {}
            missing = [name for name in out["required"] if name not in known]
            if missing:
                self._fault(f"{path}.required", f"names {missing[0][:64]!r}, which 'additionalProperties' forbids")
                out["required"] = [name for name in out["required"] if name in known]

    # -- keywords: each returns what is held, or _DROPPED

    def _type(self, key: str, value: Any, path: str, depth: int) -> Any:
        names = value if isinstance(value, list) else [value]
        known = [name for name in names if isinstance(name, str) and name in TYPES]
        if len(known) < len(names) or not known:
            odd = next((name for name in names if name not in known), value)
            self._fault(path, f"is {str(odd)[:64]!r}; the types are {', '.join(TYPES)}")
        if not known:
            return _DROPPED
        return known if isinstance(value, list) else known[0]

    def _count(self, key: str, value: Any, path: str, depth: int) -> Any:
        if not _finite(value) or not 0 <= value < 1 << 53 or value != int(value):
            self._fault(path, "must be a whole number from 0")
            return _DROPPED
        self._form.plain = self._form.plain and value <= PLAIN_COUNT
        return int(value)

    def _bound(self, key: str, value: Any, path: str, depth: int) -> Any:
        if isinstance(value, bool) and key.startswith("exclusive"):
            return value
        if not _finite(value):
            self._fault(path, "must be a number")
            return _DROPPED
        self._form.plain = self._form.plain and isinstance(value, int) and abs(value) < 1 << 53
        return value

    def _multiple(self, key: str, value: Any, path: str, depth: int) -> Any:
        if not _finite(value) or value <= 0:
            self._fault(path, "must be a number above 0")
            return _DROPPED
        return value

    def _text(self, key: str, value: Any, path: str, depth: int) -> Any:
        if not isinstance(value, str):
            self._fault(path, "must be a string")
            return _DROPPED
        if key == "pattern":
            if path in self._leave_out:
                return _DROPPED
            self._form.patterns.append((path, value))
        return value

    def _required(self, key: str, value: Any, path: str, depth: int) -> Any:
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            self._fault(path, "must be an array of strings")
            return [name for name in value if isinstance(name, str)] if isinstance(value, list) else _DROPPED
        return value

    def _enum(self, key: str, value: Any, path: str, depth: int) -> Any:
        if not isinstance(value, list) or not value:
            self._fault(path, "must be an array with something in it")
            return _DROPPED
        return value

    def _map(self, key: str, value: Any, path: str, depth: int) -> Any:
        if not isinstance(value, dict):
            self._fault(path, "must be an object of schemas")
            return _DROPPED
        held = {}
        for name, entry in value.items():
            place = f"{path}.{name[:64]}"
            if key == "patternProperties":
                if place in self._leave_out:
                    continue
                self._form.patterns.append((place, name))
            held[name] = self._schema(entry, place, depth + 1)
        return held

    def _list(self, key: str, value: Any, path: str, depth: int) -> Any:
        if not isinstance(value, list) or not value:
            self._fault(path, "must be an array of schemas")
            return _DROPPED
        return [self._schema(entry, f"{path}[{index}]", depth + 1) for index, entry in enumerate(value)]

    def _single(self, key: str, value: Any, path: str, depth: int) -> Any:
        return self._schema(value, path, depth + 1)

    def _items(self, key: str, value: Any, path: str, depth: int) -> Any:
        if isinstance(value, list):
            return self._list(key, value, path, depth)
        return self._schema(value, path, depth + 1)

    def _const(self, key: str, value: Any, path: str, depth: int) -> Any:
        return value

    def _reference(self, key: str, value: Any, path: str, depth: int) -> Any:
        target = self._target(value)
        if target is _DROPPED:
            self._fault(path, f"leads nowhere ({str(value)[:100]!r})")
            return _DROPPED
        if target is self._root:
            self._edges[self._here].append((depth + 1, ""))
            return "#"
        place = str(value).removeprefix(self._own_id)
        if place not in self._names:
            self._names[place] = f"d{len(self._names)}"
            steps = place.removeprefix("#").replace("~1", "/").replace("~0", "~").replace("/", ".")
            self._waiting.append((self._names[place], target, steps if steps.startswith(".") else f".{steps}"))
        self._edges[self._here].append((depth + 1, self._names[place]))
        return f"#/$defs/{self._names[place]}"

    def _target(self, reference: Any) -> Any:
        """What a reference leads to inside the schema; _DROPPED when it leads nowhere. Nothing is fetched."""
        if not isinstance(reference, str):
            return _DROPPED
        pointer = reference.removeprefix(self._own_id)
        if not pointer.startswith("#"):
            return self._root if self._own_id and not pointer else _DROPPED
        if pointer in ("#", "#/"):
            return self._root
        if not pointer.startswith("#/"):
            return self._anchored(pointer[1:])
        place = self._root
        for step in pointer[2:].split("/"):
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(place, dict) and step in place:
                place = place[step]
            elif isinstance(place, list) and step.isascii() and step.isdigit() and len(step) < 9:
                if int(step) >= len(place):
                    return _DROPPED
                place = place[int(step)]
            else:
                return _DROPPED
        return place

    def _anchored(self, name: str) -> Any:
        if self._anchors is None:
            self._anchors = {}
            waiting = [self._root]
            while waiting:
                here = waiting.pop()
                if isinstance(here, dict):
                    for anchor in (here.get("$anchor"), here.get("$id")):
                        if isinstance(anchor, str):
                            self._anchors[anchor.removeprefix("#")] = here
                    waiting.extend(here.values())
                elif isinstance(here, list):
                    waiting.extend(here)
        return self._anchors.get(name, _DROPPED)

    def _chain(self) -> int:
        """The longest chain of schemas from the root through definitions; circles are gone round once."""
        longest: dict[str, int] = {}
        state: dict[str, int] = {}
        waiting = [""]
        while waiting:
            name = waiting[-1]
            if state.get(name) is None:
                state[name] = 1
                waiting.extend(target for _depth, target in self._edges.get(name, ()) if target not in state)
                continue
            waiting.pop()
            if state[name] == 1:
                state[name] = 2
                ways = [depth + longest.get(target, 0) for depth, target in self._edges.get(name, ())]
                longest[name] = max([self._deepest.get(name, 0), *ways])
        return longest.get("", 0)


class _Dropped:
    """A keyword that is left out; None and False are values."""


_DROPPED = _Dropped()


def _modern(out: JsonObject) -> None:
    """What older drafts write in another way, as the newest has it: without `$schema` it is read as that."""
    if isinstance(out.get("items"), list):
        out["prefixItems"] = out.pop("items")
        if "additionalItems" in out:
            out["items"] = out["additionalItems"]
    out.pop("additionalItems", None)
    for bound in ("Minimum", "Maximum"):
        if isinstance(out.get(f"exclusive{bound}"), bool):
            exclusive = out.pop(f"exclusive{bound}")
            if exclusive and bound.lower() in out:
                out[f"exclusive{bound}"] = out.pop(bound.lower())


def _finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


_READERS: dict[str, Callable[[_Reader, str, Any, str, int], Any]] = {
    "type": _Reader._type,
    "enum": _Reader._enum,
    "const": _Reader._const,
    "$ref": _Reader._reference,
    "required": _Reader._required,
    "items": _Reader._items,
    "multipleOf": _Reader._multiple,
    "pattern": _Reader._text,
    "format": _Reader._text,
    **dict.fromkeys(_COUNTS, _Reader._count),
    **dict.fromkeys(_BOUNDS, _Reader._bound),
    **dict.fromkeys(_MAPS, _Reader._map),
    **dict.fromkeys(_LISTS, _Reader._list),
    **dict.fromkeys(_SINGLE, _Reader._single),
}

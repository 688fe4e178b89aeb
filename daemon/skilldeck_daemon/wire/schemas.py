"""JSON Schemas of requests: is this one at all, before an engine is asked to follow it.

What an engine cannot honour it refuses itself; here is found what none can: types that do not exist, references that
lead nowhere, keywords of the wrong shape. Unknown keywords are left alone.
"""

from __future__ import annotations

from typing import Any

from skilldeck_daemon.wire.fields import kind, refuse

TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
MAX_DEPTH = 200
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = (
    "additionalProperties",
    "additionalItems",
    "contains",
    "else",
    "if",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)


def check_schema(schema: Any, path: str) -> None:
    """Refuse (BadRequest naming the place below `path`) what is no JSON Schema."""
    _check(schema, schema, path, 0)


def _wrong(path: str, problem: str, hint: str = "Mend the schema.") -> None:
    refuse(path, f"'{path}' {problem}.", hint, "invalid_json_schema")


def _check(schema: Any, root: Any, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        _wrong(path, "is nested too deeply", f"At most {MAX_DEPTH} levels.")
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        _wrong(path, f"must be a schema (an object or a boolean), not {kind(schema)}")
    types = schema.get("type")
    for name in types if isinstance(types, list) else [types] * ("type" in schema):
        if name not in TYPES:
            _wrong(f"{path}.type", f"is {str(name)[:64]!r}", f"Use one of: {', '.join(TYPES)}.")
    if "$ref" in schema:
        _reference(schema["$ref"], root, f"{path}.$ref")
    if "required" in schema:
        required = schema["required"]
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            _wrong(f"{path}.required", "must be an array of strings")
    if "enum" in schema and not (isinstance(schema["enum"], list) and schema["enum"]):
        _wrong(f"{path}.enum", "must be an array with something in it")
    for keyword in _MAPS:
        if keyword in schema:
            if not isinstance(schema[keyword], dict):
                _wrong(f"{path}.{keyword}", f"must be an object, not {kind(schema[keyword])}")
            for name, entry in schema[keyword].items():
                _check(entry, root, f"{path}.{keyword}.{name[:64]}", depth + 1)
    for keyword in _LISTS:
        if keyword in schema:
            if not isinstance(schema[keyword], list) or not schema[keyword]:
                _wrong(f"{path}.{keyword}", "must be an array of schemas")
            for index, entry in enumerate(schema[keyword]):
                _check(entry, root, f"{path}.{keyword}[{index}]", depth + 1)
    items = schema.get("items")
    for index, entry in enumerate(items) if isinstance(items, list) else []:
        _check(entry, root, f"{path}.items[{index}]", depth + 1)
    if "items" in schema and not isinstance(items, list):
        _check(items, root, f"{path}.items", depth + 1)
    for keyword in _SINGLE:
        if keyword in schema:
            _check(schema[keyword], root, f"{path}.{keyword}", depth + 1)


def _reference(reference: Any, root: Any, path: str) -> None:
    """Only what the schema itself holds is referred to: nothing is fetched."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        _wrong(path, "leads out of the schema", "Put what it means under '$defs'.")
    place = root
    pointer = reference[1:]
    if pointer and not pointer.startswith("/"):
        return  # an anchor: the engine knows it or refuses it
    for step in pointer.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, dict) and step in place:
            place = place[step]
        elif isinstance(place, list) and step.isascii() and step.isdigit() and len(step) < 9 and int(step) < len(place):
            place = place[int(step)]
        else:
            _wrong(path, f"leads nowhere ({reference[:100]!r})")

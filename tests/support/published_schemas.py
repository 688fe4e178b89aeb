"""Schemas of tools as programs publish them: habits of generators (pydantic, zod, TypeBox, reflection in Go and Java,
converters of OpenAPI) and of people, each with what makes it awkward for a grammar. Written for these tests.
"""

from __future__ import annotations

from typing import Any

from support.published_schemas_more import MORE
from support.published_schemas_tools import TOOLS

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
DRAFT_4 = "http://json-schema.org/draft-04/schema#"


def _object(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **({"required": required} if required is not None else {})}


TEXT = {"type": "string"}

PUBLISHED: dict[str, dict[str, Any]] = {
    # ---- pydantic
    "pydantic: optional as anyOf null": _object(
        ["query"],
        query={"type": "string", "title": "Query", "minLength": 1},
        limit={
            "anyOf": [{"type": "integer", "exclusiveMinimum": 0, "maximum": 100}, {"type": "null"}],
            "default": None,
        },
    ),
    "pydantic: tagged union with discriminator": {
        **_object(
            ["shape"],
            shape={
                "discriminator": {
                    "propertyName": "kind",
                    "mapping": {"circle": "#/$defs/Circle", "square": "#/$defs/Square"},
                },
                "oneOf": [{"$ref": "#/$defs/Circle"}, {"$ref": "#/$defs/Square"}],
            },
        ),
        "$defs": {
            "Circle": _object(
                ["kind", "radius"], kind={"const": "circle", "type": "string"}, radius={"type": "number"}
            ),
            "Square": _object(["kind", "side"], kind={"const": "square", "type": "string"}, side={"type": "number"}),
        },
    },
    "pydantic: a tree": {
        **_object(["root"], root={"$ref": "#/$defs/Node"}),
        "$defs": {
            "Node": _object(
                ["name"],
                name=TEXT,
                children={"type": "array", "items": {"$ref": "#/$defs/Node"}, "default": []},
                parent={"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
            )
        },
    },
    "pydantic: a decimal": _object(
        ["amount"],
        amount={
            "anyOf": [
                {"type": "number"},
                {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*(?:\d{0,8}|(?=[\d.]{1,11}0*$)\d{0,8}\.\d{0,2}0*$)"},
            ]
        },
    ),
    "pydantic: tuple and set": _object(
        ["box"],
        box={
            "type": "array",
            "prefixItems": [{"type": "number"}, {"type": "number"}],
            "minItems": 2,
            "maxItems": 2,
        },
        tags={"type": "array", "items": TEXT, "uniqueItems": True},
    ),
    "pydantic: dict of models": {
        **_object(["env"], env={"type": "object", "additionalProperties": {"$ref": "#/$defs/Value"}}),
        "$defs": {"Value": {"anyOf": [TEXT, {"type": "integer"}, {"type": "boolean"}]}},
    },
    "pydantic v1: definitions and allOf": {
        **_object(["mode"], mode={"title": "Mode", "default": "fast", "allOf": [{"$ref": "#/definitions/Mode"}]}),
        "definitions": {"Mode": {"title": "Mode", "enum": ["fast", "slow"], "type": "string"}},
    },
    "pydantic: formats": _object(
        ["id", "at"],
        id={"type": "string", "format": "uuid4"},
        at={"type": "string", "format": "date-time"},
        took={"type": "string", "format": "duration"},
        secret={"type": "string", "format": "password", "writeOnly": True},
        raw={"type": "string", "format": "binary"},
    ),
    # ---- zod
    "zod: strict object": {
        **_object(["path"], path={"type": "string", "minLength": 1}, recursive={"type": "boolean", "default": False}),
        "additionalProperties": False,
        "$schema": DRAFT_7,
    },
    "zod: reused by pointer": {
        **_object(
            ["from", "to"], **{"from": _object(["x"], x={"type": "number"}), "to": {"$ref": "#/properties/from"}}
        ),
        "$schema": DRAFT_7,
    },
    "zod: e-mail by look-ahead": _object(
        ["to"],
        to={
            "type": "string",
            "format": "email",
            "pattern": r"^(?!\.)(?!.*\.\.)([\w'+\-\.]*)[\w+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$",
        },
    ),
    "zod: record and safe integers": _object(
        ["scores"],
        scores={
            "type": "object",
            "propertyNames": {"type": "string"},
            "additionalProperties": {
                "type": "integer",
                "minimum": -9007199254740991,
                "maximum": 9007199254740991,
            },
        },
    ),
    "zod: never and unknown": _object([], anything={}, nothing={"not": {}}),
    "zod: intersection": {"allOf": [_object(["a"], a=TEXT), _object(["b"], b={"type": "integer"})], "$schema": DRAFT_7},
    "zod: a root that is a union": {
        "anyOf": [_object(["id"], id=TEXT), _object(["name"], name=TEXT)],
        "type": "object",
    },
    "zod: lazy, with a name": {
        "$ref": "#/definitions/Filter",
        "definitions": {
            "Filter": {
                "anyOf": [
                    _object(["field"], field=TEXT),
                    _object(["and"], **{"and": {"type": "array", "items": {"$ref": "#/definitions/Filter"}}}),
                ]
            }
        },
        "$schema": DRAFT_7,
    },
    # ---- TypeBox, valibot, arktype
    "typebox: literal union": _object(
        ["unit"], unit={"anyOf": [{"const": "c", "type": "string"}, {"const": "f", "type": "string"}]}
    ),
    "typebox: recursive by $id": {
        **_object(["node"], node={"$ref": "T0"}),
        "$defs": {"T0": {"$id": "T0", **_object(["id"], id=TEXT, nodes={"type": "array", "items": {"$ref": "T0"}})}},
    },
    "effect: unknown root": {
        "$id": "/schemas/%7B%7D",
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    },
    # ---- other languages
    "go: everything by reference": {
        "$schema": DRAFT_2020,
        "$id": "https://example.com/tools/search-args",
        "$ref": "#/$defs/SearchArgs",
        "$defs": {
            "SearchArgs": {**_object(["query"], query=TEXT, page={"type": "integer"}), "additionalProperties": False}
        },
    },
    "java: required flags": _object(
        None, name={"type": "string", "required": True}, size={"type": "int32", "required": False}
    ),
    "java: type names": _object(["ids"], ids={"type": "List", "items": {"type": "Long"}}, when={"type": "LocalDate"}),
    "python: type names": _object(
        ["a"], a={"type": "str"}, b={"type": "list", "items": {"type": "float"}}, c={"type": "dict"}
    ),
    "csharp: nullable arrays of types": _object(
        ["value"], value={"type": ["string", "null"]}, pattern={"type": ["string", "null"], "pattern": "^\\p{L}+$"}
    ),
    "rust: schemars": {
        "$schema": DRAFT_7,
        "title": "Args",
        **_object(
            ["count"],
            count={"type": "integer", "format": "uint64", "minimum": 0.0},
            level={
                "oneOf": [
                    {"type": "string", "enum": ["low"]},
                    {"description": "More.", "type": "string", "enum": ["high"]},
                ]
            },
        ),
    },
    # ---- OpenAPI converters
    "openapi: nullable and example": _object(
        ["id"],
        id={"type": "integer", "format": "int64", "example": 10},
        status={"type": "string", "nullable": True, "enum": ["open", "closed", None]},
        xml={"type": "string", "xml": {"attribute": True}},
    ),
    "openapi: dangling components": _object(["pet"], pet={"$ref": "#/components/schemas/Pet"}),
    "openapi: a file": _object(["image"], image={"type": "file"}, note=TEXT),
    "openapi 2: draft 4 bounds": {
        "$schema": DRAFT_4,
        "id": "http://example.com/root.json",
        **_object(["n"], n={"type": "number", "minimum": 0, "exclusiveMinimum": True}),
    },
    "openapi: all of the parts": _object(
        ["issue"],
        issue={
            "allOf": [
                _object(["title"], title={"type": "string", "maxLength": 256}),
                {"type": "object", "properties": {"labels": {"type": "array", "items": TEXT}}},
                {"description": "Extra."},
            ]
        },
    ),
    # ---- servers written by hand
    "files: edits": _object(
        ["path", "edits"],
        path={"type": "string", "pattern": r"^[^\0]+$"},
        edits={"type": "array", "minItems": 1, "items": _object(["old", "new"], old=TEXT, new=TEXT)},
        dryRun={"type": "boolean"},
    ),
    "git: a reference": _object(
        ["ref"], ref={"type": "string", "pattern": r"^(?!.*(?:\.\.|@\{))(?!/)[\w./-]+(?<!\.lock)$"}
    ),
    "browser: one of selectors": {
        **_object(None, ref=TEXT, selector=TEXT, timeout={"type": "number", "default": 30000}),
        "oneOf": [{"required": ["ref"]}, {"required": ["selector"]}],
    },
    "database: a filter of anything": _object(
        ["collection"],
        collection=TEXT,
        filter={"type": "object", "additionalProperties": True},
        sort={"type": "object", "patternProperties": {"^[a-z_.]+$": {"enum": [1, -1]}}},
    ),
    "mail: if and then": {
        **_object(["kind"], kind={"enum": ["text", "html"]}, body=TEXT),
        "if": {"properties": {"kind": {"const": "html"}}},
        "then": {"required": ["body"]},
        "dependentRequired": {"body": ["kind"]},
        "unevaluatedProperties": False,
    },
    "maps: coordinates": _object(
        ["lat", "lon"],
        lat={"type": "number", "minimum": -90, "maximum": 90},
        lon={"type": "number", "minimum": -180, "maximum": 180, "multipleOf": 0.000001},
    ),
    "calendar: dates by pattern": _object(
        ["day"],
        day={"type": "string", "pattern": r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$"},
        zone={"type": "string", "pattern": r"\b[A-Z][a-z]+/[A-Z][a-z]+\b"},
    ),
    "payments: required but not there": {
        **_object(["amount", "currency"], amount={"type": "integer"}),
        "additionalProperties": False,
    },
    "notes: types in a list of one": {"type": ["object"], "properties": {"text": {"type": ["string"]}}, "required": []},
    "chat: no parameters": {"type": "object"},
    "time: empty": {},
    "clock: nothing allowed": {"type": "object", "properties": {}, "additionalProperties": False},
    "search: an enum with everything": _object(["v"], v={"enum": ["a", 1, 2.5, None, True, {"k": [1]}, ["x"]]}),
    "shell: a default that is wrong": _object(["cmd"], cmd=TEXT, env={"type": "array", "items": TEXT, "default": {}}),
    "spreadsheet: items as a list": _object(["range"], range={"type": "array", "items": [TEXT, {"type": "integer"}]}),
    "design: colours": _object(["fill"], fill={"type": "string", "pattern": "^#(?:[0-9a-fA-F]{3}){1,2}$"}),
    "cloud: two patterns that overlap": _object(
        ["labels"], labels={"type": "object", "patternProperties": {"^x-": TEXT, "^x-y": {"type": "integer"}}}
    ),
    "queue: bounds that cross": _object(["n"], n={"type": "integer", "minimum": 10, "maximum": 1}),
    "graph: dynamic references": {
        "$schema": DRAFT_2020,
        "$dynamicAnchor": "node",
        **_object(["id"], id=TEXT, next={"$dynamicRef": "#node"}),
    },
    "anchors": {
        **_object(["a"], a={"$ref": "#place"}),
        "$defs": {"Place": {"$anchor": "place", **_object(["name"], name=TEXT)}},
    },
    **MORE,
    **TOOLS,
}

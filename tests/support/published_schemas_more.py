"""Fifty more schemas of published tools: the shapes that well-known MCP servers and generators give their parameters.

Each title says which server (or generator) has a tool of this shape. Only the shape is theirs: names are plain ones and
there is no text of anybody's.
"""

from __future__ import annotations

from typing import Any

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
TEXT: dict[str, Any] = {"type": "string"}
WHOLE: dict[str, Any] = {"type": "integer"}
NUMBER: dict[str, Any] = {"type": "number"}
YES: dict[str, Any] = {"type": "boolean"}
TEXTS: dict[str, Any] = {"type": "array", "items": TEXT}


def zod(*required: str, **properties: Any) -> dict[str, Any]:
    """As zod-to-json-schema writes an object."""
    made = {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}
    return {**made, "additionalProperties": False, "$schema": DRAFT_7}


def pydantic(*required: str, **properties: Any) -> dict[str, Any]:
    """As pydantic writes a model: every property has a title."""
    titled = {name: {"title": name.replace("_", " ").title(), **inner} for name, inner in properties.items()}
    return {"properties": titled, "required": list(required), "title": "Arguments", "type": "object"}


def plain(*required: str, **properties: Any) -> dict[str, Any]:
    """As people write one by hand."""
    return {"type": "object", "properties": properties, "required": list(required)}


def maybe(inner: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [inner, {"type": "null"}], "default": None}


def one_of(*names: Any) -> dict[str, Any]:
    return {"type": "string", "enum": list(names)}


def listed(inner: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": inner, **more}


_EDIT = zod("oldText", "newText", oldText=TEXT, newText=TEXT)
_ENTITY = zod("name", "kind", "notes", name=TEXT, kind=TEXT, notes=TEXTS)
_RELATION = zod("from", "to", **{"from": TEXT, "to": TEXT, "kind": TEXT})
_RICH: dict[str, Any] = {
    "type": "object",
    "properties": {"text": plain("content", content={"type": "string", "maxLength": 2000})},
    "additionalProperties": True,
}

MORE: dict[str, dict[str, Any]] = {
    # ---- the reference servers (TypeScript: zod; Python: pydantic)
    "filesystem: read a text file": zod("path", path=TEXT, head=NUMBER, tail=NUMBER),
    "filesystem: read several": zod("paths", paths=listed(TEXT, minItems=1)),
    "filesystem: edit": zod("path", "edits", path=TEXT, edits=listed(_EDIT), dryRun={**YES, "default": False}),
    "filesystem: list by size": zod("path", path=TEXT, sortBy={**one_of("name", "size"), "default": "name"}),
    "filesystem: search": zod("path", "pattern", path=TEXT, pattern=TEXT, excludePatterns={**TEXTS, "default": []}),
    "memory: entities": zod("entities", entities=listed(_ENTITY)),
    "memory: relations": zod("relations", relations=listed(_RELATION)),
    "memory: graph without parameters": zod(),
    "thinking: a numbered thought": zod(
        "thought", "more", "number", thought=TEXT, more=YES, number={"type": "integer", "minimum": 1}, branch=TEXT
    ),
    "fetch: a page": pydantic(
        "url",
        url={"type": "string", "format": "uri", "minLength": 1},
        max_length={"type": "integer", "default": 5000, "exclusiveMinimum": 0, "exclusiveMaximum": 1000000},
        start_index={"type": "integer", "default": 0, "minimum": 0},
        raw={**YES, "default": False},
    ),
    "git: log between times": pydantic(
        "repo_path", repo_path=TEXT, max_count={**WHOLE, "default": 10}, start=maybe(TEXT), end=maybe(TEXT)
    ),
    "git: add": pydantic("repo_path", "files", repo_path=TEXT, files=TEXTS),
    "git: difference": pydantic("repo_path", "target", repo_path=TEXT, target=TEXT, context={**WHOLE, "default": 3}),
    "time: convert": plain("from", "time", "to", **{"from": TEXT, "time": TEXT, "to": TEXT}),
    "everything: annotated enum": zod(
        "kind", kind=one_of("error", "success", "debug"), image={**YES, "default": False}
    ),
    "everything: sample": zod("prompt", prompt=TEXT, maxTokens={**NUMBER, "default": 100}),
    # ---- servers of services
    "github: create an issue": plain(
        "owner", "repo", "title", owner=TEXT, repo=TEXT, title=TEXT, labels=TEXTS, milestone=NUMBER, assignees=TEXTS
    ),
    "github: search with pages": plain(
        "q",
        q=TEXT,
        order=one_of("asc", "desc"),
        page={"type": "number", "minimum": 1},
        perPage={"type": "number", "minimum": 1, "maximum": 100},
    ),
    "github: push files": plain(
        "branch", "files", branch=TEXT, files=listed(plain("path", "content", path=TEXT, content=TEXT))
    ),
    "github: review with comments": plain(
        "pull",
        pull=NUMBER,
        event=one_of("APPROVE", "REQUEST_CHANGES", "COMMENT"),
        comments=listed(
            {
                "anyOf": [
                    plain("path", "position", path=TEXT, position=NUMBER),
                    plain("path", "line", path=TEXT, line=NUMBER),
                ]
            }
        ),
    ),
    "gitlab: visibility": zod("name", name=TEXT, visibility=one_of("private", "internal", "public")),
    "slack: post": plain("channel_id", "text", channel_id=TEXT, text=TEXT),
    "slack: history": plain("channel_id", channel_id=TEXT, limit={"type": "number", "default": 10}),
    "postgres: query": {"type": "object", "properties": {"sql": TEXT}},
    "sqlite: create": plain("query", query=TEXT),
    "maps: directions": plain(
        "origin",
        "destination",
        origin=TEXT,
        destination=TEXT,
        mode=one_of("driving", "walking", "bicycling", "transit"),
    ),
    "maps: matrix": plain("origins", "destinations", origins=TEXTS, destinations=TEXTS),
    "search: web with count": plain(
        "query", query=TEXT, count={**NUMBER, "default": 10}, offset={**NUMBER, "default": 0}
    ),
    "docs: library by id": zod("id", "topic", id=TEXT, topic=TEXT, tokens={"type": "number", "minimum": 0}),
    "notion: create a page": plain(
        "parent",
        "properties",
        parent={"anyOf": [plain("page_id", page_id=TEXT), plain("database_id", database_id=TEXT)]},
        properties={"type": "object", "additionalProperties": _RICH},
        children=listed(_RICH, maxItems=100),
    ),
    "notion: query": plain(
        "database_id",
        database_id={"type": "string", "format": "uuid"},
        filter={"type": "object", "additionalProperties": True},
        sorts=listed(plain("direction", direction=one_of("ascending", "descending"), property=TEXT)),
        archived={**YES, "nullable": True},
    ),
    "linear: update an issue": zod(
        "id", id=TEXT, priority={"type": "number", "minimum": 0, "maximum": 4}, due=maybe(TEXT)
    ),
    "sentry: issues": zod("org", org=TEXT, query={"type": "string"}, sortBy=one_of("date", "freq", "new", "user")),
    "design: nodes": zod("fileKey", fileKey={"type": "string", "pattern": "^[a-zA-Z0-9]+$"}, depth={"type": "integer"}),
    "payments: amount": zod(
        "amount",
        "currency",
        amount={"type": "integer", "exclusiveMinimum": 0},
        currency={"type": "string", "length": 3},
    ),
    "database: run sql on a project": zod(
        "project_id", "query", project_id=TEXT, query=TEXT, regions=listed(one_of("a", "b"))
    ),
    "kubernetes: get": zod(
        "resource", resource=TEXT, namespace={**TEXT, "default": "default"}, all={**YES, "default": False}
    ),
    "browser: click": zod(
        "element", "ref", element=TEXT, ref=TEXT, button=one_of("left", "right", "middle"), modifiers=TEXTS
    ),
    "browser: fill a form": zod(
        "fields",
        fields=listed(
            zod("name", "type", "value", name=TEXT, type=one_of("textbox", "checkbox", "slider"), value=TEXT)
        ),
    ),
    "browser: wait": zod(time=NUMBER, text=TEXT, textGone=TEXT),
    "browser: evaluate": {**plain("script", script=TEXT), "$schema": DRAFT_2020},
    # ---- generators
    "zod 4: optional, default, catch": {
        **plain("a", a=TEXT, b={"default": 3, "type": "number"}, c={"type": "string", "format": "date-time"}),
        "$schema": DRAFT_2020,
        "additionalProperties": {},
    },
    "zod 4: record and tuple": {
        "type": "object",
        "properties": {
            "map": {"type": "object", "propertyNames": TEXT, "additionalProperties": NUMBER},
            "pair": {"type": "array", "prefixItems": [TEXT, NUMBER]},
        },
        "$schema": DRAFT_2020,
    },
    "zod 3: literal union": zod(
        "mode", mode={"anyOf": [{"type": "string", "const": "a"}, {"type": "number", "const": 1}]}
    ),
    "zod 3: intersection": {"allOf": [zod("a", a=TEXT), zod("b", b=NUMBER)], "$schema": DRAFT_7},
    "zod 3: nullable": zod("n", n={"type": ["number", "null"]}, e={"type": ["string", "null"], "enum": ["x", None]}),
    "pydantic: date, decimal, bytes": pydantic(
        "day",
        day={"type": "string", "format": "date"},
        price={"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$"}]},
        blob={"type": "string", "format": "binary"},
    ),
    "pydantic: enum by reference": {
        **pydantic("level", level={"$ref": "#/$defs/Level"}),
        "$defs": {"Level": {"enum": ["low", "high"], "title": "Level", "type": "string"}},
    },
    "pydantic: recursive model": {
        **pydantic("root", root={"$ref": "#/$defs/Node"}),
        "$defs": {"Node": pydantic("name", name=TEXT, children={"default": [], **listed({"$ref": "#/$defs/Node"})})},
    },
    "pydantic: dictionary of models": {
        **pydantic("items", items={"type": "object", "additionalProperties": {"$ref": "#/$defs/Item"}}),
        "$defs": {"Item": pydantic("n", n={"type": "integer", "multipleOf": 5})},
    },
}

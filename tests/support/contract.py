"""Answers held against OpenAI's published specification (tests/data/openai.json).

`check(method, path, status, body)` validates one answer, `check_event(event)` one streamed event; `support.witness`
does both for all that the tests' daemons answer. A path that the specification does not have is not checked (additions
of ours).
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SPEC = Path(__file__).resolve().parents[1] / "data" / "openai.json"
ERROR_KEYS = {"message", "type", "param", "code"}
BASE = "/v1"


@functools.cache
def spec() -> dict[str, Any]:
    found: dict[str, Any] = any_of(json.loads(SPEC.read_text(encoding="utf-8")))
    # What a streamed answer whose prompt is too long fails with here. The published list of a response's codes has no
    # word for it; this one is that of the HTTP error of the same cause, and programs look for it in both places.
    found["components"]["schemas"]["ResponseErrorCode"]["enum"].append("context_length_exceeded")
    return found


def any_of(node: Any) -> Any:
    """The specification as JSON Schema: its unions overlap (a message is an item in two ways), so one match will do."""
    if isinstance(node, dict):
        changed = {("anyOf" if key == "oneOf" else key): any_of(value) for key, value in node.items()}
        if "oneOf" in node and "anyOf" in node:
            changed["anyOf"] = any_of(node["anyOf"])
            changed["allOf"] = [{"anyOf": any_of(node["oneOf"])}]
        if node.get("nullable") is True:  # how OpenAPI 3.0 spells it
            return {"anyOf": [changed, {"type": "null"}]}
        return changed
    return [any_of(entry) for entry in node] if isinstance(node, list) else node


@functools.cache
def validator(name: str) -> Draft202012Validator:
    """The validator of one schema of the specification."""
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": spec()["components"]})


@functools.cache
def _event_schemas() -> dict[str, str]:
    found = {}
    for name, schema in spec()["components"]["schemas"].items():
        kind = schema.get("properties", {}).get("type", {}).get("enum", [])
        if name.endswith("Event") and len(kind) == 1 and kind[0].startswith(("response.", "error")):
            found[kind[0]] = name
    return found


@functools.cache
def operations() -> list[tuple[re.Pattern[str], str]]:
    paths = sorted(spec()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) + "$"), path) for path in paths]


def operation(method: str, path: str) -> dict[str, Any] | None:
    """The specification's operation for a concrete path (without /v1)."""
    for pattern, template in operations():
        if pattern.match(path):
            found: dict[str, Any] | None = spec()["paths"][template].get(method.lower())
            if found is not None:
                return found
    return None


def conforms(name: str, value: Any) -> None:
    """The value fits the named schema."""
    fits(validator(name), value, name)


def check(method: str, path: str, status: int, body: Any) -> None:
    """One JSON answer fits its operation, or is a four-key error."""
    if not path.startswith(BASE):
        return
    if status >= 400:
        anthropic = path.startswith(f"{BASE}/messages")
        assert set(body) == ({"error", "type"} if anthropic else {"error"}), body
        assert set(body["error"]) == ERROR_KEYS, body
        assert isinstance(body["error"]["message"], str), body
        assert body["error"]["message"], body
        return
    if path.startswith(f"{BASE}/chat/completions/") and path.endswith("/messages"):
        return  # the published schema calls every stored message the assistant's; its own example does not
    found = operation(method, path.removeprefix(BASE))
    content = ((found or {}).get("responses", {}).get("200") or {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    if schema is not None:
        fits(Draft202012Validator({**schema, "components": spec()["components"]}), body, f"{method} {path}")


def check_event(event: dict[str, Any]) -> None:
    """One streamed event fits its schema; an unknown type is an error, as it is for the Node SDK."""
    name = _event_schemas().get(event["type"])
    assert name is not None, f"no such event: {event['type']}"
    conforms(name, event)


def fits(checker: Draft202012Validator, value: Any, what: str) -> None:
    """The value is valid; raises AssertionError with the first places where it is not."""
    errors = [f"{'/'.join(map(str, error.absolute_path))}: {_deepest(error)}" for error in checker.iter_errors(value)]
    assert not errors, f"{what} breaks the specification:\n" + "\n".join(errors[:5])


def _deepest(error: Any) -> str:
    """The most telling part of a failed union."""
    while error.context:
        error = max(error.context, key=lambda inner: len(inner.absolute_path))
    return str(error.message)[:500]

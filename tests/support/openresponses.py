"""Answers held against the Open Responses specification (tests/data/openresponses.json), beside OpenAI's.

It knows fewer kinds of items, tools, annotations and events than OpenAI: those it does not name are left out of what is
compared.
"""

from __future__ import annotations

import functools
import json
from typing import Any

from jsonschema import Draft202012Validator

from support.contract import SPEC, any_of, fits

ITEMS = {"message", "function_call", "function_call_output", "reasoning", "compaction"}
TOOLS = {"function"}
ANNOTATIONS = {"url_citation"}


@functools.cache
def _document() -> dict[str, Any]:
    return dict(any_of(json.loads(SPEC.with_name("openresponses.json").read_text(encoding="utf-8"))))


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    components = _document()["components"]
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})


@functools.cache
def _events() -> dict[str, str]:
    schemas = _document()["components"]["schemas"].items()
    return {
        schema["properties"]["type"]["enum"][0]: name for name, schema in schemas if name.endswith("StreamingEvent")
    }


def check_response(response: dict[str, Any]) -> None:
    """A Response."""
    fits(_validator("ResponseResource"), _known(response), "the response (Open Responses)")


def check_event(event: dict[str, Any]) -> None:
    """One event of a stream."""
    name = _events().get(event["type"])
    known = dict(event)
    match event:
        case {"response": response}:
            known["response"] = _known(response)
        case {"item": item}:
            if item["type"] not in ITEMS:
                return
            known["item"] = _item(item)
        case {"part": part}:
            known["part"] = _part(part)
        case {"annotation": annotation}:
            if annotation["type"] not in ANNOTATIONS:
                return
    if name is None:
        return
    fits(_validator(name), known, f"{event['type']} (Open Responses)")


def check_socket_error(event: dict[str, Any]) -> None:
    """The answer to a WebSocket request that could not begin."""
    fits(_validator("WebSocketErrorEvent"), event, "the error (Open Responses)")


def _known(response: dict[str, Any]) -> dict[str, Any]:
    choice = response["tool_choice"]
    plain = isinstance(choice, str) or choice["type"] in TOOLS
    text = response["text"]
    if text["format"]["type"] == "json_schema":
        # It allows no schema there but null, and asks for a null description, which OpenAI's schema forbids.
        text = {**text, "format": {"type": "text"}}
    return {
        **response,
        "output": [_item(item) for item in response["output"] if item["type"] in ITEMS],
        "tools": [tool for tool in response["tools"] if tool["type"] in TOOLS],
        "tool_choice": choice if plain else "auto",
        "text": text,
    }


def _item(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "content": [_part(part) for part in item["content"]]} if item.get("content") else item


def _part(part: dict[str, Any]) -> dict[str, Any]:
    known = [entry for entry in part.get("annotations", []) if entry["type"] in ANNOTATIONS]
    return {**part, "annotations": known} if "annotations" in part else part

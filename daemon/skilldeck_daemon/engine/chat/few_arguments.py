"""Functions as a small model is shown them: the arguments that a call needs, and in words what else it takes.

A small model writes every property that a schema shows it. Of a function with one required property and nine others
Qwen2.5-Coder (1.5B) filled in five with each call, among them what its client refuses; a remark that they are optional
changed nothing. In words it reads them, and does not copy them. What has a structure stays a property.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from skilldeck_daemon.engine.checks import ToolPlan, ToolSpec
from skilldeck_shared.json_types import JsonObject

PLAIN = ("string", "number", "integer", "boolean")
FURTHER = "Further arguments, left out unless the task needs them:"


def needed_first(plan: ToolPlan) -> ToolPlan:
    """The plan with the required properties of each function before the others, in which order they are written."""
    return replace(plan, tools=tuple(map(_ordered, plan.tools)), every=tuple(map(_ordered, plan.every)))


def shown_few(tool: ToolSpec) -> ToolSpec:
    """The tool as it is shown. One that needs nothing, and one whose schema is strict, is shown whole."""
    properties, required = _properties(tool), _required(tool)
    lines = {name: line for name, inner in properties.items() if name not in required and (line := _line(name, inner))}
    if not lines or tool.strict or not required:
        return tool
    about = "\n".join([tool.description, FURTHER, *lines.values()]).strip()
    kept = {name: inner for name, inner in properties.items() if name not in lines}
    return replace(tool, description=about, parameters={**tool.parameters, "properties": kept})


def _ordered(tool: ToolSpec) -> ToolSpec:
    properties, required = _properties(tool), _required(tool)
    if tool.kind != "function" or not required:
        return tool
    ordered = sorted(properties, key=lambda name: name not in required)
    return replace(tool, parameters={**tool.parameters, "properties": {name: properties[name] for name in ordered}})


def _properties(tool: ToolSpec) -> JsonObject:
    found = tool.parameters.get("properties")
    return found if isinstance(found, dict) else {}


def _required(tool: ToolSpec) -> set[str]:
    found = tool.parameters.get("required")
    known = _properties(tool)
    return {name for name in found if name in known} if isinstance(found, list) else set()


def _line(name: str, schema: Any) -> str:
    """A property in words; "" for one whose values have a structure."""
    if not isinstance(schema, dict):
        return ""
    kinds = schema.get("anyOf")
    if isinstance(kinds, list):  # a value or null, as pydantic writes what is optional
        valued = [kind for kind in kinds if kind != {"type": "null"}]
        if len(valued) != 1 or not isinstance(valued[0], dict):
            return ""
        schema = {**valued[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
    kind = _kind(schema)
    if not kind:
        return ""
    about = schema.get("description")
    return f"- {name} ({kind}): {about}" if isinstance(about, str) and about else f"- {name} ({kind})"


def _kind(schema: JsonObject) -> str:
    """What values a plain schema has, "" for any other."""
    if isinstance(schema.get("enum"), list):
        return "|".join(map(str, schema["enum"]))
    items = schema.get("items")
    if schema.get("type") == "array" and isinstance(items, dict) and items.get("type") in PLAIN:
        return f"array of {items['type']}s"
    return str(schema["type"]) if schema.get("type") in PLAIN else ""

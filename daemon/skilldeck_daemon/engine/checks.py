"""What every ChatModel checks about a request and about a finished call, whichever way it speaks to its model.

Owns the reading of `tools` and `tool_choice` (the shapes of `ChatRequest`) into one small value, the verdict on a
complete tool call, and the unwrapping of a free-text tool's `input` out of a JSON object while it streams.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from skilldeck_daemon.engine.base import ChatRequest
from skilldeck_shared.characters import clean
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.json_strings import JsonString
from skilldeck_shared.json_types import JsonObject

CUT_OFF = "The call was cut off: the output limit was reached before it was complete."
CUSTOM_INPUT = "input"  # the one parameter by which a free-text tool is shown to models that only know functions


@dataclass(frozen=True)
class ToolSpec:
    """One tool as the model may call it; `index` is its place in the request's list."""

    index: int
    kind: Literal["function", "custom"]
    name: str
    description: str
    parameters: JsonObject
    strict: bool = False
    format: JsonObject | None = None

    def as_function(self) -> JsonObject:
        """The tool in Chat Completions' function shape, which chat templates and every server read."""
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": self.parameters},
        }


@dataclass(frozen=True)
class ToolPlan:
    """The tools this turn may use. mode: none, auto (may), required (must); `tools` are only the allowed ones."""

    mode: Literal["none", "auto", "required"]
    tools: tuple[ToolSpec, ...]
    every: tuple[ToolSpec, ...]
    named: str | None = None
    restricted: bool = False

    def find(self, name: str) -> ToolSpec | None:
        return next((tool for tool in self.every if tool.name == name), None)

    def kind(self, name: str) -> Literal["function", "custom"]:
        tool = self.find(name)
        return tool.kind if tool else "function"


NO_TOOLS = ToolPlan("none", (), ())


def read_tool(index: int, raw: JsonObject) -> ToolSpec:
    """Read one entry of `tools`. Raises BadRequest naming it."""
    kind = raw.get("type", "function")
    body = raw.get(kind, raw)
    name = body.get("name") if isinstance(body, dict) else None
    if kind not in ("function", "custom") or not isinstance(name, str) or not name:
        raise BadRequest("A tool needs a type (function or custom) and a name.", param=f"tools[{index}]")
    description = body.get("description") or ""
    if kind == "function":
        parameters = body.get("parameters") or {"type": "object", "properties": {}}
        return ToolSpec(index, "function", name, description, parameters, bool(body.get("strict")))
    grammar = body.get("format") if (body.get("format") or {}).get("type") == "grammar" else None
    if grammar:
        grammar = grammar.get("grammar", grammar)  # Chat nests it once more than Responses
    form = f"Its {grammar['syntax']} grammar:\n{grammar['definition']}" if grammar else "Free text."
    parameters = {
        "type": "object",
        "properties": {CUSTOM_INPUT: {"type": "string", "description": form}},
        "required": [CUSTOM_INPUT],
        "additionalProperties": False,
    }
    return ToolSpec(index, "custom", name, description, parameters, False, grammar)


def plan_tools(request: ChatRequest) -> ToolPlan:
    """The tools and the obligation that follow from `tools` and `tool_choice`. Raises BadRequest."""
    every = tuple(read_tool(index, raw) for index, raw in enumerate(request.tools))
    names = [tool.name for tool in every]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise BadRequest(f"Two tools are named {name!r}.", "Rename one of them.", param=f"tools[{index}].name")
    choice = request.tool_choice
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            raise BadRequest(
                f"Unknown tool_choice {choice!r}.", "Use auto, none, required or an object.", param="tool_choice"
            )
        if choice == "required" and not every:
            raise BadRequest("tool_choice is required but there are no tools.", param="tool_choice")
        if choice == "none" or not every:
            return ToolPlan("none", (), every)
        return ToolPlan("required" if choice == "required" else "auto", every, every)
    kind = choice.get("type")
    if kind in ("function", "custom"):
        named = choice.get("name") or (choice.get(kind) or {}).get("name")
        chosen = tuple(tool for tool in every if tool.name == named)
        if not chosen:
            raise BadRequest(f"tool_choice names {named!r}, which is not among the tools.", param="tool_choice.name")
        return ToolPlan("required", chosen, every, named=named)
    if kind == "allowed_tools":
        wanted = list(choice.get("names") or [])
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise BadRequest(f"tool_choice allows {unknown[0]!r}, which is not among the tools.", param="tool_choice")
        if not wanted:
            raise BadRequest("tool_choice allows no tool.", "Use none instead.", param="tool_choice.tools")
        allowed = tuple(tool for tool in every if tool.name in wanted)
        return ToolPlan("required" if choice.get("mode") == "required" else "auto", allowed, every, restricted=True)
    raise BadRequest(f"Unknown tool_choice type {kind!r}.", param="tool_choice.type")


def has_images(messages: Sequence[JsonObject]) -> bool:
    return any(
        isinstance(message.get("content"), list) and any(part.get("type") == "image_url" for part in message["content"])
        for message in messages
    )


def call_problem(plan: ToolPlan, name: str, arguments: str, kind: str = "function") -> str | None:
    """Why a complete call is not valid (for the model to read), or None."""
    if plan.find(name) is None:
        known = ", ".join(tool.name for tool in plan.every) or "none"
        return f"There is no tool named {name!r}. The tools are: {known}."
    if kind == "custom":
        return None
    try:
        value = json.loads(arguments)
    except ValueError as err:
        return f"The arguments are not valid JSON: {err}."
    if not isinstance(value, dict):
        return "The arguments must be a JSON object."
    return None


def wrap_custom(call: JsonObject) -> JsonObject:
    """A call of the history in function shape: a free-text call becomes one with the parameter `input`."""
    if call.get("type") != "custom":
        return call
    custom = call["custom"]
    arguments = json.dumps({CUSTOM_INPUT: custom.get("input", "")}, ensure_ascii=False)
    return {"id": call.get("id"), "type": "function", "function": {"name": custom["name"], "arguments": arguments}}


LONGEST_OPENING = 4_096


class InputField:
    """The text of `{"input": "…"}` as its JSON arrives in pieces.

    `feed` returns what is new of the decoded string; `whole` ends it. A text that is not of that form is given back
    unchanged by `whole` (the model wrote free text), with nothing streamed before.
    """

    _open = re.compile(r'\s*\{\s*"' + CUSTOM_INPUT + r'"\s*:\s*"')

    def __init__(self) -> None:
        self._pieces: list[str] = []  # all that came
        self._shown: list[str] = []  # all that was returned
        self._tail = ""  # the beginning of the object, while it is not all here
        self._string = JsonString(strict=True)
        self._state: Literal["before", "inside", "closed", "other"] = "before"

    def feed(self, delta: str) -> str:
        self._pieces.append(delta)
        if self._state in ("closed", "other"):
            return ""
        text, self._tail = self._tail + delta, ""
        at = 0
        if self._state == "before":
            match = self._open.match(text)
            if match is None:
                # However it is laid out, the object's beginning is short.
                self._tail, self._state = (text, "before") if len(text) < LONGEST_OPENING else ("", "other")
                return ""
            at, self._state = match.end(), "inside"
        new, _ = self._string.feed(text, at)
        if self._string.closed or self._string.broken:  # what is no JSON `whole` finds out
            self._state = "closed"
        self._shown.append(new)
        return new

    def whole(self) -> tuple[str, str]:
        """The complete input and what of it was not yet returned by `feed`."""
        raw, shown = "".join(self._pieces), "".join(self._shown)
        try:
            value = json.loads(raw)
            if isinstance(value, dict) and isinstance(value.get(CUSTOM_INPUT), str):
                text = clean(value[CUSTOM_INPUT])
                rest = text[len(shown) :] if text.startswith(shown) else ""
                return (text, rest) if rest or text == shown else (shown, "")
        except ValueError:
            pass
        return (shown, "") if self._state in ("inside", "closed") else (raw, raw)

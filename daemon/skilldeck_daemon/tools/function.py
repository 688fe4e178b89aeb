"""Function and custom tools: the client's own. The run surfaces the call and ends; the client answers it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NotRequired

from skilldeck_daemon.engine.messages import MessageCall
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.tools.base import Call, CallWriter, Tool
from skilldeck_daemon.tools.context import ToolContext
from skilldeck_daemon.tools.namespaces import Member, Namespace, flat_name, full_name, means
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_daemon.wire.item_kinds import (
    Answer,
    CallKind,
    Content,
    FunctionCall,
    Item,
    OutputKind,
    Renderer,
    function_call,
)
from skilldeck_daemon.wire.items import read_call_id, read_common, read_output
from skilldeck_daemon.wire.schemas import check_schema
from skilldeck_shared.json_types import JsonObject

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
DIRECT = "direct"


def check_callers(fields: Fields) -> None:
    """`allowed_callers` must let the model itself call; `defer_loading` changes nothing: every tool is declared."""
    callers = fields.strings("allowed_callers")
    fields.boolean("defer_loading")
    if callers and DIRECT not in callers:
        name = fields.name("allowed_callers")
        hint = f"Add {DIRECT!r}, or leave it out."
        refuse(name, f"'{name}' has no {DIRECT!r}: only the model calls tools here.", hint, "unsupported_value")


def tool_name(fields: Fields) -> str:
    name = fields.needed("name", maximum=128)
    if not _NAME.fullmatch(name):
        refuse(
            fields.name("name"),
            f"'{fields.name('name')}' may hold letters, digits, '_', '-' and '.' only.",
            code="invalid_value",
        )
    return name


class CustomCall(Item):
    name: str
    input: str
    namespace: NotRequired[str]


class FunctionCallKind(CallKind[FunctionCall]):
    type = "function_call"
    deltas = ("response.function_call_arguments.delta",)
    hosted = True  # calls of the daemon's own tools that could be shown as no other item

    def read(self, fields: Fields) -> FunctionCall:
        arguments = fields.string("arguments", required=True) or ""
        item = read_common(fields, "fc")
        item["call_id"] = read_call_id(fields)
        return {**item, **_read_name(fields), "arguments": arguments}

    def render(self, item: FunctionCall, raw: Mapping[str, str]) -> MessageCall:
        return function_call(item, full_name(item), item["arguments"])

    def emptied(self, item: FunctionCall) -> FunctionCall:
        return {**item, "arguments": "{}"}


class CustomCallKind(CallKind[CustomCall]):
    type = "custom_tool_call"
    deltas = ("response.custom_tool_call_input.delta",)

    def read(self, fields: Fields) -> CustomCall:
        text = fields.string("input", required=True) or ""
        item = read_common(fields, "ctc")
        item["call_id"] = read_call_id(fields)
        return {**item, **_read_name(fields), "input": text}

    def render(self, item: CustomCall, raw: Mapping[str, str]) -> MessageCall:
        return {"id": item["call_id"], "type": "custom", "custom": {"name": full_name(item), "input": item["input"]}}


class TextOutputKind(OutputKind[Answer]):
    """What a client's function or custom tool returned: a text, or parts with images and files.

    Args:
        prefix: of ids that are made here.
        hosted: whether it may be the daemon's own work.
    """

    def __init__(self, type: str, prefix: str, *, hosted: bool = False) -> None:
        self.type = type
        self.hosted = hosted
        self._prefix = prefix

    def read(self, fields: Fields) -> Answer:
        common = read_common(fields, self._prefix)
        return {
            "id": common["id"],
            "type": common["type"],
            "status": common["status"],
            "call_id": read_call_id(fields),
            "output": read_output(fields),
        }

    def render(self, item: Answer, call: Item, renderer: Renderer) -> Content:
        output = item["output"]
        return output if isinstance(output, str) else renderer.content(item)


def _read_name(fields: Fields) -> Member:
    """The function's name, and its namespace where it has one."""
    namespace = fields.string("namespace", maximum=128)
    name: Member = {"name": fields.needed("name", maximum=256)}
    if namespace:
        name["namespace"] = namespace
    return name


@dataclass(frozen=True)
class FunctionTool(Tool):
    name: str
    description: str | None
    parameters: JsonObject
    strict: bool | None
    namespace: Namespace | None = None

    type = "function"
    items = (FunctionCallKind(), TextOutputKind("function_call_output", "fco", hosted=True))
    chosen_by = ("name",)

    @classmethod
    def parse(cls, fields: Fields) -> FunctionTool:
        check_callers(fields)
        parameters = fields.object("parameters")
        if parameters is not None and fields.value.get("strict") is True:
            check_schema(parameters.value, parameters.path)
        return cls(
            tool_name(fields),
            fields.string("description"),
            parameters.value if parameters else {"type": "object", "properties": {}},
            fields.boolean("strict", True) if fields.value.get("strict") is not None else None,
        )

    def echo(self) -> JsonObject:
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "strict": True if self.strict is None else self.strict,
        }

    def declare(self) -> list[JsonObject]:
        function = {
            "name": flat_name(self.name, self.namespace),
            "description": self.description or "",
            "parameters": self.parameters,
            # Strict only when the client asked: an older schema may be no valid strict one.
            "strict": bool(self.strict),
        }
        return [{"type": "function", "function": function}]

    def begin(self, output: Output, context: ToolContext, call_id: str, name: str) -> CallWriter:
        return FunctionWriter(self, output, call_id, self.name, self.namespace)

    def matches(self, choice: JsonObject) -> bool:
        return choice.get("type") == self.type and means(choice, self.name, self.namespace)


@dataclass(frozen=True)
class CustomTool(Tool):
    name: str
    description: str | None
    format: JsonObject
    namespace: Namespace | None = None

    type = "custom"
    items = (CustomCallKind(), TextOutputKind("custom_tool_call_output", "ctco"))
    chosen_by = ("name",)

    @classmethod
    def parse(cls, fields: Fields) -> CustomTool:
        check_callers(fields)
        shape = fields.object("format")
        given: JsonObject = {"type": "text"}
        if shape is not None and shape.needed("type", choices=("text", "grammar")) == "grammar":
            given = {
                "type": "grammar",
                "syntax": shape.needed("syntax", choices=("lark", "regex")),
                "definition": shape.needed("definition"),
            }
        return cls(tool_name(fields), fields.string("description"), given)

    def echo(self) -> JsonObject:
        described = {"description": self.description} if self.description is not None else {}
        return {"type": "custom", "name": self.name, **described, "format": self.format}

    def declare(self) -> list[JsonObject]:
        name = flat_name(self.name, self.namespace)
        custom = {"name": name, "description": self.description or "", "format": self.format}
        return [{"type": "custom", "custom": custom}]

    def begin(self, output: Output, context: ToolContext, call_id: str, name: str) -> CallWriter:
        return CustomWriter(self, output, call_id)

    def matches(self, choice: JsonObject) -> bool:
        return choice.get("type") == self.type and means(choice, self.name, self.namespace)


@dataclass(frozen=True)
class UnknownTool(Tool):
    """A function the request does not declare: its call is answered here, with what there is instead.

    No client could carry it out, so it is no item of the output: the model alone reads it. `instructions` are
    those of the skill that has its name.
    """

    name: str
    known: tuple[str, ...]
    is_skill: bool = False
    instructions: str = ""

    type = "function"
    hosted = True
    internal = True

    @property
    def fault(self) -> str | None:  # type: ignore[override]
        if self.is_skill and self.instructions:
            return (
                f"{self.name!r} is a skill, not a tool. Do what its instructions say; commands run with the shell tool:"
                f"\n{self.instructions}"
            )
        if self.is_skill:
            return (
                f"{self.name!r} is a skill, not a tool. Read its instructions with the shell tool:"
                f" cat /mnt/skills/{self.name}/SKILL.md, then follow them."
            )
        there = f"There is: {', '.join(self.known)}." if self.known else "There are no tools; answer with text."
        return f"There is no tool called {self.name!r}. {there}"

    def echo(self) -> JsonObject:
        return {"type": "function", "name": self.name}

    def declare(self) -> list[JsonObject]:
        return []

    def begin(self, output: Output, context: ToolContext, call_id: str, name: str) -> CallWriter:
        return HiddenWriter(self, output, call_id, name)

    async def execute(self, call: Call, output: Output, context: ToolContext) -> None:
        answer: Answer = {"type": "function_call_output", "call_id": call.call_id, "output": call.problem or ""}
        output.hide(answer)


class FunctionWriter(CallWriter):
    """function_call: its arguments stream as the model writes them and reach the client unchanged, valid or not."""

    def __init__(self, tool: Tool, output: Output, call_id: str, name: str, namespace: Namespace | None = None) -> None:
        super().__init__()
        self._tool = tool
        self._output = output
        self._call_id = call_id
        self._name = name
        self._item: FunctionCall = {
            "id": new_id("fc"),
            "type": "function_call",
            "status": "in_progress",
            "call_id": call_id,
            "name": name,
            "arguments": "",
        }
        if namespace is not None:
            self._item["namespace"] = namespace.name
        self._index = output.add(self._item)

    def show(self, delta: str) -> None:
        self._item["arguments"] += delta
        self._output.emit("response.function_call_arguments.delta", self._index, delta=delta)

    def cut(self, arguments: str) -> None:
        self._end(arguments, "incomplete")

    def _end(self, arguments: str, status: str) -> None:
        self._output.emit("response.function_call_arguments.done", self._index, name=self._name, arguments=arguments)
        self._output.done(self._index, status=status, arguments=arguments)
        self._output.raw[self._call_id] = arguments

    def close(self, arguments: str, problem: str | None) -> Call:
        self._end(arguments, "completed")
        return Call(self._tool, self._call_id, self._name, arguments, self._tool.hosted, self._tool.fault)


class HiddenWriter(CallWriter):
    """A call that only the model reads."""

    def __init__(self, tool: Tool, output: Output, call_id: str, name: str) -> None:
        super().__init__()
        self._tool = tool
        self._output = output
        self._call_id = call_id
        self._name = name

    def show(self, delta: str) -> None:
        pass

    def close(self, arguments: str, problem: str | None) -> Call:
        item: FunctionCall = {
            "id": new_id("fc"),
            "type": "function_call",
            "status": "completed",
            "call_id": self._call_id,
            "name": self._name,
            "arguments": arguments,
        }
        self._output.hide(item)
        return Call(self._tool, self._call_id, self._name, arguments, self._tool.hosted, self._tool.fault)


class CustomWriter(CallWriter):
    """custom_tool_call: free text."""

    def __init__(self, tool: CustomTool, output: Output, call_id: str) -> None:
        super().__init__()
        self._tool = tool
        self._output = output
        self._call_id = call_id
        self._item: CustomCall = {
            "id": new_id("ctc"),
            "type": "custom_tool_call",
            "status": "in_progress",
            "call_id": call_id,
            "name": tool.name,
            "input": "",
        }
        if tool.namespace is not None:
            self._item["namespace"] = tool.namespace.name
        self._index = output.add(self._item)

    def show(self, delta: str) -> None:
        self._item["input"] += delta
        self._output.emit("response.custom_tool_call_input.delta", self._index, delta=delta)

    def cut(self, arguments: str) -> None:
        self._end(arguments, "incomplete")

    def _end(self, arguments: str, status: str) -> None:
        self._output.emit("response.custom_tool_call_input.done", self._index, input=arguments)
        self._output.done(self._index, status=status, input=arguments)
        self._output.raw[self._call_id] = arguments

    def close(self, arguments: str, problem: str | None) -> Call:
        self._end(arguments, "completed")
        return Call(self._tool, self._call_id, self._tool.name, arguments, hosted=False)

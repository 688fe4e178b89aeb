"""Function and custom tools: the client's own. The run surfaces the call and ends; the client answers it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skilldeck_daemon.agent.fields import Fields, refuse
from skilldeck_daemon.agent.output import Output
from skilldeck_daemon.agent.schemas import check_schema
from skilldeck_daemon.agent.tools.base import Call, CallWriter, Tool
from skilldeck_daemon.store.ids import new_id

if TYPE_CHECKING:
    from skilldeck_daemon.agent.work import Work

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


def tool_name(fields: Fields) -> str:
    name = fields.needed("name", maximum=128)
    if not _NAME.fullmatch(name):
        refuse(
            fields.name("name"),
            f"'{fields.name('name')}' may hold letters, digits, '_', '-' and '.' only.",
            code="invalid_value",
        )
    return name


@dataclass(frozen=True)
class FunctionTool(Tool):
    name: str
    description: str | None
    parameters: dict[str, Any]
    strict: bool | None

    type = "function"

    @classmethod
    def parse(cls, fields: Fields) -> FunctionTool:
        fields.refuse("defer_loading", "allowed_callers", why="Tool search is not served here; send the tool itself.")
        parameters = fields.object("parameters")
        if parameters is not None and fields.value.get("strict") is True:
            check_schema(parameters.value, parameters.path)
        return cls(
            tool_name(fields),
            fields.string("description"),
            parameters.value if parameters else {"type": "object", "properties": {}},
            fields.boolean("strict", True) if fields.value.get("strict") is not None else None,
        )

    def echo(self) -> dict[str, Any]:
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "strict": True if self.strict is None else self.strict,
        }

    def declare(self) -> list[dict[str, Any]]:
        function = {
            "name": self.name,
            "description": self.description or "",
            "parameters": self.parameters,
            # Strict only when the client asked: an older schema may be no valid strict one.
            "strict": bool(self.strict),
        }
        return [{"type": "function", "function": function}]

    def begin(self, output: Output, work: Work, call_id: str, name: str) -> CallWriter:
        return FunctionWriter(self, output, call_id, name)

    def matches(self, choice: dict[str, Any]) -> bool:
        return choice.get("type") == "function" and choice.get("name") == self.name


@dataclass(frozen=True)
class CustomTool(Tool):
    name: str
    description: str | None
    format: dict[str, Any]

    type = "custom"

    @classmethod
    def parse(cls, fields: Fields) -> CustomTool:
        fields.refuse("defer_loading", "allowed_callers", why="Tool search is not served here; send the tool itself.")
        shape = fields.object("format")
        given: dict[str, Any] = {"type": "text"}
        if shape is not None and shape.needed("type", choices=("text", "grammar")) == "grammar":
            given = {
                "type": "grammar",
                "syntax": shape.needed("syntax", choices=("lark", "regex")),
                "definition": shape.needed("definition"),
            }
        return cls(tool_name(fields), fields.string("description"), given)

    def echo(self) -> dict[str, Any]:
        described = {"description": self.description} if self.description is not None else {}
        return {"type": "custom", "name": self.name, **described, "format": self.format}

    def declare(self) -> list[dict[str, Any]]:
        custom = {"name": self.name, "description": self.description or "", "format": self.format}
        return [{"type": "custom", "custom": custom}]

    def begin(self, output: Output, work: Work, call_id: str, name: str) -> CallWriter:
        return CustomWriter(self, output, call_id)

    def matches(self, choice: dict[str, Any]) -> bool:
        return choice.get("type") == "custom" and choice.get("name") == self.name


@dataclass(frozen=True)
class UnknownTool(Tool):
    """A function the request does not declare: the call is surfaced and answered here, with what there is instead."""

    name: str
    known: tuple[str, ...]

    type = "function"
    hosted = True

    @property
    def fault(self) -> str | None:  # type: ignore[override]
        there = f"There is: {', '.join(self.known)}." if self.known else "There are no tools; answer with text."
        return f"There is no tool called {self.name!r}. {there}"

    def echo(self) -> dict[str, Any]:
        return {"type": "function", "name": self.name}

    def declare(self) -> list[dict[str, Any]]:
        return []

    def begin(self, output: Output, work: Work, call_id: str, name: str) -> CallWriter:
        return FunctionWriter(self, output, call_id, name)

    async def execute(self, call: Call, output: Output, work: Work) -> None:
        item = {
            "id": new_id("fco"),
            "type": "function_call_output",
            "status": "in_progress",
            "call_id": call.call_id,
            "output": call.problem or "",
        }
        output.done(output.add(item), status="completed")


class FunctionWriter(CallWriter):
    """function_call: its arguments stream as the model writes them and reach the client unchanged, valid or not."""

    def __init__(self, tool: Tool, output: Output, call_id: str, name: str) -> None:
        super().__init__()
        self._tool = tool
        self._output = output
        self._call_id = call_id
        self._name = name
        item = {
            "id": new_id("fc"),
            "type": "function_call",
            "status": "in_progress",
            "call_id": call_id,
            "name": self._name,
            "arguments": "",
        }
        self._index = output.add(item)

    def show(self, delta: str) -> None:
        self._output.items[self._index]["arguments"] += delta
        self._output.emit("response.function_call_arguments.delta", self._index, delta=delta)

    def close(self, arguments: str, problem: str | None) -> Call:
        self._output.emit("response.function_call_arguments.done", self._index, name=self._name, arguments=arguments)
        self._output.done(self._index, status="completed", arguments=arguments)
        self._output.raw[self._call_id] = arguments
        return Call(self._tool, self._call_id, self._name, arguments, self._tool.hosted, self._tool.fault)


class CustomWriter(CallWriter):
    """custom_tool_call: free text."""

    def __init__(self, tool: CustomTool, output: Output, call_id: str) -> None:
        super().__init__()
        self._tool = tool
        self._output = output
        self._call_id = call_id
        item = {
            "id": new_id("ctc"),
            "type": "custom_tool_call",
            "status": "in_progress",
            "call_id": call_id,
            "name": tool.name,
            "input": "",
        }
        self._index = output.add(item)

    def show(self, delta: str) -> None:
        self._output.items[self._index]["input"] += delta
        self._output.emit("response.custom_tool_call_input.delta", self._index, delta=delta)

    def close(self, arguments: str, problem: str | None) -> Call:
        self._output.emit("response.custom_tool_call_input.done", self._index, input=arguments)
        self._output.done(self._index, status="completed", input=arguments)
        self._output.raw[self._call_id] = arguments
        return Call(self._tool, self._call_id, self._tool.name, arguments, hosted=False)

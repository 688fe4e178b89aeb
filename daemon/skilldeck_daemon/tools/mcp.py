"""The `mcp` tool: the tools of an MCP server, listed when the run begins and called here.

The server is one of the operator's (`server_label` alone) or at the request's `server_url`. The list is an
mcp_list_tools item, unless an earlier turn's is in the conversation; a server that cannot be listed ends the run with
an error. The model sees each tool as a function `LABEL__TOOL`; a call is an mcp_call item with its output or error.
Where `require_approval` asks, the response ends with an mcp_approval_request instead, and the call is carried out when
the next turn brings an mcp_approval_response. The daemon's own permission counts as well: the strictest wins.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

from skilldeck_daemon.attachments.fetch import FetchRefused, check_url
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.libraries.approvals import strictest
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.tools.base import Call, CallWriter, Tool
from skilldeck_daemon.tools.context import Offer, ToolContext
from skilldeck_daemon.tools.mcp_servers.connection import McpConnection, McpFailed
from skilldeck_daemon.tools.mcp_servers.mcp_fields import Filter, read_allowed, read_approval, read_headers
from skilldeck_daemon.tools.mcp_servers.mcp_items import (
    ApprovalRequestKind,
    ApprovalResponseKind,
    McpAsked,
    McpCalled,
    McpCallKind,
    McpError,
    McpList,
    McpListed,
    McpListKind,
    McpVerdict,
    mcp_name,
    mcp_text,
)
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_daemon.wire.item_kinds import Answer, Item
from skilldeck_shared.characters import clean
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.json_types import JsonObject

MAX_TOOLS = 256
MAX_DESCRIPTION = 4096
MAX_SCHEMA = 65_536
"""Characters; a tool with a larger one is offered without it."""
STOPPED = "The run was stopped before this call ended."
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


class McpTool(Tool):
    """One server of a request. `asks`: whether some call of it may have to be approved by the client."""

    type = "mcp"
    hosted = True
    items = (McpCallKind(), McpListKind(), ApprovalRequestKind(), ApprovalResponseKind())

    def __init__(self, fields: Fields) -> None:
        self.path = fields.path
        self.label = fields.needed("server_label", maximum=64)
        if not _LABEL.fullmatch(self.label):
            hint = "Begin with a letter; letters, digits, '_' and '-' may follow."
            refuse(fields.name("server_label"), f"'{fields.name('server_label')}' is {self.label!r}.", hint)
        self.url = fields.string("server_url", maximum=2048) or ""
        self.about = fields.string("server_description", maximum=MAX_DESCRIPTION) or ""
        self._headers = read_headers(fields)
        if self.url:
            try:
                check_url(self.url)
            except (FetchRefused, ValueError) as error:
                refuse(fields.name("server_url"), str(error), code="invalid_value")
        elif self._headers:
            given = "authorization" if fields.value.get("authorization") else "headers"
            refuse(
                fields.name(given), f"'{fields.name(given)}' needs 'server_url'.", "The operator's servers have theirs."
            )
        self._allowed, self._allowed_echo = read_allowed(fields)
        self._always, self._never, self._approval_echo = read_approval(fields)
        self._tools: dict[str, McpListed] = {}  # as the server lists them, by function name
        self._functions: list[JsonObject] = []  # the same as the model is given them
        self._connection: McpConnection | None = None

    @classmethod
    def parse(cls, fields: Fields) -> McpTool:
        fields.refuse("connector_id", why="Connectors are OpenAI's own; give 'server_url'.")
        fields.refuse("tunnel_id", why="Tunnels are OpenAI's own; give 'server_url'.")
        fields.refuse("defer_loading", "allowed_callers", why="Tool search is not served here; name 'allowed_tools'.")
        return cls(fields)

    def beside(self, tools: Sequence[Tool]) -> Tool:
        for other in tools:
            if other is self:
                return self
            if isinstance(other, McpTool) and other.label == self.label:
                refuse(f"{self.path}.server_label", f"Two MCP servers are called {self.label!r}.", "Rename one.")
        return self

    def require(self, offer: Offer) -> None:
        known = offer.mcp.labels if offer.mcp is not None else []
        if self.url and self.label in known:
            hint = "Leave 'server_url' out to use it, or choose another label."
            refuse(f"{self.path}.server_label", f"{self.label!r} is a server of this daemon's settings.", hint)
        if not self.url and self.label not in known:
            there = f"This daemon's own are: {', '.join(known)}." if known else "This daemon has none of its own."
            name = f"{self.path}.server_url"
            refuse(name, f"Missing required parameter: '{name}'.", there, "missing_required_parameter")

    @property
    def asks(self) -> bool:
        return self._never is None or self._always is not None or self._never != Filter()

    def echo(self) -> JsonObject:
        shown: JsonObject = {"type": "mcp", "server_label": self.label}
        if self.url:
            shown["server_url"] = self.url
        if self.about:
            shown["server_description"] = self.about
        # What lets somebody in is nobody's to read back.
        shown["headers"] = {name: "<redacted>" for name in self._headers} or None
        return {**shown, "allowed_tools": self._allowed_echo, "require_approval": self._approval_echo}

    def declare(self) -> list[JsonObject]:
        return [{"type": "function", "function": function} for function in self._functions]

    async def _function(self, name: str, tool: McpListed, context: ToolContext) -> JsonObject:
        """A tool as the model is given it; with any arguments where its schema is larger than any grammar holds."""
        about = f"[{self.about}] " if self.about else ""
        function = {
            "name": name,
            "description": (about + (tool.get("description") or ""))[:MAX_DESCRIPTION],
            "parameters": tool["input_schema"],
            "strict": False,
        }
        if len(json.dumps(tool["input_schema"])) > MAX_SCHEMA or not await context.fits(function):
            function["parameters"] = {"type": "object"}
        return function

    chosen_by = ("server_label",)

    def choice_name(self, choice: Fields) -> str | None:
        return choice.string("name", minimum=1)

    def matches(self, choice: JsonObject) -> bool:
        return choice.get("type") == self.type and choice.get("server_label") == self.label

    def named(self, name: str) -> list[str]:
        return [function for function, tool in self._tools.items() if tool["name"] == name]

    # -- the run

    async def open(self, output: Output, context: ToolContext) -> Sequence[Call]:
        tools = self._remembered(context.said)
        if tools is None:
            tools = await self._list(output, context)
        self._tools = {mcp_name(self.label, tool["name"]): tool for tool in tools if self._offers(tool)}
        self._functions = [await self._function(name, tool, context) for name, tool in self._tools.items()]
        waiting = approved(context.said, self.label)
        for request in waiting:
            # Approved when it was listed; still it must be among what this request allows.
            if mcp_name(self.label, request["name"]) not in self._tools:
                context.revoked.add(request["id"])
        return [self._resume(request, output) for request in waiting]

    def _remembered(self, items: Collection[Item]) -> list[McpListed] | None:
        """The list of an earlier turn of the conversation."""
        for item in reversed([cast(McpList, item) for item in items if item.get("type") == "mcp_list_tools"]):
            if item["server_label"] == self.label and not item.get("error"):
                tools = item["tools"]
                wanted = self._allowed.names
                there = {tool["name"] for tool in tools}
                return tools if wanted is None or wanted <= there else None
        return None

    async def _list(self, output: Output, context: ToolContext) -> list[McpListed]:
        item: McpList = {
            "id": new_id("mcpl"),
            "type": "mcp_list_tools",
            "server_label": self.label,
            "tools": [],
            "error": None,
        }
        index = output.add(item, lambda: output.done(index, error=STOPPED))
        output.emit("response.mcp_list_tools.in_progress", index)
        try:
            tools = [tool for tool in await (await self._connected(context)).tools() if self._offers(tool)]
            if len(tools) > MAX_TOOLS:
                raise McpFailed(f"The MCP server '{self.label}' has {len(tools)} tools; name some in 'allowed_tools'.")
        except McpFailed as error:
            output.emit("response.mcp_list_tools.failed", index)
            output.done(index, error=error.title)
            raise
        output.emit("response.mcp_list_tools.completed", index)
        output.done(index, tools=tools)
        return tools

    def _offers(self, tool: McpListed) -> bool:
        return self._allowed.matches(tool)

    async def _connected(self, context: ToolContext) -> McpConnection:
        assert context.offer.mcp is not None
        if not self.url:
            return await context.offer.mcp.shared(self.label)
        if self._connection is None or not self._connection.alive:
            self._connection = await context.offer.mcp.dial(self.label, self.url, self._headers)
            context.closing.append(self._connection.stop)
        return self._connection

    def _needs_approval(self, tool: McpListed) -> bool:
        if self._never is not None and self._never.matches(tool):
            return self._always is not None and self._always.matches(tool)
        return True

    def begin(self, output: Output, context: ToolContext, call_id: str, name: str) -> CallWriter:
        tool = self._tools[name]
        # What the operator denies is not worth asking the client about.
        denied = strictest(context.approvals.permission, context.permission) == "deny"
        if self._needs_approval(tool) and not denied:
            return ApprovalWriter(self, output, call_id, name, tool["name"])
        return McpWriter(self, output, call_id, name, tool["name"])

    def _resume(self, request: McpAsked, output: Output) -> Call:
        name = mcp_name(self.label, request["name"])
        writer = McpWriter(self, output, new_id("call"), name, request["name"], request["id"])
        writer.write(request["arguments"])
        return writer.close(request["arguments"], None)

    async def execute(self, call: Call, output: Output, context: ToolContext) -> None:
        assert isinstance(call, McpCall)
        writer = call.writer
        if call.problem is not None:
            return writer.finish("failed", error=_refused(call.problem))
        if writer.request_id in context.revoked:
            message = f"The server {self.label!r} has no tool {writer.tool_name!r} that this request allows."
            return writer.finish("failed", error=_refused(message))
        where = f" at {self.url}" if self.url else ""
        asked = f"{self.label}{where}: {writer.tool_name} {call.arguments}"
        try:
            refusal = await context.approve(self.type, [asked], call.call_id)
            if refusal is not None:
                content = [{"type": "text", "text": refusal}]
                return writer.finish("failed", error={"type": "mcp_tool_execution_error", "content": content})
            connection = await self._connected(context)
            text = await connection.call(writer.tool_name, json.loads(call.arguments or "{}"))
        except asyncio.CancelledError:
            writer.stop()
            raise
        except McpFailed as failed:
            return writer.finish("failed", error=failed.error)
        except SkilldeckError as failed:
            return writer.finish("failed", error={"type": "http_error", "code": failed.status, "message": str(failed)})
        writer.finish("completed", text)


def approved(items: Collection[Item], label: str) -> list[McpAsked]:
    """The approval requests of a server's that were approved and not carried out yet, in order."""
    verdicts = [cast(McpVerdict, item) for item in items if item.get("type") == "mcp_approval_response"]
    approve = {verdict["approval_request_id"]: verdict.get("approve") is True for verdict in verdicts}
    done = {cast(McpCalled, item).get("approval_request_id") for item in items if item.get("type") == "mcp_call"}
    asked = [cast(McpAsked, item) for item in items if item.get("type") == "mcp_approval_request"]
    return [
        request
        for request in asked
        if request["server_label"] == label and request["id"] not in done and approve.get(request["id"], False)
    ]


def _refused(message: str) -> McpError:
    """A call that was not sent to its server."""
    return {"type": "mcp_protocol_error", "code": -32602, "message": message}


@dataclass(frozen=True)
class McpCall(Call):
    """A call with the item it writes."""

    writer: McpWriter = None  # type: ignore[assignment]


class McpWriter(CallWriter):
    """The mcp_call item, from the model's first word to its output. `request_id` is that of its approval."""

    def __init__(
        self, tool: McpTool, output: Output, call_id: str, name: str, tool_name: str, request_id: str | None = None
    ) -> None:
        super().__init__()
        self.tool_name = tool_name
        self.request_id = request_id
        self._tool = tool
        self._output = output
        self._call_id = call_id
        self._name = name
        self._item: McpCalled = {
            "id": new_id("mcp"),
            "type": "mcp_call",
            "status": "in_progress",
            "server_label": tool.label,
            "name": tool_name,
            "arguments": "",
            "output": None,
            "error": None,
            "approval_request_id": request_id,
        }
        self._index = output.add(self._item, self.stop)
        output.emit("response.mcp_call.in_progress", self._index)

    def show(self, delta: str) -> None:
        if delta:
            self._output.emit("response.mcp_call_arguments.delta", self._index, delta=delta)

    def close(self, arguments: str, problem: str | None) -> Call:
        self._item["arguments"] = arguments
        self._output.emit("response.mcp_call_arguments.done", self._index, arguments=arguments)
        self._output.raw[self._item["id"]] = arguments
        problem = problem or _problem(arguments)
        return McpCall(self._tool, self._call_id, self._name, arguments, hosted=True, problem=problem, writer=self)

    def stop(self) -> None:
        """The run ends before the call does."""
        self._item["arguments"] = self._item["arguments"] or "".join(self._written)
        self.finish("incomplete", error={"type": "http_error", "code": 499, "message": STOPPED}, shown=False)

    def finish(
        self, status: str, text: str | None = None, *, error: McpError | None = None, shown: bool = True
    ) -> None:
        """End the item with what came of it; the model reads the same."""
        if shown:
            self._output.emit(f"response.mcp_call.{status}", self._index)
        self._output.done(self._index, status=status, output=text, error=error)
        if self.request_id is None:
            answer: Answer = {
                "id": new_id("fco"),
                "type": "function_call_output",
                "status": "completed",
                "call_id": self._item["id"],
                "output": mcp_text(self._item),
            }
            self._output.hide(answer)


class ApprovalWriter(CallWriter):
    """The mcp_approval_request item; it appears when the model has written the whole call."""

    def __init__(self, tool: McpTool, output: Output, call_id: str, name: str, tool_name: str) -> None:
        super().__init__()
        self._tool = tool
        self._output = output
        self._call_id = call_id
        self._name = name
        self._tool_name = tool_name

    def show(self, delta: str) -> None:
        """Nothing: there is no event for it."""

    def close(self, arguments: str, problem: str | None) -> Call:
        if problem or _problem(arguments):
            # Nobody can approve what cannot be carried out: the model reads why, and may mend it.
            writer = McpWriter(self._tool, self._output, self._call_id, self._name, self._tool_name)
            writer.write(arguments)
            return writer.close(arguments, problem)
        item: McpAsked = {
            "id": new_id("mcpr"),
            "type": "mcp_approval_request",
            "server_label": self._tool.label,
            "name": self._tool_name,
            "arguments": clean(arguments) or "{}",
        }
        self._output.done(self._output.add(item))
        self._output.raw[item["id"]] = arguments
        return Call(self._tool, self._call_id, self._name, arguments, hosted=False)


def _problem(arguments: str) -> str | None:
    """Why the arguments cannot be sent, for the model."""
    try:
        given = json.loads(arguments or "{}")
    except (ValueError, RecursionError) as error:
        return f"The arguments are not valid JSON ({error})."
    return None if isinstance(given, dict) else "The arguments must be an object."

"""The items of MCP servers: the list of a server's tools, calls of them, and requests to approve calls."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

from skilldeck_daemon.engine.messages import MessageCall
from skilldeck_daemon.wire.fields import Fields, item_id, refuse
from skilldeck_daemon.wire.item_kinds import NO_OUTPUT, CallKind, Item, ItemKind, function_call
from skilldeck_shared.json_types import JsonObject

NOT_APPROVED = "(the user has not approved this call)"


class McpListed(TypedDict):
    """A tool as its server lists it."""

    name: str
    description: str | None
    input_schema: JsonObject
    annotations: JsonObject | None


class McpError(TypedDict):
    """Why a call failed: mcp_protocol_error and http_error have code and message, mcp_tool_execution_error content."""

    type: str
    code: NotRequired[int | None]
    message: NotRequired[str | None]
    content: NotRequired[list[Any]]


class McpList(Item):
    server_label: str
    tools: list[McpListed]
    error: str | None


class McpAsked(Item):
    """An mcp_approval_request."""

    server_label: str
    name: str
    arguments: str


class McpCalled(McpAsked):
    """An mcp_call. Other servers' errors may be texts."""

    output: str | None
    error: McpError | str | None
    approval_request_id: str | None


class McpVerdict(Item):
    """An mcp_approval_response; OpenAI's schema demands `request_id` beside the same under its other name."""

    request_id: str
    approval_request_id: str
    approve: bool
    reason: str | None


class McpListKind(ItemKind[McpList]):
    type = "mcp_list_tools"
    hosted = True

    def read(self, fields: Fields) -> McpList:
        tools: list[McpListed] = []
        for entry in fields.objects("tools", required=True):
            schema = entry.object("input_schema", required=True)
            annotations = entry.object("annotations")
            assert schema is not None
            tools.append(
                {
                    "name": entry.needed("name", maximum=256),
                    "description": entry.string("description"),
                    "input_schema": schema.value,
                    "annotations": annotations.value if annotations is not None else None,
                }
            )
        return {
            "id": item_id(fields, "mcpl"),
            "type": self.type,
            "server_label": fields.needed("server_label", maximum=64),
            "tools": tools,
            "error": fields.string("error"),
        }


class McpCallKind(CallKind[McpCalled]):
    """A call with its output. One that was approved is the answer to its mcp_approval_request."""

    type = "mcp_call"
    deltas = ("response.mcp_call_arguments.delta",)
    hosted = True

    def read(self, fields: Fields) -> McpCalled:
        statuses = ("in_progress", "completed", "incomplete", "calling", "failed")
        return {
            **_read_called(fields, "mcp"),
            "status": fields.string("status", choices=statuses) or "completed",
            "output": fields.string("output"),
            "error": _read_error(fields),
            "approval_request_id": fields.string("approval_request_id", maximum=256),
        }

    def render(self, item: McpCalled, raw: Mapping[str, str]) -> MessageCall | None:
        return None if item.get("approval_request_id") else _rendered(item, raw)

    def answer(self, item: McpCalled) -> str:
        return mcp_text(item)

    def decides(self, item: McpCalled) -> tuple[str, str] | None:
        request = item.get("approval_request_id")
        return (request, mcp_text(item)) if request else None


class ApprovalRequestKind(CallKind[McpAsked]):
    """A call that the client has to approve."""

    type = "mcp_approval_request"

    def read(self, fields: Fields) -> McpAsked:
        item = _read_called(fields, "mcpr")
        try:
            valid = isinstance(json.loads(item["arguments"] or "{}"), dict)
        except (ValueError, RecursionError):
            valid = False
        if not valid:
            name = fields.name("arguments")
            refuse(name, f"'{name}' must be the text of a JSON object.", code="invalid_value")
        return item

    def render(self, item: McpAsked, raw: Mapping[str, str]) -> MessageCall:
        return _rendered(item, raw)

    def answer(self, item: McpAsked) -> str:
        return NOT_APPROVED


class ApprovalResponseKind(ItemKind[McpVerdict]):
    type = "mcp_approval_response"

    def read(self, fields: Fields) -> McpVerdict:
        request_id = fields.needed("approval_request_id", maximum=256)
        if not isinstance(fields.value.get("approve"), bool):
            name = fields.name("approve")
            refuse(name, f"'{name}' must be true or false.", code="invalid_type")
        return {
            "id": item_id(fields, "mcpa"),
            "type": self.type,
            "request_id": request_id,
            "approval_request_id": request_id,
            "approve": fields.value["approve"],
            "reason": fields.string("reason", maximum=4096),
        }

    def check(self, item: McpVerdict, param: str, items: Sequence[Item], tools: Sequence[Any]) -> None:
        """It answers a request of a server that `tools` names."""
        name, request_id = f"{param}.approval_request_id", item["approval_request_id"]
        asked = (other for other in items if other.get("type") == "mcp_approval_request" and other["id"] == request_id)
        request = cast(McpAsked | None, next(asked, None))
        if request is None:
            hint = "Send the mcp_approval_request before it, or previous_response_id."
            refuse(name, f"There is no approval request {request_id[:100]!r}.", hint)
        if not any(tool.type == "mcp" and tool.label == request["server_label"] for tool in tools):
            hint = f"Add the mcp tool with server_label {request['server_label']!r}."
            refuse(name, "The server of this approval request is not in 'tools'.", hint)

    def decides(self, item: McpVerdict) -> tuple[str, str] | None:
        if item["approve"]:
            return None
        reason = f": {item['reason']}" if item.get("reason") else "."
        return item["approval_request_id"], f"The user denied this call{reason}"


def _read_called(fields: Fields, prefix: str) -> McpAsked:
    return {
        "id": item_id(fields, prefix),
        "type": fields.value["type"],
        "server_label": fields.needed("server_label", maximum=64),
        "name": fields.needed("name", maximum=256),
        "arguments": fields.string("arguments", required=True) or "",
    }


def _read_error(fields: Fields) -> McpError | None:
    """An error of a call: an object of one of three kinds, or a text, which becomes one."""
    if isinstance(fields.value.get("error"), str):
        return {"type": "mcp_protocol_error", "code": -32603, "message": fields.string("error")}
    given = fields.object("error")
    if given is None:
        return None
    type = given.needed("type", choices=("mcp_protocol_error", "mcp_tool_execution_error", "http_error"))
    if type == "mcp_tool_execution_error":
        return {"type": type, "content": given.array("content", required=True)}
    code, message = given.integer("code", required=True), given.string("message", required=True)
    return {"type": type, "code": code, "message": message}


def _rendered(item: McpAsked, raw: Mapping[str, str]) -> MessageCall:
    return function_call(item, mcp_name(item["server_label"], item["name"]), raw.get(item["id"]) or item["arguments"])


def mcp_name(label: str, tool: str) -> str:
    """The function that an MCP server's tool is to the model: at most 64 of the characters every engine takes."""
    plain = f"{label}__{tool}"
    name = re.sub(r"[^A-Za-z0-9_-]", "_", plain)
    if name == plain and len(name) <= 64:
        return name
    return f"{name[:55]}_{hashlib.sha256(plain.encode()).hexdigest()[:8]}"


def mcp_text(item: McpCalled) -> str:
    """What came of an mcp_call, as the model reads it."""
    error = item.get("error")
    if not error:
        return item.get("output") or NO_OUTPUT
    if isinstance(error, str):
        return error
    content: Any = error.get("content")
    if isinstance(content, list):
        content = "\n".join(str(block.get("text", "")) for block in content if isinstance(block, dict))
    return f"error: {error.get('message') or content or 'the call failed'}"

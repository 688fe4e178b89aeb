"""Input items of web searches and MCP servers, read as `inputs.py` reads the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from skilldeck_daemon.wire.fields import Fields, item_id, refuse

Item = dict[str, Any]


def _web_call(fields: Fields) -> Item:
    action = fields.object("action", required=True)
    assert action is not None
    kind_ = action.needed("type", choices=("search", "open_page", "find_in_page"))
    done: dict[str, Any] = {"type": kind_}
    if kind_ == "search":
        queries = action.strings("queries")
        done["query"] = action.string("query") or " ".join(queries)
        done["queries"] = queries or [done["query"]]
        if action.value.get("sources") is not None:
            done["sources"] = [{"type": "url", "url": entry.needed("url")} for entry in action.objects("sources")]
    else:
        done["url"] = action.string("url", required=kind_ == "find_in_page")
    if kind_ == "find_in_page":
        done["pattern"] = action.string("pattern", required=True)
    statuses = ("in_progress", "searching", "completed", "failed")
    status = fields.string("status", choices=(*statuses, "incomplete")) or "completed"
    item: Item = {
        "id": item_id(fields, "ws"),
        "type": "web_search_call",
        "status": "failed" if status == "incomplete" else status,
        "action": done,
    }
    if fields.value.get("results") is not None:
        item["results"] = [
            {name: entry.string(name, required=True) or "" for name in ("url", "title", "text")}
            for entry in fields.objects("results")
        ]
    return item


def _list_tools(fields: Fields) -> Item:
    tools = []
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
        "type": "mcp_list_tools",
        "server_label": fields.needed("server_label", maximum=64),
        "tools": tools,
        "error": fields.string("error"),
    }


def _error(fields: Fields) -> Item | None:
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


def _mcp_call(fields: Fields) -> Item:
    statuses = ("in_progress", "completed", "incomplete", "calling", "failed")
    return {
        "id": item_id(fields, "mcp"),
        "type": "mcp_call",
        "status": fields.string("status", choices=statuses) or "completed",
        **_mcp_common(fields),
        "output": fields.string("output"),
        "error": _error(fields),
        "approval_request_id": fields.string("approval_request_id", maximum=256),
    }


def _mcp_common(fields: Fields) -> Item:
    return {
        "server_label": fields.needed("server_label", maximum=64),
        "name": fields.needed("name", maximum=256),
        "arguments": fields.string("arguments", required=True) or "",
    }


def _approval_request(fields: Fields) -> Item:
    item = {"id": item_id(fields, "mcpr"), "type": "mcp_approval_request", **_mcp_common(fields)}
    try:
        valid = isinstance(json.loads(item["arguments"] or "{}"), dict)
    except (ValueError, RecursionError):
        valid = False
    if not valid:
        name = fields.name("arguments")
        refuse(name, f"'{name}' must be the text of a JSON object.", code="invalid_value")
    return item


def _approval_response(fields: Fields) -> Item:
    request_id = fields.needed("approval_request_id", maximum=256)
    if not isinstance(fields.value.get("approve"), bool):
        name = fields.name("approve")
        refuse(name, f"'{name}' must be true or false.", code="invalid_type")
    return {
        "id": item_id(fields, "mcpa"),
        "type": "mcp_approval_response",
        "request_id": request_id,  # OpenAI's schema demands it beside the next
        "approval_request_id": request_id,
        "approve": fields.value["approve"],
        "reason": fields.string("reason", maximum=4096),
    }


READERS: dict[str, Callable[[Fields], Item]] = {
    "web_search_call": _web_call,
    "mcp_list_tools": _list_tools,
    "mcp_call": _mcp_call,
    "mcp_approval_request": _approval_request,
    "mcp_approval_response": _approval_response,
}

"""The tools a request may name, by their type on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from skilldeck_daemon.tools.absent import ABSENT, AbsentTool
from skilldeck_daemon.tools.apply_patch import ApplyPatchTool
from skilldeck_daemon.tools.base import Call, CallWriter, Tool
from skilldeck_daemon.tools.code_interpreter import CodeInterpreterTool
from skilldeck_daemon.tools.function import CustomTool, FunctionTool, tool_name
from skilldeck_daemon.tools.mcp import McpTool
from skilldeck_daemon.tools.namespaces import Namespace, grouped
from skilldeck_daemon.tools.shell import ShellTool
from skilldeck_daemon.tools.web_search import TYPES as WEB_TYPES
from skilldeck_daemon.tools.web_search import WebSearchTool
from skilldeck_daemon.wire import item_kinds
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_shared.json_types import JsonObject

TOOLS: dict[str, type[Tool]] = {}


def register(tool: type[Tool], *types: str) -> None:
    """Serve tools of these types, and know the items of their calls."""
    item_kinds.register(*tool.items)
    TOOLS.update(dict.fromkeys(types, tool))


def unregister(tool: type[Tool]) -> None:
    """Forget a tool and its items."""
    item_kinds.unregister(*tool.items)
    for type_ in [type_ for type_, known in TOOLS.items() if known is tool]:
        del TOOLS[type_]


register(FunctionTool, "function")
register(CustomTool, "custom")
register(ShellTool, "shell")
register(CodeInterpreterTool, "code_interpreter")
register(ApplyPatchTool, "apply_patch")
register(McpTool, "mcp")
register(WebSearchTool, *WEB_TYPES)
register(AbsentTool, *ABSENT)

NAMESPACE = "namespace"
MEMBERS: dict[str, Callable[[Fields], FunctionTool | CustomTool]] = {
    "function": FunctionTool.parse,
    "custom": CustomTool.parse,
}
MAX_TOOLS = 1024


def parse_tools(fields: Fields) -> list[Tool]:
    """The `tools` of a request; two functions of one name are refused."""
    tools: list[Tool] = []
    seen: dict[str, str] = {}
    for entry, tool in _each(fields.objects("tools", maximum=MAX_TOOLS)):
        for name in tool.names:
            if name in seen:
                refuse(entry.path, f"Two tools are called {name!r}: {seen[name]} and {entry.path}.", "Rename one.")
            seen[name] = entry.path
        tools.append(tool)
    if len(tools) > MAX_TOOLS:
        refuse("tools", f"'tools' has {len(tools)} tools.", f"At most {MAX_TOOLS} are allowed.")
    return [tool.beside(tools) for tool in tools]


def _each(entries: Iterable[Fields]) -> Iterator[tuple[Fields, Tool]]:
    """Each tool with where it stands, those of a namespace one by one."""
    for entry in entries:
        kind = entry.needed("type")
        if kind == NAMESPACE:
            namespace = Namespace(tool_name(entry), entry.string("description") or "")
            for member in entry.objects("tools", required=True, minimum=1, maximum=MAX_TOOLS):
                parse = MEMBERS[member.needed("type", choices=tuple(MEMBERS))]
                yield member, replace(parse(member), namespace=namespace)
        elif kind in TOOLS:
            yield entry, TOOLS[kind].parse(entry)
        else:
            served = [NAMESPACE, *(name for name in TOOLS if name not in ABSENT)]
            hint = f"Supported: {', '.join(served)}."
            refuse(entry.name("type"), f"Tools of type {kind[:64]!r} are not supported.", hint, "unsupported_tool")


def echo_tools(tools: Sequence[Tool]) -> list[JsonObject]:
    """The tools as a Response shows them."""
    return grouped([(getattr(tool, "namespace", None), tool.echo()) for tool in tools])


__all__ = [
    "TOOLS",
    "Call",
    "CallWriter",
    "CustomTool",
    "FunctionTool",
    "ShellTool",
    "Tool",
    "echo_tools",
    "parse_tools",
    "register",
    "unregister",
]

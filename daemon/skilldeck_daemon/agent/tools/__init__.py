"""The tools a request may name, by their type on the wire."""

from __future__ import annotations

from collections.abc import Callable

from skilldeck_daemon.agent.fields import Fields, refuse
from skilldeck_daemon.agent.tools.apply_patch import ApplyPatchTool
from skilldeck_daemon.agent.tools.base import Call, CallWriter, Tool
from skilldeck_daemon.agent.tools.code_interpreter import CodeInterpreterTool
from skilldeck_daemon.agent.tools.function import CustomTool, FunctionTool
from skilldeck_daemon.agent.tools.mcp import McpTool
from skilldeck_daemon.agent.tools.shell import ShellTool
from skilldeck_daemon.agent.tools.web_search import TYPES as WEB_TYPES
from skilldeck_daemon.agent.tools.web_search import WebSearchTool

PARSERS: dict[str, Callable[[Fields], Tool]] = {
    "function": FunctionTool.parse,
    "custom": CustomTool.parse,
    "shell": ShellTool.parse,
    "code_interpreter": CodeInterpreterTool.parse,
    "apply_patch": ApplyPatchTool.parse,
    "mcp": McpTool.parse,
    **dict.fromkeys(WEB_TYPES, WebSearchTool.parse),
}
MAX_TOOLS = 1024


def parse_tools(fields: Fields) -> list[Tool]:
    """The `tools` of a request; two functions of one name are refused."""
    tools: list[Tool] = []
    seen: dict[str, str] = {}
    for entry in fields.objects("tools", maximum=MAX_TOOLS):
        kind = entry.needed("type")
        parser = PARSERS.get(kind)
        if parser is None:
            hint = f"Supported: {', '.join(PARSERS)}."
            refuse(entry.name("type"), f"Tools of type {kind[:64]!r} are not supported.", hint, "unsupported_tool")
        tool = parser(entry)
        for name in tool.names:
            if name in seen:
                refuse(entry.path, f"Two tools are called {name!r}: {seen[name]} and {entry.path}.", "Rename one.")
            seen[name] = entry.path
        tools.append(tool)
    return [tool.beside(tools) for tool in tools]


__all__ = ["PARSERS", "Call", "CallWriter", "CustomTool", "FunctionTool", "ShellTool", "Tool", "parse_tools"]

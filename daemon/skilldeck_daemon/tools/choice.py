"""`tool_choice`: what the model may, must, or must not call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skilldeck_daemon.tools import TOOLS
from skilldeck_daemon.tools.base import Tool
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_shared.json_types import JsonObject


@dataclass(frozen=True)
class ToolChoice:
    """`mode` auto, none or required; `tools` narrows it (None: all of the request's)."""

    echo: str | JsonObject
    mode: str = "auto"
    tools: tuple[Tool, ...] | None = None
    name: str | None = None  # the one of an MCP server's tools that is meant

    def for_model(self, tools: Sequence[Tool], usable: Sequence[Tool], called: bool) -> str | JsonObject:
        """The chat form of the choice.

        Args:
            tools: all tools that are declared.
            usable: those the model may still call (hosted ones drop out once `max_tool_calls` is spent).
            called: something was called already in this run: a forced choice is satisfied, so it becomes auto, else
                the model could never answer.
        """
        wanted = [tool for tool in (tools if self.tools is None else self.tools) if tool in usable]
        if self.mode == "none" or not wanted:
            return "none"
        mode = "auto" if called else self.mode
        names = [name for tool in wanted for name in (tool.names if self.name is None else tool.named(self.name))]
        if not names:
            return "none"
        if len(wanted) == len(tools) and self.name is None:
            return mode
        if mode == "required" and len(names) == 1:
            return {"type": "function", "name": names[0]}
        return {"type": "allowed_tools", "mode": mode, "names": names}


def parse_choice(fields: Fields, tools: Sequence[Tool]) -> ToolChoice:
    """Read `tool_choice`; a choice of a tool that the request does not declare is refused."""
    value = fields.value.get("tool_choice")
    if value is None:
        return ToolChoice("auto")
    if isinstance(value, str):
        mode = fields.needed("tool_choice", choices=("auto", "none", "required"))
        if mode == "required" and not tools:
            refuse(
                "tool_choice", "'tool_choice' is 'required' but there are no tools.", "Declare a tool or use 'auto'."
            )
        return ToolChoice(mode, mode)
    choice = fields.object("tool_choice")
    assert choice is not None
    if choice.needed("type") != "allowed_tools":
        tool = _find(choice, tools)
        return ToolChoice(tool.choice_echo(choice.value), "required", (tool,), tool.choice_name(choice))
    mode = choice.needed("mode", choices=("auto", "required"))
    entries = choice.objects("tools", required=True, minimum=1)
    found = tuple(_find(entry, tools) for entry in entries)
    shown = [tool.choice_echo(entry.value) for tool, entry in zip(found, entries, strict=True)]
    return ToolChoice({"type": "allowed_tools", "mode": mode, "tools": shown}, mode, found)


def _find(entry: Fields, tools: Sequence[Tool]) -> Tool:
    known = TOOLS.get(entry.needed("type"))
    for field in known.chosen_by if known is not None else ():
        entry.needed(field)
    for tool in tools:
        if tool.matches(entry.value):
            return tool
    asked = entry.value.get("name") or entry.value["type"]
    refuse(entry.path, f"'{entry.path}' names a tool that is not in 'tools': {str(asked)[:64]}.", "Add it to 'tools'.")

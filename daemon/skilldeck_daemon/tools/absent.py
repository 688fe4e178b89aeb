"""Tools that OpenAI hosts and this daemon does not, and how a request does without them.

Agent programs offer every hosted tool they know of beside their own. `agent/planning/left_out.py` says when a request
goes on without one.
"""

from __future__ import annotations

from dataclasses import dataclass

from skilldeck_daemon.events.output import Output
from skilldeck_daemon.tools.base import CallWriter, Tool
from skilldeck_daemon.tools.context import Offer, ToolContext
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_shared.json_types import JsonObject

ABSENT = {
    "file_search": "Give files as 'input_file', or let the shell search them.",
    "image_generation": "No model here makes images.",
    "tool_search": "Every tool of a request is declared here, deferred ones too.",
    "computer": "No model here sees a screen.",
    "computer_use_preview": "No model here sees a screen.",
    "local_shell": 'Use {"type": "shell", "environment": {"type": "local"}}.',
    "web_fetch": "The tool web_search opens pages, too.",
    "programmatic_tool_calling": "Tools are called by the model itself.",
}
"""By type: what there is instead."""


@dataclass(frozen=True)
class AbsentTool(Tool):
    """One of them; it is in no run."""

    type: str
    path: str

    dispensable = True

    @classmethod
    def parse(cls, fields: Fields) -> AbsentTool:
        return cls(fields.needed("type"), fields.path)

    def require(self, offer: Offer) -> None:
        message = f"Tools of type {self.type!r} are not served here."
        refuse(f"{self.path}.type", message, ABSENT[self.type], "unsupported_tool")

    def echo(self) -> JsonObject:
        return {"type": self.type}

    def declare(self) -> list[JsonObject]:
        return []

    def begin(self, output: Output, context: ToolContext, call_id: str, name: str) -> CallWriter:
        raise NotImplementedError(f"{self.type} declares nothing that could be called")

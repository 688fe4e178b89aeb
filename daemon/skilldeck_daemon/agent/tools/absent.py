"""Tools that OpenAI hosts and this daemon does not, and how a request does without them.

Agent programs offer every hosted tool they know of beside their own. Such a tool is left out when others remain: the
run goes on without it, and surfaces say so (`Run.left_out`). It is refused by name when `tool_choice` demands it or
when nothing would be left to call.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from skilldeck_daemon.agent.fields import Fields, refuse
from skilldeck_daemon.agent.output import Output
from skilldeck_daemon.agent.tools.base import CallWriter, Tool
from skilldeck_shared.errors import BadRequest

if TYPE_CHECKING:
    from skilldeck_daemon.agent.request import ResponseRequest
    from skilldeck_daemon.agent.work import Work

log = logging.getLogger(__name__)

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

    def require(self, work: Work) -> None:
        message = f"Tools of type {self.type!r} are not served here."
        refuse(f"{self.path}.type", message, ABSENT[self.type], "unsupported_tool")

    def echo(self) -> dict[str, Any]:
        return {"type": self.type}

    def declare(self) -> list[dict[str, Any]]:
        return []

    def begin(self, output: Output, work: Work, call_id: str, name: str) -> CallWriter:
        raise NotImplementedError(f"{self.type} declares nothing that could be called")


def without_absent(request: ResponseRequest, work: Work) -> tuple[ResponseRequest, tuple[str, ...]]:
    """The request with the tools that this daemon has, and the types of those that were left out.

    Raises:
        BadRequest: a tool that cannot be left out is not there, or too little remains without those that can.
    """
    kept: list[Tool] = []
    missing: dict[str, BadRequest] = {}
    for tool in request.tools:
        try:
            tool.require(work)
        except BadRequest as error:
            if not tool.dispensable:
                raise
            missing.setdefault(tool.type, error)
        else:
            kept.append(tool)
    if not missing:
        return request, ()
    choice = request.tool_choice
    if choice.tools is not None:
        wanted = tuple(tool for tool in choice.tools if tool in kept)
        if not wanted:
            raise missing[choice.tools[0].type]
        choice = replace(choice, tools=wanted)
    if not kept:
        raise next(iter(missing.values()))
    log.info("left out of run %s, not served here: %s", work.run_id, ", ".join(missing))
    return replace(request, tools=kept, tool_choice=choice), tuple(missing)

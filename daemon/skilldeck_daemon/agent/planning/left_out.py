"""Tools of a request that this daemon does not have: left out where others remain, else refused by name.

The run goes on without such a tool, and surfaces say so (`Run.left_out`). It is refused when `tool_choice` demands it
or when nothing would be left to call.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.tools.base import Tool
from skilldeck_daemon.tools.context import Offer
from skilldeck_shared.errors import BadRequest

log = logging.getLogger(__name__)


def without_absent(request: ResponseRequest, offer: Offer, run_id: str) -> tuple[ResponseRequest, tuple[str, ...]]:
    """The request with the tools that this daemon has, and the types of those that were left out.

    Raises:
        BadRequest: a tool that cannot be left out is not there, or too little remains without those that can.
    """
    kept: list[Tool] = []
    missing: dict[str, BadRequest] = {}
    for tool in request.tools:
        try:
            tool.require(offer)
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
    log.info("left out of run %s, not served here: %s", run_id, ", ".join(missing))
    return replace(request, tools=kept, tool_choice=choice), tuple(missing)

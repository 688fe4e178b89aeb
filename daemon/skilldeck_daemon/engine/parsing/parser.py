"""The text a model writes, split into reasoning, text and tool calls while it is being written.

`parser_for` gives the reader of a family. Its promises: the events do not depend on how the text was cut into pieces;
nothing the model wrote is lost (what cannot be read as a call ends in a `ToolCallDone` whose `problem` says why and
whose `arguments` hold what was written), but a call that the output limit ends before its name is known; text that may
be the beginning of a marker is held back until it is known.
White space beside markers belongs to them and is dropped. `close` ends the output and gives what was held.
"""

from __future__ import annotations

from collections.abc import Sequence

from skilldeck_daemon.engine.base import ChatRequest
from skilldeck_daemon.engine.checks import ToolPlan
from skilldeck_daemon.engine.families import Family
from skilldeck_daemon.engine.messages import Message
from skilldeck_daemon.engine.parsing.calls import Parser
from skilldeck_daemon.engine.parsing.channels import ChannelParser
from skilldeck_daemon.engine.parsing.strays import Marks
from skilldeck_daemon.engine.parsing.text import TextParser
from skilldeck_daemon.engine.parsing.text_call_events import FilteredParser, TextCallFilter


def parser_for(
    family: Family,
    plan: ToolPlan,
    prompt: str = "",
    request: ChatRequest | None = None,
    *,
    messages: Sequence[Message] = (),
    fenced: bool = False,
    printed: str = "",
) -> Parser:
    """The reader for one turn.

    Args:
        prompt: as it was rendered; its end may have opened the reasoning already.
        request: where calls in the text are to be read too (`text_calls.py`), if the family's models write them there.
        messages: what the turn answers: marks of the template that stand there are shown (`strays.py`).
        fenced: the model was told to call the shell by a block of commands.
        printed: what it has just read of their output.
    """
    if family.calls["body"] == "channels":
        return ChannelParser(family, plan)
    opened = bool(family.think_open) and prompt.rstrip().endswith(family.think_open)
    own = request.answer if request is not None else ""
    parser = TextParser(family, plan, in_reasoning=opened, marks=Marks.of(family, messages, bool(plan.every), own))
    if request is None or not family.text_calls:
        return parser
    found = TextCallFilter(plan, request, fenced=fenced, printed=printed, taught=family.describe_tools)
    return FilteredParser(parser, found)

"""The events of a turn with the calls in its text made calls (`text_calls.py`), whichever engine they come from.

`TextCallFilter` stands between what reads a model (a family's parser, a server's stream) and the turn. Calls are
numbered anew in the order they come, found ones among the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from uuid import uuid4

from skilldeck_daemon.engine.base import (
    ChatEvent,
    ChatRequest,
    ReasoningDelta,
    TextDelta,
    TextLogprob,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStart,
)
from skilldeck_daemon.engine.checks import CUT_OFF, NO_TOOLS, ToolPlan, call_problem
from skilldeck_daemon.engine.parsing.calls import Parser
from skilldeck_daemon.engine.parsing.text_call_candidate import FoundCall
from skilldeck_daemon.engine.parsing.text_calls import TextCalls

ENOUGH = 3
"""Times that one call is written in one turn, and the model is going round in circles."""


class TextCallFilter:
    """One turn. `calls`: how many have begun. Unless they may be parallel, found ones after the first are dropped; so
    is one that is written again, until the turn is `over`."""

    def __init__(
        self,
        plan: ToolPlan,
        request: ChatRequest,
        *,
        on: bool = True,
        fenced: bool = False,
        printed: str = "",
        taught: bool = False,
    ) -> None:
        """
        Args:
            on: False passes all text on as it is.
            fenced, printed: see `TextCalls`.
            taught: the model learns of calls from us alone, so one in its tags that is written again is no wish either.
        """
        self.calls = 0
        self.over = False
        self._written: Counter[tuple[str, str]] = Counter()
        self._plan, self._taught = plan, taught
        self._single = not request.parallel_tool_calls
        # There are none where the text has to be JSON of the client's own.
        on = on and (request.response_format or {}).get("type", "text") == "text"
        self._scanner = TextCalls(
            plan if on else NO_TOOLS,
            request.commands_tool,
            request.answered,
            fenced,
            printed,
            request.commands_like if request.begin_call is not None else (),
            request.begin_call is not None or plan.mode == "required",
        )
        self._numbers: dict[int, int] = {}
        self._logprobs: list[TextLogprob] = []  # of text that is held back

    def feed(self, events: Iterable[ChatEvent]) -> list[ChatEvent]:
        out: list[ChatEvent] = []
        for event in events:
            if self.over:
                break
            match event:
                case TextDelta(text, logprobs):
                    self._logprobs += logprobs
                    out += self._pieces(self._scanner.feed(text))
                case ReasoningDelta():
                    out += self._pieces(self._scanner.interrupt(call=False))
                    out.append(event)
                case ToolCallStart():
                    out += self._pieces(self._scanner.interrupt(call=True))
                    self._numbers[event.index] = self.calls
                    out.append(ToolCallStart(self.calls, event.id, event.name, event.kind))
                    self.calls += 1
                case ToolCallDelta(index, delta):
                    out.append(ToolCallDelta(self._numbers[index], delta))
                case ToolCallDone(index, name, arguments, problem, cut_off):
                    out.append(ToolCallDone(self._numbers[index], name, arguments, problem, cut_off))
                    self.over |= self._again(FoundCall(name, arguments)) and self._taught
                case _:
                    out.append(event)
        return out

    def close(self, cut_off: bool = False) -> list[ChatEvent]:
        """The turn is over; `cut_off` when something other than the model ended it."""
        return self._pieces(self._scanner.close(cut_off))

    def _pieces(self, pieces: list[str | FoundCall]) -> list[ChatEvent]:
        out: list[ChatEvent] = []
        for piece in pieces:
            if self.over:
                break
            logprobs, self._logprobs = tuple(self._logprobs), []
            if isinstance(piece, str):
                out.append(TextDelta(piece, logprobs))
            elif not (self._single and self.calls) and not self._again(piece):
                out += self._call(piece)
        return out

    def _again(self, found: FoundCall) -> bool:
        self._written[found.name, found.arguments] += 1
        times = self._written[found.name, found.arguments]
        self.over |= times >= ENOUGH
        return times > 1

    def _call(self, found: FoundCall) -> Iterable[ChatEvent]:
        kind = self._plan.kind(found.name)
        problem = CUT_OFF if found.cut_off else call_problem(self._plan, found.name, found.arguments, kind)
        yield ToolCallStart(self.calls, f"call_{uuid4().hex[:24]}", found.name, kind)
        if found.arguments:
            yield ToolCallDelta(self.calls, found.arguments)
        yield ToolCallDone(self.calls, found.name, found.arguments, problem, found.cut_off)
        self.calls += 1


class FilteredParser:
    """A family's parser whose text is read for calls as well (`parsing.Parser`)."""

    def __init__(self, parser: Parser, calls: TextCallFilter) -> None:
        self._parser = parser
        self._filter = calls

    @property
    def state(self) -> str:
        return self._parser.state

    @property
    def calls(self) -> int:
        return self._filter.calls

    @property
    def over(self) -> bool:
        return self._parser.over or self._filter.over

    def feed(self, text: str) -> list[ChatEvent]:
        return self._filter.feed(self._parser.feed(text))

    def close(self, cut_off: bool = False) -> list[ChatEvent]:
        return self._filter.feed(self._parser.close(cut_off)) + self._filter.close(cut_off)

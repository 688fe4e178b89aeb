"""What the readers of a turn share: the promises of each, and the writer that makes events of the calls they read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol
from uuid import uuid4

from skilldeck_daemon.engine.base import ChatEvent, ToolCallDelta, ToolCallDone, ToolCallStart
from skilldeck_daemon.engine.checks import CUT_OFF, InputField, ToolPlan, call_problem

RAW_OPEN = '<custom_call name="'  # how a free-text tool with a grammar is called, whatever the family
RAW_CLOSE = "\n</custom_call>"
NO_NAME = "invalid"  # stands for the tool's name in a call that has none


class CallSink(Protocol):
    """Where a body reports. `name` comes first and once, `end` last and once."""

    def name(self, name: str) -> None: ...

    def arguments(self, delta: str) -> None: ...

    def end(self) -> None: ...

    def schema(self, name: str) -> Mapping[str, Any]: ...


class Body(Protocol):
    """`failed` says why it gave up; `unread` is what it holds and has not reported (None: the owner knows)."""

    @property
    def failed(self) -> str: ...

    @property
    def unread(self) -> str | None: ...

    def feed(self, text: str) -> str | None: ...


class Parser(Protocol):
    """Reads one model turn. `state`: text, reasoning or call. `calls`: how many calls have begun. `over`: the model has
    gone on into the next message, and nothing that follows is read."""

    @property
    def state(self) -> str: ...

    @property
    def calls(self) -> int: ...

    @property
    def over(self) -> bool: ...

    def feed(self, text: str) -> list[ChatEvent]: ...

    def close(self, cut_off: bool = False) -> list[ChatEvent]: ...


def held_back(text: str, markers: Iterable[str]) -> int:
    """Length of the longest end of `text` that begins one of the markers."""
    longest = 0
    for marker in markers:
        for size in range(min(len(text), len(marker) - 1), longest, -1):
            if text.endswith(marker[:size]):
                longest = size
                break
    return longest


class CallEvents:
    """The `CallSink` that makes events of what a body reports; one for the whole turn."""

    def __init__(self, plan: ToolPlan) -> None:
        self.count = 0
        self.open = False
        self.events: list[ChatEvent] = []
        self._plan = plan
        self._name = ""
        self._arguments: list[str] = []
        self._unwrap: InputField | None = None
        self._raw = False

    def schema(self, name: str) -> Mapping[str, Any]:
        tool = self._plan.find(name)
        return tool.parameters if tool else {}

    def name(self, name: str, raw: bool = False) -> None:
        """A call begins; `raw` when what follows is a free-text tool's input itself."""
        kind = self._plan.kind(name)
        self._name, self._arguments, self.open, self._raw = name, [], True, raw
        self._unwrap = InputField() if kind == "custom" and not raw else None
        self.events.append(ToolCallStart(self.count, f"call_{uuid4().hex[:24]}", name, kind))
        self.count += 1

    def arguments(self, delta: str) -> None:
        self._arguments.append(delta)
        shown = self._unwrap.feed(delta) if self._unwrap else delta
        if shown:
            self.events.append(ToolCallDelta(self.count - 1, shown))

    def end(self, problem: str | None = None) -> None:
        text = "".join(self._arguments)
        if self._unwrap is not None:
            text, rest = self._unwrap.whole()
            if rest:
                self.events.append(ToolCallDelta(self.count - 1, rest))
        kind = self._plan.kind(self._name)
        verdict = problem or call_problem(self._plan, self._name, text, kind)
        self.events.append(ToolCallDone(self.count - 1, self._name, text, verdict, problem == CUT_OFF))
        self.open = False

    def fail(self, raw: str, problem: str) -> None:
        """The call cannot be read: `raw` is all that was written of it."""
        if not self.open:
            if problem == CUT_OFF:
                return  # not even its name is there: nobody could do anything with it
            self.name(NO_NAME)
            self._unwrap = None
        streamed = "".join(self._arguments)
        at = raw.find(streamed) if streamed else -1
        rest = raw[at + len(streamed) :] if at >= 0 else "" if streamed else raw
        if rest:
            self.arguments(rest)
        self.end(problem)

    def take(self) -> list[ChatEvent]:
        events, self.events = self.events, []
        return events

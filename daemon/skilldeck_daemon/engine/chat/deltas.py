"""Pieces of one kind that come together, as one: a fast model's tokens cost their readers as much as a slow one's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from skilldeck_daemon.engine.base import ChatEvent, ReasoningDelta, TextDelta, ToolCallDelta


def joined(events: Iterable[ChatEvent]) -> Iterator[ChatEvent]:
    """The same events with neighbouring pieces of text, of reasoning and of one call's arguments joined."""
    held: ChatEvent | None = None
    for event in events:
        if held is None:
            held = event
            continue
        match held, event:
            case TextDelta(), TextDelta():
                held = TextDelta(held.text + event.text, held.logprobs + event.logprobs)
            case ReasoningDelta(), ReasoningDelta():
                held = ReasoningDelta(held.text + event.text)
            case ToolCallDelta(), ToolCallDelta() if held.index == event.index:
                held = ToolCallDelta(held.index, held.delta + event.delta)
            case _:
                yield held
                held = event
    if held is not None:
        yield held


def written(events: Iterable[ChatEvent]) -> str:
    """What a model wrote in these events: text, reasoning, arguments."""
    pieces = []
    for event in events:
        match event:
            case TextDelta(text) | ReasoningDelta(text) | ToolCallDelta(_, text):
                pieces.append(text)
    return "".join(pieces)

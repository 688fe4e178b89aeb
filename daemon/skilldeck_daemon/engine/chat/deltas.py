"""Pieces of one kind that come together, as one: a fast model's tokens cost their readers as much as a slow one's."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from skilldeck_daemon.engine.base import ChatEvent, ReasoningDelta, TextDelta, ToolCallDelta
from skilldeck_shared import neighbours


def joined(events: Iterable[ChatEvent]) -> Iterator[ChatEvent]:
    """The same events with neighbouring pieces of text, of reasoning and of one call's arguments joined."""
    return neighbours.joined(events, _kind, _together)


def _kind(event: ChatEvent) -> Hashable | None:
    match event:
        case TextDelta():
            return "text"
        case ReasoningDelta():
            return "reasoning"
        case ToolCallDelta(index):
            return index
    return None


def _together(events: list[ChatEvent]) -> ChatEvent:
    text = written(events)
    match events[0]:
        case TextDelta():
            scores = (score for event in events if isinstance(event, TextDelta) for score in event.logprobs)
            return TextDelta(text, tuple(scores))
        case ToolCallDelta(index):
            return ToolCallDelta(index, text)
    return ReasoningDelta(text)


def written(events: Iterable[ChatEvent]) -> str:
    """What a model wrote in these events: text, reasoning, arguments."""
    pieces = []
    for event in events:
        match event:
            case TextDelta(text) | ReasoningDelta(text) | ToolCallDelta(_, text):
                pieces.append(text)
    return "".join(pieces)

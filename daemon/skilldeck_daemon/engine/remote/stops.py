"""Stop strings looked for here, for a server that does not say which one ended its answer.

vLLM and SGLang name it (`stop_reason`, `matched_stop`); llama.cpp, Ollama and OpenAI's own API end with the same "stop"
as a finished answer. Whoever has to know (Anthropic's Messages) is then served without sending the strings: the text is
cut here and the connection closed at the hit. The answer's usage, which would have come last, is counted instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from skilldeck_daemon.engine.base import ChatEvent, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStart
from skilldeck_daemon.engine.chat.stops import StopStrings


class StopsHere:
    """Feed it one answer's events; without strings they pass as they are."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.pieces = 0  # deltas that came: about a token each, from every server that streams by the token
        self._any = bool(stops)
        self._stops = StopStrings(stops)

    def __bool__(self) -> bool:
        return self._any

    @property
    def found(self) -> str | None:
        """The stop string that ended the text."""
        return self._stops.found

    def feed(self, events: Iterable[ChatEvent]) -> Iterator[ChatEvent]:
        """What may be shown of them; nothing after a hit."""
        for event in events:
            if self._stops.hit:
                return
            self.pieces += isinstance(event, TextDelta | ReasoningDelta | ToolCallDelta)
            if isinstance(event, TextDelta):
                text = self._stops.feed(event.text)
                if text or event.logprobs:
                    yield TextDelta(text, event.logprobs)
                continue
            if isinstance(event, ToolCallStart):  # the text ends here
                yield from self.rest()
            yield event

    def end(self, events: Iterable[ChatEvent]) -> Iterator[ChatEvent]:
        """The last events, and what was held back."""
        yield from self.feed(events)
        yield from self.rest()

    def rest(self) -> Iterator[ChatEvent]:
        """The text that was held back because a stop string could have begun in it."""
        if text := self._stops.flush():
            yield TextDelta(text)

"""One turn of a token model while it is generated: tokens in, the events of a `ChatModel` out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from skilldeck_daemon.engine.base import (
    ChatEvent,
    ChatFinished,
    ChatRequest,
    Finished,
    FinishReason,
    GenRequest,
    TextDelta,
    TextLogprob,
    Tokens,
    ToolCallDone,
    Usage,
)
from skilldeck_daemon.engine.chat.output import spelled_logprob
from skilldeck_daemon.engine.chat.repetition import Loops, Repetition, Retold
from skilldeck_daemon.engine.chat.stops import StopStrings
from skilldeck_daemon.engine.checks import ToolPlan
from skilldeck_daemon.engine.detokenize import Detokenizer, Vocabulary
from skilldeck_daemon.engine.families import Family
from skilldeck_daemon.engine.grammar.holding import Held
from skilldeck_daemon.engine.parsing.calls import Parser
from skilldeck_daemon.engine.parsing.parser import parser_for


@dataclass
class Reading:
    """What a model has made of a request so far: each step is taken once, whoever needs it first.

    `ids` are those of the whole `prompt`, where it was measured and fits the context.
    """

    plan: ToolPlan
    held: Held | None = None
    prompt: str | None = None
    ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A request ready to be submitted. `begun`: what of the turn stands in the prompt; `fenced`: the shell is called by
    a block of commands."""

    prompt: str
    generation: GenRequest
    plan: ToolPlan
    begun: str = ""
    fenced: bool = False


class TokenTurn:
    """What is known of one turn while it is generated."""

    def __init__(
        self,
        prepared: Prepared,
        request: ChatRequest,
        family: Family,
        vocabulary: Vocabulary,
        stop_ids: frozenset[int],
        silent: frozenset[int],
        *,
        tool_text: bool,
    ) -> None:
        self.halted = False  # our own end: a stop string, or the one call allowed
        self._ended_here = False  # and it came before the engine's; a call that the limit cut off is no such end
        self.count = 0  # tokens seen
        self.ids: list[int] = []  # without end tokens
        self._stop_ids = stop_ids
        self._vocabulary = vocabulary
        self._detokenizer = Detokenizer(vocabulary, silent)
        self._parser: Parser = parser_for(
            family,
            prepared.plan,
            prepared.prompt,
            request if tool_text else None,
            messages=request.messages,
            fenced=prepared.fenced,
            printed=_printed(request) if prepared.fenced else "",
        )
        # What follows a block of commands is the model's guess of what they print.
        self._single = prepared.fenced or not request.parallel_tool_calls
        self._stops = StopStrings(request.stop)
        self._loops = None if request.max_tokens else Loops()
        self._repetition = Repetition()
        self._asked = _printed(request) if prepared.fenced and request.answer else ""  # what it is to answer with
        self._retold = Retold(self._asked) if self._asked else None
        self._answered = False
        self.looped = False
        self._reasoning = 0
        self._logprobs: list[TextLogprob] = []
        self._parser.feed(prepared.begun)

    @property
    def text(self) -> str:
        """The turn as the model wrote it, markers and all."""
        return self._vocabulary.decode(self.ids)

    @property
    def over(self) -> bool:
        """Ended here, whatever the engine would still generate."""
        return self.halted or self.looped

    def tokens(self, event: Tokens) -> Iterable[ChatEvent]:
        for place, token in enumerate(event.ids):
            if self.over:
                return
            self.count += 1
            before = self._parser.state
            self._reasoning += before == "reasoning"
            if token not in self._stop_ids:
                self.ids.append(token)
            self.looped = self._loops is not None and self._loops.feed(token)
            text = self._detokenizer.feed(token)
            if event.logprobs and token not in self._stop_ids and before == "text":
                self._logprobs.append(spelled_logprob(self._vocabulary, event.logprobs[place]))
            if text:
                self.looped |= self._repetition.feed(text)
                yield from self._shown(self._parser.feed(text))
                if self._parser.over and not self.halted:
                    yield from self._shown(self._parser.close())
                    self.halted = True

    def _shown(self, events: list[ChatEvent]) -> Iterable[ChatEvent]:
        for event in events:
            if self.halted:
                return
            if isinstance(event, TextDelta):
                text = self._stops.feed(event.text)
                self.halted = self._stops.hit
                self._answered |= bool(text.strip())
                if text:
                    logprobs, self._logprobs = tuple(self._logprobs), []
                    yield TextDelta(text, logprobs)
                self.halted |= self._retold is not None and self._retold.feed(text)
                continue
            held = self._stops.flush()
            if held:
                yield TextDelta(held, tuple(self._logprobs))
            self._logprobs = []
            yield event
            if isinstance(event, ToolCallDone) and self._single:
                self.halted = True

    def close(self, ended: Finished) -> Iterable[ChatEvent]:
        self._ended_here = self.halted
        if not self.halted:
            rest = self._detokenizer.flush()
            if rest:
                yield from self._shown(self._parser.feed(rest))
            yield from self._shown(self._parser.close(cut_off=self.looped or ended.reason == "length"))
        if not self._stops.hit:
            held = self._stops.flush()
            if held:
                self._answered |= bool(held.strip())
                yield TextDelta(held, tuple(self._logprobs))
        stopped = self.looped or (ended.reason not in ("stop", "length") and not self.halted)
        if self._asked and not (self._answered or stopped or self._parser.calls):
            yield TextDelta(self._asked)  # the answer that it was to give, where it gave none

    def finished(self, ended: Finished) -> ChatFinished:
        usage = Usage(ended.prompt, ended.cached, ended.new, min(self._reasoning, ended.new))
        reason: FinishReason | Literal["tool_calls"] = ended.reason
        ours = self._ended_here or self._stops.hit
        looped = self.looped and not ours and reason != "error"
        if looped:
            reason = "length"
        elif reason != "error" and (ours or reason == "stop"):
            reason = "tool_calls" if self._parser.calls and not self._stops.hit else "stop"
        return ChatFinished(reason, usage, ended.prefill_s, ended.decode_s, ended.error, self._stops.found, looped)


def _printed(request: ChatRequest) -> str:
    """The output that the model has just read; "" when it was something else."""
    last = request.messages[-1] if request.messages else {}
    return str(last.get("content") or "") if last.get("role") == "tool" else ""

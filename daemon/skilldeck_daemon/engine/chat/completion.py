"""Text continued as it is, without messages: what /v1/completions needs beside `ChatModel`.

A model that can do it has a method `complete` (`Completes`): `TokenChatModel` through its engine, `RemoteChatModel`
through the upstream's own /v1/completions. Events are those of a chat: `TextDelta`s, then exactly one `ChatFinished`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable
from uuid import uuid4

from skilldeck_daemon.engine.base import (
    Caps,
    ChatFinished,
    Engine,
    Finished,
    GenRequest,
    Sampling,
    TextDelta,
    TextLogprob,
    Tokens,
    Usage,
)
from skilldeck_daemon.engine.chat.encoding import Encoder
from skilldeck_daemon.engine.chat.output import spelled_logprob
from skilldeck_daemon.engine.chat.stops import StopStrings
from skilldeck_daemon.engine.detokenize import Detokenizer, Vocabulary
from skilldeck_daemon.engine.errors import EngineDead, too_long
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.json_types import JsonObject


@dataclass(frozen=True)
class CompletionRequest:
    """One text to continue: as text, in which special tokens may be written out, or as token ids."""

    prompt: str | tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    cache_salt: str = ""


@runtime_checkable
class Completes(Protocol):
    """A model that continues text."""

    @property
    def caps(self) -> Caps: ...

    def complete(self, request: CompletionRequest) -> AsyncIterator[TextDelta | ChatFinished]:
        """An async generator; closing it cancels the request. Raises TooLong before the first event."""

    async def prompt_text(self, prompt: tuple[int, ...]) -> str:
        """The text that token ids stand for."""


async def complete(
    engine: Engine,
    vocabulary: Vocabulary,
    encoder: Encoder,
    context: int,
    stop_ids: frozenset[int],
    request: CompletionRequest,
) -> AsyncGenerator[TextDelta | ChatFinished, None]:
    """Continue a text with a token engine."""
    prompt = request.prompt
    if isinstance(prompt, str):
        encoder.check(prompt, context, "", "prompt")
        ids = (*vocabulary.begin, *await encoder.encode(prompt, context))
    else:
        ids = prompt
    room = context - len(ids)
    if not ids:
        raise BadRequest("The prompt has no tokens.", "Send at least one.", param="prompt")
    if room < 1:
        raise too_long(len(ids), context, exact=False, param="prompt")
    if request.max_tokens == 0:
        yield ChatFinished("length", Usage(len(ids)))
        return
    generation = GenRequest(
        id=f"cmpl_{uuid4().hex[:16]}",
        prompt_ids=ids,
        max_new=min(request.max_tokens or room, room),
        sampling=request.sampling,
        stop_ids=stop_ids,
        logprobs=request.logprobs,
        cache_salt=request.cache_salt,
    )
    text = _Text(vocabulary, stop_ids, request.stop)
    handle = await engine.submit(generation)
    ended: Finished | None = None
    cancelled = False
    try:
        async for event in handle:
            if isinstance(event, Finished):
                ended = event
            elif isinstance(event, Tokens):
                for delta in text.tokens(event):
                    yield delta
                if text.hit and not cancelled:
                    cancelled = True
                    engine.cancel(generation.id)
    finally:
        if ended is None:
            engine.cancel(generation.id)
    if ended is None:
        ended = Finished("error", len(ids), 0, text.count, error=EngineDead("The engine ended without a word."))
    for delta in text.rest():
        yield delta
    reason: Literal["stop", "length", "cancelled", "error"] = "stop" if text.hit else ended.reason
    usage = Usage(ended.prompt, ended.cached, ended.new)
    yield ChatFinished(reason, usage, ended.prefill_s, ended.decode_s, ended.error, text.stop_sequence)


class _Text:
    """The text of one generation, up to its first stop string."""

    def __init__(self, vocabulary: Vocabulary, silent: Collection[int], stops: tuple[str, ...]) -> None:
        self.count = 0
        self._vocabulary = vocabulary
        self._silent = silent
        self._detokenizer = Detokenizer(vocabulary, silent)
        self._stops = StopStrings(stops)
        self._logprobs: list[TextLogprob] = []

    @property
    def hit(self) -> bool:
        return self._stops.hit

    @property
    def stop_sequence(self) -> str | None:
        return self._stops.found

    def tokens(self, event: Tokens) -> list[TextDelta]:
        deltas = []
        for place, token in enumerate(event.ids):
            if self.hit:
                break
            self.count += 1
            if event.logprobs and token not in self._silent:
                self._logprobs.append(spelled_logprob(self._vocabulary, event.logprobs[place]))
            deltas += self._delta(self._stops.feed(self._detokenizer.feed(token)))
        return deltas

    def rest(self) -> list[TextDelta]:
        if self.hit:
            return []
        return self._delta(self._stops.feed(self._detokenizer.flush()) + self._stops.flush())

    def _delta(self, text: str) -> list[TextDelta]:
        if not text:
            return []
        logprobs, self._logprobs = tuple(self._logprobs), []
        return [TextDelta(text, logprobs)]


def read_logprobs(raw: JsonObject | None) -> tuple[TextLogprob, ...]:
    """An upstream's `logprobs` of a completion chunk."""
    raw = raw or {}
    tokens, values, tops = (raw.get(name) or [] for name in ("tokens", "token_logprobs", "top_logprobs"))
    entries = []
    for place, token in enumerate(tokens):
        top = tops[place] if place < len(tops) and tops[place] else {}
        listed = tuple((name, float(value), tuple(name.encode())) for name, value in top.items())
        value = values[place] if place < len(values) and values[place] is not None else 0.0
        entries.append(TextLogprob(token, float(value), tuple(token.encode()), listed))
    return tuple(entries)

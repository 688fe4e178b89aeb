"""A model served elsewhere, through `/v1/chat/completions` (vLLM, SGLang, llama.cpp, Ollama, LM Studio …).

Owns one HTTP client and the translation of `ChatRequest` to the wire and of the event stream back. Nothing is kept
between requests. The upstream's usage is passed on as it is; where it sends none, counts are zero.

A request that fails before its first token is tried again (`retries`, waiting `Retry-After` or a growing pause);
after the first token never, because a person may have seen it: it ends in `ChatFinished(reason="error")`. A 4xx that
the request caused raises BadRequest or TooLong. Free-text (custom) tools travel as functions with the one parameter
`input` and are unwrapped again. Closing the stream closes the connection, which is how these servers learn to stop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx

from skilldeck_daemon.engine.base import (
    Caps,
    ChatEvent,
    ChatFinished,
    ChatRequest,
    EngineStats,
    ModelInfo,
    TextDelta,
    Usage,
)
from skilldeck_daemon.engine.chat.begun import check_begun
from skilldeck_daemon.engine.chat.completion import CompletionRequest, read_logprobs
from skilldeck_daemon.engine.chat.deltas import joined, written
from skilldeck_daemon.engine.chat.repetition import Repetition
from skilldeck_daemon.engine.checks import ToolPlan, has_images, plan_tools
from skilldeck_daemon.engine.embeddings import Embedded, EmbeddingRequest
from skilldeck_daemon.engine.errors import EngineBusy, EngineDead, NotLoaded, TooLong, too_long
from skilldeck_daemon.engine.parsing.text_call_events import TextCallFilter
from skilldeck_daemon.engine.remote import embedding
from skilldeck_daemon.engine.remote.bounds import LONGEST_TOKEN, Bounds, body_of, whole
from skilldeck_daemon.engine.remote.client import connection
from skilldeck_daemon.engine.remote.counting import Counter, error_text, token_counts
from skilldeck_daemon.engine.remote.payload import payload
from skilldeck_daemon.engine.remote.stops import StopsHere
from skilldeck_daemon.engine.remote.stream import StreamReader, lines_of
from skilldeck_shared.characters import clean
from skilldeck_shared.errors import BadRequest, SkilldeckError, Unavailable
from skilldeck_shared.json_types import JsonObject

RATE_WINDOW_S = 5.0
JOINED_LINES = 32
"""So many lines that came at once are a server faster than its readers: their pieces become one event of each kind."""


class UpstreamRefused(Unavailable):
    """The upstream does not accept our key, our path or our model's name; trying again does not help."""

    code = "upstream_refused"


class _Failed(Exception):
    """An attempt failed before its first token; `again` when another may succeed, after `after_s` seconds if given."""

    def __init__(self, error: SkilldeckError, *, again: bool = True, after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.again = again
        self.after_s = after_s


class RemoteChatModel:
    """A ChatModel over one upstream server. `url` is the base URL, with or without `/v1`.

    `tool_text`: whether calls are found in its text, for servers that do not read their model's
    (`parsing/text_calls.py`).
    """

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str | None = None,
        *,
        name: str | None = None,
        context: int = 0,
        images: bool = False,
        retries: int = 3,
        connect_s: float = 5.0,
        idle_s: float = 600.0,
        tool_text: bool = True,
    ) -> None:
        base = url.rstrip("/")
        self.url = base if base.endswith("/v1") else base + "/v1"
        self.model = model
        self.tool_text = tool_text
        self._info = ModelInfo(name or model, "remote", family="remote", context=context, path=self.url)
        self._caps = Caps(max_batch=256, context=context, images=images)
        self._retries = retries
        self._client = connection(api_key, connect_s, idle_s)
        self._counter = Counter(self._client, self.url.removesuffix("/v1"))
        self._reports_stops = False  # whether it says which stop string ended an answer
        self._active = 0
        self._last = 0.0
        self._recent: deque[float] = deque(maxlen=4096)

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def caps(self) -> Caps:
        return self._caps

    async def connect(self) -> ModelInfo:
        """Ask the upstream for its models: fills an empty model name and the context. Raises NotLoaded."""
        try:
            async with self._client.stream("GET", f"{self.url}/models", timeout=10.0) as coming:
                answer = await whole(coming)
            answer.raise_for_status()
            models: list[JsonObject] = answer.json()["data"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as err:
            raise NotLoaded(
                f"The model server at {self.url} does not answer: {err or type(err).__name__}.",
                "Start it, or mend --remote-url and --remote-api-key.",
            ) from err
        if not self.model:
            if len(models) != 1:
                names = ", ".join(str(model.get("id")) for model in models)
                raise NotLoaded(f"{self.url} serves several models: {names}.", "Choose one with --model.")
            self.model = clean(str(models[0]["id"]))
        entry = next((model for model in models if model.get("id") == self.model), {})
        meta = entry.get("meta") or {}
        context = int(entry.get("max_model_len") or meta.get("n_ctx") or meta.get("n_ctx_train") or self._info.context)
        self._info = replace(self._info, name=self._info.name or self.model, context=context)
        self._caps = replace(self._caps, context=context)
        return self._info

    async def validate(self, request: ChatRequest) -> Sequence[str]:
        self._plan(request)
        return ()

    def _plan(self, request: ChatRequest) -> ToolPlan:
        """The request's tools, when all of it can be honoured; kept with it. Raises BadRequest."""
        if request.made.by is not self:
            request.made.what, request.made.by = self._read(request), self
        plan: ToolPlan = request.made.what
        return plan

    def _read(self, request: ChatRequest) -> ToolPlan:
        plan = plan_tools(request)
        check_begun(request)
        if has_images(request.messages) and not self._caps.images:
            raise BadRequest(
                f"The model {self._info.name} does not read images.",
                "Start the daemon with --remote-images if the upstream model does.",
                param="input",
            )
        return plan

    # ------------------------------------------------------------ streaming

    def _check_length(self, texts: Iterable[str], param: str) -> None:
        """Raise TooLong for what need not be sent to know the answer; the rest is the upstream's to count."""
        context, size = self._caps.context, sum(map(len, texts))
        if context and size >= context * LONGEST_TOKEN:
            cure = self._info.lengthening
            raise too_long(max(size // LONGEST_TOKEN, context) + 1, context, cure, exact=False, param=param)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        plan = self._plan(request)
        self._check_length(_texts(request), "input")
        body = payload(self.model, request, plan)
        self._active += 1
        try:
            for attempt in range(self._retries + 1):
                try:
                    async with aclosing(self._attempt(request, body, plan)) as events:
                        async for event in events:
                            yield event
                    return
                except _Failed as failed:
                    if attempt == self._retries or not failed.again:
                        yield ChatFinished("error", Usage(), error=failed.error)
                        return
                    pause = failed.after_s if failed.after_s is not None else 0.25 * 2**attempt
                await asyncio.sleep(min(pause, 10.0))
        finally:
            self._active -= 1

    async def _attempt(self, request: ChatRequest, body: JsonObject, plan: ToolPlan) -> AsyncGenerator[ChatEvent, None]:
        """One try: raises _Failed (or the request's own error) only before its first event."""
        begun = time.monotonic()
        reader = StreamReader(plan)
        stops = StopsHere(request.stop if request.reports_stop and not self._reports_stops else ())
        if stops:
            body = {name: value for name, value in body.items() if name != "stop"}
        calls = TextCallFilter(plan, request, on=self.tool_text)
        repetition = Repetition()
        bounds = Bounds(request.max_tokens or self._caps.context)
        first = 0.0
        error: Exception | None = None
        request.spent.prompt_known = time.time()
        try:
            async with self._client.stream("POST", f"{self.url}/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    raise self._refused(await whole(answer))
                async for lines in lines_of(body_of(answer)):
                    events = list(stops.feed(event for line in lines for event in reader.line(line)))
                    if len(lines) > JOINED_LINES:
                        events = list(joined(events))
                    for event in calls.feed(events):
                        if not first:
                            first, request.spent.first_token = time.monotonic(), time.time()
                        self._seen()
                        yield event
                    if stops.found is not None:
                        reader.reason = "stop"
                        break
                    text = written(events)
                    if repetition.feed(text) or (bounds.reached(len(lines), text) and not reader.ended):
                        reader.reason = "length"
                        break
                    if reader.ended:
                        break
                error = reader.error
                if error is None and not reader.complete:
                    error = self._lost("closed the stream before the end of the answer")
        except httpx.HTTPError as err:
            if reader.reason is None:
                error = self._lost(f"failed: {err or type(err).__name__}")
        except (asyncio.CancelledError, GeneratorExit):
            # Stopped: the usage comes last, so what came of it is estimated, unless the server reported it on the way.
            request.spent.input_tokens = reader.usage.input_tokens or self._counter.guess(body)
            request.spent.output_tokens = max(reader.usage.output_tokens, stops.pieces)
            raise
        if error is not None and not first:
            raise _Failed(error if isinstance(error, SkilldeckError) else self._lost(str(error)))
        cut_off = error is not None or reader.reason == "length"
        for event in [*calls.feed(stops.end(reader.close())), *calls.close(cut_off)]:
            yield event
        now = time.monotonic()
        first = first or now
        self._counter.learn(body, reader.usage.input_tokens)
        self._reports_stops = self._reports_stops or reader.reports_stops
        usage = reader.usage if stops.found is None else await self._counted_usage(body, stops.pieces)
        reason: Any = "error" if error else reader.finish()
        if reason == "stop" and calls.calls:
            reason = "tool_calls"
        yield ChatFinished(
            reason, usage, first - begun, now - first, error, stops.found or reader.stop_sequence, repetition.found
        )

    async def _counted_usage(self, body: JsonObject, pieces: int) -> Usage:
        """The usage of an answer that was left before the upstream sent it."""
        try:
            tokens = await self._counter.count(body)
        except (httpx.HTTPError, ValueError):
            tokens = None
        return Usage(self._counter.guess(body) if tokens is None else tokens, output_tokens=pieces)

    def _seen(self) -> None:
        self._last = time.monotonic()
        self._recent.append(self._last)

    def _lost(self, what: str) -> EngineDead:
        return EngineDead(f"The model server at {self.url} {what}.", "See that server's log; a run can be tried again.")

    def _refused(self, answer: httpx.Response) -> Exception:
        """The error a status other than 200 means."""
        message, _code = error_text(answer)
        status = answer.status_code
        if status in (400, 413, 422):
            said = f"The model server refused the request: {message}"
            counts = token_counts(answer, self._caps.context)
            if counts is None:
                return BadRequest(said)
            tokens, context = counts
            refused = too_long(tokens, context, self._info.lengthening, exact=False)
            return TooLong(f"{refused.title} {said}.", refused.hint, tokens=tokens, context=context)
        if status in (401, 403, 404):
            error = UpstreamRefused(
                f"The model server at {self.url} answered {status}: {message}.",
                "Check --remote-url, --remote-api-key and the model's name.",
            )
            return _Failed(error, again=False)
        after = answer.headers.get("retry-after", "")
        pause = float(after) if after.replace(".", "", 1).isdigit() else None
        if status == 429:
            busy = EngineBusy(f"The model server at {self.url} is busy: {message}.", "Try again later.")
            return _Failed(busy, after_s=pause)
        return _Failed(self._lost(f"answered {status}: {message}"), after_s=pause)

    def _lacking(self, answer: httpx.Response, what: str) -> Exception:
        """The same for a path that not every server has: it is no trouble of the server then."""
        if answer.status_code in (404, 405, 501):
            said = error_text(answer)[0]
            return BadRequest(f"The server of the model {self._info.name} {what}: {said}.", param="model")
        refused = self._refused(answer)
        return refused.error if isinstance(refused, _Failed) else refused

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[TextDelta | ChatFinished, None]:
        """Continue a text by the upstream's own /v1/completions (`completion.Completes`); tried once."""
        if isinstance(request.prompt, str):
            self._check_length((request.prompt,), "prompt")
        sampling = request.sampling
        chat = ChatRequest((), sampling=sampling, max_tokens=request.max_tokens, stop=request.stop)
        body = payload(self.model, chat, plan_tools(chat))
        del body["messages"]
        prompt = request.prompt if isinstance(request.prompt, str) else list(request.prompt)
        body |= {"prompt": prompt, **({"logprobs": request.logprobs} if request.logprobs is not None else {})}
        reader = StreamReader(plan_tools(chat))
        bounds = Bounds(request.max_tokens or self._caps.context)
        begun = time.monotonic()
        self._active += 1
        try:
            async with self._client.stream("POST", f"{self.url}/completions", json=body) as answer:
                if answer.status_code != 200:
                    raise self._lacking(await whole(answer), "does not continue plain text")
                async for lines in lines_of(body_of(answer)):
                    pieces = [
                        TextDelta(text, read_logprobs(logprobs))
                        for line in lines
                        for text, logprobs in reader.completion(line)
                    ]
                    for piece in joined(pieces) if len(lines) > JOINED_LINES else pieces:
                        if isinstance(piece, TextDelta):
                            self._seen()
                            yield piece
                    if reader.ended:
                        break
                    if bounds.reached(len(lines), written(pieces)):
                        reader.reason = "length"
                        break
        except httpx.HTTPError as err:
            reader.error = reader.error or self._lost(f"failed: {err or type(err).__name__}")
        finally:
            self._active -= 1
        for event in reader.close():
            if isinstance(event, TextDelta):
                yield event
        spent = time.monotonic() - begun
        error = reader.error or (None if reader.complete else self._lost("closed the stream before the end"))
        reason = "error" if error else reader.finish()
        yield ChatFinished(reason, reader.usage, 0.0, spent, error, reader.stop_sequence)

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Vectors by the upstream's own /v1/embeddings (`embeddings.Embeds`); tried once."""
        try:
            body = embedding.payload(self.model, request)
            async with self._client.stream("POST", f"{self.url}/embeddings", json=body) as coming:
                answer = await whole(coming)
            if answer.status_code != 200:
                raise self._lacking(answer, "makes no embeddings")
            return embedding.read(answer.json(), len(request.inputs))
        except httpx.HTTPError as err:
            raise self._lost(f"failed: {err or type(err).__name__}") from err
        except ValueError as err:
            raise self._lost(f"answered with {err}") from err

    async def prompt_text(self, prompt: tuple[int, ...]) -> str:
        raise BadRequest(
            "This model's server does not give the text of token ids.", "Send 'prompt' as text.", param="echo"
        )

    async def count_tokens(self, request: ChatRequest) -> int:
        """As the upstream counts them (`counting.py`), else by generating one token and reading its usage."""
        body, counted = await self._counted(request)
        if counted is not None:
            return counted
        for name in ("stream", "stream_options", "response_format", "logprobs", "top_logprobs"):
            body.pop(name, None)
        if "tool_choice" in body:
            body["tool_choice"] = "auto"
        try:
            url = f"{self.url}/chat/completions"
            async with self._client.stream("POST", url, json={**body, "max_tokens": 1}) as coming:
                answer = await whole(coming)
            if answer.status_code != 200:
                refused = self._refused(answer)
                raise refused.error if isinstance(refused, _Failed) else refused
            return int((answer.json().get("usage") or {}).get("prompt_tokens", 0))
        except (httpx.HTTPError, ValueError) as err:
            raise self._lost(f"failed: {err or type(err).__name__}") from err

    async def measure(self, request: ChatRequest) -> tuple[int, bool]:
        body, counted = await self._counted(request)
        return (self._counter.guess(body), False) if counted is None else (counted, True)

    async def _counted(self, request: ChatRequest) -> tuple[JsonObject, int | None]:
        """(the upstream request's body, its tokens where the upstream counts them without generating)."""
        plan = self._plan(request)
        self._check_length(_texts(request), "input")
        body = payload(self.model, request, plan)
        try:
            return body, await self._counter.count(body)
        except (httpx.HTTPError, ValueError) as err:
            raise self._lost(f"failed: {err or type(err).__name__}") from err

    def stats(self) -> EngineStats:
        now = time.monotonic()
        recent = sum(1 for at in self._recent if at > now - RATE_WINDOW_S)
        return EngineStats(
            active=self._active,
            max_batch=self._caps.max_batch,
            tokens_per_s=recent / RATE_WINDOW_S,
            last_token_at=self._last,
        )

    async def close(self) -> None:
        await self._client.aclose()


def _texts(request: ChatRequest) -> Iterator[str]:
    """The text of the messages."""
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif content:
            yield from (part.get("text") or "" for part in content)

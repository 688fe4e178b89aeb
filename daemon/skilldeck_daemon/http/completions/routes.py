"""/completions: the older text completion, plain and streamed. No run and no tools: the model continues the text.

A client that leaves ends the generation of every choice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from skilldeck_daemon.engine.base import ChatFinished, Sampling, TextDelta, TextLogprob, Usage
from skilldeck_daemon.engine.chat.completion import Completes, CompletionRequest
from skilldeck_daemon.http.completions.request import CompletionBody, Prompt
from skilldeck_daemon.http.deps import served, unless_gone
from skilldeck_daemon.http.multipart import read_object
from skilldeck_daemon.http.notes import Notes
from skilldeck_daemon.http.routing import Routes
from skilldeck_daemon.http.sse import EventStream
from skilldeck_daemon.store import new_id
from skilldeck_daemon.wire.error_names import Names
from skilldeck_shared.errors import BadRequest, SkilldeckError, Unavailable
from skilldeck_shared.json_types import JsonObject

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services

AHEAD = 64
"""Chunks of several choices that wait for a slow client."""
NAMES = Names(others={"input": "prompt"})
"""Engines speak of a chat's input."""
Doc = JsonObject


def router(services: Services) -> Routes:
    """The route, without the `/v1` prefix."""
    api = Routes()

    @api.post("/completions")
    async def create_completion(request: Request) -> Response:
        body = CompletionBody.parse(await read_object(request, services.settings.max_body_mb << 20))
        model = await served(request, services.models, body.model)
        if not isinstance(model, Completes):
            hint = "Use /v1/chat/completions or /v1/responses."
            raise BadRequest(f"The model {model.info.name} does not continue plain text.", hint, param="model")
        if body.logprobs is not None and not model.caps.logprobs:
            raise BadRequest("This engine does not report log probabilities.", param="logprobs")
        wanted = body.requests(getattr(model, "defaults", None) or Sampling())
        choices = [Choice(index, *one) for index, one in enumerate(wanted)]
        completion = Completion(model, body, model.info.name, choices)
        await completion.prepare()
        response: Response
        if body.stream:
            response = EventStream(completion.chunks(), gone=completion.cancel, named=False)
        else:
            response = JSONResponse(await unless_gone(request, completion.whole(), completion.cancel))
        Notes(model=services.models.stand_in(body.model)).put(response)
        return response

    return api


@dataclass
class Choice:
    """One text being continued."""

    index: int
    prompt: Prompt
    request: CompletionRequest
    echo: str = ""
    text: str = ""
    entries: list[TextLogprob] = field(default_factory=list)
    finished: ChatFinished | None = None

    def chunk(self, text: str, entries: tuple[TextLogprob, ...], offset: int, finish: str | None) -> Doc:
        logprobs = None if self.request.logprobs is None else _logprobs(entries, offset)
        return {"index": self.index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    @property
    def finish_reason(self) -> str:
        assert self.finished is not None
        return self.finished.reason if self.finished.reason in ("length", "content_filter") else "stop"


class Completion:
    """One request being answered."""

    def __init__(self, model: Completes, body: CompletionBody, name: str, choices: list[Choice]) -> None:
        self._model = model
        self._body = body
        self._choices = choices
        self._room = asyncio.Semaphore(max(1, model.caps.max_batch))  # an engine's queue is everybody's
        self._tasks: list[asyncio.Task[None]] = []
        self._head: Doc = {
            "id": new_id("cmpl", "-"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": name,
        }

    async def prepare(self) -> None:
        """What can be found wrong before the answer begins."""
        if self._body.echo:
            for choice in self._choices:
                prompt = choice.prompt
                with NAMES.renamed():
                    choice.echo = prompt if isinstance(prompt, str) else await self._model.prompt_text(prompt)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _generate(self, choice: Choice) -> AsyncGenerator[TextDelta, None]:
        with NAMES.renamed():
            async with self._room, aclosing(self._model.complete(choice.request)) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, TextDelta):
                        yield event
                    else:
                        choice.finished = event
            if choice.finished is None or choice.finished.reason in ("error", "cancelled"):
                error = choice.finished.error if choice.finished is not None else None
                if isinstance(error, SkilldeckError):
                    raise error
                raise Unavailable("The answer ended before it was complete.", "Ask again.")

    def _usage(self) -> Doc:
        used = [choice.finished.usage if choice.finished else Usage() for choice in self._choices]
        # A prompt is counted once, however many choices continue it.
        prompt = sum(one.input_tokens for one in used[:: self._body.n])
        completion = sum(one.output_tokens for one in used)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    async def whole(self) -> Doc:
        """The `text_completion`, once all choices have ended."""

        async def run(choice: Choice) -> None:
            async with aclosing(self._generate(choice)) as deltas:
                async for delta in deltas:
                    choice.text += delta.text
                    choice.entries += delta.logprobs

        self._tasks = [asyncio.create_task(run(choice)) for choice in self._choices]
        try:
            await asyncio.gather(*self._tasks)
        except asyncio.CancelledError:
            raise Unavailable("The client has left.") from None
        finally:
            self.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        choices = [
            choice.chunk(choice.echo + choice.text, tuple(choice.entries), 0, choice.finish_reason)
            for choice in self._choices
        ]
        return {**self._head, "choices": choices, "usage": self._usage()}

    async def chunks(self) -> AsyncIterator[Doc]:
        """The chunks of all choices as they come."""
        none = {"usage": None} if self._body.include_usage else {}
        try:
            async with aclosing(self._merged()) as merged:
                async for chunk in merged:
                    yield {**self._head, "choices": [chunk], **none}
        except SkilldeckError as error:
            yield error.body()
            return
        if self._body.include_usage:
            yield {**self._head, "choices": [], "usage": self._usage()}

    async def _merged(self) -> AsyncGenerator[Doc, None]:
        queue: asyncio.Queue[Doc | Exception | None] = asyncio.Queue(AHEAD)

        async def pump(choice: Choice) -> None:
            offset = 0
            try:
                if choice.echo:
                    await queue.put(choice.chunk(choice.echo, (), 0, None))
                async with aclosing(self._generate(choice)) as deltas:
                    async for delta in deltas:
                        await queue.put(choice.chunk(delta.text, delta.logprobs, offset, None))
                        offset += len(delta.text)
                await queue.put(choice.chunk("", (), offset, choice.finish_reason))
                await queue.put(None)
            except Exception as error:
                await queue.put(error)

        self._tasks = [asyncio.create_task(pump(choice)) for choice in self._choices]
        try:
            left = len(self._tasks)
            while left:
                made = await queue.get()
                if isinstance(made, Exception):
                    raise made
                if made is None:
                    left -= 1
                else:
                    yield made
        finally:
            self.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


def _logprobs(entries: tuple[TextLogprob, ...], offset: int) -> Doc:
    """The older shape: one list for each thing, by token. Offsets are in characters of the continued text."""
    offsets = []
    for entry in entries:
        offsets.append(offset)
        offset += len(entry.token)
    return {
        "tokens": [entry.token for entry in entries],
        "token_logprobs": [entry.logprob for entry in entries],
        "top_logprobs": [{token: logprob for token, logprob, _ in entry.top} for entry in entries],
        "text_offset": offsets,
    }

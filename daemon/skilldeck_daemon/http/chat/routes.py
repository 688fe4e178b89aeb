"""/chat/completions: create (plain and streamed), and stored completions: list, retrieve, update, delete, messages.

A completion is one run for each choice, no more of them at once than the model computes; a client that leaves cancels
them. With `store` the completion is stored before the client sees its end. A run that fails is an HTTP error, and an
`error` event in a stream that has begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from skilldeck_daemon.agent.run import Run
from skilldeck_daemon.http.chat.answer import Choice, choice_of, ended_badly, usage_of
from skilldeck_daemon.http.chat.request import ChatBody
from skilldeck_daemon.http.deps import served, unless_gone
from skilldeck_daemon.http.listing import envelope, paging
from skilldeck_daemon.http.multipart import read_object
from skilldeck_daemon.http.notes import Notes
from skilldeck_daemon.http.routing import Routes
from skilldeck_daemon.http.sse import EventStream
from skilldeck_daemon.store.page import page_of
from skilldeck_daemon.wire.fields import Fields, metadata, refuse
from skilldeck_shared.errors import NotFound, SkilldeckError
from skilldeck_shared.json_types import JsonObject

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services

AHEAD = 64
"""Chunks of several choices that wait for a slow client."""


def router(services: Services) -> Routes:
    """The routes, without the `/v1` prefix."""
    api = Routes()
    stored = services.store.chat

    @api.post("/chat/completions")
    async def create_completion(request: Request) -> Response:
        body = ChatBody.parse(await read_object(request, services.settings.max_body_mb << 20))
        completion = Completion(services, body)
        with body.names.renamed():
            await served(request, services.models, body.requests[0].model)
        stand_in = services.models.stand_in(body.requests[0].model)
        await completion.start(request.headers.get("x-skilldeck-permission"))
        response: Response
        if body.stream:
            response = EventStream(completion.chunks(), gone=completion.cancel, named=False)
        else:
            response = JSONResponse(await unless_gone(request, completion.whole(), completion.cancel))
        completion.notes(stand_in).put(response)
        return response

    @api.get("/chat/completions")
    async def list_completions(request: Request) -> Response:
        query = request.query_params
        wanted = {key[9:-1]: value for key, value in query.items() if key.startswith("metadata[") and key.endswith("]")}
        page = await stored.list(*paging(request, order="asc"), model=query.get("model") or None, metadata=wanted)
        return JSONResponse(envelope(page, empty=""))

    @api.get("/chat/completions/{completion_id}")
    async def get_completion(completion_id: str) -> Response:
        return JSONResponse(await _stored(services, completion_id))

    @api.post("/chat/completions/{completion_id}")
    async def update_completion(request: Request, completion_id: str) -> Response:
        body = await read_object(request)
        completion = await _stored(services, completion_id)
        if "metadata" not in body:
            refuse("metadata", "Missing required parameter: 'metadata'.", code="missing_required_parameter")
        completion = {**completion, "metadata": metadata(Fields(body))}
        if not await stored.update(completion):
            await _stored(services, completion_id)
        return JSONResponse(completion)

    @api.delete("/chat/completions/{completion_id}")
    async def delete_completion(completion_id: str) -> Response:
        if not await stored.delete(completion_id):
            await _stored(services, completion_id)
        return JSONResponse({"object": "chat.completion.deleted", "id": completion_id, "deleted": True})

    @api.get("/chat/completions/{completion_id}/messages")
    async def list_messages(request: Request, completion_id: str) -> Response:
        await _stored(services, completion_id)
        messages = await stored.messages(completion_id)
        return JSONResponse(envelope(page_of(messages, *paging(request, order="asc"), "message"), empty=""))

    return api


async def _stored(services: Services, id: str) -> JsonObject:
    completion = await services.store.chat.get(id)
    if completion is None:
        raise NotFound(f"Chat completion with id {id[:100]!r} not found.", "Only those made with 'store' are kept.")
    return completion


def stored_messages(id: str, messages: list[JsonObject]) -> list[JsonObject]:
    """The messages a completion was asked with, as they are listed: text in `content`, other parts beside it."""
    listed = []
    for number, message in enumerate(messages):
        content = message.get("content")
        parts = content if isinstance(content, list) else None
        if parts is not None:
            content = "\n".join(part["text"] for part in parts if part.get("type") == "text")
        shown = {name: value for name, value in message.items() if value is not None}
        kept = [part for part in parts or [] if part.get("type") in ("text", "image_url")]
        extra = {"content": content, "refusal": message.get("refusal"), "content_parts": kept or None}
        listed.append({**shown, **extra, "id": f"{id}-{number}"})
    return listed


class Completion:
    """One request being answered."""

    def __init__(self, services: Services, body: ChatBody) -> None:
        self._services = services
        self._body = body
        self._runs: list[Run] = []
        self._id = ""
        self._created = 0

    async def start(self, permission: str | None) -> None:
        """Begin all runs, or none: raises what is wrong, in Chat's names."""
        with self._body.names.renamed():
            model = await self._services.models.ready(self._body.requests[0].model)
            gate = asyncio.Semaphore(max(1, model.caps.max_batch))
            try:
                for request in self._body.requests:
                    self._runs.append(await self._services.runs.start(request, permission, gate=gate))
            except BaseException:
                self.cancel()
                raise
        first = self._runs[0]
        self._id = f"chatcmpl-{first.id.removeprefix('resp_')}"
        self._created = first.response["created_at"]

    def notes(self, stand_in: str) -> Notes:
        """What it is answered otherwise than asked."""
        return Notes.of(self._runs[0], ignored=self._body.ignored, model=stand_in)

    def cancel(self) -> None:
        for run in self._runs:
            run.cancel()

    def _head(self, object: str) -> JsonObject:
        model = self._runs[0].response["model"]
        return {"id": self._id, "object": object, "created": self._created, "model": model, "service_tier": "default"}

    def _raise(self, run: Run) -> None:
        error = ended_badly(run)
        if error is not None:
            self.cancel()
            raise self._body.names.translate(error)

    async def whole(self) -> JsonObject:
        """The `chat.completion`, once all runs have ended."""
        for run in self._runs:
            await run.finished()
            self._raise(run)
        return await self._ended()

    async def _ended(self) -> JsonObject:
        """The completion of runs that ended well; stored when that is asked for."""
        completion: JsonObject = self._head("chat.completion")
        completion["choices"] = [choice_of(run, index) for index, run in enumerate(self._runs)]
        completion["usage"] = usage_of(self._runs)
        if self._body.store:
            completion["metadata"] = self._body.metadata
            await self._services.store.chat.create(completion, stored_messages(self._id, self._body.messages))
        return completion

    async def chunks(self) -> AsyncIterator[JsonObject]:
        """The `chat.completion.chunk`s."""
        head = self._head("chat.completion.chunk")
        none = {"usage": None} if self._body.include_usage else {}
        choices = [Choice(run, index) for index, run in enumerate(self._runs)]
        for choice in choices:
            yield {**head, "choices": [choice.opening()], **none}
        left = len(choices)
        try:
            async with aclosing(_merged(choices)) as merged:
                async for choice, chunk in merged:
                    if chunk is not None:
                        yield {**head, "choices": [chunk], **none}
                        continue
                    self._raise(choice.run)
                    left -= 1
                    if left == 0:
                        await self._ended()
                    yield {**head, "choices": [choice.closing()], **none}
        except SkilldeckError as error:
            yield error.body()
            return
        if self._body.include_usage:
            yield {**head, "choices": [], "usage": usage_of(self._runs)}


async def _merged(choices: list[Choice]) -> AsyncGenerator[tuple[Choice, JsonObject | None], None]:
    """The chunks of all choices as they come; None after each choice's last."""
    if len(choices) == 1:  # no queue in the way of the usual case
        async for chunk in choices[0].follow():
            yield choices[0], chunk
        yield choices[0], None
        return
    queue: asyncio.Queue[tuple[Choice, JsonObject | Exception | None]] = asyncio.Queue(AHEAD)

    async def pump(choice: Choice) -> None:
        try:
            async for chunk in choice.follow():
                await queue.put((choice, chunk))
            await queue.put((choice, None))
        except Exception as error:
            await queue.put((choice, error))

    tasks = [asyncio.create_task(pump(choice)) for choice in choices]
    try:
        left = len(choices)
        while left:
            choice, came = await queue.get()
            if isinstance(came, Exception):
                raise came
            left -= came is None
            yield choice, came
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

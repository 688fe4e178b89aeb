"""/messages and /messages/count_tokens: Anthropic Messages over the same run as Responses.

A client that leaves cancels its run. Errors have the shape of `errors.anthropic_body`, in a stream that has begun
as an `error` event. Keys are taken from `x-api-key` as well.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from skilldeck_daemon.agent.run import Run
from skilldeck_daemon.http.anthropic.answer import (
    BlockStream,
    container_of,
    extra,
    message,
    message_id,
    message_usage,
    stop_reason,
    usage_of,
)
from skilldeck_daemon.http.anthropic.request import MessagesBody
from skilldeck_daemon.http.chat.answer import ended_badly
from skilldeck_daemon.http.deps import served, unless_gone
from skilldeck_daemon.http.errors import anthropic_body
from skilldeck_daemon.http.multipart import read_object
from skilldeck_daemon.http.notes import Notes
from skilldeck_daemon.http.routing import Routes
from skilldeck_daemon.http.sse import EventStream, encode
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.json_types import JsonObject

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services

PING: JsonObject = {"type": "ping"}
NOTHING_NEW: JsonObject = {
    "type": "message_delta",
    "delta": {"stop_reason": None, "stop_sequence": None},
    "usage": {"output_tokens": 0},
}
"""Fills the silences of Claude Code's streams. Five minutes without another event than pings are a lost stream to it,
in which a small machine does not read the whole of its first prompt (21,000 tokens). Not for everybody: some clients
take the first message_delta for the end."""
CLAUDE_CODE = "claude-cli/"
"""How its user-agent begins."""
ANTHROPICS = "claude"
"""How the names of Anthropic's models begin."""


def router(services: Services) -> Routes:
    """The routes, without the `/v1` prefix."""
    api = Routes()
    runs, models = services.runs, services.models

    async def read(request: Request, counting: bool = False) -> tuple[MessagesBody, str]:
        """(the request, of a model that is loaded; that model's name where it answers in place of the one named)."""
        body = MessagesBody.parse(await read_object(request, services.settings.max_body_mb << 20), counting=counting)
        named = body.request.model
        # No model here is called as Anthropic's are: a program that names one means the model there is.
        foreign = named.startswith(ANTHROPICS)
        meant = models.meant(named, foreign=foreign)
        with body.names.renamed():
            await body.check(services.environments)
            await served(request, models, meant)
        stand_in = models.stand_in(named, foreign=foreign)
        return replace(body, request=replace(body.request, model=meant)), stand_in

    @api.post("/messages")
    async def create_message(request: Request) -> Response:
        body, stand_in = await read(request)
        with body.names.renamed():
            wanted, cleared = await body.edited(runs.count_tokens)
            run = await runs.start(wanted, request.headers.get("x-skilldeck-permission"))
        answer = Answer(services, body, run, cleared)
        response: Response
        if body.stream:
            deaf = request.headers.get("user-agent", "").startswith(CLAUDE_CODE)
            alive = encode(NOTHING_NEW if deaf else PING)
            response = EventStream(answer.events(), gone=run.cancel, ending=b"", alive=alive)
        else:
            response = JSONResponse(await unless_gone(request, answer.whole(), run.cancel))
        Notes.of(run, ignored=body.ignored, model=stand_in).put(response)
        response.headers["request-id"] = response.headers["x-request-id"] = f"req_{secrets.token_hex(16)}"
        return response

    @api.post("/messages/count_tokens")
    async def count_tokens(request: Request) -> Response:
        body, stand_in = await read(request, counting=True)
        with body.names.renamed():
            first = await unless_gone(request, runs.count_tokens(body.request))
            shown: JsonObject = {"input_tokens": first}
            if body.edits is not None:
                wanted, cleared = await body.edited(runs.count_tokens)
                left = await runs.count_tokens(wanted) if cleared else first
                shown = {"input_tokens": left, "context_management": {"original_input_tokens": first}}
        response = JSONResponse(shown)
        Notes(ignored=body.ignored, model=stand_in).put(response)
        return response

    return api


class Answer:
    """One request being answered by its run."""

    def __init__(self, services: Services, body: MessagesBody, run: Run, cleared: list[JsonObject]) -> None:
        self._services = services
        self._body = body
        self._run = run
        self._more: JsonObject = {}
        if body.edits is not None:
            self._more = {"context_management": {"applied_edits": cleared}}

    def _raise(self) -> None:
        error = ended_badly(self._run)
        if error is not None:
            raise self._body.names.translate(error)

    async def _container(self) -> JsonObject | None:
        if not self._body.hosted:
            return None
        return await container_of(self._run, self._services.environments, self._body.container.id)

    async def whole(self) -> JsonObject:
        """The Message, once the run has ended."""
        await self._run.finished()
        self._raise()
        return message(self._run, self._body.thinking, await self._container(), self._more)

    async def events(self) -> AsyncIterator[JsonObject]:
        """message_start, ping, the blocks, message_delta, message_stop; or an error instead of the last two."""
        run = self._run
        opening: JsonObject = {
            "id": message_id(run),
            "type": "message",
            "role": "assistant",
            "model": run.response["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
            # The prompt is not counted yet; message_delta has its tokens.
            "usage": message_usage(run),
        }
        yield {"type": "message_start", "message": opening}
        yield PING
        async for event in BlockStream(run, self._body.thinking).follow():
            yield event
        try:
            self._raise()
            container = await self._container()
        except SkilldeckError as error:
            yield anthropic_body(error)
            return
        reason = stop_reason(run)
        stopped_by = run.stop_sequence if reason == "stop_sequence" else None
        delta = {"stop_reason": reason, "stop_sequence": stopped_by, "stop_details": None, "container": container}
        yield {"type": "message_delta", "delta": delta, "usage": usage_of(run), **self._more, **extra(run)}
        yield {"type": "message_stop"}

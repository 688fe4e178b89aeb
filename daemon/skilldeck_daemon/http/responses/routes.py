"""/responses: create (plain, streamed, in the background), retrieve, follow, cancel, delete, list the input.

A client that leaves cancels its run unless it is a background one. `X-Skilldeck-Permission: ask|deny` makes the run
stricter than the operator asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from skilldeck_daemon.agent import compaction
from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.http.deps import query_boolean, query_includes, query_integer, served, unless_gone
from skilldeck_daemon.http.listing import envelope, paging
from skilldeck_daemon.http.multipart import read_object
from skilldeck_daemon.http.notes import Notes
from skilldeck_daemon.http.routing import Routes
from skilldeck_daemon.http.sse import EventStream

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services

WAITING = ("response.queued", "response.in_progress")
"""The last event until the answer begins, which may be minutes later: it is sent again meanwhile."""


def router(services: Services) -> Routes:
    """The routes, without the `/v1` prefix."""
    api = Routes()
    runs = services.runs

    @api.post("/responses")
    async def create_response(request: Request) -> Response:
        body = await read_object(request, services.settings.max_body_mb << 20)
        wanted = ResponseRequest.parse(body)
        await served(request, services.models, wanted.model)
        stand_in = services.models.stand_in(wanted.model)
        run = await runs.start(wanted, request.headers.get("x-skilldeck-permission"), body=body)
        gone = _nothing if wanted.background else run.cancel
        response: Response
        if wanted.stream:
            response = EventStream(run.events(), gone=gone, again=WAITING)
        elif wanted.background:
            response = JSONResponse(run.response)
        else:
            response = JSONResponse(await unless_gone(request, run.finished(), gone))
        Notes.of(run, model=stand_in).put(response)
        return response

    @api.post("/responses/input_tokens")
    async def count_input_tokens(request: Request) -> Response:
        body = await read_object(request, services.settings.max_body_mb << 20)
        tokens = await unless_gone(
            request, runs.count_tokens(ResponseRequest.parse({**body, "stream": False, "store": True}))
        )
        return JSONResponse({"object": "response.input_tokens", "input_tokens": tokens})

    @api.post("/responses/compact")
    async def compact_response(request: Request) -> Response:
        body = await read_object(request, services.settings.max_body_mb << 20)
        return JSONResponse(await unless_gone(request, runs.compact(compaction.parse(body))))

    @api.get("/responses/{response_id}")
    async def get_response(request: Request, response_id: str) -> Response:
        include = query_includes(request)
        if not query_boolean(request, "stream"):
            return JSONResponse(await runs.get(response_id, include))
        after = query_integer(request, "starting_after", -1, -1)
        await runs.get(response_id)  # 404 before the stream begins
        return EventStream(runs.replay(response_id, after), again=WAITING)

    @api.delete("/responses/{response_id}")
    async def delete_response(response_id: str) -> Response:
        return JSONResponse(await runs.delete(response_id))

    @api.post("/responses/{response_id}/cancel")
    async def cancel_response(response_id: str) -> Response:
        return JSONResponse(await runs.cancel(response_id, background_only=True))

    @api.get("/responses/{response_id}/input_items")
    async def list_input_items(request: Request, response_id: str) -> Response:
        page = await runs.input_items(response_id, *paging(request), query_includes(request))
        return JSONResponse(envelope(page, empty=""))

    return api


def _nothing() -> None:
    """A background run outlives its client."""

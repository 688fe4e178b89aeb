"""/conversations and their items. Translates between HTTP and `Conversations`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from skilldeck_daemon.http.deps import query_includes
from skilldeck_daemon.http.listing import envelope, paging
from skilldeck_daemon.http.multipart import read_object
from skilldeck_daemon.http.routing import Routes

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services


def router(services: Services) -> Routes:
    """The routes, without the `/v1` prefix."""
    api = Routes()
    conversations = services.conversations

    @api.post("/conversations")
    async def create_conversation(request: Request) -> Response:
        return JSONResponse(await conversations.create(await read_object(request)))

    @api.get("/conversations/{conversation_id}")
    async def get_conversation(conversation_id: str) -> Response:
        return JSONResponse(await conversations.get(conversation_id))

    @api.post("/conversations/{conversation_id}")
    async def update_conversation(conversation_id: str, request: Request) -> Response:
        return JSONResponse(await conversations.update(conversation_id, await read_object(request)))

    @api.delete("/conversations/{conversation_id}")
    async def delete_conversation(conversation_id: str) -> Response:
        return JSONResponse(await conversations.delete(conversation_id))

    @api.get("/conversations/{conversation_id}/items")
    async def list_items(conversation_id: str, request: Request) -> Response:
        page = await conversations.items(conversation_id, *paging(request), query_includes(request))
        return JSONResponse(envelope(page, empty=""))

    @api.post("/conversations/{conversation_id}/items")
    async def add_items(conversation_id: str, request: Request) -> Response:
        include = query_includes(request)
        page = await conversations.add_items(conversation_id, await read_object(request), include)
        return JSONResponse(envelope(page, empty=""))

    @api.get("/conversations/{conversation_id}/items/{item_id}")
    async def get_item(conversation_id: str, item_id: str, request: Request) -> Response:
        return JSONResponse(await conversations.item(conversation_id, item_id, query_includes(request)))

    @api.delete("/conversations/{conversation_id}/items/{item_id}")
    async def delete_item(conversation_id: str, item_id: str) -> Response:
        return JSONResponse(await conversations.delete_item(conversation_id, item_id))

    return api

"""/models: what is loaded. `retrieve("org/name")` sends the slash escaped, so the id is a path of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from skilldeck_daemon.engine.base import ModelInfo

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services


def router(services: Services) -> APIRouter:
    """The routes, without the `/v1` prefix."""
    api = APIRouter(tags=["models"])

    @api.get("/models")
    async def list_models() -> Response:
        return JSONResponse({"object": "list", "data": [model_object(info) for info in services.models.list()]})

    @api.get("/models/{model:path}")
    async def get_model(model: str) -> Response:
        name = services.models.get(model).info.name
        info = next(info for info in services.models.list() if info.name == name)
        return JSONResponse(model_object(info))

    return api


def model_object(info: ModelInfo) -> dict[str, Any]:
    """A Model of the wire; `max_model_len` (tokens) as other local servers tell it, `description` where it has one."""
    shown: dict[str, Any] = {"id": info.name, "object": "model", "created": info.created, "owned_by": "skilldeck"}
    if info.context:
        shown["max_model_len"] = info.context
    if info.description:
        shown["description"] = info.description
    return shown

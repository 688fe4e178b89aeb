"""/models: what is loaded. `retrieve("org/name")` sends the slash escaped, so the id is a path of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from skilldeck_daemon.engine.base import ModelInfo
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_daemon.http.routing import Routes
from skilldeck_shared.json_types import JsonObject

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services


def router(services: Services) -> Routes:
    """The routes, without the `/v1` prefix."""
    api = Routes()

    @api.get("/models")
    async def list_models() -> Response:
        return JSONResponse({"object": "list", "data": [model_object(info) for info in listed(services.models)]})

    @api.get("/models/{model:path}")
    async def get_model(model: str) -> Response:
        return JSONResponse(model_object(one(services.models, model)))

    return api


def listed(models: ModelHub) -> list[ModelInfo]:
    """Every name that can be asked for: the loaded models, then the aliases."""
    found = {info.name: info for info in models.list()}
    return [*found.values(), *(replace(found[name], name=alias) for alias, name in models.aliases.items())]


def one(models: ModelHub, name: str) -> ModelInfo:
    """The model of that name, under the name when it is an alias. Raises NotFound."""
    wanted = name if name in models.aliases else models.get(name).info.name
    return next(info for info in listed(models) if info.name == wanted)


def model_object(info: ModelInfo) -> JsonObject:
    """A Model of the wire; `max_model_len` (tokens) and `meta` as other local servers have them, `description` where it
    has one. What is not known is left out."""
    shown: JsonObject = {"id": info.name, "object": "model", "created": info.created, "owned_by": "skilldeck"}
    if info.context:
        shown["max_model_len"] = info.context
    meta = {
        "architecture": info.family,
        "quantization": info.quantization,
        "n_params": info.parameters,
        "size": info.size,
        "license": info.licence,
    }
    if any(meta.values()):
        shown["meta"] = {name: value for name, value in meta.items() if value}
    if info.description:
        shown["description"] = info.description
    return shown

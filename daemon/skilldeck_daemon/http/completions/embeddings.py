"""/embeddings: vectors of texts, by a loaded model that makes them. Every field is honoured, or refused by name."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from skilldeck_daemon.engine.embeddings import EmbeddingRequest, Embeds
from skilldeck_daemon.http.completions.request import prompts
from skilldeck_daemon.http.deps import served, unless_gone
from skilldeck_daemon.http.multipart import read_object
from skilldeck_daemon.http.notes import Notes
from skilldeck_daemon.http.routing import Routes
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_shared.errors import BadRequest

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services

CURE = (
    "Load one that does, beside this one: skilldeck models load ORG/NAME-GGUF:Q8_0 --keep-default (a GGUF made for "
    "embeddings), or remote --name NAME --remote-url URL --keep-default (another server's)."
)


def router(services: Services) -> Routes:
    """The route, without the `/v1` prefix."""
    api = Routes()

    @api.post("/embeddings")
    async def create_embeddings(request: Request) -> Response:
        body = EmbeddingsBody.parse(await read_object(request, services.settings.max_body_mb << 20))
        model = await served(request, services.models, body.model)
        if not isinstance(model, Embeds):
            raise BadRequest(f"The model {model.info.name} makes no embeddings.", CURE, param="model")
        made = await unless_gone(request, model.embed(body.request))
        data = [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if body.base64 else list(vector)}
            for index, vector in enumerate(made.vectors)
        ]
        usage = {"prompt_tokens": made.tokens, "total_tokens": made.tokens}
        response = JSONResponse({"object": "list", "data": data, "model": model.info.name, "usage": usage})
        Notes(model=services.models.stand_in(body.model)).put(response)
        return response

    return api


@dataclass(frozen=True)
class EmbeddingsBody:
    """A valid request. `base64`: vectors as bytes of little-endian float32, which OpenAI's SDKs ask for by default."""

    model: str
    request: EmbeddingRequest
    base64: bool

    @classmethod
    def parse(cls, body: Any) -> EmbeddingsBody:
        """Read a JSON body; raises BadRequest naming the field."""
        fields = Fields(body)
        fields.string("user", maximum=1024)
        inputs = prompts(fields, "input")
        for index, text in enumerate(inputs):
            if not text:
                path = "input" if isinstance(fields.value["input"], str) else f"input[{index}]"
                refuse(path, f"'{path}' is empty.", "Send at least one character.")
        form = fields.string("encoding_format", choices=("float", "base64"))
        model = fields.string("model", minimum=1, maximum=512) or "default"
        return cls(model, EmbeddingRequest(inputs, fields.integer("dimensions", minimum=1)), form == "base64")


def _base64(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

"""An engine that answers with vectors, as a model: it makes embeddings of texts and refuses to chat.

Vectors have length 1, also where a request wants fewer `dimensions` than the model has: then they are its first ones,
which means something for models that were trained so (Matryoshka) and little for others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

from skilldeck_daemon.engine.base import (
    Caps,
    ChatEvent,
    ChatRequest,
    Engine,
    EngineStats,
    Finished,
    GenRequest,
    ModelInfo,
    Vector,
)
from skilldeck_daemon.engine.chat.encoding import Encoder, apart
from skilldeck_daemon.engine.embeddings import Embedded, EmbeddingRequest, Input
from skilldeck_daemon.engine.errors import EngineDead, too_long
from skilldeck_daemon.engine.vocabularies import load_vocabulary
from skilldeck_shared.errors import BadRequest, Unavailable

DESCRIPTION = "Makes embeddings (/v1/embeddings) and writes no text."
AHEAD = 4
"""Steps' worth of texts that one request has with the engine: enough to fill its steps, little of its queue."""


class EmbeddingModel:
    """`ChatModel` and `Embeds` of any `Engine` with `caps.embeds`."""

    def __init__(self, engine: Engine, path: Path, info: ModelInfo) -> None:
        """Reads the tokenizer, a second for a large vocabulary: make it in a thread."""
        self.engine = engine
        self._vocabulary = load_vocabulary(path)
        self._encoder = Encoder(self._vocabulary)
        self._info = replace(info, description=info.description or DESCRIPTION)

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def caps(self) -> Caps:
        return self.engine.caps

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Raises BadRequest, TooLong; what the engine raises."""
        texts = [await self._ids(text, _place(index, request)) for index, text in enumerate(request.inputs)]
        room = asyncio.Semaphore(AHEAD * max(1, self.caps.max_batch))

        async def one(ids: Sequence[int]) -> tuple[float, ...]:
            async with room:
                return _shortened(await self._vector(ids), request.dimensions)

        made = [asyncio.ensure_future(one(ids)) for ids in texts]
        try:
            vectors = tuple(await asyncio.gather(*made))
        finally:  # of a client that left, or after one that failed
            for task in made:
                task.cancel()
            await asyncio.gather(*made, return_exceptions=True)
        return Embedded(vectors, sum(map(len, texts)))

    async def _ids(self, text: Input, place: str) -> Sequence[int]:
        if isinstance(text, str):
            self._encoder.check(text, self.caps.context, self._info.lengthening, place)
            ids: Sequence[int] = await apart(lambda _wanted: self._vocabulary.whole(text))
        else:
            ids = text
            if wrong := [index for index in ids if not 0 <= index < self._info.vocab]:
                raise BadRequest(f"{wrong[0]} is no token id of {self._info.name}.", param=place)
        if not ids:
            raise BadRequest(f"'{place}' has no tokens.", param=place)
        if len(ids) > self.caps.context:
            raise too_long(len(ids), self.caps.context, self._info.lengthening, param=place, what="text")
        return ids

    async def _vector(self, ids: Sequence[int]) -> tuple[float, ...]:
        generation = GenRequest(f"embed_{uuid4().hex[:16]}", ids, 0)
        handle = await self.engine.submit(generation)
        values: tuple[float, ...] = ()
        ended: Finished | None = None
        try:
            async for event in handle:
                if isinstance(event, Vector):
                    values = event.values
                elif isinstance(event, Finished):
                    ended = event
        finally:
            if ended is None:
                self.engine.cancel(generation.id)
        if ended is not None and ended.error is not None:
            raise ended.error
        if not values:
            raise (
                EngineDead("The engine ended without a vector.")
                if ended is None
                else Unavailable("The model was unloaded meanwhile.")
            )
        return values

    # ------------------------------------------------------------ what it does not do

    def _refuse(self) -> NoReturn:
        raise BadRequest(
            f"The model {self._info.name} makes embeddings and writes no text.",
            "Ask another model; this one answers at /v1/embeddings.",
            param="model",
        )

    async def stream(self, request: ChatRequest) -> AsyncIterator[ChatEvent]:
        self._refuse()
        yield  # an async generator, as every ChatModel's

    async def validate(self, request: ChatRequest) -> Sequence[str]:
        self._refuse()

    async def count_tokens(self, request: ChatRequest) -> int:
        self._refuse()

    async def measure(self, request: ChatRequest) -> tuple[int, bool]:
        self._refuse()

    def stats(self) -> EngineStats:
        return self.engine.stats()

    async def close(self) -> None:
        await self.engine.unload()


def _place(index: int, request: EmbeddingRequest) -> str:
    return "input" if len(request.inputs) == 1 else f"input[{index}]"


def _shortened(values: tuple[float, ...], dimensions: int | None) -> tuple[float, ...]:
    """The first `dimensions` of them, of length 1. Raises BadRequest when there are fewer."""
    if dimensions is not None and dimensions > len(values):
        raise BadRequest(
            f"'dimensions' is {dimensions}; this model's vectors have {len(values)}.",
            f"Ask for at most {len(values)}.",
            param="dimensions",
        )
    kept = values[:dimensions]
    length = math.sqrt(math.fsum(value * value for value in kept))
    return tuple(value / length for value in kept) if length else kept

"""Texts as vectors: what /v1/embeddings needs of a model.

A model that can do it has a method `embed` (`Embeds`): those of other servers, and GGUF files of the engine
llamacpp-embeddings (`chat/embedding.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

Input = str | tuple[int, ...]


@dataclass(frozen=True)
class EmbeddingRequest:
    """Texts, or the token ids of texts, each of which gets a vector; `dimensions` None: as many as the model has."""

    inputs: tuple[Input, ...]
    dimensions: int | None = None


@dataclass(frozen=True)
class Embedded:
    """One vector for each input, in their order, and the tokens of all of them."""

    vectors: tuple[tuple[float, ...], ...]
    tokens: int


@runtime_checkable
class Embeds(Protocol):
    """A model that makes vectors of texts."""

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Raises BadRequest for what the model cannot do, Unavailable where its server does not answer."""

"""The answer of another server's /v1/embeddings, read strictly: a vector for each text, in the order of the texts."""

from __future__ import annotations

from typing import Any

from skilldeck_daemon.engine.embeddings import Embedded, EmbeddingRequest
from skilldeck_shared.json_types import JsonObject


def payload(model: str, request: EmbeddingRequest) -> JsonObject:
    """The request's body. Floats, since not every server knows base64."""
    inputs = [text if isinstance(text, str) else list(text) for text in request.inputs]
    body: JsonObject = {"model": model, "input": inputs, "encoding_format": "float"}
    return body if request.dimensions is None else {**body, "dimensions": request.dimensions}


def read(answer: Any, count: int) -> Embedded:
    """Raises ValueError for what is no answer to so many texts."""
    found: dict[int, tuple[float, ...]] = {}
    try:
        for place, entry in enumerate(answer["data"]):
            found[int(entry.get("index", place))] = tuple(float(number) for number in entry["embedding"])
        used = answer.get("usage") or {}
        tokens = int(used.get("prompt_tokens") or used.get("total_tokens") or 0)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no list of vectors ({type(error).__name__})") from error
    if sorted(found) != list(range(count)):
        raise ValueError(f"{len(found)} vectors for {count} texts")
    return Embedded(tuple(found[index] for index in range(count)), tokens)

"""The options of the exllama engines (`ModelSpec.options`), checked with the name of what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields

from skilldeck_shared.errors import BadRequest
from skilldeck_shared.json_types import JsonObject

PAGE = 256


@dataclass(frozen=True)
class ExlOptions:
    """0 chooses by the model and by the memory that is free.

    context: tokens a request may hold; max_batch: requests computed at once; queue: requests that may wait;
    cache_tokens: tokens of all requests together that the cache holds; cache_type: fp16, q8, q6 or q4;
    chunk: prompt tokens computed at once; slice: tokens a request reserves cache for before it is queued again;
    draft_model: folder of a small model of the same vocabulary that drafts; draft_tokens: how many a step;
    ngram: draft from the text so far; lora: folders of adapters, applied to every request;
    reserve_mib: device memory left free; attention: a provider of `attention.py`, or auto.
    """

    context: int = 0
    max_batch: int = 16
    queue: int = 64
    cache_tokens: int = 0
    cache_type: str = "fp16"
    chunk: int = 2048
    slice: int = 2048
    draft_model: str = ""
    draft_tokens: int = 4
    ngram: bool = False
    lora: tuple[str, ...] = ()
    reserve_mib: int = 768
    attention: str = "auto"

    @classmethod
    def parse(cls, options: JsonObject) -> ExlOptions:
        """Raises BadRequest that names the option."""
        known = {field.name: field for field in fields(cls)}
        values: JsonObject = {}
        for name, value in options.items():
            if name not in known:
                raise BadRequest(
                    f"Unknown option {name!r} of this engine.", f"Known: {', '.join(sorted(known))}.", param=name
                )
            wanted = type(known[name].default)
            if wanted is tuple:
                value = (value,) if isinstance(value, str) else tuple(value)
            if type(value) is not wanted:
                raise BadRequest(f"Option {name} is {value!r}, not {wanted.__name__}.", param=name)
            if isinstance(value, int) and value < (1 if name in ("max_batch", "queue", "draft_tokens") else 0):
                raise BadRequest(f"Option {name} is {value}, too small.", param=name)
            values[name] = value
        made = cls(**values)
        if made.cache_type not in ("fp16", "q8", "q6", "q4"):
            raise BadRequest(f"cache_type is {made.cache_type!r}.", "Use fp16, q8, q6 or q4.", param="cache_type")
        for name in ("cache_tokens", "chunk", "slice"):
            if getattr(made, name) % PAGE:
                raise BadRequest(f"{name} must be a multiple of {PAGE}.", param=name)
        if made.draft_model and made.ngram:
            raise BadRequest("draft_model and ngram exclude each other.", "Choose one.", param="ngram")
        if made.draft_tokens > 7:
            raise BadRequest("draft_tokens is at most 7.", param="draft_tokens")
        return made

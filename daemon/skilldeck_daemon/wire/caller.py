"""Who sent the request that is being answered: what keeps the prompts of different clients apart in an engine's cache.

The gate of the HTTP API sets `CALLER` to a digest of the API key that let the request in. It is empty where no keys are
set and over the control socket: everybody there is one caller.
"""

from __future__ import annotations

import hashlib
from contextvars import ContextVar

CALLER: ContextVar[str] = ContextVar("caller", default="")


def caller_of(api_key: str) -> str:
    """What stands for a key wherever the key itself must not be."""
    return hashlib.sha256(b"cache of " + api_key.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def cache_salt(prompt_cache_key: str | None = None) -> str:
    """The salt of the current caller's prompts: only what has the same salt shares a cached prefix or an answer."""
    caller, key = CALLER.get(), prompt_cache_key or ""
    return f"{caller}:{key}" if caller or key else ""

"""Who sent the request that is being answered: what keeps the prompts of different clients apart in an engine's cache.

The gate of the HTTP API sets `CALLER` to a digest of the API key that let the request in. It is empty where no keys are
set and over the control socket: everybody there is one caller. `CLIENT` is the name of the program, as it gives itself
(User-Agent) or over the socket what it asks for; lists of runs are grouped by it. Of `TESTS` it is known that a version
named by its number is not relied on (`libraries/skills.py`); nothing else depends on it.
"""

from __future__ import annotations

import hashlib
import re
from contextvars import ContextVar

CALLER: ContextVar[str] = ContextVar("caller", default="")
CLIENT: ContextVar[str] = ContextVar("client", default="")
CLIENT_CHARS = 40
TESTS = "test"


def caller_of(api_key: str) -> str:
    """What stands for a key wherever the key itself must not be."""
    return hashlib.sha256(b"cache of " + api_key.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def client_of(user_agent: str) -> str:
    """The program that a User-Agent names first, without its version: "OpenAI/Python", "claude-cli", "curl"; or ""."""
    found = re.match(r"[A-Za-z][\w.+-]*(?:/[A-Za-z]+(?![\w.]))?", user_agent, re.ASCII)
    return found[0][:CLIENT_CHARS] if found else ""


def cache_salt(prompt_cache_key: str | None = None) -> str:
    """The salt of the current caller's prompts: only what has the same salt shares a cached prefix or an answer."""
    caller, key = CALLER.get(), prompt_cache_key or ""
    return f"{caller}:{key}" if caller or key else ""

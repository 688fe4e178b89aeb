"""Ids as the wire shows them: a prefix and 24 random bytes in hex, like those of the hosted service."""

from __future__ import annotations

import secrets
import time


def new_id(prefix: str, separator: str = "_") -> str:
    """`resp_…`, `skill_…`; files use a hyphen (`file-…`). 192 random bits, so that ids cannot be guessed."""
    return f"{prefix}{separator}{secrets.token_hex(24)}"


_BEGAN = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def steady() -> float:
    """Unix seconds for deciding that something is old enough to delete.

    A wall clock that is set ahead while the daemon runs does not move it; the time a machine sleeps does.
    """
    return min(time.time(), _BEGAN + time.clock_gettime(time.CLOCK_BOOTTIME))


def now() -> int:
    """Unix seconds, the unit of every `…_at` on the wire."""
    return int(time.time())


def storable(identifier: object) -> bool:
    """Whether a client's id can be looked up: databases refuse NUL and lone surrogates, which JSON can carry."""
    return (
        isinstance(identifier, str) and 0 < len(identifier) <= 256 and identifier.isascii() and identifier.isprintable()
    )

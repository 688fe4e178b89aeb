"""How much of the daemon one API key may have at once, so that no client takes it from another.

Counted of each caller (`wire/caller.py`) while it lasts: HTTP requests, bytes of bodies held in memory, runs, and the
tokens of their prompts, as guessed by their text. What goes beyond a limit is refused with 429, and the client tries
again. Limits count only where there are several keys: a single caller has nobody to be fair to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

from skilldeck_daemon.engine.messages import Message
from skilldeck_daemon.settings import Settings
from skilldeck_shared.errors import Busy

BYTES_A_TOKEN = 4
SHOWN = 6
"""Characters of a caller's digest by which people know keys apart."""


@dataclass
class Share:
    """What one caller has now; `refused` counts since the start."""

    requests: int = 0
    bytes: int = 0
    runs: int = 0
    tokens: int = 0
    refused: int = 0


class CallerShare(TypedDict):
    """A `Share` as it is shown, with the beginning of the key's digest."""

    key: str
    requests: int
    bytes: int
    runs: int
    tokens: int
    refused: int


class Admission:
    """The shares of all callers; used on the event loop."""

    def __init__(self, settings: Settings) -> None:
        several = len(settings.keys) > 1
        self._requests = settings.key_requests if several else 0
        self._bytes = (settings.key_memory_mb if several else 0) << 20
        self._tokens = settings.key_tokens if several else 0
        self._shares: dict[str, Share] = {}

    @contextlib.contextmanager
    def request(self, caller: str) -> Iterator[Held]:
        """One HTTP request. Raises Busy where the caller has as many as it may."""
        share = self._share(caller)
        if self._requests and share.requests >= self._requests:
            raise self._refused(share, f"has {share.requests} requests under way, as many as it may")
        share.requests += 1
        held = Held(self, share)
        try:
            yield held
        finally:
            share.requests -= 1
            share.bytes -= held.bytes

    def run(self, caller: str, messages: Sequence[Message]) -> Run:
        """One run with this prompt; `end` it once. Raises Busy."""
        share, tokens = self._share(caller), _tokens(messages)
        if self._requests and share.runs >= self._requests:
            raise self._refused(share, f"has {share.runs} runs under way, as many as it may")
        if self._tokens and share.runs and share.tokens + tokens > self._tokens:
            raise self._refused(
                share, f"may have prompts of {self._tokens:,} tokens under way and has {share.tokens:,}"
            )
        share.runs += 1
        share.tokens += tokens
        return Run(share, tokens)

    def take(self, share: Share, count: int) -> None:
        if self._bytes and share.bytes + count > self._bytes:
            raise self._refused(share, f"sends more than {self._bytes >> 20} MiB at once")
        share.bytes += count

    def _share(self, caller: str) -> Share:
        return self._shares.setdefault(caller, Share())

    def _refused(self, share: Share, why: str) -> Busy:
        share.refused += 1
        return Busy(f"This API key {why}.", "Try again when some of it has ended.")

    @property
    def refused(self) -> int:
        return sum(share.refused for share in self._shares.values())

    def shown(self) -> list[CallerShare]:
        """The callers that have, or were refused, anything."""
        return [
            {
                "key": caller[:SHOWN],
                "requests": share.requests,
                "bytes": share.bytes,
                "runs": share.runs,
                "tokens": share.tokens,
                "refused": share.refused,
            }
            for caller, share in self._shares.items()
            if caller and (share.requests or share.runs or share.refused)
        ]


@dataclass
class Held:
    """What one request holds; `take` raises Busy."""

    _admission: Admission
    _share: Share
    bytes: int = 0

    def take(self, count: int) -> None:
        self._admission.take(self._share, count)
        self.bytes += count


@dataclass
class Run:
    """What one run holds."""

    _share: Share
    _tokens: int

    def end(self) -> None:
        self._share.runs -= 1
        self._share.tokens -= self._tokens


def _tokens(messages: Sequence[Message]) -> int:
    size = 0
    for message in messages:
        content = message.get("content") or ""
        parts = (content,) if isinstance(content, str) else (part.get("text") or "" for part in content)
        size += sum(map(len, parts))
    return size // BYTES_A_TOKEN

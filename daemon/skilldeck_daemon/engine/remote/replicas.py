"""Several upstream servers of one model, used as one `ChatModel`.

A request goes to the replica that its session used last, so that its prefix cache is warm, unless that one is down or
clearly busier than another; else to the least busy one. A replica that fails before its first token is set aside for
a growing while and the request is tried on another; after the first token nothing is tried again. What is remembered
(sessions, failures) lives in memory only; losing it costs computing, nothing else.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar, cast

from skilldeck_daemon.engine.base import (
    Caps,
    ChatEvent,
    ChatFinished,
    ChatModel,
    ChatRequest,
    EngineStats,
    ModelInfo,
    Usage,
)
from skilldeck_daemon.engine.embeddings import Embedded, EmbeddingRequest, Embeds
from skilldeck_daemon.engine.errors import NotLoaded
from skilldeck_daemon.engine.remote.model import RemoteChatModel
from skilldeck_shared.errors import Busy, SkilldeckError, Unavailable

SLACK = 2  # how many more running requests a session's own replica may have than the least busy one
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
SESSIONS = 4096

T = TypeVar("T")


@dataclass
class Replica:
    """One upstream and what is known of its health."""

    model: ChatModel
    active: int = 0
    failures: int = 0  # in a row
    down_until: float = 0.0
    last_error: str = field(default="", repr=False)


class ReplicatedChatModel:
    """One ChatModel of several that serve the same weights. Give them no retries of their own."""

    def __init__(self, models: Sequence[ChatModel], clock: Callable[[], float] = time.monotonic) -> None:
        if not models:
            raise ValueError("at least one model is needed")
        self.replicas = [Replica(model) for model in models]
        self._clock = clock
        self._sessions: OrderedDict[str, Replica] = OrderedDict()

    @property
    def info(self) -> ModelInfo:
        """The first that knows its context (one that was down at the start does not)."""
        known = [replica.model.info for replica in self.replicas if replica.model.info.context]
        return known[0] if known else self.replicas[0].model.info

    @property
    def caps(self) -> Caps:
        """What every replica can do; a context of 0 is one that is not known."""
        every = [replica.model.caps for replica in self.replicas]
        return Caps(
            max_batch=sum(caps.max_batch for caps in every),
            context=min((caps.context for caps in every if caps.context), default=0),
            grammar=all(caps.grammar for caps in every),
            logprobs=all(caps.logprobs for caps in every),
            seed=all(caps.seed for caps in every),
            prefix_cache=all(caps.prefix_cache for caps in every),
            images=all(caps.images for caps in every),
            lora=all(caps.lora for caps in every),
        )

    async def validate(self, request: ChatRequest) -> Sequence[str]:
        return await self.replicas[0].model.validate(request)

    def choose(self, cache_key: str = "", without: Sequence[Replica] = ()) -> Replica | None:
        """The replica for a request; one that is down only when every other was tried. None when none is left."""
        left = [replica for replica in self.replicas if not any(replica is other for other in without)]
        if not left:
            return None
        now = self._clock()
        up = [replica for replica in left if replica.down_until <= now]
        if not up:
            return min(left, key=lambda replica: replica.down_until)
        least = min(up, key=lambda replica: replica.active)
        own = self._sessions.get(cache_key) if cache_key else None
        if own is not None and any(own is replica for replica in up) and own.active <= least.active + SLACK:
            return own
        return least

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        tried: list[Replica] = []
        while True:
            replica = self.choose(request.cache_key, tried)
            if replica is None:
                yield ChatFinished("error", Usage(), error=self._nobody(tried))
                return
            tried.append(replica)
            replica.active += 1
            started = False
            try:
                events = cast("AsyncGenerator[ChatEvent, None]", replica.model.stream(request))
                async with aclosing(events):
                    async for event in events:
                        if isinstance(event, ChatFinished):
                            failed = event.error if isinstance(event.error, Unavailable | Busy) else None
                            self._note(replica, request.cache_key, failed)
                            if failed is not None and not started:
                                break
                        started = True
                        yield event
                    else:
                        return
            except (Unavailable, Busy) as error:
                self._note(replica, request.cache_key, error)
                if started:
                    raise
            finally:
                replica.active -= 1

    def _note(self, replica: Replica, cache_key: str, error: SkilldeckError | None) -> None:
        """Remember how a request on a replica ended."""
        if error is None:
            replica.failures, replica.down_until, replica.last_error = 0, 0.0, ""
            if cache_key:
                self._sessions[cache_key] = replica
                self._sessions.move_to_end(cache_key)
                while len(self._sessions) > SESSIONS:
                    self._sessions.popitem(last=False)
            return
        replica.failures += 1
        pause = min(FIRST_PAUSE_S * 2 ** (replica.failures - 1), LONGEST_PAUSE_S)
        replica.down_until = self._clock() + pause
        replica.last_error = str(error)

    def _nobody(self, tried: list[Replica]) -> SkilldeckError:
        words = "; ".join(f"{replica.model.info.path or '?'}: {replica.last_error}" for replica in tried)
        return Unavailable(
            f"None of the {len(self.replicas)} model servers could answer. {words}",
            "See their logs; the run can be tried again.",
            code="model_not_loaded",
        )

    async def count_tokens(self, request: ChatRequest) -> int:
        return await self._of_any(request.cache_key, lambda model: model.count_tokens(request))

    async def measure(self, request: ChatRequest) -> tuple[int, bool]:
        return await self._of_any(request.cache_key, lambda model: model.measure(request))

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        return await self._of_any("", lambda model: cast(Embeds, model).embed(request))

    async def _of_any(self, cache_key: str, asked: Callable[[ChatModel], Awaitable[T]]) -> T:
        tried: list[Replica] = []
        while (replica := self.choose(cache_key, tried)) is not None:
            tried.append(replica)
            try:
                return await asked(replica.model)
            except (Unavailable, Busy) as error:
                self._note(replica, "", error)
        raise self._nobody(tried)

    def stats(self) -> EngineStats:
        """Sums over the replicas; the latest token of any."""
        every = [replica.model.stats() for replica in self.replicas]
        return EngineStats(
            active=sum(stats.active for stats in every),
            queued=sum(stats.queued for stats in every),
            max_batch=sum(stats.max_batch for stats in every),
            cache_used=max(stats.cache_used for stats in every),
            tokens_per_s=sum(stats.tokens_per_s for stats in every),
            prefill_per_s=sum(stats.prefill_per_s for stats in every),
            last_token_at=max(stats.last_token_at for stats in every),
        )

    async def close(self) -> None:
        for replica in self.replicas:
            await replica.model.close()


async def connect(
    urls: str,
    model: str = "",
    api_key: str | None = None,
    *,
    name: str | None = None,
    images: bool = False,
    tool_text: bool = True,
) -> ChatModel:
    """The model served at one base URL, or at several separated by commas. Raises NotLoaded when none answers.

    Of several, those that do not answer now are tried later; all must serve the same model.
    """
    addresses = [url.strip() for url in urls.split(",") if url.strip()]
    retries = 3 if len(addresses) == 1 else 0
    remotes = [
        RemoteChatModel(url, model, api_key, name=name, images=images, retries=retries, tool_text=tool_text)
        for url in addresses
    ]
    errors: list[SkilldeckError] = []
    for remote in remotes:
        try:
            await remote.connect()
        except NotLoaded as error:
            errors.append(error)
    if len(errors) == len(remotes):
        for remote in remotes:
            await remote.close()
        raise errors[0] if errors else NotLoaded("No model server is named.", "Give --remote-url.")
    known = next(remote.model for remote in remotes if remote.model)
    for remote in remotes:
        remote.model = remote.model or known
    return remotes[0] if len(remotes) == 1 else ReplicatedChatModel(remotes)

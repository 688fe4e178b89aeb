"""An engine whose model leaves the memory when nobody asked for it a while, and comes back with the next request.

What stands before the engine (template, vocabulary, counts) stays, so a request is checked and counted at once; only
its tokens wait for the model, as `queued`. Loading fails as a request does: with its reason, and the next one tries
again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Literal

from skilldeck_daemon.engine.base import (
    WAIT_S,
    Caps,
    Engine,
    EngineStats,
    GenRequest,
    ModelInfo,
    ModelSpec,
    Progress,
    RequestHandle,
)
from skilldeck_daemon.engine.errors import NotLoaded

log = logging.getLogger(__name__)

BUSY_S = 5.0
"""How often a busy engine is looked at again, at most."""


class IdleEngine:
    """`Engine` around another. Use it from one event loop."""

    def __init__(self, inner: Engine, idle_s: float) -> None:
        """`idle_s`: seconds without a request after which the model is unloaded."""
        self._inner = inner
        self._idle_s = idle_s
        self._spec: ModelSpec | None = None
        self._caps = Caps(0, 0)
        self._up = False
        self._used = 0.0  # monotonic: when the last request came
        self._coming = 0  # requests that wait for the model
        self._changing = asyncio.Lock()  # one loading or unloading at a time
        self._waking: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._trouble = ""

    @property
    def caps(self) -> Caps:
        return self._inner.caps if self._up else self._caps

    @property
    def trouble(self) -> str:
        """Why it cannot serve now, for /health."""
        return self._trouble or (getattr(self._inner, "trouble", "") if self._up else "")

    @property
    def state(self) -> Literal["ready", "loading", "unloaded"]:
        if self._up:
            return "ready"
        return "loading" if self._waking is not None else "unloaded"

    async def load(self, spec: ModelSpec, progress: Progress | None = None) -> ModelInfo:
        await self.unload()
        info = await self._inner.load(spec, progress)
        self._spec, self._caps, self._up = spec, self._inner.caps, True
        self._used = time.monotonic()
        self._watching = asyncio.create_task(self._watch())
        return info

    async def submit(self, request: GenRequest) -> RequestHandle:
        """Raises what the engine raises; NotLoaded also when the model does not come back, or not within WAIT_S."""
        self._coming += 1
        try:
            await self._awake()
            return await self._inner.submit(request)
        finally:
            self._coming -= 1
            self._used = time.monotonic()

    def cancel(self, request_id: str) -> None:
        self._inner.cancel(request_id)

    def stats(self) -> EngineStats:
        if self._up:
            return self._inner.stats()
        return EngineStats(queued=self._coming, max_batch=self._caps.max_batch)

    async def unload(self) -> None:
        self._spec = None
        await _end(self._waking)
        async with self._changing:  # what `_leave` has begun comes to its end
            await _end(self._watching)
            self._watching, self._up, self._trouble = None, False, ""
            await self._inner.unload()

    # ------------------------------------------------------------ inside

    async def _awake(self) -> None:
        if self._up:
            return
        if self._spec is None:
            raise NotLoaded("No model is loaded.")
        if self._waking is None:
            self._waking = asyncio.create_task(self._wake(self._spec))
        waking = self._waking
        # The model comes for all who wait: one that leaves does not stop it.
        await asyncio.wait({waking}, timeout=WAIT_S)
        if not waking.done():
            raise NotLoaded(f"Model {self._spec.name} was not loaded again within {WAIT_S:.0f} s.", "Try again.")
        if waking.cancelled():
            raise NotLoaded("The model was unloaded.")
        if not self._up:
            raise NotLoaded(self._trouble, "Try again in a moment; the daemon's log has more.")

    async def _wake(self, spec: ModelSpec) -> None:
        try:
            async with self._changing:
                await self._inner.load(spec)
            self._up, self._trouble = True, ""
        except Exception as error:
            self._trouble = f"Model {spec.name} could not be loaded again: {error}"
            log.warning("%s", self._trouble)
        finally:
            self._waking = None

    async def _watch(self) -> None:
        while True:
            now, stats = time.monotonic(), self._inner.stats() if self._up else EngineStats()
            if stats.active or stats.queued or self._coming:
                self._used = now
            idle = now - max(self._used, stats.last_token_at)
            if self._up and idle >= self._idle_s:
                await self._leave()
                idle = 0.0
            pause = self._idle_s - idle
            await asyncio.sleep(min(pause, BUSY_S) if self._used == now else max(pause, 0.0))

    async def _leave(self) -> None:
        self._caps, self._up = self._inner.caps, False
        async with self._changing:
            await self._inner.unload()
        log.info("unloaded %s: no request for %g s", self._spec.name if self._spec else "a model", self._idle_s)


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

"""Any engine in a process of its own, behind the same protocol.

A crash of that process (killed, out of memory, a CUDA error that poisons the context) ends the requests in flight
with `Finished(reason="error", error=EngineDead)`, takes nothing else along, and the process starts again at once,
with the model it had. A process that stays silent for a minute, or lets its requests wait for ten without a token or
a piece of a prompt, is killed and so treated the same way. Grammar masks cross as their `spec` and are compiled again
on the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace
from typing import Any

from skilldeck_daemon.engine.base import (
    Caps,
    EngineStats,
    Finished,
    GenRequest,
    ModelInfo,
    ModelSpec,
    Prefill,
    Progress,
    Tokens,
)
from skilldeck_daemon.engine.errors import EngineDead, NotLoaded
from skilldeck_daemon.engine.handle import Handle
from skilldeck_daemon.engine.process import worker_messages as wire
from skilldeck_daemon.engine.process.child import Child, start
from skilldeck_shared.errors import BadRequest, SkilldeckError

SILENT_S = 60.0  # without a sign of life, which comes every second
HUNG_S = 600.0  # with requests in flight, and nothing of any of them
RESTART_S = 30.0  # a request that comes while the process restarts waits for so long
_PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # between restarts that fail
_GRACE_S = 5.0
_AGAIN = "It is being restarted."
_AT_LOAD = (
    "It was loading the model, which mostly means too little memory: load it with a smaller context, or a smaller one."
)


@dataclass
class _Flight:
    """A request the process knows of, and what its `Finished` is made of here if the process dies."""

    handle: Handle
    accepted: asyncio.Future[None]
    prompt: int
    cached: int = 0
    new: int = 0
    seen: bool = False


class WorkerEngine:
    """`Engine` in a child process. `kind` is a name that `hub.make_engine` knows; `spare` a process for its first."""

    def __init__(
        self,
        kind: str,
        *,
        spare: Child | None = None,
        silent_s: float = SILENT_S,
        hung_s: float = HUNG_S,
        restart_s: float = RESTART_S,
    ) -> None:
        self.kind = kind
        self._spare = spare
        self._silent_s, self._hung_s, self._restart_s = silent_s, hung_s, restart_s
        self._up = asyncio.Event()  # set while `_ready`
        self._moved = 0.0  # monotonic: when a request last got on, or the first one came
        self._killed = ""  # why we killed it
        self.trouble = ""  # why it cannot serve now, for /health
        self._caps = Caps(0, 0)
        self._stats = EngineStats()
        self._spec: ModelSpec | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._flights: dict[str, _Flight] = {}
        self._ready = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def caps(self) -> Caps:
        return self._caps

    @property
    def pid(self) -> int | None:
        """The child's process id while there is one."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def load(self, spec: ModelSpec, progress: Progress | None = None) -> ModelInfo:
        await self.unload()
        self._spec = spec
        loaded: asyncio.Future[ModelInfo] = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep(spec, loaded, progress or (lambda _fraction, _stage: None)))
        try:
            return await asyncio.shield(loaded)
        except BaseException:
            await self.unload()
            raise

    async def submit(self, request: GenRequest) -> Handle:
        if self._spec is None:
            raise NotLoaded("No model is loaded.")
        if not self._ready:
            # A run between two turns of the model need not fail with those that were in one.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._restart_s):
                    await self._up.wait()
        writer = self._writer
        if not self._ready or writer is None:
            raise EngineDead(self.trouble or "The engine is restarting.", "Try again in a moment.")
        if request.id in self._flights:
            raise BadRequest(f"Request {request.id} is already running.")
        mask: Any = None
        if request.mask is not None:
            mask = getattr(request.mask, "spec", None)
            if mask is None:
                raise BadRequest("This grammar cannot be sent to the engine's process.")
        loop = asyncio.get_running_loop()
        if not self._flights:
            self._moved = time.monotonic()
        flight = _Flight(Handle(request.id, loop), loop.create_future(), len(request.prompt_ids))
        self._flights[request.id] = flight
        wire.write(writer, wire.Submit(replace(request, mask=None, prompt_ids=list(request.prompt_ids)), mask))
        try:
            await flight.accepted
        except asyncio.CancelledError:
            self.cancel(request.id)
            raise
        return flight.handle

    def cancel(self, request_id: str) -> None:
        if request_id in self._flights and self._writer is not None:
            wire.write(self._writer, wire.Cancel(request_id))

    def stats(self) -> EngineStats:
        """As of the last second; the counts of requests are of now."""
        active = min(len(self._flights), self._caps.max_batch or 1)
        return replace(self._stats, active=active, queued=len(self._flights) - active)

    async def unload(self) -> None:
        keeper, self._keeper = self._keeper, None
        self._spec = None
        if keeper is not None:
            if self._writer is not None:
                wire.write(self._writer, wire.Unload())
                with contextlib.suppress(ConnectionError):
                    await self._writer.drain()
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        self.trouble = ""

    # ------------------------------------------------------------ the process

    async def _keep(self, spec: ModelSpec, loaded: asyncio.Future[ModelInfo], progress: Progress) -> None:
        """Start the process, serve it, start it again when it dies; until cancelled or it cannot load at first."""
        failures = 0
        while True:
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
            error: Exception = EngineDead("The engine's process died.", _AGAIN)
            reason = "error"
            was_ready = False
            try:
                was_ready = await self._live(spec, loaded, progress)
                await self._reap()
                error = EngineDead(f"The engine's process died ({self._how()}).", _AGAIN if loaded.done() else _AT_LOAD)
            except asyncio.CancelledError:
                reason = "cancelled"
                raise
            except Exception as problem:
                error = problem
            finally:
                self._ready = False
                self._up.clear()
                await self._reap()
                self._fail_flights(None if reason == "cancelled" else error)
            if not loaded.done():  # it never worked: that is the answer of `load`
                loaded.set_exception(error)
                return
            failures = 0 if was_ready else failures + 1
            self.trouble = f"{error}" if failures == 0 else f"Restart {failures} failed: {error}"

    async def _live(self, spec: ModelSpec, loaded: asyncio.Future[ModelInfo], progress: Progress) -> bool:
        """One life of the process; whether it got as far as serving."""
        self._killed = ""
        child, self._spare = self._spare, None
        if child is None or child.process.returncode is not None:
            child = await start()
        self._process = child.process
        reader, self._writer = await asyncio.open_connection(sock=child.socket)
        wire.write(self._writer, wire.Load(self.kind, spec))
        while True:
            message = await (self._next(reader) if self._ready else wire.read(reader))
            if message is None:
                return self._ready
            if isinstance(message, wire.Loading):
                progress(message.fraction, message.stage)
            elif isinstance(message, wire.LoadFailed):
                raise message.error
            elif isinstance(message, wire.LoadDone):
                self._caps, self._ready, self.trouble = message.caps, True, ""
                # What came before the load was said by an engine that did not know its options yet.
                self._stats = EngineStats(max_batch=message.caps.max_batch)
                self._up.set()
                if not loaded.done():
                    loaded.set_result(message.info)
                progress = lambda _fraction, _stage: None  # noqa: E731
            else:
                self._handle(message)
                if self._flights and time.monotonic() - self._moved > self._hung_s:
                    self._killed = f"no token for {self._hung_s:g} s"
                    return True

    async def _next(self, reader: asyncio.StreamReader) -> Any:
        """The next message; None, as from a dead process, when not even its pulse comes."""
        try:
            async with asyncio.timeout(self._silent_s):
                return await wire.read(reader)
        except TimeoutError:
            self._killed = f"no answer for {self._silent_s:g} s"
            return None

    def _handle(self, message: Any) -> None:
        if isinstance(message, wire.Events):
            self._moved = time.monotonic()
            for name, event in message.events:
                flight = self._flights.get(name)
                if flight is None:
                    continue
                if isinstance(event, Tokens):
                    flight.new += len(event.ids)
                elif isinstance(event, Prefill) and not flight.seen:
                    flight.seen, flight.cached = True, event.done
                elif isinstance(event, Finished):
                    del self._flights[name]
                flight.handle.put(event)
        elif isinstance(message, wire.Stats):
            self._stats = message.stats
        elif isinstance(message, wire.Accepted):
            flight = self._flights.get(message.id)
            if flight is not None and not flight.accepted.done():
                flight.accepted.set_result(None)
        elif isinstance(message, wire.Refused):
            flight = self._flights.pop(message.id, None)
            if flight is not None and not flight.accepted.done():
                flight.accepted.set_exception(message.error)

    def _fail_flights(self, error: Exception | None) -> None:
        flights, self._flights = self._flights, {}
        self._stats = EngineStats(max_batch=self._caps.max_batch)
        for flight in flights.values():
            if not flight.accepted.done():
                flight.accepted.set_exception(error or NotLoaded("The model was unloaded."))
                flight.accepted.exception()  # the caller may be gone; that is no fault to report
                continue
            shown = error if error is None or isinstance(error, SkilldeckError) else EngineDead(str(error))
            flight.handle.put(
                Finished(
                    "cancelled" if error is None else "error",
                    flight.prompt,
                    flight.cached,
                    flight.new,
                    error=shown,
                )
            )

    async def _reap(self) -> None:
        """The process is gone when this returns; asked politely first when it was told to unload."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        process = self._process
        if process is None or process.returncode is not None:
            return
        try:
            async with asyncio.timeout(0 if self._killed else _GRACE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _how(self) -> str:
        if self._killed:
            return self._killed
        code = self._process.returncode if self._process is not None else None
        if code is None:
            return "it hung up"
        return f"signal {-code}" if code < 0 else f"exit status {code}"

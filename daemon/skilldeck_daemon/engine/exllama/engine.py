"""The exllama engines: one adapter over the paged dynamic generators of exllamav2 and exllamav3.

One thread loads the model and drives the generator (`iterate` blocks, and exllamav2's streams belong to a thread);
the event loop hands requests over and receives events. What the libraries leave to their callers is done here: one
`Finished` for every request, cancelled ones too; a bounded queue; clamping to the context; reserving the cache in
slices, so that a request that may generate much does not hold pages for all of it; errors of one request kept from
the others. A failed step ends the requests in it. After a CUDA error the process's context is unusable: `fatal` is set
and every request refused, until the worker process is replaced.

The libraries share cached prefixes between all requests; `salts.py` keeps those of each `cache_salt` apart.
With weights in bfloat16 two tokens may have the same logit to the bit; which one a greedy choice takes then depends on
how the device sums, and so on what else is in the batch. Tests against a reference use float32 or allow such ties.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from skilldeck_daemon.engine.base import (
    Caps,
    EngineStats,
    GenRequest,
    ModelInfo,
    ModelSpec,
    Prefill,
    Progress,
    Started,
    Tokens,
)
from skilldeck_daemon.engine.errors import EngineBusy, EngineDead, NotLoaded, too_long
from skilldeck_daemon.engine.exllama.generation import Generation
from skilldeck_daemon.engine.exllama.options import ExlOptions
from skilldeck_daemon.engine.handle import Handle, Mailbox
from skilldeck_daemon.engine.rates import Rate
from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.json_types import JsonObject


class Backend(Protocol):
    """What differs between the two libraries. Every method runs on the engine's thread."""

    context: int
    vocab: int
    parameters: int
    family: str

    @property
    def images(self) -> bool:
        """Whether requests may hold images."""

    def load(self, folder: Path, options: ExlOptions, progress: Progress) -> None: ...

    def expand(self, turn: Generation) -> None:
        """Put a turn's images into its prompt, once, before it starts."""

    def start(self, turn: Generation, max_new: int) -> Any:
        """Queue a job that continues the turn's prompt and tokens by `max_new`; its logits go to `turn.sample`."""

    def step(self) -> list[JsonObject]:
        """One iteration; the library's results: stage started, prefill or streaming, with `job` and `eos`."""

    def cancel(self, job: Any) -> None: ...

    def cached(self, job: Any) -> int:
        """Prompt tokens the job did not compute."""

    def used(self) -> float:
        """Fraction of the cache's pages that live requests hold."""

    def reset(self) -> None:
        """Forget all jobs and cached pages after a failed step."""

    def memory(self) -> tuple[int, int]:
        """Bytes of device memory in use, and there."""

    def close(self) -> None: ...


def _backend(name: str) -> Backend:
    if name == "exllamav3":
        from skilldeck_daemon.engine.exllama.v3 import Exllamav3

        return Exllamav3()
    from skilldeck_daemon.engine.exllama.v2 import Exllamav2

    return Exllamav2()


class ExllamaEngine:
    """`Engine` on CUDA; `name` is exllamav2 or exllamav3, options are `ExlOptions`."""

    def __init__(self, name: str, backend: Backend | None = None) -> None:
        self.name = name
        self.fatal: Exception | None = None
        self._given = backend
        self._backend: Backend | None = None
        self._options = ExlOptions()
        self._wake = threading.Condition()
        self._inbox: list[Generation] = []
        self._cancelled: set[str] = set()
        self._known: set[str] = set()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._ready = False
        # The rest belongs to the thread.
        self._turns: dict[int, Generation] = {}  # by identity of their job
        self._mail = Mailbox()
        self._decode_rate, self._prefill_rate = Rate(), Rate()
        self._observed = 0.0
        self._used = 0.0
        self._memory = (0, 0)

    @property
    def caps(self) -> Caps:
        backend = self._backend if self._ready else None
        if backend is None:
            return Caps(max_batch=self._options.max_batch, context=0, lora=True)
        return Caps(max_batch=self._options.max_batch, context=backend.context, lora=True, images=backend.images)

    @property
    def trouble(self) -> str:
        """Why it cannot serve any more, for /health."""
        return str(self.fatal) if self.fatal is not None else ""

    async def load(self, spec: ModelSpec, progress: Progress | None = None) -> ModelInfo:
        await self.unload()
        self._options = ExlOptions.parse(spec.options)
        self._stopping, self.fatal = False, None
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Backend] = loop.create_future()
        self._thread = threading.Thread(
            target=self._main,
            args=(Path(spec.path), progress or (lambda _fraction, _stage: None), loop, done),
            name="engine",
            daemon=True,
        )
        self._thread.start()
        self._backend = backend = await done
        self._ready = True
        return ModelInfo(
            name=spec.name,
            engine=self.name,
            family=backend.family,
            context=backend.context,
            vocab=backend.vocab,
            parameters=backend.parameters,
            path=spec.path,
            created=int((Path(spec.path) / "config.json").stat().st_mtime),
        )

    async def submit(self, request: GenRequest) -> Handle:
        if self.fatal is not None:
            raise EngineDead(f"The engine stopped: {self.fatal}.", "It restarts by itself.")
        backend = self._backend
        if not self._ready or backend is None:
            raise NotLoaded("No model is loaded.")
        prompt = request.prompt_ids
        if not prompt:
            raise BadRequest("The prompt is empty.", param="input")
        if len(prompt) >= backend.context:
            raise too_long(len(prompt), backend.context)
        if min(prompt) < 0 or max(prompt) >= backend.vocab:
            raise BadRequest(f"The prompt holds token ids outside 0..{backend.vocab - 1}.", param="input")
        if request.max_new < 1:
            raise BadRequest("At least one token must be asked for.", param="max_output_tokens")
        if request.images and not backend.images:
            raise BadRequest(f"{self.name} has no vision tower loaded.", "Choose a model with one.", param="input")
        handle = Handle(request.id, asyncio.get_running_loop())
        turn = Generation(request, handle, min(request.max_new, backend.context - len(prompt)), backend.vocab)
        with self._wake:
            if request.id in self._known:
                raise BadRequest(f"Request {request.id} is already running.")
            if len(self._known) >= self._options.max_batch + self._options.queue:
                raise EngineBusy(
                    f"{len(self._known)} requests are running or waiting, the most this engine takes.",
                    "Try again in a moment.",
                )
            self._known.add(request.id)
            self._inbox.append(turn)
            self._wake.notify()
        return handle

    def cancel(self, request_id: str) -> None:
        with self._wake:
            if request_id in self._known:
                self._cancelled.add(request_id)
                self._wake.notify()

    def stats(self) -> EngineStats:
        if not self._ready:
            return EngineStats(max_batch=self._options.max_batch)
        active = sum(bool(turn.started) for turn in list(self._turns.values()))
        return EngineStats(
            active=active,
            queued=max(0, len(self._known) - active),
            max_batch=self._options.max_batch,
            cache_used=self._used,
            tokens_per_s=self._decode_rate.per_second(),
            prefill_per_s=self._prefill_rate.per_second(),
            last_token_at=max(self._decode_rate.last, self._prefill_rate.last),
            device_memory_used=self._memory[0],
            device_memory_total=self._memory[1],
        )

    async def unload(self) -> None:
        thread, self._thread = self._thread, None
        self._ready = False
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if thread is not None:
            await asyncio.to_thread(thread.join)
        self._backend = None

    # ------------------------------------------------------------ the thread

    def _main(
        self, folder: Path, progress: Progress, loop: asyncio.AbstractEventLoop, done: asyncio.Future[Backend]
    ) -> None:
        def settle(backend: Backend | None, error: Exception | None) -> None:
            if not done.done():
                if error is not None:
                    done.set_exception(error)
                elif backend is not None:
                    done.set_result(backend)

        try:
            backend = self._given or _backend(self.name)
            backend.load(folder, self._options, progress)
        except Exception as error:
            loop.call_soon_threadsafe(settle, None, error)
            return
        self._observe(backend)
        loop.call_soon_threadsafe(settle, backend, None)
        try:
            self._serve(backend)
        except Exception as error:
            self.fatal = error
            raise
        finally:
            with self._wake:
                waiting, self._inbox = self._inbox, []
            for turn in [*self._turns.values(), *waiting]:
                turn.reason = "error" if self.fatal is not None else "cancelled"
                turn.error = self.fatal and EngineDead(f"The engine stopped: {self.fatal}.")
                self._end(turn)
            self._turns.clear()
            self._mail.flush()
            backend.close()

    def _serve(self, backend: Backend) -> None:
        while True:
            with self._wake:
                while not (self._inbox or self._cancelled or self._turns or self._stopping):
                    self._wake.wait()
                arrived, self._inbox = self._inbox, []
                cancelled, self._cancelled = self._cancelled, set()
                if self._stopping:
                    self._inbox = arrived
                    return
            for turn in arrived:
                self._begin(backend, turn)
            for turn in [turn for turn in self._turns.values() if turn.request.id in cancelled]:
                turn.reason = "cancelled"
                self._drop(backend, turn)
            if self._turns:
                before = time.monotonic()
                try:
                    results = backend.step()
                except Exception as error:
                    self._fail(backend, error)
                else:
                    self._report(backend, results, before)
            self._observe(backend)
            self._mail.flush()

    def _begin(self, backend: Backend, turn: Generation) -> None:
        """Queue the turn's next slice in the generator."""
        try:
            if turn.request.images and not turn.embeddings:
                self._expand(backend, turn)
            turn.job = backend.start(turn, min(turn.left, self._options.slice or turn.left))
            self._turns[id(turn.job)] = turn
        except Exception as error:
            turn.reason, turn.error = "error", error
            self._end(turn)

    @staticmethod
    def _expand(backend: Backend, turn: Generation) -> None:
        backend.expand(turn)
        room = backend.context - len(turn.prompt)
        if room < 1:
            cure = "send fewer or smaller images"
            raise too_long(len(turn.prompt), backend.context, cure, what="prompt with its images")
        turn.max_new = min(turn.max_new, room)

    def _report(self, backend: Backend, results: list[JsonObject], before: float) -> None:
        """Turn one iteration's results and samples into events; end what ended, continue what used up its slice."""
        over: dict[int, Generation] = {}
        for result in results:
            turn = self._turns.get(id(result["job"]))
            if turn is None:
                continue
            stage = result["stage"]
            if stage == "started" and not turn.started:
                turn.started = before
                self._mail.post(turn.handle, Started(turn.started - turn.submitted))
            elif stage == "prefill" and not turn.tokens:
                self._mail.post(turn.handle, Prefill(min(result["curr_progress"], len(turn.prompt)), len(turn.prompt)))
            elif stage == "error":
                turn.reason, turn.error = "error", result["error"]
            if result["eos"]:
                over[id(turn.job)] = turn
        for turn in list(self._turns.values()):
            if turn.fresh:
                self._publish(backend, turn)
            if turn.reason is not None:
                self._drop(backend, turn)
            elif id(turn.job) in over:
                del self._turns[id(turn.job)]
                self._begin(backend, turn)

    def _publish(self, backend: Backend, turn: Generation) -> None:
        fresh, turn.fresh = turn.fresh, []
        if len(fresh) == len(turn.tokens):  # the first tokens: the prompt is done
            turn.cached = backend.cached(turn.job)
            self._prefill_rate.add(len(turn.prompt) - turn.cached)
            self._mail.post(turn.handle, Prefill(len(turn.prompt), len(turn.prompt)))
        self._decode_rate.add(len(fresh))
        scores = tuple(score for _, score in fresh if score is not None)
        self._mail.post(turn.handle, Tokens(tuple(token for token, _ in fresh), scores))

    def _drop(self, backend: Backend, turn: Generation) -> None:
        """Take an ended turn out of the generator, which gives no terminal event for that, and end it."""
        self._turns.pop(id(turn.job), None)
        backend.cancel(turn.job)
        self._end(turn)

    def _end(self, turn: Generation) -> None:
        self._mail.post(turn.handle, turn.finished())
        with self._wake:
            self._known.discard(turn.request.id)
            self._cancelled.discard(turn.request.id)

    def _fail(self, backend: Backend, error: Exception) -> None:
        """A step failed: its requests end. Out of memory passes; another CUDA error does not."""
        shown = error if isinstance(error, SkilldeckError) else EngineDead(f"A model step failed: {error}.")
        turns, self._turns = list(self._turns.values()), {}
        for turn in turns:
            turn.reason, turn.error = "error", shown
            self._end(turn)
        if is_fatal(error):
            raise error
        backend.reset()

    def _observe(self, backend: Backend) -> None:
        """Read what only this thread may, twice a second: asking the driver costs as much as a small step."""
        now = time.monotonic()
        if now - self._observed > 0.5 or not self._turns:
            self._observed = now
            self._used, self._memory = backend.used(), backend.memory()


def is_fatal(error: Exception) -> bool:
    """Whether the CUDA context is gone with this error: everything from the driver but out of memory."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return False
    return "CUDA error" in str(error) or isinstance(error, getattr(torch, "AcceleratorError", ()))

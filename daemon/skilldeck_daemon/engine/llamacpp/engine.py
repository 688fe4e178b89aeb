"""The llama.cpp engine: any GGUF, several requests at once, on one thread of its own.

That thread owns the model, the cache and every request; the event loop only hands requests over and receives events.
Each turn of its loop takes cancellations, admits waiting requests while there are sequences, computes one piece of a
prompt (short while others decode, so that their tokens flow; a cancellation ends it in its middle), then one token
for every decoding request; for one that is alone also what `lookup` guesses of its further tokens, which changes no
token, only when it comes. A request that fails (its grammar raises) ends alone; a step that fails ends the requests in
it and drops the cache, and the engine goes on. Nothing survives `unload`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from skilldeck_daemon.engine.base import (
    Caps,
    EngineStats,
    Finished,
    FinishReason,
    GenRequest,
    ModelInfo,
    ModelSpec,
    Prefill,
    Progress,
    Started,
    TokenLogprob,
    Tokens,
)
from skilldeck_daemon.engine.errors import EngineBusy, EngineDead, NotLoaded, too_long
from skilldeck_daemon.engine.handle import Handle, Mailbox
from skilldeck_daemon.engine.llamacpp import gguf, library
from skilldeck_daemon.engine.llamacpp.lookup import GRAM, Answers, Lookup
from skilldeck_daemon.engine.llamacpp.model import Aborted, LlamaModel, Row
from skilldeck_daemon.engine.llamacpp.options import Fit, LlamaOptions, fit, free_memory
from skilldeck_daemon.engine.llamacpp.sequences import Held, SequenceTable
from skilldeck_daemon.engine.llamacpp.worth import StepTime, Worth
from skilldeck_daemon.engine.rates import Rate, process_memory
from skilldeck_daemon.engine.sampling import DeadEnd, Sampler, logprob
from skilldeck_shared.errors import BadRequest, SkilldeckError

ALONE = (2.0, 128)
"""Seconds that one piece of a prompt may take while nobody decodes, and tokens it has at least. Pieces of 32 cost 15 %
at the beginning of a prompt and more than half at 8,000 tokens, where each of them reads all that is cached."""
SHARED = (0.75, 64)
"""The same while others decode, whose next token waits for it."""


@dataclass(eq=False)
class _Job:  # compared by identity: queues remove by it
    """One request between admission to the queue and its `Finished`."""

    request: GenRequest
    handle: Handle
    prompt: list[int]
    max_new: int
    submitted: float = field(default_factory=time.monotonic)
    started: float = 0.0
    first_token: float = 0.0
    held: Held | None = None
    sampler: Sampler | None = None
    cached: int = 0
    new: int = 0
    next: int = 0  # sampled, not yet in the cache
    lookup: Lookup = field(default_factory=Lookup)
    worth: Worth = field(default_factory=Worth)


class LlamaCppEngine:
    """`Engine` on llama.cpp; options are `options.LlamaOptions`."""

    def __init__(self) -> None:
        library.patient()
        self._wake = threading.Condition()
        self._inbox: list[_Job] = []
        self._cancelled: set[str] = set()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._known: dict[str, Handle] = {}  # accepted and not finished; guarded by _wake
        self._options = LlamaOptions()
        self._chosen = Fit(0, 0, 0, 0)
        self._model: LlamaModel | None = None
        self._dead: Exception | None = None
        # The rest belongs to the thread.
        self._waiting: deque[_Job] = deque()
        self._prefilling: deque[_Job] = deque()
        self._decoding: list[_Job] = []
        self._speed = 0.0  # tokens a second of the last whole piece
        self._reading = ""  # whose piece is computed; guarded by _wake
        self._one = StepTime()
        self._mail = Mailbox()
        self._decode_rate, self._prefill_rate = Rate(), Rate()

    @property
    def caps(self) -> Caps:
        return Caps(
            max_batch=self._chosen.max_batch,
            context=self._model.context if self._model else 0,
            lora=bool(self._options.lora),
        )

    async def load(self, spec: ModelSpec, progress: Progress | None = None) -> ModelInfo:
        """Load the GGUF at `spec.path`; raises BadRequest or NotFound naming what is wrong. Again replaces it."""
        await self.unload()
        options = LlamaOptions.parse(spec.options)
        file = await asyncio.to_thread(gguf.read, Path(spec.path))
        self._options, self._chosen = options, fit(file, options, free_memory())
        self._speed = 0.0
        loop = asyncio.get_running_loop()
        done: asyncio.Future[LlamaModel] = loop.create_future()
        self._stopping, self._dead = False, None
        self._thread = threading.Thread(
            target=self._main, args=(file, progress or _quiet, loop, done), name="engine", daemon=True
        )
        self._thread.start()
        self._model = model = await done
        return ModelInfo(
            name=spec.name,
            engine="llamacpp",
            family=file.architecture,
            context=model.context,
            longest=file.context,
            vocab=model.vocab,
            parameters=model.parameters,
            path=spec.path,
            created=int(file.path.stat().st_mtime),
            quantization=file.quantisation,
            size=file.size,
            licence=file.licence,
        )

    async def submit(self, request: GenRequest) -> Handle:
        """Queue a request; raises TooLong, EngineBusy, NotLoaded, EngineDead, BadRequest."""
        if self._dead is not None:
            raise EngineDead(f"The engine stopped: {self._dead}.", "It restarts when the model is loaded again.")
        model = self._model
        if model is None or self._stopping:
            raise NotLoaded("No model is loaded.")
        prompt = list(request.prompt_ids)
        if not prompt:
            raise BadRequest("The prompt is empty.", param="input")
        if len(prompt) >= model.context:
            raise too_long(len(prompt), model.context)
        if min(prompt) < 0 or max(prompt) >= model.vocab:
            raise BadRequest(f"The prompt holds token ids outside 0..{model.vocab - 1}.", param="input")
        if request.max_new < 1:
            raise BadRequest("At least one token must be asked for.", param="max_output_tokens")
        if request.images:
            raise BadRequest("This engine does not read images.", param="input")
        handle = Handle(request.id, asyncio.get_running_loop())
        job = _Job(request, handle, prompt, min(request.max_new, model.context - len(prompt)))
        with self._wake:
            if request.id in self._known:
                raise BadRequest(f"Request {request.id} is already running.")
            if len(self._known) >= self._chosen.max_batch + self._options.queue:
                raise EngineBusy(
                    f"{len(self._known)} requests are running or waiting, the most this engine takes.",
                    "Try again in a moment.",
                )
            self._known[request.id] = handle
            self._inbox.append(job)
            self._wake.notify()
        return handle

    def cancel(self, request_id: str) -> None:
        with self._wake:
            if request_id in self._known:
                self._cancelled.add(request_id)
                if self._reading == request_id and self._model is not None:
                    self._model.abort()
                self._wake.notify()

    def stats(self) -> EngineStats:
        model = self._model
        if model is None:
            return EngineStats(max_batch=self._chosen.max_batch)
        active = len(self._running())
        used, total = process_memory()
        return EngineStats(
            active=active,
            queued=max(0, len(self._known) - active),
            max_batch=self._chosen.max_batch,
            cache_used=self._table.live_tokens / (model.slots * model.context),
            tokens_per_s=self._decode_rate.per_second(),
            prefill_per_s=self._prefill_rate.per_second(),
            last_token_at=max(self._decode_rate.last, self._prefill_rate.last),
            device_memory_used=used,
            device_memory_total=total,
        )

    async def unload(self) -> None:
        """Ends requests in flight as cancelled and frees the model."""
        thread, self._thread = self._thread, None
        with self._wake:
            self._stopping = True
            if self._reading and self._model is not None:
                self._model.abort()
            self._wake.notify()
        if thread is not None:
            await asyncio.to_thread(thread.join)
        self._model = None

    # ------------------------------------------------------------ the thread

    def _main(
        self, file: gguf.Gguf, progress: Progress, loop: asyncio.AbstractEventLoop, done: asyncio.Future[LlamaModel]
    ) -> None:
        def settle(result: LlamaModel | None, error: Exception | None) -> None:
            if not done.done():
                if error is not None:
                    done.set_exception(error)
                elif result is not None:
                    done.set_result(result)

        try:
            model = LlamaModel(file, self._options, self._chosen, progress, lambda: self._stopping)
        except Exception as error:
            loop.call_soon_threadsafe(settle, None, error)
            return
        self._table, self._answers = SequenceTable(model, model.slots), Answers()
        progress(1.0, "ready")
        loop.call_soon_threadsafe(settle, model, None)
        try:
            self._serve(model)
        except Exception as error:  # a fault of the scheduler itself: nobody may hang on it
            self._dead = error
            self._end_all(EngineDead(f"The engine stopped: {error}."), "error")
            raise
        finally:
            self._mail.flush()
            model.close()

    def _serve(self, model: LlamaModel) -> None:
        while True:
            with self._wake:
                while not (self._inbox or self._cancelled or self._stopping or self._busy()):
                    self._wake.wait()
                self._waiting.extend(self._inbox)
                self._inbox.clear()
                cancelled, self._cancelled = self._cancelled, set()
                stopping = self._stopping
            if stopping:
                self._end_all(None, "cancelled")
                return
            for job in [job for job in [*self._waiting, *self._running()] if job.request.id in cancelled]:
                self._finish(job, "cancelled")
            self._admit(model)
            try:
                self._prefill(model)
                self._decode(model)
            except Exception as error:
                self._fail_step(error)
            self._mail.flush()

    def _busy(self) -> bool:
        return bool(self._waiting or self._prefilling or self._decoding)

    def _running(self) -> list[_Job]:
        return [*self._decoding, *self._prefilling]

    def _end_all(self, error: Exception | None, reason: FinishReason) -> None:
        with self._wake:
            self._waiting.extend(self._inbox)
            self._inbox.clear()
        for job in [*self._waiting, *self._running()]:
            self._finish(job, reason, error)
        self._mail.flush()

    def _fail_step(self, error: Exception) -> None:
        """Nobody knows what a failed step wrote: its requests end, nothing is reused."""
        shown = error if isinstance(error, SkilldeckError) else EngineDead(f"A model step failed: {error}.")
        for job in self._running():
            self._finish(job, "error", shown)
        self._table.forget()

    def _admit(self, model: LlamaModel) -> None:
        while self._waiting and len(self._running()) < self._chosen.max_batch:
            job = self._waiting.popleft()
            job.sampler = Sampler(job.request.sampling, model.vocab, job.prompt)
            job.started = time.monotonic()
            self._mail.post(job.handle, Started(job.started - job.submitted))
            self._prefilling.append(job)

    def _prefill(self, model: LlamaModel) -> None:
        """A piece of the oldest prompt that waits."""
        if not self._prefilling:
            return
        job = self._prefilling[0]
        if job.held is None:  # only now: what the requests before it computed can be its beginning
            job.held, job.cached = self._table.claim(job.prompt, job.request.cache_salt, job)
            self._mail.post(job.handle, Prefill(job.cached, len(job.prompt)))
        start, most = len(job.held.tokens), self._piece()
        ids = job.prompt[start : start + most]
        last = start + len(ids) == len(job.prompt)
        with self._wake:
            if self._stopping or job.request.id in self._cancelled:
                return
            self._reading = job.request.id
        begun = time.monotonic()
        try:
            rows = model.prefill(job.held.number, ids, start, int(last))
        except Aborted:
            if model.whole:  # a state that cannot be gone back in is of nobody now
                model.cut(job.held.number, 0)
                job.held.tokens.clear()
            return
        finally:
            with self._wake:
                self._reading = ""
                model.resume()
        if len(ids) == most:
            self._speed = len(ids) / max(time.monotonic() - begun, 1e-6)
        job.held.tokens.extend(ids)
        self._prefill_rate.add(len(ids))
        self._mail.post(job.handle, Prefill(start + len(ids), len(job.prompt)))
        if last:
            self._prefilling.popleft()
            self._decoding.append(job)
            job.first_token = time.monotonic()
            self._extend(model, [job], rows)

    def _piece(self) -> int:
        """How many tokens of a prompt are computed at once, by how long the last ones took."""
        seconds, least = SHARED if self._decoding else ALONE
        return min(max(int(self._speed * seconds) // 32 * 32, least), self._options.prefill_chunk)

    def _decode(self, model: LlamaModel) -> None:
        """One token for every decoding request."""
        jobs = list(self._decoding)
        if not jobs:
            return
        if len(jobs) == 1 and not self._prefilling and (guess := self._guess(model, jobs[0])):
            return self._check(model, jobs[0], guess)
        sequences = [job.held for job in jobs if job.held is not None]
        begun = time.monotonic()
        rows = model.decode(
            [job.next for job in jobs], [held.number for held in sequences], [len(held.tokens) for held in sequences]
        )
        if len(jobs) == 1:
            self._one.add(time.monotonic() - begun)
        for held, job in zip(sequences, jobs, strict=True):
            held.tokens.append(job.next)
        self._extend(model, jobs, rows)

    def _guess(self, model: LlamaModel, job: _Job) -> list[int]:
        most = min(self._options.draft_tokens, job.max_new - job.new - 1)
        if most < 1 or model.whole or job.worth.wait():
            return []
        assert job.held is not None
        return job.lookup.guess(job.held.tokens, job.next, most, self._answers, job.request.cache_salt)

    def _check(self, model: LlamaModel, job: _Job, guess: list[int]) -> None:
        """The job's next token and those guessed after it in one step; kept as far as sampling gives the same."""
        held = job.held
        assert held is not None
        start, begun = len(held.tokens), time.monotonic()
        rows = model.prefill(held.number, [job.next, *guess], start, 1 + len(guess))
        took = time.monotonic() - begun
        right = 0
        while True:
            held.tokens.append(job.next)
            self._extend(model, [job], [rows[right]])
            if job.held is None or right == len(guess) or job.next != guess[right]:
                break
            right += 1
        job.lookup.right(right)
        job.worth.checked(right, took, self._one.seconds)
        if right < len(guess):
            model.cut(held.number, start + 1 + right)

    def _extend(self, model: LlamaModel, jobs: list[_Job], rows: list[Row]) -> None:
        """Sample one token for each job from its row, post it, and finish what is finished."""
        self._decode_rate.add(len(jobs))
        for job, row in zip(jobs, rows, strict=True):
            sampler, request = job.sampler, job.request
            assert sampler is not None
            found: tuple[TokenLogprob, ...] = ()
            try:
                token = sampler.choose(row, request.mask)
                sampler.accept(token)
                if request.mask is not None and not request.mask.accept(token):
                    raise DeadEnd(f"The grammar refused token {token} that it had allowed.")
                if request.logprobs is not None:
                    found = (logprob(row, token, request.logprobs),)
                ended = request.mask is not None and request.mask.terminated
            except Exception as error:
                self._finish(job, "error", error)
                continue
            job.new, job.next = job.new + 1, token
            self._mail.post(job.handle, Tokens((token,), found))
            if ended or token in request.stop_ids:
                self._finish(job, "stop")
            elif job.new >= job.max_new:
                self._finish(job, "length")

    def _finish(self, job: _Job, reason: FinishReason, error: Exception | None = None) -> None:
        """The one place where a request ends."""
        if job.held is not None:
            if self._options.draft_tokens and reason in ("stop", "length"):
                self._answers.keep(job.request.cache_salt, job.held.tokens[max(0, len(job.prompt) - GRAM) :])
            self._table.release(job.held)
            job.held = None
        for queue in (self._waiting, self._prefilling, self._decoding):
            if job in queue:
                queue.remove(job)
        now = time.monotonic()
        first = job.first_token or now
        self._mail.post(
            job.handle,
            Finished(
                reason,
                prompt=len(job.prompt),
                cached=job.cached,
                new=job.new,
                prefill_s=first - job.started if job.started else 0.0,
                decode_s=now - first,
                error=error,
            ),
        )
        with self._wake:
            self._known.pop(job.request.id, None)
            self._cancelled.discard(job.request.id)


def _quiet(_fraction: float, _stage: str) -> None:
    return None

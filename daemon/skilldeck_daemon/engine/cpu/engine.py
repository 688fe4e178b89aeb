"""The CPU engine: any full-attention model folder, several requests at once, on one thread of its own.

That thread owns the model, the cache and every request; the event loop only hands requests over and receives events.
Each turn of its loop takes cancellations, admits waiting requests while there are rows, computes at most one chunk's
worth of prompts, then one token for every decoding request; for one that is alone also what `lookup` guesses of its
further tokens, which changes no token, only when it comes. A request that fails (its grammar raises) ends alone; a
step that fails ends the requests in it and drops the cache, and the engine goes on. Nothing survives `unload`.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from skilldeck_daemon.engine.base import (
    Caps,
    EngineBusy,
    EngineDead,
    EngineStats,
    Finished,
    FinishReason,
    GenRequest,
    ModelInfo,
    ModelSpec,
    NotLoaded,
    Prefill,
    Progress,
    Started,
    TokenLogprob,
    Tokens,
    too_long,
)
from skilldeck_daemon.engine.cpu import loading
from skilldeck_daemon.engine.cpu.lookup import GRAM, Answers, Lookup
from skilldeck_daemon.engine.cpu.slots import Slot, SlotTable
from skilldeck_daemon.engine.handle import Handle, Mailbox
from skilldeck_daemon.engine.rates import Rate, process_memory
from skilldeck_daemon.engine.sampling import DeadEnd, RequestSampler, apply_bitmask, choose, logprob
from skilldeck_shared.errors import BadRequest, SkilldeckError


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
    slot: Slot | None = None
    sampler: RequestSampler | None = None
    cached: int = 0
    new: int = 0
    next: int = 0  # sampled, not yet in the cache
    bitmask: Tensor | None = None
    lookup: Lookup = field(default_factory=Lookup)


class CpuEngine:
    """`Engine` on CPU; options are `loading.CpuOptions`."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._inbox: list[_Job] = []
        self._cancelled: set[str] = set()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._known: dict[str, Handle] = {}  # accepted and not finished; guarded by _wake
        self._options = loading.CpuOptions()
        self._model: loading.Loaded | None = None
        self._dead: Exception | None = None
        # The rest belongs to the thread.
        self._waiting: deque[_Job] = deque()
        self._prefilling: deque[_Job] = deque()
        self._mail = Mailbox()
        self._decode_rate, self._prefill_rate = Rate(), Rate()

    @property
    def caps(self) -> Caps:
        return Caps(max_batch=self._options.max_batch, context=self._model.context if self._model else 0)

    async def load(self, spec: ModelSpec, progress: Progress | None = None) -> ModelInfo:
        """Load `spec.path`; raises BadRequest or NotFound naming what is wrong. Loading again replaces the model."""
        await self.unload()
        self._options = loading.CpuOptions.parse(spec.options)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[loading.Loaded] = loop.create_future()
        self._stopping, self._dead = False, None
        self._thread = threading.Thread(
            target=self._main, args=(Path(spec.path), progress or _quiet, loop, done), name="engine", daemon=True
        )
        self._thread.start()
        self._model = model = await done
        return ModelInfo(
            name=spec.name,
            engine="cpu",
            family=str(model.config["model_type"]),
            context=model.context,
            longest=model.longest,
            vocab=model.decoder.vocab,
            parameters=model.parameters,
            path=spec.path,
            created=int((Path(spec.path) / "config.json").stat().st_mtime),
        )

    async def submit(self, request: GenRequest) -> Handle:
        """Queue a request; raises TooLong, EngineBusy, NotLoaded, EngineDead, BadRequest."""
        if self._dead is not None:
            raise EngineDead(f"The engine stopped: {self._dead}.", "It restarts when the model is loaded again.")
        if self._model is None or self._stopping:
            raise NotLoaded("No model is loaded.")
        context, vocab = self._model.context, self._model.decoder.vocab
        prompt = list(request.prompt_ids)
        if not prompt:
            raise BadRequest("The prompt is empty.", param="input")
        if len(prompt) >= context:
            raise too_long(len(prompt), context)
        if min(prompt) < 0 or max(prompt) >= vocab:
            raise BadRequest(f"The prompt holds token ids outside 0..{vocab - 1}.", param="input")
        if request.max_new < 1:
            raise BadRequest("At least one token must be asked for.", param="max_output_tokens")
        job = _Job(
            request,
            Handle(request.id, asyncio.get_running_loop()),
            prompt,
            min(request.max_new, context - len(prompt)),
        )
        with self._wake:
            if request.id in self._known:
                raise BadRequest(f"Request {request.id} is already running.")
            if len(self._known) >= self._options.max_batch + self._options.queue:
                raise EngineBusy(
                    f"{len(self._known)} requests are running or waiting, the most this engine takes.",
                    "Try again in a moment.",
                )
            self._known[request.id] = job.handle
            self._inbox.append(job)
            self._wake.notify()
        return job.handle

    def cancel(self, request_id: str) -> None:
        with self._wake:
            if request_id in self._known:
                self._cancelled.add(request_id)
                self._wake.notify()

    def stats(self) -> EngineStats:
        model = self._model
        if model is None:
            return EngineStats(max_batch=self._options.max_batch)
        table = self._table
        active = len(self._running())
        used, total = process_memory()
        return EngineStats(
            active=active,
            queued=max(0, len(self._known) - active),
            max_batch=self._options.max_batch,
            cache_used=table.live_tokens / (model.cache.rows * model.context),
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
            self._wake.notify()
        if thread is not None:
            await asyncio.to_thread(thread.join)
        self._model = None

    # ------------------------------------------------------------ the thread

    def _main(
        self,
        folder: Path,
        progress: Progress,
        loop: asyncio.AbstractEventLoop,
        done: asyncio.Future[loading.Loaded],
    ) -> None:
        def settle(result: loading.Loaded | None, error: Exception | None) -> None:
            if not done.done():
                if error is not None:
                    done.set_exception(error)
                elif result is not None:
                    done.set_result(result)

        with torch.inference_mode():
            try:
                if self._options.threads:
                    torch.set_num_threads(self._options.threads)
                model = loading.load(folder, self._options, progress)
                torch.set_num_threads(model.threads)
                self._options = replace(self._options, max_batch=model.max_batch)
                self._table, self._answers = SlotTable(model.cache), Answers()
            except Exception as error:
                loop.call_soon_threadsafe(settle, None, error)
                return
            loop.call_soon_threadsafe(settle, model, None)
            try:
                self._serve(model)
            except Exception as error:  # a fault of the scheduler itself: nobody may hang on it
                self._dead = error
                self._end_all(EngineDead(f"The engine stopped: {error}."), "error")
                raise
            finally:
                self._mail.flush()

    def _serve(self, model: loading.Loaded) -> None:
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
            if cancelled:
                self._cancel(cancelled)
            self._admit(model)
            try:
                self._prefill(model)
                self._decode(model)
            except Exception as error:
                self._fail_step(error)
            self._mail.flush()

    def _busy(self) -> bool:
        return bool(self._waiting or self._prefilling or self._table.decoding)

    def _running(self) -> list[_Job]:
        decoding: list[_Job] = [slot.owner for slot in self._table.slots[: self._table.decoding]]
        return decoding + list(self._prefilling)

    def _cancel(self, ids: set[str]) -> None:
        for job in [job for job in [*self._waiting, *self._running()] if job.request.id in ids]:
            self._finish(job, "cancelled")

    def _end_all(self, error: Exception | None, reason: FinishReason) -> None:
        with self._wake:
            self._waiting.extend(self._inbox)
            self._inbox.clear()
        for job in [*self._waiting, *self._running()]:
            self._finish(job, reason, error)
        self._mail.flush()

    def _fail_step(self, error: Exception) -> None:
        """Nobody knows which rows a failed step wrote: its requests end, nothing is reused."""
        shown = error if isinstance(error, SkilldeckError) else EngineDead(f"A model step failed: {error}.")
        for job in self._running():
            self._finish(job, "error", shown)
        self._table.forget()

    def _admit(self, model: loading.Loaded) -> None:
        while self._waiting and len(self._running()) < self._options.max_batch:
            job = self._waiting.popleft()
            job.sampler = RequestSampler(job.request.sampling, model.decoder.vocab, job.prompt)
            job.started = time.monotonic()
            self._mail.post(job.handle, Started(job.started - job.submitted))
            self._prefilling.append(job)

    def _prefill(self, model: loading.Loaded) -> None:
        """Up to one chunk of prompt tokens, the oldest request's first."""
        budget = self._options.prefill_chunk
        while self._prefilling and budget:
            job = self._prefilling[0]
            if job.slot is None:  # only now: what the requests before it computed can be its prefix
                job.slot, job.cached = self._table.claim(job.prompt, job.request.cache_salt, job)
                self._mail.post(job.handle, Prefill(job.cached, len(job.prompt)))
            start = len(job.slot.tokens)
            ids = job.prompt[start : start + budget]
            last = start + len(ids) == len(job.prompt)
            logits = model.decoder.prefill(model.cache, job.slot.row, ids, start, int(last))
            job.slot.tokens.extend(ids)
            budget -= len(ids)
            self._prefill_rate.add(len(ids))
            self._mail.post(job.handle, Prefill(start + len(ids), len(job.prompt)))
            if last:
                self._prefilling.popleft()
                self._table.promote(job.slot)
                job.first_token = time.monotonic()
                self._extend([job], logits)

    def _decode(self, model: loading.Loaded) -> None:
        """One token for every decoding request."""
        slots = self._table.slots[: self._table.decoding]
        if not slots:
            return
        jobs: list[_Job] = [slot.owner for slot in slots]
        if len(jobs) == 1 and (guess := self._guess(jobs[0])):
            return self._check(model, jobs[0], guess)
        logits = model.decoder.decode(model.cache, [job.next for job in jobs], [len(slot.tokens) for slot in slots])
        for slot, job in zip(slots, jobs, strict=True):
            slot.tokens.append(job.next)
        self._extend(jobs, logits)

    def _guess(self, job: _Job) -> list[int]:
        most = min(self._options.draft_tokens, job.max_new - job.new - 1)
        if most < 1:
            return []
        assert job.slot is not None
        return job.lookup.guess(job.slot.tokens, job.next, most, self._answers, job.request.cache_salt)

    def _check(self, model: loading.Loaded, job: _Job, guess: list[int]) -> None:
        """The job's next token and those guessed after it in one step; kept as far as sampling gives the same."""
        slot = job.slot
        assert slot is not None
        start = len(slot.tokens)
        logits = model.decoder.prefill(model.cache, slot.row, [job.next, *guess], start, 1 + len(guess))
        right = 0
        while True:
            slot.tokens.append(job.next)
            self._extend([job], logits[right : right + 1])
            if job.slot is None or right == len(guess) or job.next != guess[right]:
                break
            right += 1
        job.lookup.right(right)

    def _extend(self, jobs: list[_Job], logits: Tensor) -> None:
        """Sample one token for each job from its row of `logits`, post it, and finish what is finished."""
        scores: dict[str, Tensor] = {}
        kept: list[int] = []
        for i, job in enumerate(jobs):
            sampler = job.sampler
            assert sampler is not None
            if job.request.logprobs is not None:
                scores[job.request.id] = logits[i].clone()
            try:
                if sampler.edits:
                    sampler.edit(logits[i])
                if job.request.mask is not None:
                    self._constrain(job, logits[i : i + 1])
            except Exception as error:
                self._finish(job, "error", error)
                continue
            kept.append(i)
        if not kept:
            return
        if len(kept) < len(jobs):
            jobs, logits = [jobs[i] for i in kept], logits[kept]
        tokens = choose(logits, [job.sampler for job in jobs if job.sampler is not None])
        self._decode_rate.add(len(tokens))
        for job, token in zip(jobs, tokens, strict=True):
            self._take(job, token, scores.get(job.request.id))

    def _constrain(self, job: _Job, logits: Tensor) -> None:
        mask = job.request.mask
        assert mask is not None
        if job.bitmask is None:
            job.bitmask = torch.empty((1, math.ceil(logits.shape[1] / 32)), dtype=torch.int32)
        job.bitmask.fill_(-1)
        if mask.fill(job.bitmask, 0):
            apply_bitmask(logits, job.bitmask)
            if bool(torch.isneginf(logits.amax())):
                raise DeadEnd("The grammar allows no token here.", "Simplify the schema or the grammar.")

    def _take(self, job: _Job, token: int, scores: Tensor | None) -> None:
        """`token` is the job's next."""
        request = job.request
        job.new += 1
        job.next = token
        assert job.sampler is not None
        found: tuple[TokenLogprob, ...] = ()
        try:
            job.sampler.accept(token)
            if request.mask is not None and not request.mask.accept(token):
                raise DeadEnd(f"The grammar refused token {token} that it had allowed.")
            if scores is not None:
                found = (logprob(scores, token, request.logprobs or 0),)
            ended = request.mask is not None and request.mask.terminated
        except Exception as error:
            self._finish(job, "error", error)
            return
        self._mail.post(job.handle, Tokens((token,), found))
        if ended or token in request.stop_ids:
            self._finish(job, "stop")
        elif job.new >= job.max_new:
            self._finish(job, "length")

    def _finish(self, job: _Job, reason: FinishReason, error: Exception | None = None) -> None:
        """The one place where a request ends."""
        if job.slot is not None:
            if self._options.draft_tokens and reason in ("stop", "length"):
                self._answers.keep(job.request.cache_salt, job.slot.tokens[max(0, len(job.prompt) - GRAM) :])
            self._table.release(job.slot)
            job.slot = None
        for queue in (self._waiting, self._prefilling):
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

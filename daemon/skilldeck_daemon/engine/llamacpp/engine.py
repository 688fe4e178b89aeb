"""The llama.cpp engine: any GGUF, several requests at once, on one thread of its own.

That thread owns the model, the cache and every request; the event loop only hands requests over and receives events.
Each turn of its loop takes cancellations, admits waiting requests while there are sequences, computes one piece of a
prompt (short while others decode, so that their tokens flow; a cancellation ends it in its middle), then one token
for every decoding request; for one that is alone also what `lookup` and a draft model guess of its further tokens,
which changes no token, only when it comes. A request that fails (its grammar raises) ends alone; a step that fails ends
the requests in it and drops the cache, and the engine goes on. Nothing survives `unload`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
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
from skilldeck_daemon.engine.errors import EngineDead, too_long
from skilldeck_daemon.engine.handle import Handle
from skilldeck_daemon.engine.llamacpp import gguf, library
from skilldeck_daemon.engine.llamacpp.draft import Draft, draft_file
from skilldeck_daemon.engine.llamacpp.lookup import GRAM, Answers, Lookup
from skilldeck_daemon.engine.llamacpp.model import Aborted, LlamaModel, Row
from skilldeck_daemon.engine.llamacpp.options import Fit, LlamaOptions, fit, free_memory
from skilldeck_daemon.engine.llamacpp.sequences import Held, SequenceTable
from skilldeck_daemon.engine.llamacpp.thread import ThreadedEngine
from skilldeck_daemon.engine.llamacpp.vision import ARCHITECTURE as PROJECTOR
from skilldeck_daemon.engine.llamacpp.vision import Expanded
from skilldeck_daemon.engine.llamacpp.worth import StepTime, Worth
from skilldeck_daemon.engine.models import elsewhere
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
    expanded: Expanded
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
    copies: bool = False  # the last guess was looked up

    @property
    def prompt(self) -> list[int]:
        return self.expanded.ids

    @property
    def prompt_tokens(self) -> int:
        return self.expanded.tokens(len(self.prompt))


class LlamaCppEngine(ThreadedEngine[LlamaModel, _Job]):
    """`Engine` on llama.cpp; options are `options.LlamaOptions`."""

    def __init__(self) -> None:
        library.patient()
        super().__init__()
        self._options = LlamaOptions()
        self._chosen = Fit(0, 0, 0, 0)
        # The rest belongs to the thread.
        self._prefilling: deque[_Job] = deque()
        self._decoding: list[_Job] = []
        self._speed = 0.0  # tokens a second of the last whole piece
        self._reading = ""  # whose piece is computed; guarded by _wake
        self._one = StepTime()
        self._draft: Draft | None = None
        self._decode_rate, self._prefill_rate = Rate(), Rate()

    @property
    def caps(self) -> Caps:
        vision = self._model.vision if self._model else None
        return Caps(
            max_batch=self._chosen.max_batch,
            context=self._model.context if self._model else 0,
            lora=bool(self._options.lora),
            images=bool(vision),
            image_tokens=vision.usual if vision else 0,
        )

    async def load(self, spec: ModelSpec, progress: Progress | None = None) -> ModelInfo:
        """Load the GGUF at `spec.path`; raises BadRequest or NotFound naming what is wrong. Again replaces it."""
        await self.unload()
        options = LlamaOptions.parse(spec.options)
        file = await asyncio.to_thread(gguf.read, Path(spec.path))
        if file.architecture == PROJECTOR:
            raise BadRequest(
                f"{file.path.name} reads images for another model and is none itself.",
                'Serve that model; this file beside it, or as its option "mmproj".',
                param="model",
            )
        if not file.writes:
            raise BadRequest(
                f"{file.path.name} ({file.architecture}) makes embeddings and does not continue text.",
                "Leave --engine at auto.",
                param="engine",
            )
        gpu = await asyncio.to_thread(lambda: library.load().free_gpu_memory())
        free = free_memory()
        projector = None
        if options.mmproj != "off":
            projector = (
                elsewhere.projector(file.path) if options.mmproj == "auto" else Path(options.mmproj).expanduser()
            )
        draft = draft_file(options.draft_model) if options.draft_model else None
        if draft is not None:
            free -= draft.size if free else 0
        if projector is not None:
            free -= projector.stat().st_size if free and projector.is_file() else 0
        self._options, self._chosen = options, fit(file, options, free and max(free, 1) + (gpu or 0))
        self._speed = 0.0
        report = progress or _quiet
        model = await self._start(lambda stopping: self._make(file, projector, draft, report, stopping))
        return model.weights.described(spec, "llamacpp", model.context)

    async def submit(self, request: GenRequest) -> Handle:
        """Queue a request; raises TooLong, EngineBusy, NotLoaded, EngineDead, BadRequest."""
        model = self._loaded()
        prompt = Expanded(list(request.prompt_ids))
        if not prompt.ids:
            raise BadRequest("The prompt is empty.", param="input")
        if request.images:
            if model.vision is None:
                raise BadRequest("This model reads no images.", "Serve it with its mmproj file.", param="input")
            prompt = await asyncio.to_thread(model.vision.expand, prompt.ids, request.images)
        if (tokens := prompt.tokens(len(prompt.ids))) >= model.context:
            raise too_long(tokens, model.context)
        if (min(prompt.ids) < 0 and not request.images) or max(prompt.ids) >= model.vocab:
            raise BadRequest(f"The prompt holds token ids outside 0..{model.vocab - 1}.", param="input")
        if request.max_new < 1:
            raise BadRequest("At least one token must be asked for.", param="max_output_tokens")
        handle = Handle(request.id, asyncio.get_running_loop())
        job = _Job(request, handle, prompt, min(request.max_new, model.context - tokens))
        return self._accept(job, self._chosen.max_batch + self._options.queue)

    def _interrupt(self, request_id: str | None) -> None:
        if self._reading and self._model is not None and request_id in (None, self._reading):
            self._model.abort()

    def stats(self) -> EngineStats:
        model = self._model
        if model is None:
            return EngineStats(max_batch=self._chosen.max_batch)
        active = len(self._under_way())
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

    # ------------------------------------------------------------ the thread

    def _make(
        self,
        file: gguf.Gguf,
        projector: Path | None,
        draft: gguf.Gguf | None,
        progress: Progress,
        stopping: Callable[[], bool],
    ) -> LlamaModel:
        model = LlamaModel(file, self._options, self._chosen, progress, stopping, projector)
        try:
            self._draft = Draft(draft, self._options, model, stopping) if draft is not None else None
        except BaseException:
            model.close()
            raise
        self._table, self._answers = SequenceTable(model, model.slots), Answers()
        progress(1.0, "ready")
        return model

    def _serve(self, model: LlamaModel) -> None:
        try:
            super()._serve(model)
        finally:
            if self._draft is not None:
                self._draft.close()

    def _step(self, model: LlamaModel) -> None:
        self._admit(model)
        try:
            self._prefill(model)
            self._decode(model)
        except Exception as error:
            self._fail_step(error)

    def _under_way(self) -> list[_Job]:
        return [*self._decoding, *self._prefilling]

    def _fail_step(self, error: Exception) -> None:
        """Nobody knows what a failed step wrote: its requests end, nothing is reused."""
        shown = error if isinstance(error, SkilldeckError) else EngineDead(f"A model step failed: {error}.")
        for job in self._under_way():
            self._finish(job, "error", shown)
        self._table.forget()

    def _admit(self, model: LlamaModel) -> None:
        while self._waiting and len(self._under_way()) < self._chosen.max_batch:
            job = self._waiting.popleft()
            text = [token for token in job.prompt if token >= 0]
            job.sampler = Sampler(job.request, model.vocab, text)
            job.started = time.monotonic()
            self._mail.post(job.handle, Started(job.started - job.submitted))
            self._prefilling.append(job)

    def _prefill(self, model: LlamaModel) -> None:
        """A piece of the oldest prompt that waits."""
        if not self._prefilling:
            return
        job = self._prefilling[0]
        if job.held is None:  # only now: what the requests before it computed can be its beginning
            job.held, reused = self._table.claim(job.prompt, job.request.cache_salt, job)
            job.cached = job.expanded.tokens(reused)
            self._mail.post(job.handle, Prefill(job.cached, job.prompt_tokens))
        start = len(job.held.tokens)
        if (image := job.expanded.at(start)) is not None:
            model.see(job.held.number, image)
            self._computed(job, job.prompt[start : start + image.length], image.tokens)
            return
        most = self._piece()
        ids = job.expanded.text_from(start, most)
        last = start + len(ids) == len(job.prompt)
        self._mail.flush()  # what is computed now may take seconds
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
        self._computed(job, ids, len(ids))
        if last:
            self._prefilling.popleft()
            self._decoding.append(job)
            job.first_token = time.monotonic()
            self._extend(model, [job], rows)

    def _computed(self, job: _Job, ids: list[int], tokens: int) -> None:
        """A piece of a prompt is in the cache."""
        assert job.held is not None
        job.held.tokens.extend(ids)
        self._prefill_rate.add(tokens)
        done = job.expanded.tokens(len(job.held.tokens))
        self._mail.post(job.handle, Prefill(done, job.prompt_tokens))

    def _piece(self) -> int:
        """How many tokens of a prompt are computed at once, by how long the last ones took."""
        seconds, least = SHARED if self._decoding else ALONE
        return min(max(int(self._speed * seconds) // 32 * 32, least), self._options.prefill_chunk)

    def _decode(self, model: LlamaModel) -> None:
        """One token for every decoding request."""
        jobs = list(self._decoding)
        if not jobs:
            return
        begun = time.monotonic()
        if len(jobs) == 1 and not self._prefilling and (guess := self._guess(model, jobs[0])):
            return self._check(model, jobs[0], guess, begun)
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
        salt = job.request.cache_salt
        guess = job.lookup.guess(job.held.tokens, job.next, most, self._answers, salt)
        guess = list(takewhile(lambda token: token >= 0, guess))  # an image cannot be guessed
        job.copies = bool(guess)
        if not guess and self._draft is not None:
            guess = self._draft.guess(job.held.tokens, job.next, most, salt)
        return guess

    def _check(self, model: LlamaModel, job: _Job, guess: list[int], begun: float) -> None:
        """The job's next token and what is guessed to follow, since `begun`; kept as far as it is right."""
        held = job.held
        assert held is not None
        start = len(held.tokens)
        rows = model.prefill(held.number, [job.next, *guess], start, 1 + len(guess))
        took = time.monotonic() - begun
        right = 0
        while True:
            held.tokens.append(job.next)
            self._extend(model, [job], [rows[right]])
            if job.held is None or right == len(guess) or job.next != guess[right]:
                break
            right += 1
        if job.copies:
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
                prompt=job.prompt_tokens,
                cached=job.cached,
                new=job.new,
                prefill_s=first - job.started if job.started else 0.0,
                decode_s=now - first,
                error=error,
            ),
        )
        self._left(job)


def _quiet(_fraction: float, _stage: str) -> None:
    return None

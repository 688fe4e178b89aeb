"""The engine of embeddings: a GGUF whose tokens, taken together, are one vector; several texts a step.

A request is a text's ids; it is answered by one `Vector`, of whatever length, and `Finished`. How the vectors of
tokens become one (pooling) is the file's matter, or the option's for a model that was made to write. Where the last
token's is taken, of a model that looks back only, the tokens before it are computed without anything coming out: that
saves a row of the whole vocabulary for each, 0.6 MB in many models.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

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
    Vector,
)
from skilldeck_daemon.engine.errors import EngineDead, too_long
from skilldeck_daemon.engine.handle import Handle
from skilldeck_daemon.engine.llamacpp import gguf, library
from skilldeck_daemon.engine.llamacpp.model import FLASH, StepFailed
from skilldeck_daemon.engine.llamacpp.options import Options, check_context, check_weights, free_memory
from skilldeck_daemon.engine.llamacpp.thread import ThreadedEngine
from skilldeck_daemon.engine.llamacpp.weights import Weights
from skilldeck_daemon.engine.rates import Rate, process_memory
from skilldeck_shared.errors import BadRequest, SkilldeckError

NAME = "llamacpp-embeddings"
POOLINGS = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}
"""llama.cpp's numbers."""
USUAL = 2048
"""Most tokens of a text unless asked for: all of one are computed in a step, and memory grows with them."""
PIECE = 512  # tokens computed at once where a text can be computed in pieces


@dataclass(frozen=True)
class EmbedderOptions(Options):
    """0 chooses.

    pooling: mean, cls or last, how one vector is made of the tokens'; auto: as the file says. context: tokens of a text
    at most; max_batch: texts computed at once; queue: texts that may wait; threads: of the CPU; n_gpu_layers: layers on
    the GPU, -1 as many as fit; flash_attention: auto, on, off; mmap: map the file instead of reading it;
    repack: auto, on, off, see `weights.repacked`.
    """

    pooling: str = "auto"
    context: int = 0
    max_batch: int = 16
    queue: int = 256
    threads: int = 0
    n_gpu_layers: int = -1
    flash_attention: str = "auto"
    mmap: bool = True
    repack: str = "auto"

    CHOICES: ClassVar = {
        "pooling": ("auto", "mean", "cls", "last"),
        "flash_attention": ("auto", "on", "off"),
        "repack": ("auto", "on", "off"),
    }
    LEAST: ClassVar = {"max_batch": 1, "queue": 1, "n_gpu_layers": -1}


@dataclass(eq=False)
class _Job:
    request: GenRequest
    handle: Handle
    submitted: float = field(default_factory=time.monotonic)
    started: float = 0.0

    @property
    def ids(self) -> Sequence[int]:
        return self.request.prompt_ids


class TextModel:
    """Weights with a context that gives vectors. One thread owns it."""

    def __init__(
        self, file: gguf.Gguf, options: EmbedderOptions, progress: Progress, stopping: Callable[[], bool]
    ) -> None:
        """Raises BadRequest: what makes no vectors, what does not fit."""
        self._api = api = library.load()
        self._context = None
        pooling = _pooling(file, options)
        self.weights = Weights(file, options, progress, stopping)
        try:
            # A model that looks both ways needs a text whole, and so do poolings over all of it.
            self.pieces = pooling == "last" and file.of("attention.causal") is not False
            usual = min(file.context or USUAL, 4 * USUAL if self.pieces else USUAL)
            self.context = options.context or usual
            self.rows = min(self.context, PIECE) if self.pieces else self.context
            params = api.llama_context_default_params()
            params.n_ctx = self.context
            params.n_batch = params.n_ubatch = self.rows
            params.n_seq_max = options.max_batch
            params.n_threads = params.n_threads_batch = self.weights.threads
            params.flash_attn_type = FLASH[options.flash_attention]
            params.pooling_type = POOLINGS[pooling]
            params.embeddings = True
            params.kv_unified = True  # texts of any length beside each other in one step
            api.said()
            self._context = api.llama_init_from_model(self.weights.handle, params)
            if not self._context:
                raise BadRequest(
                    f"There is no memory for texts of {self.context} tokens: {api.said()}.",
                    "Ask for a smaller context.",
                    param="context",
                )
        except BaseException:
            self.close()
            raise
        self._memory = api.llama_get_memory(self._context)  # none where a model looks both ways
        self.width = int(api.llama_model_n_embd_out(self.weights.handle))

    def vectors(self, texts: Sequence[Sequence[int]], wanted: Callable[[], bool]) -> list[tuple[float, ...]]:
        """One vector of each text, which together have at most `context` tokens; nothing when they are not `wanted` any
        more between two pieces. Raises StepFailed."""
        api = self._api
        tokens = [(ids[at], at, number) for number, ids in enumerate(texts) for at in range(len(ids))]
        if self._memory:
            api.llama_memory_clear(self._memory, False)
        if self.pieces:
            last = [(ids[-1], len(ids) - 1, number) for number, ids in enumerate(texts)]
            before = [token for token in tokens if token[1] < len(texts[token[2]]) - 1]
            api.llama_set_embeddings(self._context, False)
            for begin in range(0, len(before), self.rows):
                if not wanted():
                    return []
                self._step(before[begin : begin + self.rows], False)
            api.llama_set_embeddings(self._context, True)
            tokens = last
        self._step(tokens, True)
        found = []
        for number in range(len(texts)):
            row = api.llama_get_embeddings_seq(self._context, number)
            if not row:
                raise StepFailed(f"llama.cpp has no vector of text {number}: {api.said()}")
            found.append(tuple(np.ctypeslib.as_array(row, (self.width,)).tolist()))
        return found

    def _step(self, tokens: Sequence[tuple[int, int, int]], out: bool) -> None:
        """Compute (id, position, text) triples."""
        count = len(tokens)
        token, position, text = (np.array(column, np.int32) for column in zip(*tokens, strict=True))
        ones = np.ones(count, np.int32)
        owners = text.ctypes.data + 4 * np.arange(count, dtype=np.uintp)
        outputs = np.full(count, out, np.int8)
        arrays = (position, ones, owners, outputs)
        batch = library.Batch(count, token.ctypes.data, None, *(array.ctypes.data for array in arrays))
        code = self._api.llama_decode(self._context, batch)
        if code:
            raise StepFailed(f"llama.cpp could not compute {count} tokens ({code}): {self._api.said()}")

    def close(self) -> None:
        if self._context:
            self._api.llama_free(self._context)
        self._context = None
        self.weights.close()


def _pooling(file: gguf.Gguf, options: EmbedderOptions) -> str:
    if options.pooling != "auto":
        return options.pooling
    names = {number: name for name, number in POOLINGS.items()}
    found = names.get(file.pooling, "none")
    if found == "rank":
        raise BadRequest(f"{file.path.name} ranks texts and makes no embeddings.", param="model")
    if found == "none":
        raise BadRequest(
            f"{file.path.name} does not say how one vector is made of a text's tokens.",
            'Say it: --engine-options \'{"pooling": "mean"}\' (or cls, last), or leave --engine at auto to write text.',
            param="pooling",
        )
    return found


class LlamaCppEmbedder(ThreadedEngine[TextModel, _Job]):
    """`Engine` that answers with vectors; options are `EmbedderOptions`."""

    def __init__(self) -> None:
        library.patient()
        super().__init__()
        self._options = EmbedderOptions()
        # The rest belongs to the thread.
        self._running: list[_Job] = []
        self._rate = Rate()

    @property
    def caps(self) -> Caps:
        context = self._model.context if self._model else 0
        return Caps(self._options.max_batch, context, grammar=False, logprobs=False, writes=False, embeds=True)

    async def load(self, spec: ModelSpec, progress: Progress | None = None) -> ModelInfo:
        """Load the GGUF at `spec.path`; raises BadRequest or NotFound naming what is wrong. Again replaces it."""
        await self.unload()
        self._options = options = EmbedderOptions.parse(spec.options)
        file = await asyncio.to_thread(gguf.read, Path(spec.path))
        check_context(file, options.context)
        gpu = await asyncio.to_thread(lambda: library.load().free_gpu_memory())
        check_weights(file, (free := free_memory()) and free + (gpu or 0))
        report = progress or (lambda _fraction, _stage: None)
        model = await self._start(lambda stopping: TextModel(file, options, report, stopping))
        report(1.0, "ready")
        return model.weights.described(spec, NAME, model.context)

    async def submit(self, request: GenRequest) -> Handle:
        """Queue a text; raises TooLong, EngineBusy, NotLoaded, EngineDead, BadRequest."""
        model = self._loaded()
        ids = request.prompt_ids
        if not ids:
            raise BadRequest("The text has no tokens.", param="input")
        if len(ids) > model.context:
            raise too_long(len(ids), model.context, what="text")
        if min(ids) < 0 or max(ids) >= model.weights.vocab:
            raise BadRequest(f"The text holds token ids outside 0..{model.weights.vocab - 1}.", param="input")
        job = _Job(request, Handle(request.id, asyncio.get_running_loop()))
        return self._accept(job, self._options.max_batch + self._options.queue)

    def stats(self) -> EngineStats:
        active = len(self._running)
        used, total = process_memory()
        return EngineStats(
            active=active,
            queued=max(0, len(self._known) - active),
            max_batch=self._options.max_batch,
            prefill_per_s=self._rate.per_second(),
            last_token_at=self._rate.last,
            device_memory_used=used,
            device_memory_total=total,
        )

    # ------------------------------------------------------------ the thread

    def _under_way(self) -> list[_Job]:
        return self._running

    def _step(self, model: TextModel) -> None:
        """As many of the texts that wait, the oldest first, as one step takes."""
        count = 0
        while self._waiting and len(self._running) < self._options.max_batch:
            count += len(self._waiting[0].ids)
            if self._running and count > model.context:
                break
            job = self._waiting.popleft()
            job.started = time.monotonic()
            self._mail.post(job.handle, Started(job.started - job.submitted))
            self._running.append(job)
        if not self._running:
            return
        try:
            vectors = model.vectors([job.ids for job in self._running], self._wanted)
        except Exception as error:
            shown = error if isinstance(error, SkilldeckError) else EngineDead(f"A model step failed: {error}.")
            for job in list(self._running):
                self._finish(job, "error", shown)
            return
        self._rate.add(sum(len(job.ids) for job in self._running))
        for job, vector in zip(list(self._running), vectors, strict=False):
            self._mail.post(job.handle, Prefill(len(job.ids), len(job.ids)))
            self._mail.post(job.handle, Vector(vector))
            self._finish(job, "stop")
        for job in list(self._running):  # nobody wanted any of them
            self._finish(job, "cancelled")

    def _wanted(self) -> bool:
        with self._wake:
            return not self._stopping and any(job.request.id not in self._cancelled for job in self._running)

    def _finish(self, job: _Job, reason: FinishReason, error: Exception | None = None) -> None:
        if job in self._running:
            self._running.remove(job)
        if job in self._waiting:
            self._waiting.remove(job)
        took = time.monotonic() - job.started if job.started else 0.0
        self._mail.post(job.handle, Finished(reason, prompt=len(job.ids), cached=0, new=0, prefill_s=took, error=error))
        self._left(job)

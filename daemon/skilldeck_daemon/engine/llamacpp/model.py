"""A GGUF model in memory with its key/value cache, computed by llama.cpp. One thread owns it.

The cache holds `slots` sequences of `context` tokens each, every one in a stream of its own: attention then costs what
the sequences at work hold, and not what others left behind. A row of logits is a view of the library's own memory and
holds until the next step.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skilldeck_daemon.engine.base import Progress
from skilldeck_daemon.engine.llamacpp import library, pages
from skilldeck_daemon.engine.llamacpp.gguf import Gguf
from skilldeck_daemon.engine.llamacpp.options import Fit, LlamaOptions
from skilldeck_daemon.engine.llamacpp.vision import NON_CAUSAL_ROWS, Image, Vision
from skilldeck_daemon.engine.llamacpp.weights import Weights
from skilldeck_daemon.engine.process.child import is_child
from skilldeck_shared.errors import BadRequest

log = logging.getLogger(__name__)

Row = NDArray[np.float32]
_NO_VOCABULARY = 0  # llama_vocab_type
_ABORTED = 2  # what llama_decode returns when its callback said so
FLASH = {"auto": -1, "off": 0, "on": 1}


class StepFailed(RuntimeError):
    """llama.cpp could not compute a step."""


class Aborted(RuntimeError):
    """`abort` ended the step; what it wrote to its sequence is cut off."""


def _vision(projector: Path, weights: Weights, options: LlamaOptions) -> Vision | None:
    """The projector that a person named, or what was found beside the model; the latter is left out where it is of
    another model."""
    try:
        return Vision(projector, weights, options.n_gpu_layers != 0)
    except BadRequest as error:
        if options.mmproj != "auto":
            raise
        log.warning("serving without images: %s", error)
        return None


class LlamaModel:
    """The weights and the cache. `close` frees both; nothing may be called after it."""

    def __init__(
        self,
        file: Gguf,
        options: LlamaOptions,
        chosen: Fit,
        progress: Progress,
        stopping: Callable[[], bool] = lambda: False,
        projector: Path | None = None,
    ) -> None:
        """Blocks while it reads, and gives up when `stopping` says so. Raises BadRequest with the library's reason."""
        self._api = api = library.load()
        self._context: Any = None
        self._adapters: list[int] = []
        self._flag = ctypes.create_string_buffer(2)
        self.vision: Vision | None = None
        self.weights = Weights(file, options, progress, stopping, chosen.cache_bytes)
        self._model = self.weights.handle
        try:
            self._check(file)
            if projector is not None:
                self.vision = _vision(projector, self.weights, options)
            self._open(file, options, chosen)
            self._adapt(options)
        except BaseException:
            self.close()
            raise
        self.vocab = self.weights.vocab
        self.slots = chosen.slots
        self.context = min(chosen.context, int(api.llama_n_ctx_seq(self._context)))
        self._memory = api.llama_get_memory(self._context)
        # A recurrent state is of the whole sequence: no end of it can be taken off, no beginning copied.
        self.whole = bool(api.llama_model_is_recurrent(self._model) or api.llama_model_is_hybrid(self._model))
        self._make_batch(chosen.slots)

    def _check(self, file: Gguf) -> None:
        api = self._api
        if api.llama_model_has_encoder(self._model) or not api.llama_model_has_decoder(self._model):
            raise BadRequest(f"{file.path.name} ({file.architecture}) does not continue text.", param="model")
        if api.llama_model_is_diffusion(self._model):
            raise BadRequest(
                f"{file.path.name} ({file.architecture}) is a diffusion model, which writes no token after another.",
                param="model",
            )

    def _open(self, file: Gguf, options: LlamaOptions, chosen: Fit) -> None:
        api = self._api
        params = api.llama_context_default_params()
        self._rows = max(options.prefill_chunk, chosen.slots, options.draft_tokens + 1)
        if self.vision is not None and self.vision.whole:
            self._rows = max(self._rows, NON_CAUSAL_ROWS)
        params.n_ctx = (chosen.context + 255) // 256 * 256 * chosen.slots
        params.n_batch = params.n_ubatch = self._rows
        params.n_seq_max = chosen.slots
        # Room for logits is set aside: of the rows asked for, not of a whole chunk (300 MB at 150,000 tokens).
        params.n_outputs_max = max(chosen.slots, options.draft_tokens + 1)
        params.n_outputs_max_per_seq = options.draft_tokens + 1
        params.n_threads = params.n_threads_batch = self.weights.threads
        params.flash_attn_type = FLASH[options.flash_attention]
        params.type_k, params.type_v = library.TYPES[options.cache_type_k], library.TYPES[options.cache_type_v]
        params.swa_full = True  # a cache cut to its window could not be gone back in
        params.kv_unified = False
        # Asked before each of about a thousand operations of a step, so it is no function of Python's: the length of
        # the text in the flag, 0 or 1.
        params.abort_callback = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p)
        params.abort_callback_data = ctypes.addressof(self._flag)
        api.said()
        before = pages.anonymous()
        self._context = api.llama_init_from_model(self._model, params)
        if not self._context:
            raise BadRequest(
                f"{file.path.name} cannot be served with {chosen.slots} requests of {chosen.context} tokens, keys as "
                f"{options.cache_type_k} and values as {options.cache_type_v}: {api.said()}.",
                "Ask for a smaller context or max_batch, for fewer n_gpu_layers, or for other cache types.",
                param="context",
            )
        if is_child():  # nobody else writes to what is new
            pages.give_back(before)

    def _adapt(self, options: LlamaOptions) -> None:
        api = self._api
        for path, _scale in options.lora:
            adapter = api.llama_adapter_lora_init(self._model, os.fsencode(path))
            if not adapter:
                raise BadRequest(f"The LoRA {path} does not fit the model: {api.said()}.", param="lora")
            self._adapters.append(adapter)
        if options.lora:
            count = len(options.lora)
            scales = (ctypes.c_float * count)(*(scale for _path, scale in options.lora))
            api.llama_set_adapters_lora(self._context, (ctypes.c_void_p * count)(*self._adapters), count, scales)

    def _make_batch(self, slots: int) -> None:
        """The arrays every step is written into: one entry for a token."""
        rows = self._rows
        self._token, self._pos = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
        self._wanted = np.zeros(rows, np.int8)
        self._ones = np.ones(rows, np.int32)
        self._sequences = np.arange(slots, dtype=np.int32)
        self._owners = np.zeros(rows, np.uintp)  # pointers into the array above
        self._batch = library.Batch(
            0,
            self._token.ctypes.data,
            None,
            self._pos.ctypes.data,
            self._ones.ctypes.data,
            self._owners.ctypes.data,
            self._wanted.ctypes.data,
        )

    def prefill(self, sequence: int, ids: Sequence[int], start: int, keep: int) -> list[Row]:
        """Compute `ids` of a sequence that holds `start` tokens; the logits of the last `keep`. Raises Aborted."""
        count = len(ids)
        self._token[:count] = ids
        self._pos[:count] = np.arange(start, start + count)
        self._owners[:count] = self._sequences.ctypes.data + 4 * sequence
        self._wanted[:count] = 0
        self._wanted[count - keep : count] = 1
        try:
            self._step(count)
        except Aborted:
            self.cut(sequence, start)
            raise
        return [self._row(place) for place in range(count - keep, count)]

    def see(self, sequence: int, image: Image) -> None:
        """Compute an image of a sequence that holds all before it."""
        assert self.vision is not None
        self._api.said()
        if not self.vision.compute(self._context, sequence, image, self._rows):
            raise StepFailed(f"llama.cpp could not compute an image of {image.tokens} tokens: {self._api.said()}")

    def decode(self, tokens: Sequence[int], sequences: Sequence[int], lengths: Sequence[int]) -> list[Row]:
        """One token of each sequence, which holds so many; the logits after each."""
        count = len(tokens)
        self._token[:count], self._pos[:count] = tokens, lengths
        self._owners[:count] = self._sequences.ctypes.data + 4 * np.asarray(sequences, np.uintp)
        self._wanted[:count] = 1
        self._step(count)
        return [self._row(place) for place in range(count)]

    def _step(self, count: int) -> None:
        self._batch.n_tokens = count
        code = self._api.llama_decode(self._context, self._batch)
        if code == _ABORTED:
            raise Aborted
        if code:
            raise StepFailed(f"llama.cpp could not compute {count} tokens ({code}): {self._api.said()}")

    def abort(self) -> None:
        """Have the step that is computed, or the next, end with Aborted, from any thread; until `resume`."""
        self._flag[0] = b"\1"

    def resume(self) -> None:
        self._flag[0] = b"\0"

    def _row(self, place: int) -> Row:
        found = self._api.llama_get_logits_ith(self._context, place)
        if not found:
            raise StepFailed(f"llama.cpp has no logits of row {place}: {self._api.said()}")
        return np.ctypeslib.as_array(found, (self.vocab,))

    def cut(self, sequence: int, tokens: int) -> bool:
        """Forget all of a sequence but its first `tokens`; False, and nothing done, where that cannot be."""
        return bool(self._api.llama_memory_seq_rm(self._memory, sequence, tokens, -1))

    def copy(self, source: int, target: int, tokens: int) -> bool:
        """Make the first `tokens` of `target` those of `source`."""
        self._api.llama_memory_seq_rm(self._memory, target, -1, -1)
        self._api.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        return self.cut(target, tokens)

    def piece(self, token: int) -> bytes:
        """What a token writes; its beginning, of a long one; nothing in a model without a vocabulary."""
        room = ctypes.create_string_buffer(64)
        vocab = self._api.llama_model_get_vocab(self._model)
        if self._api.llama_vocab_type(vocab) == _NO_VOCABULARY:
            return b""
        return room.raw[: max(self._api.llama_token_to_piece(vocab, token, room, 64, 0, True), 0)]

    def forget(self) -> None:
        self._api.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        if self.vision is not None:
            self.vision.close()
        if self._context:
            self._api.llama_free(self._context)
        self.weights.close()
        self._model = self._context = None

"""One request inside a generator of exllamav2 or exllamav3: its sampling, its counts, and why it ended.

The generators call `sample` with a row of logits for every token; `Turn` decides the token with the one sampler all
engines share, so that seeds, penalties, masks and log probabilities mean the same everywhere. It never raises into the
generator, where one request's exception would end them all: it notes the error and ends.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from skilldeck_daemon.engine.base import Finished, FinishReason, GenRequest, TokenLogprob
from skilldeck_daemon.engine.handle import Handle
from skilldeck_daemon.engine.sampling import DeadEnd, RequestSampler, apply_bitmask, choose, logprob

# Grammar masks are computed while the device works on the next step.
_pool = ThreadPoolExecutor(4, thread_name_prefix="grammar")


class Turn:
    """A request from its admission to its `Finished`. `reason` is None while it runs."""

    def __init__(self, request: GenRequest, handle: Handle, max_new: int, vocab: int) -> None:
        self.request, self.handle, self.max_new, self.vocab = request, handle, max_new, vocab
        self.prompt = list(request.prompt_ids)
        self.submitted = time.monotonic()
        self.started = 0.0
        self.first_token = 0.0
        self.tokens: list[int] = []
        self.fresh: list[tuple[int, TokenLogprob | None]] = []  # sampled, not yet told
        self.embeddings: list[Any] = []  # of its images
        self.cached = 0
        self.reason: FinishReason | None = None
        self.error: Exception | None = None
        self.job: Any = None  # the generator's object
        self._sampler = RequestSampler(request.sampling, vocab, self.prompt)
        self._bitmask = torch.empty((1, math.ceil(vocab / 32)), dtype=torch.int32)
        self._masked: Future[bool] | None = None
        if request.mask is not None:
            self._masked = _pool.submit(self._fill)

    @property
    def left(self) -> int:
        """Tokens it may still generate."""
        return self.max_new - len(self.tokens)

    def sample(self, row: Tensor) -> int:
        """The next token from `row`, float logits [at least vocab]; once it has ended, any token."""
        if self.reason is not None:
            return 0
        try:
            return self._sample(row[: self.vocab].to("cpu", torch.float32))
        except Exception as error:
            self.reason, self.error = "error", error
            return 0

    @torch.inference_mode()
    def _sample(self, row: Tensor) -> int:
        request, mask = self.request, self.request.mask
        logits = row.clone().unsqueeze(0) if self._sampler.edits or mask is not None else row.unsqueeze(0)
        if self._sampler.edits:
            self._sampler.edit(logits[0])
        if self._masked is not None and self._masked.result():
            apply_bitmask(logits, self._bitmask)
            if bool(torch.isneginf(logits.amax())):
                raise DeadEnd("The grammar allows no token here.", "Simplify the schema or the grammar.")
        token = choose(logits, [self._sampler])[0]
        self._sampler.accept(token)
        score = None if request.logprobs is None else logprob(row, token, request.logprobs)
        if mask is not None:
            if not mask.accept(token):
                raise DeadEnd(f"The grammar refused token {token} that it had allowed.")
            if mask.terminated:
                self.reason = "stop"
            else:
                self._masked = _pool.submit(self._fill)
        if not self.tokens:
            self.first_token = time.monotonic()
        self.tokens.append(token)
        self.fresh.append((token, score))
        if token in request.stop_ids:
            self.reason = "stop"
        elif self.reason is None and self.left <= 0:
            self.reason = "length"
        return token

    def _fill(self) -> bool:
        mask = self.request.mask
        assert mask is not None
        self._bitmask.fill_(-1)
        return mask.fill(self._bitmask, 0)

    def finished(self) -> Finished:
        """The terminal event."""
        now = time.monotonic()
        first = self.first_token or now
        return Finished(
            self.reason or "cancelled",
            prompt=len(self.prompt),
            cached=self.cached,
            new=len(self.tokens),
            prefill_s=first - self.started if self.started else 0.0,
            decode_s=now - first,
            error=self.error,
        )

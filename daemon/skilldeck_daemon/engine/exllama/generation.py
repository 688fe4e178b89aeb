"""One request inside a generator of exllamav2 or exllamav3: its sampling, its counts, and why it ended.

The generators call `sample` with a row of logits for every token; `Generation` decides the token with the one sampler
all engines share, so that seeds, penalties, masks and log probabilities mean the same everywhere. It never raises into
the generator, where one request's exception would end them all: it notes the error and ends.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skilldeck_daemon.engine.base import Finished, FinishReason, GenRequest, LogitMask, TokenLogprob
from skilldeck_daemon.engine.handle import Handle
from skilldeck_daemon.engine.sampling import DeadEnd, Sampler, logprob

# Grammar masks are computed while the device works on the next step.
_pool = ThreadPoolExecutor(4, thread_name_prefix="grammar")


class _Ahead:
    """What a mask allows next, begun to be computed when the token before was chosen."""

    def __init__(self, mask: LogitMask, vocab: int) -> None:
        self._bits = np.full((1, (vocab + 31) // 32), -1, np.int32)
        self._filled = _pool.submit(mask.fill, self._bits, 0)

    def fill(self, bits: Any, index: int) -> bool:
        """As `LogitMask.fill`; waits for what was begun."""
        limits = self._filled.result()
        bits[index] = self._bits[0]
        return limits


class Generation:
    """A request from its admission to its `Finished`. `reason` is None while it runs."""

    def __init__(self, request: GenRequest, handle: Handle, max_new: int, vocab: int) -> None:
        self.request, self.handle, self.max_new, self.vocab = request, handle, max_new, vocab
        self.prompt = list(request.prompt_ids)
        self.submitted = time.monotonic()
        self.started = 0.0
        self.first_token = 0.0
        self.tokens: list[int] = []
        self.fresh: list[tuple[int, TokenLogprob | None]] = []  # sampled, not yet published
        self.embeddings: list[Any] = []  # of its images
        self.cached = 0
        self.reason: FinishReason | None = None
        self.error: Exception | None = None
        self.job: Any = None  # the generator's object
        self._sampler = Sampler(request, vocab, self.prompt)
        self._ahead = _Ahead(request.mask, vocab) if request.mask is not None else None

    @property
    def left(self) -> int:
        """Tokens it may still generate."""
        return self.max_new - len(self.tokens)

    def sample(self, row: Tensor) -> int:
        """The next token from `row`, float logits [at least vocab]; once it has ended, any token."""
        if self.reason is not None:
            return 0
        try:
            return self._sample(row[: self.vocab].detach().to("cpu", torch.float32).numpy())
        except Exception as error:
            self.reason, self.error = "error", error
            return 0

    def _sample(self, row: Any) -> int:
        request, mask = self.request, self.request.mask
        token = self._sampler.choose(row, self._ahead)
        self._sampler.accept(token)
        score = None if request.logprobs is None else logprob(row, token, request.logprobs)
        if mask is not None:
            if not mask.accept(token):
                raise DeadEnd(f"The grammar refused token {token} that it had allowed.")
            if mask.terminated:
                self.reason = "stop"
            else:
                self._ahead = _Ahead(mask, self.vocab)
        if not self.tokens:
            self.first_token = time.monotonic()
        self.tokens.append(token)
        self.fresh.append((token, score))
        if token in request.stop_ids:
            self.reason = "stop"
        elif self.reason is None and self.left <= 0:
            self.reason = "length"
        return token

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

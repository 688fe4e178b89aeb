"""The one sampler of the engines that sample for themselves: one token out of a row of logits, in numpy.

Order: repetition, presence and frequency penalties and DRY; logit_bias; the grammar's bitmask; temperature; top_k;
top_p; min_p; the draw. Presence and frequency count what was generated, not the prompt. Log probabilities are of the
raw logits, before all of that. Every request draws one number per token from its own generator, so the same seed gives
the same tokens whoever shares the batch.

A request that names tokens that say nothing (`GenRequest.blank`) is not ended before one that says something: a small
model answers a prompt of 14,000 tokens with nothing but its end. That holds for `BLANKS` tokens, and where the grammar
or a bias leaves anything else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skilldeck_daemon.engine.base import GenRequest, TokenLogprob
from skilldeck_shared.errors import SkilldeckError

Row = NDArray[np.float32]
_LIKELY = 1e-4
"""Beside the likeliest token: those at least so likely nearly always hold the nucleus, and only they are sorted (0.13
ms for a token of 150,000, where finding the 1,024 likeliest took 1.3); where they do not, everything is."""
_BLOCK = 512
_DRY_RANGE = 2048
_DRY_LONGEST = 64
BLANKS = 8
"""Tokens that say nothing, after which a request may end all the same."""


class DeadEnd(SkilldeckError):
    """The grammar allows no token at all."""

    code = "grammar_dead_end"


class Sampler:
    """The sampling state of one request: its generator and the tokens that penalties look at."""

    def __init__(self, request: GenRequest, vocab: int, prompt: Sequence[int]) -> None:
        """`prompt`: the request's without places of images."""
        self._sampling = s = request.sampling
        self._vocab = vocab
        self._greedy = s.temperature < 1e-5
        self._random = random.Random(s.seed)
        self._counts: dict[int, int] | None = {} if s.presence_penalty or s.frequency_penalty else None
        self._seen: set[int] | None = set(prompt) if s.repetition_penalty != 1.0 else None
        self._history: list[int] | None = list(prompt) if s.dry_multiplier > 0 else None
        bias = {token: value for token, value in s.logit_bias.items() if 0 <= token < vocab}
        self._bias = (np.array(list(bias)), np.array(list(bias.values()), np.float32)) if bias else None
        self._edits = bool(bias) or any(x is not None for x in (self._counts, self._seen, self._history))
        self._bits: NDArray[np.int32] | None = None
        self._blank, self._blanks_left = request.blank, BLANKS if request.blank else 0
        self._ends = np.array(sorted(token for token in request.stop_ids if 0 <= token < vocab), np.int64)

    def choose(self, row: Row, mask: Any = None) -> int:
        """The next token by a row of logits [vocab], which is left as it is. Raises DeadEnd, and what `mask` raises."""
        if self._edits:
            row = self._edited(row.copy())
        allowed = self._allowed(mask) if mask is not None else None
        if self._blanks_left:
            unended = row.copy()
            unended[self._ends] = -np.inf
            left = unended if allowed is None else unended[allowed]
            row = unended if left.size and left.max() > -np.inf else row
        if allowed is not None:
            values = row[allowed]
            # a bias of -inf may forbid what the grammar leaves
            if not values.size or values.max() == -np.inf:
                raise DeadEnd("The grammar allows no token that the model knows.")
            return int(allowed[self._pick(values)])
        return self._pick(row)

    def accept(self, token: int) -> None:
        """The request continues with `token`."""
        if self._blanks_left:
            self._blanks_left = self._blanks_left - 1 if token in self._blank else 0
        if self._counts is not None:
            self._counts[token] = self._counts.get(token, 0) + 1
        if self._seen is not None:
            self._seen.add(token)
        if self._history is not None:
            self._history.append(token)

    def _edited(self, row: Row) -> Row:
        s = self._sampling
        if self._seen:
            ids = np.fromiter(self._seen, np.int64, len(self._seen))
            values = row[ids]
            row[ids] = np.where(values > 0, values / s.repetition_penalty, values * s.repetition_penalty)
        if self._counts:
            ids = np.fromiter(self._counts.keys(), np.int64, len(self._counts))
            counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            row[ids] -= s.frequency_penalty * counts + s.presence_penalty
        if self._history is not None:
            for token, length in _repeats(self._history, s.dry_allowed_length).items():
                if token < self._vocab:
                    row[token] -= s.dry_multiplier * s.dry_base ** (length - s.dry_allowed_length)
        if self._bias is not None:
            row[self._bias[0]] += self._bias[1]
        return row

    def _allowed(self, mask: Any) -> NDArray[np.int64] | None:
        """The ids a mask allows, None when it allows all."""
        if self._bits is None:
            self._bits = np.empty((1, (self._vocab + 31) // 32), np.int32)
        if not mask.fill(self._bits, 0):
            return None
        bits = np.unpackbits(self._bits[0].view(np.uint8), bitorder="little")[: self._vocab]
        return np.flatnonzero(bits)

    def _pick(self, row: Row) -> int:
        """The place in `row` that is chosen."""
        if self._greedy:
            return int(row.argmax())
        draw, s = self._random.random(), self._sampling
        scaled = row / np.float32(s.temperature)
        scaled -= scaled.max()
        odds = np.exp(scaled, out=scaled)  # beside the likeliest, whose are 1
        if s.top_p >= 1.0 and s.min_p <= 0.0 and not s.top_k:
            return _point(odds, draw)
        order = self._kept(odds)
        return int(order[_point(odds[order], draw)])

    def _kept(self, odds: Row) -> NDArray[np.int64]:
        """The places that top_k, top_p and min_p leave, likeliest first; at least one."""
        s = self._sampling
        if s.top_k:
            likely = np.sort(_greatest(odds, s.top_k))
            reach = float(odds[likely].sum()) * s.top_p
        else:
            likely = np.flatnonzero(odds >= max(s.min_p, _LIKELY))
            reach = float(odds.sum()) * s.top_p
            if s.min_p < _LIKELY and float(odds[likely].sum()) < reach:
                likely = np.arange(odds.size)
        order = likely[np.argsort(-odds[likely], kind="stable")]
        found = odds[order].astype(np.float64)
        keep = (np.cumsum(found) - found < reach) if s.top_p < 1.0 else np.ones(found.shape, bool)
        if s.min_p > 0:
            keep &= found >= s.min_p * found[0]
        return order[: max(1, int(keep.sum()))]


def _greatest(values: NDArray[Any], count: int) -> NDArray[np.int64]:
    """The places of the `count` greatest values, in no order."""
    return np.argpartition(values, -count)[-count:] if count < values.size else np.arange(values.size)


def _point(weights: Row, draw: float) -> int:
    """Inverse of the cumulative distribution; a weight of 0 is never picked.

    By blocks first: the sums of 150,000 numbers one by one take 1.3 ms, those of blocks 0.03.
    """
    if weights.size > 2 * _BLOCK:
        sums = np.cumsum(np.add.reduceat(weights, np.arange(0, weights.size, _BLOCK)), dtype=np.float64)
        point = draw * sums[-1]
        block = min(int(np.searchsorted(sums, point, side="right")), int(np.flatnonzero(sums < sums[-1]).size))
        begin = block * _BLOCK
        inside = weights[begin : begin + _BLOCK]
        return begin + _place(inside, point - (sums[block - 1] if block else 0.0))
    return _place(weights, draw * float(weights.sum(dtype=np.float64)))


def _place(weights: Row, point: float) -> int:
    sums = np.cumsum(weights, dtype=np.float64)
    place = int(np.searchsorted(sums, point, side="right"))
    return place if place < sums.size else int(np.flatnonzero(weights)[-1])


def _repeats(history: list[int], allowed: int) -> dict[int, int]:
    """For each token that would continue a repetition: how long the repeated sequence already is."""
    tail = history[-_DRY_RANGE:]
    last = len(tail) - 1
    found: dict[int, int] = {}
    for i in range(last - 1, -1, -1):
        if tail[i] != tail[last]:
            continue
        length = 1
        while length < min(_DRY_LONGEST, i + 1) and tail[i - length] == tail[last - length]:
            length += 1
        if length >= allowed:
            found[tail[i + 1]] = max(found.get(tail[i + 1], 0), length)
    return found


def logprob(row: Row, token: int, top: int) -> TokenLogprob:
    """The log probability of `token` under the raw logits `row` [vocab], and the `top` likeliest tokens."""
    values = row.astype(np.float64)
    values -= values.max()
    norm = float(np.log(np.exp(values).sum()))
    best: tuple[tuple[int, float], ...] = ()
    if top:
        order = _greatest(values, top)
        order = order[np.argsort(-values[order], kind="stable")]
        best = tuple((int(index), float(values[index]) - norm) for index in order)
    return TokenLogprob(token, float(values[token]) - norm, best)

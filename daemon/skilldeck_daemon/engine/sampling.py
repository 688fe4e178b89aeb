"""The one sampler of the engines that sample in torch: logits in, one token id per request out.

Order: repetition, presence and frequency penalties and DRY; logit_bias; the grammar's bitmask; temperature; top_k;
top_p; min_p; the draw. Log probabilities are of the raw logits, before all of that. Every request draws one number
per token from its own generator, so the same seed gives the same tokens whoever shares the batch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from skilldeck_daemon.engine.base import Sampling, TokenLogprob
from skilldeck_shared.errors import SkilldeckError

# Sorting 150,000 logits costs 10 ms a row; the nucleus nearly always lies in so many of them (checked, then exact).
_HEADS = (64, 1024)
_DRY_RANGE = 2048
_DRY_LONGEST = 64
_ALWAYS = -float("inf")


class DeadEnd(SkilldeckError):
    """The grammar allows no token at all."""

    code = "grammar_dead_end"


class RequestSampler:
    """The sampling state of one request: its generator and the tokens that penalties look at."""

    def __init__(self, sampling: Sampling, vocab: int, prompt: Sequence[int]) -> None:
        self.sampling = sampling
        self.vocab = vocab
        self.greedy = sampling.temperature < 1e-5
        self._random = random.Random(sampling.seed)
        s = sampling
        self._counts: Tensor | None = None  # of generated tokens
        if s.presence_penalty or s.frequency_penalty:
            self._counts = torch.zeros(vocab)
        self._seen: Tensor | None = None  # prompt and generated
        if s.repetition_penalty != 1.0:
            self._seen = torch.zeros(vocab, dtype=torch.bool)
            self._seen[torch.tensor([token for token in prompt if token < vocab], dtype=torch.long)] = True
        self._history: list[int] | None = list(prompt) if s.dry_multiplier > 0 else None
        self._bias: tuple[Tensor, Tensor] | None = None
        bias = {token: value for token, value in s.logit_bias.items() if 0 <= token < vocab}
        if bias:
            self._bias = (torch.tensor(list(bias)), torch.tensor([float(value) for value in bias.values()]))
        self.edits = any(x is not None for x in (self._counts, self._seen, self._history, self._bias))

    def edit(self, row: Tensor) -> None:
        """Apply penalties and bias to `row` [vocab] in place."""
        s = self.sampling
        if self._seen is not None:
            penalty = s.repetition_penalty
            row.copy_(torch.where(self._seen, torch.where(row > 0, row / penalty, row * penalty), row))
        if self._counts is not None:
            row -= s.frequency_penalty * self._counts + s.presence_penalty * (self._counts > 0)
        if self._history is not None:
            for token, length in _repeats(self._history, s.dry_allowed_length).items():
                if token < self.vocab:
                    row[token] -= s.dry_multiplier * s.dry_base ** (length - s.dry_allowed_length)
        if self._bias is not None:
            row[self._bias[0]] += self._bias[1]

    def accept(self, token: int) -> None:
        """The request continues with `token`."""
        if self._counts is not None:
            self._counts[token] += 1
        if self._seen is not None:
            self._seen[token] = True
        if self._history is not None:
            self._history.append(token)

    def draw(self) -> float:
        """The next number in [0, 1)."""
        return self._random.random()


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


def apply_bitmask(logits: Tensor, bitmask: Tensor) -> None:
    """Set the logits [n, vocab] whose bit in `bitmask` int32 [n, ceil(vocab / 32)] is 0 to -inf, in place."""
    bits = torch.arange(32, dtype=torch.int32, device=logits.device)
    allowed = ((bitmask.to(logits.device).unsqueeze(-1) >> bits) & 1).flatten(1)[:, : logits.shape[1]]
    logits.masked_fill_(allowed == 0, _ALWAYS)


def choose(logits: Tensor, samplers: Sequence[RequestSampler]) -> list[int]:
    """One token id for each row of `logits` float32 [n, vocab], which already carry penalties, bias and mask."""
    if all(sampler.greedy for sampler in samplers):
        return logits.argmax(-1).tolist()
    chosen = [0] * len(samplers)
    greedy, plain, filtered = [], [], []
    for i, sampler in enumerate(samplers):
        s = sampler.sampling
        if sampler.greedy:
            greedy.append(i)
        elif s.top_p < 1.0 or s.min_p > 0.0 or s.top_k > 0:
            filtered.append(i)
        else:
            plain.append(i)
    if greedy:
        for i, token in zip(greedy, logits[greedy].argmax(-1).tolist(), strict=True):
            chosen[i] = token
    if plain:
        scaled = logits[plain] / _column([samplers[i].sampling.temperature for i in plain], logits)
        draws = [samplers[i].draw() for i in plain]
        for i, token in zip(plain, _pick(torch.softmax(scaled, -1), draws).tolist(), strict=True):
            chosen[i] = token
    for i in filtered:  # row by row: how much of the vocabulary must be sorted differs between them
        chosen[i] = _filtered(logits[i], samplers[i])
    return chosen


def _column(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(1)


def _pick(probs: Tensor, draws: list[float]) -> Tensor:
    """Inverse of the cumulative distribution; a token of probability 0 is never picked."""
    sums = probs.cumsum(-1, dtype=torch.float64)
    points = torch.tensor(draws, dtype=torch.float64, device=probs.device).unsqueeze(1) * sums[:, -1:]
    return torch.searchsorted(sums, points, right=True).squeeze(1).clamp_max(probs.shape[1] - 1)


def _filtered(row: Tensor, sampler: RequestSampler) -> int:
    s = sampler.sampling
    vocab = row.shape[0]
    scaled = row / s.temperature
    draw = sampler.draw()
    if s.top_k > 0:
        values, ids = scaled.topk(min(s.top_k, vocab))
        return _must(_nucleus(values, ids, values.logsumexp(0), s, draw, whole=True))
    # Without top_k the probabilities are of the whole vocabulary, even when only its head is sorted.
    norm = scaled.logsumexp(0)
    for size in _HEADS:
        if size >= vocab:
            break
        values, ids = scaled.topk(size)
        token = _nucleus(values, ids, norm, s, draw, whole=False)
        if token is not None:
            return token
    values, ids = scaled.sort(descending=True)
    return _must(_nucleus(values, ids, norm, s, draw, whole=True))


def _must(token: int | None) -> int:
    assert token is not None, "the whole vocabulary holds the nucleus"
    return token


def _nucleus(values: Tensor, ids: Tensor, norm: Tensor, s: Sampling, draw: float, whole: bool) -> int | None:
    """The token that `draw` means among `values`, sorted logits, best first; None when the nucleus may reach beyond
    them and they are not the `whole`."""
    if values.shape[0] > _HEADS[0]:
        return _nucleus_of_many(values, ids, norm, s, draw, whole)
    # A few dozen numbers: plain Python needs a tenth of the time of twenty tensor operations.
    log_norm = float(norm)
    kept: list[float] = []
    total = 0.0
    for value in values.tolist():
        probability = math.exp(value - log_norm)
        if kept and (total >= s.top_p or probability < s.min_p * kept[0]):
            break
        kept.append(probability)
        total += probability
    else:
        if not whole:
            return None
    point = draw * total
    for place, probability in enumerate(kept):
        point -= probability
        if point < 0:
            return int(ids[place])
    return int(ids[max(place for place, probability in enumerate(kept) if probability > 0)])


def _nucleus_of_many(values: Tensor, ids: Tensor, norm: Tensor, s: Sampling, draw: float, whole: bool) -> int | None:
    probs = (values - norm).exp()
    keep = probs.cumsum(0) - probs < s.top_p if s.top_p < 1.0 else torch.ones_like(probs, dtype=torch.bool)
    if s.min_p > 0:
        keep &= probs >= s.min_p * probs[0]
    keep[0] = True
    if not whole and bool(keep[-1]):
        return None
    return int(ids[_pick((probs * keep).unsqueeze(0), [draw])[0]])


def logprob(row: Tensor, token: int, top: int) -> TokenLogprob:
    """The log probability of `token` under the raw logits `row` [vocab], and the `top` likeliest tokens."""
    values = torch.log_softmax(row.float(), -1)
    best: tuple[tuple[int, float], ...] = ()
    if top:
        numbers, ids = values.topk(min(top, values.shape[0]))
        best = tuple(zip(ids.tolist(), numbers.tolist(), strict=True))
    return TokenLogprob(token, float(values[token]), best)

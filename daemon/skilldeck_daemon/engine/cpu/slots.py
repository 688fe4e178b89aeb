"""Key/value memory of a batch of requests on one device, and which request owns which row of it.

`SlotCache` holds, for every layer, keys and values of `rows` sequences of up to `context` tokens. `SlotTable` decides:
a finished sequence stays in its row until the row is needed (least recently used first), so that the next prompt that
begins with the same tokens computes only what is new, and a prompt may also copy its prefix from a row that another
request is still writing. Decoding requests always own rows 0..n-1, because attention over adjacent rows is a view
and over scattered rows a copy of the whole cache at every step; keeping them adjacent costs one copy a request.

Rows never mix: a prefix is reused only under the same `salt`. Nothing here is thread-safe; one thread owns it.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from skilldeck_daemon.engine.prefix import common_prefix


@dataclass(frozen=True)
class LayerShape:
    """Heads and widths of one layer's keys and values."""

    k_heads: int
    k_dim: int
    v_heads: int
    v_dim: int

    @property
    def width(self) -> int:
        """Numbers stored for one token."""
        return self.k_heads * self.k_dim + self.v_heads * self.v_dim


def bytes_per_token(shapes: Sequence[LayerShape], dtype: torch.dtype) -> int:
    return sum(shape.width for shape in shapes) * dtype.itemsize


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeroed memory that costs nothing until it is touched (anonymous pages); zero, because masked NaN stays NaN."""
    count = 1
    for size in shape:
        count *= size
    pages = mmap.mmap(-1, max(count * dtype.itemsize, mmap.PAGESIZE))
    return torch.frombuffer(pages, dtype=dtype, count=count).view(shape)


class SlotCache:
    """`k[layer]` and `v[layer]`: [rows, heads, context, dim]."""

    def __init__(self, shapes: Sequence[LayerShape], rows: int, context: int, dtype: torch.dtype) -> None:
        self.rows, self.context, self.dtype = rows, context, dtype
        self.k = [_zeros((rows, shape.k_heads, context, shape.k_dim), dtype) for shape in shapes]
        self.v = [_zeros((rows, shape.v_heads, context, shape.v_dim), dtype) for shape in shapes]

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Make the first `tokens` tokens of row `target` those of `source`."""
        for store in (self.k, self.v):
            for layer in store:
                layer[target, :, :tokens] = layer[source, :, :tokens]

    def swap(self, a: int, a_tokens: int, b: int, b_tokens: int) -> None:
        """Exchange two rows of which `a_tokens` and `b_tokens` tokens are in use."""
        if not a_tokens or not b_tokens:
            self.copy(*((b, a, b_tokens) if b_tokens else (a, b, a_tokens)))
            return
        for store in (self.k, self.v):
            for layer in store:
                kept = layer[a, :, :a_tokens].clone()
                layer[a, :, :b_tokens] = layer[b, :, :b_tokens]
                layer[b, :, :a_tokens] = kept


@dataclass
class Slot:
    """One row: the tokens whose keys and values it holds, and the request that owns it, None when it is free."""

    row: int
    tokens: list[int] = field(default_factory=list)
    salt: str = ""
    owner: Any = None
    used: int = 0


class SlotTable:
    """Who owns which row. `decoding` rows come first; then rows that prefill; free rows keep their tokens."""

    def __init__(self, cache: SlotCache) -> None:
        self.cache = cache
        self.slots = [Slot(row) for row in range(cache.rows)]
        self.decoding = 0
        self._clock = 0

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

    def claim(self, prompt: list[int], salt: str, owner: Any) -> tuple[Slot, int]:
        """A row for this prompt and how many of its tokens it already holds; at least one is left to compute.

        There must be a free row. A free row is taken over when the prompt continues most of what it holds;
        otherwise the prefix is copied into the least recently used one, so that a branch does not destroy the trunk.
        """
        free = [slot for slot in self.slots if slot.owner is None]
        best, reuse = None, 0
        for slot in self.slots:
            if slot.tokens and slot.salt == salt:
                length = min(common_prefix(slot.tokens, prompt), len(prompt) - 1)
                if length > reuse:
                    best, reuse = slot, length
        if best is not None and best.owner is None and (2 * reuse >= len(best.tokens) or len(free) == 1):
            target = best
        else:
            candidates = [slot for slot in free if slot is not best]
            target = min(candidates, key=lambda slot: (bool(slot.tokens), slot.used, slot.row))
            if best is not None:
                self.cache.copy(best.row, target.row, reuse)
        target.tokens = prompt[:reuse]
        target.salt, target.owner, target.used = salt, owner, self._tick()
        return target, reuse

    def promote(self, slot: Slot) -> None:
        """The slot finished its prefill and decodes from now on."""
        self._move(slot, self.decoding)
        self.decoding += 1

    def release(self, slot: Slot) -> None:
        """The request is over; its tokens stay for reuse."""
        if slot.row < self.decoding:
            self.decoding -= 1
            self._move(slot, self.decoding)
        slot.owner, slot.used = None, self._tick()

    def forget(self) -> None:
        """Drop everything that is retained or owned (after a failed step its contents cannot be trusted)."""
        self.decoding = 0
        for slot in self.slots:
            slot.tokens, slot.owner, slot.used = [], None, 0

    def _move(self, slot: Slot, row: int) -> None:
        other = self.slots[row]
        if other is slot:
            return
        self.cache.swap(slot.row, len(slot.tokens), row, len(other.tokens))
        self.slots[slot.row], self.slots[row] = other, slot
        slot.row, other.row = row, slot.row

    @property
    def live_tokens(self) -> int:
        """Tokens of owned rows."""
        return sum(len(slot.tokens) for slot in self.slots if slot.owner is not None)

"""Any full-attention causal model of transformers over a `SlotCache`, behind the calls of `LlamaDecoder`.

transformers is imported when a `HfDecoder` is made, not with this module: its modelling code costs seconds. A model
whose code treats our per-row positions or 4-D mask differently from its own is found out at load (`verify`), not by
wrong text later.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skilldeck_daemon.engine.cpu.slots import LayerShape, SlotCache
from skilldeck_shared.errors import BadRequest


class _View:
    """What transformers' attention layers see as their cache: the rows and the places of one step."""

    is_compileable = False
    layers: tuple[Any, ...] = ()

    def __init__(self, cache: SlotCache | None) -> None:
        self.cache = cache
        self.row = 0
        self.start = 0
        self.places: Tensor | None = None  # decoding: one place a row; None: a chunk of one row
        self.end = 0
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}  # without a cache: the shapes, for sizing one

    def update(self, k: Tensor, v: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values [rows, heads, tokens, dim] and give back all of the rows'."""
        if self.cache is None:
            self.seen[layer_idx] = (k, v)
            return k, v
        keys, values = self.cache.k[layer_idx], self.cache.v[layer_idx]
        if self.places is None:
            rows = slice(self.row, self.row + 1)
            keys[rows, :, self.start : self.end] = k
            values[rows, :, self.start : self.end] = v
            return keys[rows, :, : self.end], values[rows, :, : self.end]
        index = torch.arange(len(self.places))
        keys[index, :, self.places], values[index, :, self.places] = k[:, :, 0], v[:, :, 0]
        return keys[: len(index), :, : self.end], values[: len(index), :, : self.end]

    def get_seq_length(self, *_: Any) -> int:
        return self.start

    def get_query_offset(self, *_: Any) -> int:
        return self.start

    def get_mask_sizes(self, *_: Any) -> tuple[int, int]:
        return self.end, 0

    def __len__(self) -> int:
        return len(self.cache.k) if self.cache is not None else 0


class HfDecoder:
    """`prefill` computes one row's next tokens, `decode` one token for each of rows 0..n-1. Not thread-safe."""

    def __init__(self, folder: Path, context: int, dtype: torch.dtype) -> None:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        self.model = model.eval()
        self.context, self.dtype = context, dtype
        self.vocab = int(self.model.get_output_embeddings().weight.shape[0])
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        known = inspect.signature(self.model.forward).parameters
        self._keeps = "logits_to_keep" in known
        self._cache_name = "cache" if "cache" in known else "past_key_values"  # its older name

    def shapes(self) -> list[LayerShape]:
        """Found by one forward pass: configs name their head counts in too many ways."""
        view = _View(None)
        view.end = 1
        self._run(
            view, torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, 1), 1
        )
        count = len(view.seen)
        return [
            LayerShape(k.shape[1], k.shape[3], v.shape[1], v.shape[3]) for k, v in (view.seen[i] for i in range(count))
        ]

    def verify(self, cache: SlotCache) -> None:
        """Compare chunked prefill and ragged decoding with the model's own forward; BadRequest on a difference."""
        ids = torch.randint(0, self.vocab, (14,), generator=torch.Generator().manual_seed(7)).tolist()
        with torch.inference_mode():
            expected = self.model(torch.tensor([ids]), use_cache=False).logits[0].float()
        self.prefill(cache, 0, ids[:5], 0, 0)
        middle = self.prefill(cache, 0, ids[5:11], 5, 3)
        self.prefill(cache, 1, ids[:6], 0, 0)
        got = torch.cat([middle, self.decode(cache, [ids[11], ids[6]], [11, 6])])
        scale = float(expected.abs().max()) + 1e-6
        error = float((got - expected[[8, 9, 10, 11, 6]]).abs().max()) / scale
        if not error < (1e-3 if self.dtype == torch.float32 else 0.08):
            kind = self.model.config.model_type
            raise BadRequest(
                f"The CPU engine computes {kind} models wrongly (relative error {error:.2g} in its self-test).",
                "Serve this model with another server and use --engine remote.",
                param="model",
            )

    def prefill(self, cache: SlotCache, row: int, ids: Sequence[int], start: int, keep: int) -> Tensor:
        """Compute tokens `start`… of `row`; the logits of the last `keep` of them, float32 [keep, vocab]."""
        view = _View(cache)
        view.row, view.start, view.end = row, start, start + len(ids)
        allowed = torch.ones(1, len(ids), view.end).tril(start)
        places = torch.arange(start, view.end).unsqueeze(0)
        # transformers reads a 0 as "all".
        logits = self._run(view, torch.tensor([list(ids)]), places, allowed, max(keep, 1))[0]
        return logits[len(logits) - keep :].float()

    def decode(self, cache: SlotCache, ids: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """One more token for rows 0..n-1, which hold `lengths` tokens; logits float32 [n, vocab]."""
        view = _View(cache)
        view.places = torch.tensor(lengths)
        view.start, view.end = max(lengths), max(lengths) + 1
        positions = view.places.unsqueeze(1)
        allowed = (torch.arange(view.end) <= positions).unsqueeze(1)
        return self._run(view, torch.tensor(ids).unsqueeze(1), positions, allowed, 1)[:, -1].float()

    @torch.inference_mode()
    def _run(self, view: _View, ids: Tensor, positions: Tensor, allowed: Tensor, keep: int) -> Tensor:
        # An additive mask, because eager and SDPA attention both take one.
        mask = torch.zeros(allowed.shape, dtype=self.dtype).masked_fill_(allowed == 0, torch.finfo(self.dtype).min)
        more: dict[str, Any] = {self._cache_name: view}
        if self._keeps:
            more["logits_to_keep"] = keep
        out = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask.unsqueeze(1),
            use_cache=True,
            **more,
        )
        return out.logits  # type: ignore[no-any-return]

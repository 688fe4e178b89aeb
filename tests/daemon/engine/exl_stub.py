"""exllamav2's real dynamic generator on CPU: its compiled extension stubbed, and a small model under it.

The generator, its page table, its cache and our adapter are the real ones; only matrix arithmetic is ours (the CPU
engine's Llama forward, with its keys and values in exllamav2's pages and the attention that the adapter installed).
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.engine.exllama.engine import ExllamaEngine
from skilldeck_daemon.engine.exllama.options import ExlOptions
from skilldeck_daemon.engine.exllama.v2 import PAGE, Exllamav2, library


def exllamav2_missing() -> str:
    """Why the tests with the real generator cannot run, "" when they can."""
    return (
        "" if importlib.util.find_spec("exllamav2") else "exllamav2 is not installed (pip install --no-deps exllamav2)"
    )


def _count_match(a: Any, b: Any, limit: int) -> int:
    length = min(limit, a.shape[-1], b.shape[-1])
    differs = (a[0, :length] != b[0, :length]).nonzero()
    return int(differs[0]) if len(differs) else length


def _cache_rotate(pages: Any, order: Any, spare: Any) -> None:
    rows = order.tolist()
    kept = pages[rows[0]].clone()
    for target, source in itertools.pairwise(rows):
        pages[target] = pages[source]
    pages[rows[-1]] = kept


def _sample_basic(logits: Any, *rest: Any) -> list[float]:
    """Greedy, whatever is asked: the benchmark's raw arm asks for nothing else."""
    tokens, probabilities = rest[8], rest[9]
    best = logits[:, 0].float().softmax(-1).max(-1)
    tokens[:, 0], probabilities[:, 0] = best.indices, best.values
    return []


def stub_extension() -> types.ModuleType:
    """The few functions of `exllamav2_ext` that the generator itself calls."""
    stub = types.ModuleType("exllamav2_ext")
    stub.count_match = _count_match
    stub.cache_rotate = _cache_rotate
    stub.sample_basic = _sample_basic
    return stub


class SmallModel:
    """What the generator asks of a model: `config`, `cache_map`, `forward_chunk`."""

    def __init__(self, folder: Path, context: int) -> None:
        import torch
        from safetensors.torch import load_file

        from skilldeck_daemon.engine.cpu.llama import LlamaDecoder
        from skilldeck_daemon.engine.cpu.loading import read_config

        weights = {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}
        self.decoder = decoder = LlamaDecoder(read_config(folder), weights.get, context, torch.float32)
        self.cache_map = {layer: "cpu" for layer in range(len(decoder.layers))}
        lm = types.SimpleNamespace(mrope=False)
        self.config = types.SimpleNamespace(
            vocab_size=decoder.vocab,
            max_seq_len=context,
            max_input_len=2048,
            max_batch_size=1,
            no_flash_attn=False,
            num_hidden_layers=len(decoder.layers),
            num_key_value_heads=decoder.kv_heads,
            head_dim=decoder.dim,
            hidden_size=decoder.embedding.shape[1],
            arch=types.SimpleNamespace(lm=lm),
        )

    def forward_chunk(
        self,
        input_ids: Any,
        attn_params: Any,
        cache: Any,
        preprocess_only: bool = False,
        indexed_embeddings: Any = (),
        **_: Any,
    ) -> dict[str, Any]:
        import torch

        decoder = self.decoder
        rows, length = input_ids.shape
        seqlens, table = attn_params.cache_seqlens, attn_params.block_index
        places = seqlens.long().unsqueeze(1) + torch.arange(length)
        attend_paged = library("exllamav2.attn").flash_attn_with_kvcache

        def attend(layer: int, q: Any, k: Any, v: Any) -> Any:
            pages = (-1, PAGE, decoder.kv_heads, decoder.dim)
            out = attend_paged(
                q=q.reshape(rows, length, decoder.heads, decoder.dim),
                k=k.reshape(rows, length, decoder.kv_heads, decoder.dim),
                v=v.reshape(rows, length, decoder.kv_heads, decoder.dim),
                k_cache=cache.key_states[layer].view(pages),
                v_cache=cache.value_states[layer].view(pages),
                cache_seqlens=seqlens,
                block_table=table,
                causal=True,
                softmax_scale=decoder.dim**-0.5,
            )
            return out.reshape(rows * length, decoder.heads, decoder.dim)

        ids, words = input_ids.flatten().clone(), decoder.embedding
        for rows_of in dict.fromkeys(indexed_embeddings or ()):  # ids beyond the vocabulary stand for given rows
            inside = (ids >= rows_of.first_index) & (ids < rows_of.first_index + rows_of.length)
            ids[inside] += len(decoder.embedding) - rows_of.first_index
            decoder.embedding = torch.cat([decoder.embedding, rows_of.embeddings])
        hidden = decoder._forward(ids, decoder._rotation[places.flatten()], attend)
        decoder.embedding = words
        return {} if preprocess_only else {"logits": decoder._logits(hidden).view(rows, length, -1)}

    def unload(self) -> None:
        self.cache_map = {}


class CpuExllamav2(Exllamav2):
    """The backend with its device parts replaced: no CUDA to look for, and `SmallModel` for the model."""

    def import_library(self, progress: Any) -> None:
        library("exllamav2")

    def load_model(self, folder: Path, config: dict[str, Any], options: ExlOptions, progress: Any) -> Any:
        import torch

        model = SmallModel(folder, options.context)
        self.context, self.vocab = options.context, model.decoder.vocab
        self.parameters = model.decoder.parameters
        base = library("exllamav2.cache").ExLlamaV2CacheBase

        class Cache(base):
            def all_tensors(self) -> list[Any]:
                return self.key_states + self.value_states

        cache = Cache(model, 1, options.cache_tokens or 16 * PAGE, torch.float32, 1, 1, False)
        cache.create_state_tensors(None)
        return model, cache

    def _load_draft(self, folder: Path, cache: Any) -> Any:
        model, draft_cache = self.load_model(folder, {}, ExlOptions(context=self.context), None)
        return model, draft_cache


def install_exllamav2(patch: pytest.MonkeyPatch, folder: Path) -> ExllamaEngine:
    """An engine on the real generator, ready to load `folder`."""
    patch.setitem(sys.modules, "exllamav2_ext", stub_extension())
    return ExllamaEngine("exllamav2", CpuExllamav2())

"""exllamav2's real dynamic generator on CPU: its compiled extension stubbed, and a small model under it.

The generator, its page table, its cache and our adapter are the real ones; only matrix arithmetic is another's:
transformers' Llama, with its keys and values in exllamav2's pages and the attention that the adapter installed.
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


def _attend(layer: Any, q: Any, k: Any, v: Any, _mask: Any, pages: Any, **_: Any) -> tuple[Any, None]:
    """An attention of transformers; q, k, v are [rows, heads, tokens, dim] of the tokens that are new."""
    cache, seqlens, table = pages
    shape = (-1, PAGE, k.shape[1], k.shape[3])
    out = library("exllamav2.attn").flash_attn_with_kvcache(
        q=q.transpose(1, 2),
        k=k.transpose(1, 2),
        v=v.transpose(1, 2),
        k_cache=cache.key_states[layer.layer_idx].view(shape),
        v_cache=cache.value_states[layer.layer_idx].view(shape),
        cache_seqlens=seqlens,
        block_table=table,
        causal=True,
        softmax_scale=q.shape[3] ** -0.5,
    )
    return out, None


class SmallModel:
    """What the generator asks of a model: `config`, `cache_map`, `forward_chunk`."""

    def __init__(self, folder: Path, context: int) -> None:
        import torch
        from safetensors.torch import load_file
        from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

        AttentionInterface.register("paged by exllamav2", _attend)
        config = AutoConfig.from_pretrained(str(folder))
        made: Any = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation="paged by exllamav2"
        )
        # As exllamav2 does: whatever files of weights are there, with or without an index of them.
        made.load_state_dict(
            {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}
        )
        self.model = made.eval()
        self.vocab, self.parameters = config.vocab_size, self.model.num_parameters()
        self.cache_map = {layer: "cpu" for layer in range(config.num_hidden_layers)}
        lm = types.SimpleNamespace(mrope=False)
        self.config = types.SimpleNamespace(
            vocab_size=config.vocab_size,
            max_seq_len=context,
            max_input_len=2048,
            max_batch_size=1,
            no_flash_attn=False,
            num_hidden_layers=config.num_hidden_layers,
            num_key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            hidden_size=config.hidden_size,
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

        seqlens = attn_params.cache_seqlens
        ids, words = input_ids.clone(), self.model.get_input_embeddings().weight
        for rows in dict.fromkeys(indexed_embeddings or ()):  # ids beyond the vocabulary stand for given rows
            inside = (ids >= rows.first_index) & (ids < rows.first_index + rows.length)
            ids[inside] += len(words) - rows.first_index
            words = torch.cat([words, rows.embeddings])
        with torch.inference_mode():
            out = self.model(
                inputs_embeds=words[ids],
                position_ids=seqlens.long().unsqueeze(1) + torch.arange(ids.shape[1]),
                use_cache=False,
                pages=(cache, seqlens, attn_params.block_index),
            )
        return {} if preprocess_only else {"logits": out.logits}

    def unload(self) -> None:
        self.cache_map = {}


class CpuExllamav2(Exllamav2):
    """The backend with its device parts replaced: no CUDA to look for, and `SmallModel` for the model."""

    def import_library(self, progress: Any) -> None:
        library("exllamav2")

    def load_model(self, folder: Path, config: dict[str, Any], options: ExlOptions, progress: Any) -> Any:
        import torch

        model = SmallModel(folder, options.context)
        self.context, self.vocab, self.parameters = options.context, model.vocab, model.parameters
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

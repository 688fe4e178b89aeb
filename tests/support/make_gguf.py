"""A transformers folder of a Llama as a GGUF in float32, so that llama.cpp can be held to transformers' own tokens."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from training.gguf import encode, shape, tensors

Named = dict[str, Any]


def make_gguf(
    folder: Path, target: Path, architecture: str = "llama", parts: int = 1, more: Named | None = None
) -> Path:
    """Write the model in `folder` to `target`, with `more` metadata; with several parts the first of them is given
    back."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    meta = {"general.architecture": architecture, "general.name": folder.name, "general.file_type": 0}
    meta |= more or {}
    meta |= {f"{architecture}.{name}": value for name, value in shape(config).items()} | _tokenizer(folder, config)
    arrays = tensors(folder / "model.safetensors", config)
    if parts == 1:
        target.write_bytes(encode(meta, arrays))
        return target
    paths = [target.with_name(f"{target.stem}-{number:05}-of-{parts:05}.gguf") for number in range(1, parts + 1)]
    names = list(arrays)
    for number, path in enumerate(paths):
        split = {"split.no": number, "split.count": parts, "split.tensors.count": len(names)}
        mine = {name: arrays[name] for name in names[number::parts]}
        path.write_bytes(encode({**(meta if number == 0 else {}), **split}, mine))
    return paths[0]


def _tokenizer(folder: Path, config: Named) -> Named:
    path = folder / "tokenizer.json"
    if not path.exists():
        return {"tokenizer.ggml.model": "no_vocab"}
    spec = json.loads(path.read_text("utf-8"))
    tokens = [f"<unused{index}>" for index in range(config["vocab_size"])]
    kinds = [5] * len(tokens)
    for text, index in spec["model"]["vocab"].items():
        tokens[index], kinds[index] = text, 1
    for entry in spec["added_tokens"]:
        tokens[entry["id"]], kinds[entry["id"]] = entry["content"], 3
    template = folder / "chat_template.jinja"
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.bos_token_id": config["bos_token_id"],
        "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        **({"tokenizer.chat_template": template.read_text("utf-8")} if template.exists() else {}),
    }


_BERT = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def make_bert_gguf(model: Any, words: list[str], target: Path, pooling: int) -> Path:
    """Write a transformers BertModel, whose tokens are `words` (the first five [PAD], [UNK], [CLS], [SEP], [MASK])."""
    config = model.config
    meta = {
        "general.architecture": "bert",
        "general.name": target.stem,
        "general.file_type": 0,
        "bert.context_length": config.max_position_embeddings,
        "bert.embedding_length": config.hidden_size,
        "bert.block_count": config.num_hidden_layers,
        "bert.feed_forward_length": config.intermediate_size,
        "bert.attention.head_count": config.num_attention_heads,
        "bert.attention.layer_norm_epsilon": float(config.layer_norm_eps),
        "bert.attention.causal": False,
        "bert.pooling_type": pooling,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": [*words[:5], *(f"\u2581{word}" for word in words[5:])],
        "tokenizer.ggml.token_type": [3] * 5 + [1] * (len(words) - 5),
        "tokenizer.ggml.token_type_count": 2,
        **{
            f"tokenizer.ggml.{name}_token_id": index
            for index, name in enumerate(("padding", "unknown", "bos", "seperator", "mask"))
        },
    }
    arrays = {}
    for name, tensor in model.state_dict().items():
        stem, _, kind = name.rpartition(".")
        layer = re.match(r"encoder\.layer\.(\d+)\.", stem)
        known = _BERT.get(stem[layer.end() :] if layer else stem)
        if known and kind in ("weight", "bias"):
            arrays[f"blk.{layer[1]}.{known}.{kind}" if layer else f"{known}.{kind}"] = tensor.numpy()
    target.write_bytes(encode(meta, arrays))
    return target


def make_lora(target: Path, pairs: dict[str, tuple[Any, Any]], alpha: float) -> Path:
    """Write an adapter of a Llama: by the name of a tensor the matrices A (rank, inputs) and B (outputs, rank)."""
    meta = {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": alpha,
    }
    arrays = {}
    for name, (a, b) in pairs.items():
        arrays |= {f"{name}.lora_a": a, f"{name}.lora_b": b}
    target.write_bytes(encode(meta, arrays))
    return target

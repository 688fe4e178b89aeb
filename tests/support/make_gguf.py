"""A transformers folder of a Llama as a GGUF in float32, so that llama.cpp can be held to transformers' own tokens."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

Named = dict[str, Any]
_U32, _F32, _BOOL, _STRING, _ARRAY, _I32 = 4, 6, 7, 8, 9, 5
_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def make_gguf(folder: Path, target: Path, architecture: str = "llama", parts: int = 1) -> Path:
    """Write the model in `folder` to `target`; with several parts the first of them is what is given back."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    meta = {"general.architecture": architecture, "general.name": folder.name, "general.file_type": 0}
    meta |= {f"{architecture}.{name}": value for name, value in _shape(config).items()} | _tokenizer(folder, config)
    tensors = _tensors(folder, config)
    if parts == 1:
        target.write_bytes(encode(meta, tensors))
        return target
    paths = [target.with_name(f"{target.stem}-{number:05}-of-{parts:05}.gguf") for number in range(1, parts + 1)]
    names = list(tensors)
    for number, path in enumerate(paths):
        split = {"split.no": number, "split.count": parts, "split.tensors.count": len(names)}
        mine = {name: tensors[name] for name in names[number::parts]}
        path.write_bytes(encode({**(meta if number == 0 else {}), **split}, mine))
    return paths[0]


def _shape(config: Named) -> Named:
    return {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.value_length": config["head_dim"],
        "rope.dimension_count": config["head_dim"],
        "rope.freq_base": float((config.get("rope_parameters") or {}).get("rope_theta", 10000.0)),
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "vocab_size": config["vocab_size"],
    }


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


def _tensors(folder: Path, config: Named) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    found = {}
    for name, array in load_file(folder / "model.safetensors").items():
        if name.startswith("model.layers."):
            _, _, layer, *rest = name.removesuffix(".weight").split(".")
            ours = f"blk.{layer}.{_LAYER['.'.join(rest)]}.weight"
        else:
            ours = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}.get(
                name, "output.weight"
            )
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if part in name:  # llama.cpp turns neighbours, transformers the two halves
                count = config[heads]
                array = array.reshape(count, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        found[ours] = np.ascontiguousarray(array, np.float32)
    return found


def encode(meta: Named, tensors: dict[str, np.ndarray]) -> bytes:
    """The bytes of a GGUF of version 3."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta))
    head += b"".join(_text(name) + _value(value) for name, value in meta.items())
    data = b""
    for name, array in tensors.items():
        head += _text(name) + struct.pack("<I", array.ndim)
        head += b"".join(struct.pack("<Q", size) for size in reversed(array.shape))
        head += struct.pack("<IQ", 0, len(data))
        data += _padded(array.astype(np.float32).tobytes())
    return _padded(head) + data


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 32)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<IB", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _U32, value)
    if isinstance(value, float):
        return struct.pack("<If", _F32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    if value and isinstance(value[0], int):
        return struct.pack("<IIQ", _ARRAY, _I32, len(value)) + struct.pack(f"<{len(value)}i", *value)
    return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(_text(item) for item in value)

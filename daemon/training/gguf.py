"""A folder of Llama weights as a GGUF in float32, byte for byte the same each time. Needs numpy and nothing else.

llama.cpp's own pre-tokenizers do not cut text as our tokenizer does, so tokenizer.json goes along whole, under the
key the format has for it, and the daemon encodes with that.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Named = dict[str, Any]
Tensors = dict[str, NDArray[np.float32]]

_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_ORDINARY, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
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


def write(folder: Path, target: Path, template: str, name: str) -> Path:
    """Write the model in `folder` (Hugging Face's layout) to `target`, with a chat template; returns it."""
    config = _read(folder / "config.json")
    meta = {
        "general.architecture": "llama",
        "general.name": name,
        "general.license": "mit",
        "general.file_type": 0,
        **{f"llama.{key}": value for key, value in shape(config).items()},
        **_tokenizer(folder, config),
        "tokenizer.chat_template": template,
        **_generation(folder),
    }
    target.write_bytes(encode(meta, tensors(folder / "model.safetensors", config)))
    return target


def shape(config: Named) -> Named:
    """The hyperparameters of a Llama by GGUF's names, without the architecture."""
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
    text = (folder / "tokenizer.json").read_text("utf-8")
    spec = json.loads(text)
    tokens = [f"<unused{index}>" for index in range(config["vocab_size"])]
    kinds = [_UNUSED] * len(tokens)
    for token, index in spec["model"]["vocab"].items():
        tokens[index], kinds[index] = token, _ORDINARY
    for added in spec["added_tokens"]:
        tokens[added["id"]], kinds[added["id"]] = added["content"], _CONTROL if added["special"] else _USER_DEFINED
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [
            pair if isinstance(pair, str) else " ".join(pair) for pair in spec["model"]["merges"]
        ],
        "tokenizer.ggml.bos_token_id": config["bos_token_id"],
        "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.huggingface.json": text,
    }


def _generation(folder: Path) -> Named:
    """What generation_config.json asks for: GGUF has a key for the temperature, and none for the longest turn."""
    asked = _read(folder / "generation_config.json")
    greedy = {"general.sampling.temp": 0.0} if asked.get("do_sample") is False else {}
    return greedy | {f"skilldeck.{key}": asked[key] for key in ("max_new_tokens",) if key in asked}


def tensors(weights: Path, config: Named) -> Tensors:
    """The weights of a safetensors file by GGUF's names, in its order."""
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    found: Tensors = {}
    for name, array in _safetensors(weights):
        for part, count in heads.items():
            if part in name:  # llama.cpp turns neighbours, transformers the two halves
                array = array.reshape(count, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        if name not in _WHOLE:
            _, _, layer, *rest = name.removesuffix(".weight").split(".")
            found[f"blk.{layer}.{_LAYER['.'.join(rest)]}.weight"] = array
        else:
            found[_WHOLE[name]] = array
    return found


def _safetensors(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Names and float32 values. bfloat16 is the upper half of a float32, so nothing is rounded."""
    data = path.read_bytes()
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    for name, entry in json.loads(data[8:begin]).items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        raw = data[begin + first : begin + last]
        if entry["dtype"] == "BF16":
            array = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        elif entry["dtype"] == "F32":
            array = np.frombuffer(raw, "<f4")
        else:
            raise ValueError(f"{name} is of type {entry['dtype']}; BF16 and F32 are written.")
        yield name, array.reshape(entry["shape"])


def encode(meta: Named, arrays: Tensors) -> bytes:
    """The bytes of a GGUF of version 3."""
    head = [b"GGUF" + struct.pack("<IQQ", 3, len(arrays), len(meta))]
    head += [_text(name) + _value(value) for name, value in meta.items()]
    data, offset = [], 0
    for name, array in arrays.items():
        sizes = b"".join(struct.pack("<Q", size) for size in reversed(array.shape))
        head.append(_text(name) + struct.pack("<I", array.ndim) + sizes + struct.pack("<IQ", 0, offset))
        data.append(_padded(np.ascontiguousarray(array, "<f4").tobytes()))
        offset += len(data[-1])
    return b"".join((_padded(b"".join(head)), *data))


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
    if value and isinstance(value[0], float):
        return struct.pack("<IIQ", _ARRAY, _F32, len(value)) + struct.pack(f"<{len(value)}f", *value)
    return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(_text(item) for item in value)


def _read(path: Path) -> Named:
    found: Named = json.loads(path.read_text("utf-8"))
    return found

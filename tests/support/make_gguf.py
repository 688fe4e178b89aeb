"""A transformers folder of a Llama as a GGUF in float32, so that llama.cpp can be held to transformers' own tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.gguf import encode, shape, tensors

Named = dict[str, Any]


def make_gguf(folder: Path, target: Path, architecture: str = "llama", parts: int = 1) -> Path:
    """Write the model in `folder` to `target`; with several parts the first of them is what is given back."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    meta = {"general.architecture": architecture, "general.name": folder.name, "general.file_type": 0}
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

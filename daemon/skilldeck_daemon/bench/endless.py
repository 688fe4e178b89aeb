"""The bundled model without an end: a copy that writes plain words only, so that every request gets its fill of tokens.

It is the worst case for a server: the cheapest tokens there are, and each of them an event. What it says means nothing.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np

from skilldeck_daemon.bench.references import weights
from skilldeck_daemon.engine.llamacpp import gguf
from skilldeck_daemon.engine.models import registry

WORD = re.compile("Ġ?[a-z]+")


def write(target: Path) -> Path:
    """Write the copy to `target`, a GGUF; returns it."""
    file = gguf.read(registry.tiny_file())
    shutil.copyfile(file.path, target)
    size = max(tensor.offset + (tensor.size or 0) for tensor in file.tensors)
    begin = file.size - (size + 31) // 32 * 32
    embedding = next(tensor for tensor in file.tensors if tensor.name == "token_embd.weight")
    # It is the output layer as well, where a row of zeros scores 0, which is never the highest.
    rows = np.memmap(target, "<f4", "r+", begin + embedding.offset, embedding.shape[::-1])
    rows[_others(file.meta["tokenizer.huggingface.json"], len(rows))] = 0
    rows.flush()
    return target


def write_folder(folder: Path) -> Path:
    """The same as a folder of safetensors, in `folder` (created); returns it. Raises Absent, ImportError."""
    from safetensors.torch import load_file, save_file

    source = weights(registry.tiny_file())
    shutil.copytree(source, folder)
    shutil.copy(registry.tiny_file().with_name("chat_template.jinja"), folder)
    tensors = load_file(source / "model.safetensors")
    rows = tensors["model.embed_tokens.weight"]
    rows[_others((source / "tokenizer.json").read_text(encoding="utf-8"), len(rows))] = 0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _others(tokenizer: str, size: int) -> list[int]:
    """The ids that are no plain words."""
    words = {index for word, index in json.loads(tokenizer)["model"]["vocab"].items() if WORD.fullmatch(word)}
    return [index for index in range(size) if index not in words]

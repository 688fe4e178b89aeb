"""The bundled model without an end: a copy that writes plain words only, so that every request gets its fill of tokens.

It is the worst case for a server: the cheapest tokens there are, and each of them an event. What it says means nothing.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from skilldeck_daemon.engine import registry

WORD = re.compile("Ġ?[a-z]+")


def write(folder: Path) -> Path:
    """Make the copy in `folder` (created); returns it."""
    from safetensors.torch import load_file, save_file

    source = registry.tiny_dir()
    shutil.copytree(source, folder)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    words = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    weights = load_file(source / "model.safetensors")
    # An output layer of its own, where a row of zeros scores 0, which is never the highest.
    weights["lm_head.weight"] = head = weights["model.embed_tokens.weight"].clone()
    keep = {id for word, id in words.items() if WORD.fullmatch(word)}
    head[[id for id in range(len(head)) if id not in keep]] = 0
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}), encoding="utf-8")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder

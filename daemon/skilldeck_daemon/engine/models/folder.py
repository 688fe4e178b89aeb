"""What is asked of a model folder and of this machine before an engine is chosen; never imports torch on its own.

The daemon's process stays free of torch while its engines run in processes of their own.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from skilldeck_shared.errors import BadRequest, NotFound
from skilldeck_shared.json_types import JsonObject


def read_config(folder: Path) -> JsonObject:
    """config.json of a model folder; NotFound or BadRequest say what is missing."""
    try:
        text = (folder / "config.json").read_text("utf-8")
    except FileNotFoundError:
        raise NotFound(
            f"{folder} is no model folder: it has no config.json.",
            "Give a .gguf file, or a folder with one or with config.json, tokenizer.json and *.safetensors.",
            param="model",
        ) from None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise BadRequest(f"{folder / 'config.json'} is not JSON: {error}.", param="model") from None
    if not isinstance(config, dict) or not config.get("model_type"):
        raise BadRequest(f"{folder / 'config.json'} names no model_type.", param="model")
    return config


def usable(name: str) -> bool:
    """Whether the library is installed and this machine has a CUDA device; cheap where it has not."""
    if importlib.util.find_spec(name) is None or not (Path("/dev/nvidia0").exists() or Path("/dev/dxg").exists()):
        return False
    import torch

    return torch.cuda.is_available()

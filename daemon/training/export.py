"""Export: a checkpoint to a model folder (Hugging Face layout, bfloat16), and that to the GGUF the daemon ships."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from training import gguf
from training.model import Config, TinyLM, from_hugging_face, hugging_face_weights, restore

WEIGHTS = Path(__file__).with_name("weights")
"""The folder that the shipped GGUF was made of."""
PACKAGE = Path(__file__).resolve().parents[1] / "skilldeck_daemon" / "engine" / "tiny"
TEMPLATE = PACKAGE / "chat_template.jinja"
NAME = "skilldeck-tiny"
SHARPEN = 3.0  # the last norm is scaled by it: copying wants certainty, also when a client samples at temperature 1


def export(out: Path, folder: Path) -> None:
    """Write the model of `out/checkpoint.pt` to `folder`; each file is replaced whole, the weights last. The GGUF lies
    beside them, or in the package when `folder` is `WEIGHTS`."""
    model = restore(torch.load(out / "checkpoint.pt", map_location="cpu"))
    model.norm.data.mul_(SHARPEN)
    folder.mkdir(parents=True, exist_ok=True)
    template = TEMPLATE.read_text(encoding="utf-8")
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "add_bos_token": False,
        "model_max_length": model.config.context,
        "clean_up_tokenization_spaces": False,
        "chat_template": template,
    }
    # A turn of the contract has at most some 500 tokens; a copy that slips into a loop ends here, not at the context.
    generation = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 2, "do_sample": False, "max_new_tokens": 640}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fresh = Path(scratch)
        for name, content in (
            ("config.json", model.config.hugging_face()),
            ("generation_config.json", generation),
            ("tokenizer_config.json", described),
        ):
            (fresh / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        shutil.copy(out / "tokenizer.json", fresh / "tokenizer.json")
        if folder.resolve() != WEIGHTS:
            shutil.copy(TEMPLATE, fresh / "chat_template.jinja")
        save_file(hugging_face_weights(model), str(fresh / "model.safetensors"), metadata={"format": "pt"})
        os.chmod(fresh / "model.safetensors", 0o644)
        for file in sorted(fresh.iterdir(), key=lambda f: f.name == "model.safetensors"):
            file.replace(folder / file.name)
    pack(folder, PACKAGE / f"{NAME}.gguf" if folder.resolve() == WEIGHTS else folder / f"{NAME}.gguf")


def pack(folder: Path, target: Path) -> None:
    """Write an exported folder as a GGUF, whole or not at all."""
    fresh = gguf.write(folder, target.with_name(f".{target.name}"), TEMPLATE.read_text(encoding="utf-8"), NAME)
    fresh.replace(target)


def adopt(folder: Path, config: Config) -> TinyLM:
    """The model of an exported folder, to be trained further."""
    model = from_hugging_face(load_file(folder / "model.safetensors"), config)
    model.norm.data.div_(SHARPEN)
    return model

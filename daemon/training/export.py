"""Export: a checkpoint to the model folder that the daemon ships (Hugging Face layout, bfloat16)."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from training.model import Config, TinyLM, from_hugging_face, hugging_face_weights, restore

PACKAGE = Path(__file__).resolve().parents[1] / "skilldeck_daemon" / "engine" / "tiny"
TEMPLATE = PACKAGE / "chat_template.jinja"
SHARPEN = 3.0  # the last norm is scaled by it: copying wants certainty, also when a client samples at temperature 1


def export(out: Path, folder: Path) -> None:
    """Write the model of `out/checkpoint.pt` to `folder`; each file is replaced whole, the weights last."""
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
        if folder.resolve() != PACKAGE:
            shutil.copy(TEMPLATE, fresh / "chat_template.jinja")
        save_file(hugging_face_weights(model), str(fresh / "model.safetensors"), metadata={"format": "pt"})
        os.chmod(fresh / "model.safetensors", 0o644)
        for file in sorted(fresh.iterdir(), key=lambda f: f.name == "model.safetensors"):
            file.replace(folder / file.name)


def adopt(folder: Path, config: Config) -> TinyLM:
    """The model of an exported folder, to be trained further."""
    model = from_hugging_face(load_file(folder / "model.safetensors"), config)
    model.norm.data.div_(SHARPEN)
    return model

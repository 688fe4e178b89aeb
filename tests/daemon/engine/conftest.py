"""Models with random weights, folders and GGUF files, small enough to make on the spot, and what transformers says
they generate."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.make_gguf import make_gguf

# Threads that wait for each other at every operation crawl on a busy machine; these models need one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch = pytest.importorskip("torch")
torch.set_num_threads(1)

VOCAB = 320
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,  # well apart logits, so that rounding decides no token
    "eos_token_id": 2,
    "bos_token_id": 1,
}


def make_model(folder: Path, kind: str, **changes: Any) -> Path:
    """Write a random `kind` model (a transformers config name without "Config") to `folder`."""
    import transformers

    torch.manual_seed(5)
    config = getattr(transformers, f"{kind}Config")(**{**SMALL, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # norms that are all ones would hide a norm that is applied wrongly
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.rand_like(parameter) * 0.5)
            elif name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder


def make_chat_folder(weights: Path, folder: Path) -> Path:
    """A copy of a model folder with a tokenizer of single characters and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    shutil.copytree(weights, folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, **{letter: index + 3 for index, letter in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "bos_token": "<s>"}), "utf-8")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:", "utf-8"
    )
    return folder


Greedy = Callable[[Path, Sequence[int], int], list[int]]
EXACT = {"cache_type_k": "f32", "cache_type_v": "f32", "flash_attention": "off"}
"""Options of llama.cpp with which it keeps keys and values as transformers does: flash attention rounds to 1e-3, by how
many rows it has."""


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make("Llama", tie_word_embeddings=True)` gives a folder; the same arguments give the same folder."""
    made: dict[str, Path] = {}

    def get(kind: str, **changes: Any) -> Path:
        key = f"{kind} {sorted(changes.items())}"
        if key not in made:
            made[key] = make_model(tmp_path_factory.mktemp(kind), kind, **changes)
        return made[key]

    return get


@pytest.fixture(scope="session")
def llama(make: Callable[..., Path]) -> Path:
    return make("Llama")


@pytest.fixture(scope="session")
def llama_gguf(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as a GGUF; it has no vocabulary."""
    return make_gguf(llama, tmp_path_factory.mktemp("gguf") / "llama.gguf")


@pytest.fixture(scope="session")
def long_gguf(make: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a model with room for 30,000 tokens: its requests run until somebody ends them."""
    return make_gguf(make("Llama", max_position_embeddings=32768), tmp_path_factory.mktemp("gguf") / "long.gguf")


@pytest.fixture(scope="session")
def greedy() -> Greedy:
    """`greedy(folder, prompt, n)`: the n tokens that transformers' own generate continues with."""
    models: dict[Path, Any] = {}
    known: dict[tuple[Path, tuple[int, ...]], list[int]] = {}

    def run(folder: Path, prompt: Sequence[int], n: int) -> list[int]:
        import transformers

        key = (folder, tuple(prompt))
        if len(known.get(key, ())) >= n:
            return known[key][:n]
        if folder not in models:
            models[folder] = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        ids = torch.tensor([list(prompt)])
        # Without a mask of its own it leaves out what equals the padding: token 0, which an answer may well hold.
        out = models[folder].generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        known[key] = out[0, len(prompt) :].tolist()
        return known[key]

    return run

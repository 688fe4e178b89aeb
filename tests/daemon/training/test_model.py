"""The shipped weights, the wired start and the training loop."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from training.data import encode, sample, segments
from training.export import NAME, PACKAGE, WEIGHTS, adopt, export, pack
from training.model import Config, TinyLM, hugging_face_weights, restore
from training.render import SHELL_CLOSE, SHELL_OPEN
from training.scenario import loop
from training.trainer import Batch, Plan, collate, orthogonalise, rate_factor, train
from training.wiring import wire

SMALL = Config(layers=6)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))


def test_shipped_weights_have_the_dimensions_of_the_configuration() -> None:
    config = json.loads((WEIGHTS / "config.json").read_text(encoding="utf-8"))
    weights = load_file(str(WEIGHTS / "model.safetensors"))
    assert all(weight.dtype == torch.bfloat16 for weight in weights.values())
    wanted = {name: tuple(weight.shape) for name, weight in hugging_face_weights(TinyLM(Config())).items()}
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == wanted
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert config["max_position_embeddings"] >= 4096
    for key in ("hidden_size", "intermediate_size", "head_dim"):
        assert config[key] % 32 == 0
    assert sum(file.stat().st_size for file in PACKAGE.iterdir()) < 16_000_000


def test_the_shipped_gguf_is_that_of_the_weights_to_the_byte(tmp_path: Path) -> None:
    pack(WEIGHTS, tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == (PACKAGE / f"{NAME}.gguf").read_bytes()


def test_spaces_stand_alone_and_the_frame_of_a_call_is_one_token(tokenizer: Tokenizer) -> None:
    frame = tokenizer.encode(
        SHELL_OPEN + "cat /mnt/skills/pear/SKILL.md" + SHELL_CLOSE, add_special_tokens=False
    ).tokens
    assert SHELL_OPEN in frame
    assert SHELL_CLOSE in frame
    assert "/mnt/skills/" in frame
    spaced = tokenizer.encode("a pear-tree", add_special_tokens=False).tokens
    hyphen = tokenizer.encode("pear", add_special_tokens=False).tokens
    assert spaced[2 : 2 + len(hyphen)] == hyphen


def test_tokens_spell_any_text(tokenizer: Tokenizer) -> None:
    for text in ("größe 日本語.csv\t1,5 %\n", "  indented\n\n- x ", '{"a": [1, 2.50]}', "emoji 🦔 done"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_segments_are_tokenised_as_the_whole_text_is(tokenizer: Tokenizer) -> None:
    for seed in range(40):
        parts = segments(loop(random.Random(seed), "held"))
        whole = tokenizer.encode("".join(text for text, _ in parts), add_special_tokens=False).ids
        assert encode(tokenizer, parts)[0] == whole


def test_the_wired_start_copies_before_any_training(tokenizer: Tokenizer) -> None:
    rng = random.Random(2)
    model = TinyLM(Config())
    wire(model, tokenizer, [encode(tokenizer, sample(rng, 0.9))[0][:300] for _ in range(4)])
    text = (
        "<|endoftext|><|im_start|>tool\nResult:\nmaple=31\nriver: 7 bison<|im_end|>\n<|im_start|>assistant\nResult:\n"
    )
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    stop = tokenizer.token_to_id("<|im_end|>")
    assert tokenizer.decode(model.complete(ids, 30, stop)) == "maple=31\nriver: 7 bison"


def test_exported_weights_compute_what_was_trained(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = TinyLM(replace(SMALL, layers=2), seed=4)
    torch.nn.init.normal_(model.embed)
    out = tmp_path / "out"
    out.mkdir()
    torch.save({"config": vars(model.config), "weights": model.state_dict()}, out / "checkpoint.pt")
    tokenizer.save(str(out / "tokenizer.json"))
    export(out, tmp_path / "model")
    weights = load_file(str(tmp_path / "model" / "model.safetensors"))
    assert torch.equal(weights["model.embed_tokens.weight"], model.embed.detach().bfloat16())
    again = adopt(tmp_path / "model", model.config)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight, rtol=0.01, atol=0)  # bfloat16 keeps 8 bits
    assert {file.name for file in (tmp_path / "model").iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        f"{NAME}.gguf",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_a_batch_points_at_the_token_before_each_target() -> None:
    batch = collate([([5, 6, 7], [0, 1, 0]), ([8, 9], [0, 2])], 4)
    assert isinstance(batch, Batch)
    flat = batch.ids.flatten()
    assert flat[batch.places].tolist() == [5, 8]
    assert batch.targets.tolist() == [6, 9]
    assert batch.weights.tolist() == [1.0, 2.0]


def test_orthogonalised_updates_have_singular_values_near_one() -> None:
    update = torch.randn(2, 24, 40, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(update))
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    plan = Plan(warmup=10, decay=0.5)
    assert rate_factor(plan, 0, 0.0) == pytest.approx(0.1)
    assert rate_factor(plan, 100, 0.4) == 1.0
    assert rate_factor(plan, 100, 0.75) == pytest.approx(0.5)
    assert rate_factor(plan, 100, 1.0) == 0.0


def test_training_continues_from_its_checkpoint(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    plan = Plan(steps=2, workers=1, batch_tokens=400, warmup=1, compile=False)
    train(plan, tmp_path)
    first = torch.load(tmp_path / "checkpoint.pt")
    assert first["step"] == 2
    train(replace(plan, steps=3), tmp_path)
    second = torch.load(tmp_path / "checkpoint.pt")
    assert second["step"] == 3
    assert not torch.equal(restore(first).embed, restore(second).embed)


def test_training_is_the_same_for_the_same_seed(tmp_path: Path, tokenizer: Tokenizer) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        tokenizer.save(str(tmp_path / name / "tokenizer.json"))
        train(Plan(steps=2, workers=1, batch_tokens=400, warmup=1, compile=False), tmp_path / name)
    one, two = (restore(torch.load(tmp_path / name / "checkpoint.pt")) for name in ("a", "b"))
    assert torch.equal(one.embed, two.embed)

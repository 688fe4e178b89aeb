"""The CPU engine beyond what every engine promises: families, folders it refuses, memory, slots."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.engine.base import EngineDead, Finished, GenRequest, ModelSpec, Sampling, Tokens
from skilldeck_daemon.engine.cpu.engine import CpuEngine
from skilldeck_daemon.engine.cpu.lookup import KEPT, Answers, Lookup
from skilldeck_daemon.engine.prefix import common_prefix
from skilldeck_shared.errors import BadRequest, NotFound

torch = pytest.importorskip("torch")

from skilldeck_daemon.engine.cpu.slots import LayerShape, SlotCache, SlotTable  # noqa: E402

GREEDY = Sampling(temperature=0)
ROPE = {
    "rope_type": "llama3",
    "rope_theta": 5e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def prompts(count: int) -> list[list[int]]:
    source = random.Random(4)
    return [[source.randrange(3, 320) for _ in range(source.randrange(2, 60))] for _ in range(count)]


async def collect(engine: CpuEngine, name: str, ids: list[int], n: int, **more: Any) -> tuple[list[int], Finished]:
    events = [event async for event in await engine.submit(GenRequest(name, ids, n, GREEDY, **more))]
    last = events[-1]
    assert isinstance(last, Finished)
    return [token for event in events if isinstance(event, Tokens) for token in event.ids], last


@pytest.mark.parametrize(
    ("kind", "changes", "decoder"),
    [
        ("Llama", {"tie_word_embeddings": True, "rope_parameters": ROPE}, "LlamaDecoder"),
        ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "LlamaDecoder"),
        ("Llama", {"attention_bias": True, "mlp_bias": True}, "LlamaDecoder"),
        ("Qwen2", {}, "LlamaDecoder"),
        ("Qwen3", {"num_key_value_heads": 1}, "LlamaDecoder"),
        ("Mistral", {"sliding_window": None}, "LlamaDecoder"),
        ("Gemma", {}, "HfDecoder"),
        ("GPTNeoX", {}, "HfDecoder"),
        ("Mixtral", {"sliding_window": None}, "HfDecoder"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else str(value),
)
async def test_every_family_generates_what_transformers_does(
    make: Callable[..., Path], greedy: Any, kind: str, changes: dict[str, Any], decoder: str
) -> None:
    folder = make(kind, **changes)
    engine = CpuEngine()
    info = await engine.load(ModelSpec(str(folder), "m", {"prefill_chunk": 16}))
    asked = prompts(4)
    answers = await asyncio.gather(*(collect(engine, f"r{i}", ids, 16) for i, ids in enumerate(asked)))
    assert engine._model is not None
    assert type(engine._model.decoder).__name__ == decoder
    assert info.vocab == 320
    await engine.unload()
    for ids, (tokens, _) in zip(asked, answers, strict=True):
        assert tokens == greedy(folder, ids, 16)


async def test_weights_in_several_files_and_in_bfloat16_load(make: Callable[..., Path], tmp_path: Path) -> None:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(make("Llama"), dtype=torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    engine = CpuEngine()
    fractions: list[float] = []
    await engine.load(ModelSpec(str(tmp_path), "m"), lambda fraction, _: fractions.append(fraction))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert (await collect(engine, "r", [5, 6, 7], 5))[1].reason == "length"
    await engine.unload()
    await engine.load(ModelSpec(str(tmp_path), "m", {"dtype": "bfloat16"}))
    assert (await collect(engine, "r", [5, 6, 7], 5))[1].reason == "length"
    await engine.unload()


def changed(folder: Path, target: Path, **changes: Any) -> Path:
    shutil.copytree(folder, target, dirs_exist_ok=True)
    config = json.loads((target / "config.json").read_text("utf-8"))
    (target / "config.json").write_text(json.dumps({**config, **changes}), "utf-8")
    return target


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer_types": ["full_attention", "linear_attention", "full_attention"]}, "linear_attention"),
        ({"layer_types": ["sliding_attention"] * 3, "sliding_window": 64}, "sliding window of 64"),
        ({"model_type": "mistral", "sliding_window": 128}, "sliding window of 128"),
        ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
        ({"model_type": "mamba"}, "recurrent"),
        ({"intermediate_size": 100, "hidden_act": "gelu"}, "cannot serve"),
    ],
    ids=["hybrid", "sliding layers", "sliding window", "quantised", "recurrent", "weights that do not fit"],
)
async def test_what_it_cannot_serve_is_refused_by_name(
    llama: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        await CpuEngine().load(ModelSpec(str(changed(llama, tmp_path, **changes)), "m"))


async def test_a_window_as_long_as_the_context_is_no_obstacle(llama: Path, tmp_path: Path) -> None:
    folder = changed(llama, tmp_path, model_type="mistral", sliding_window=128)
    engine = CpuEngine()
    info = await engine.load(ModelSpec(str(folder), "m", {"context": 128}))
    assert info.context == 128
    await engine.unload()


async def test_a_broken_folder_says_what_is_wrong_with_it(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"config\.json"):
        await CpuEngine().load(ModelSpec(str(tmp_path), "m"))
    (tmp_path / "config.json").write_text("{", "utf-8")
    with pytest.raises(BadRequest, match="not JSON"):
        await CpuEngine().load(ModelSpec(str(tmp_path), "m"))
    shutil.copy(llama / "config.json", tmp_path)
    with pytest.raises(BadRequest, match="safetensors"):
        await CpuEngine().load(ModelSpec(str(tmp_path), "m"))
    (tmp_path / "model.safetensors").write_bytes(b"rubbish" * 9)
    with pytest.raises(BadRequest, match="damaged"):
        await CpuEngine().load(ModelSpec(str(tmp_path), "m"))
    from safetensors.torch import save_file

    save_file({"model.embed_tokens.weight": torch.zeros(320, 64)}, tmp_path / "model.safetensors")
    with pytest.raises(BadRequest, match=r"lack model\.layers\.0"):
        await CpuEngine().load(ModelSpec(str(tmp_path), "m"))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"kv_memory": 100_000}, "context"),
        ({"context": 5000}, "context"),
        ({"slots": 2, "max_batch": 4}, "slots"),
        ({"max_batch": 0}, "max_batch"),
        ({"dtype": "int8"}, "dtype"),
        ({"speed": 9}, "speed"),
        ({"queue": "long"}, "queue"),
    ],
)
async def test_a_wrong_option_is_named(llama: Path, options: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await CpuEngine().load(ModelSpec(str(llama), "m", options))
    assert caught.value.param == field


async def test_a_failed_step_ends_its_requests_and_nothing_of_it_is_reused(
    monkeypatch: pytest.MonkeyPatch, llama: Path, greedy: Any
) -> None:
    engine = CpuEngine()
    await engine.load(ModelSpec(str(llama), "m", {"draft_tokens": 0}))
    assert engine._model is not None
    decoder, ids = engine._model.decoder, prompts(1)[0]
    await collect(engine, "first", ids, 8)

    def fails(*_: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(decoder, "decode", fails)
        _, finished = await collect(engine, "second", ids, 8)
    assert finished.reason == "error"
    assert isinstance(finished.error, EngineDead)
    tokens, finished = await collect(engine, "third", ids, 8)
    assert tokens == greedy(llama, ids, 8)
    assert finished.cached == 0
    await engine.unload()


async def test_more_requests_than_rows_keep_prefixes_right(llama: Path, greedy: Any) -> None:
    """Rows are swapped, taken over and copied; whatever happens, every request's tokens are its own."""
    engine = CpuEngine()
    await engine.load(ModelSpec(str(llama), "m", {"max_batch": 3, "slots": 4, "prefill_chunk": 16}))
    source = random.Random(6)
    trunks = prompts(3)
    asked = [
        source.choice(trunks) + [source.randrange(3, 320) for _ in range(source.randrange(1, 12))] for _ in range(16)
    ]
    answers = await asyncio.gather(*(collect(engine, f"r{i}", ids, 12) for i, ids in enumerate(asked)))
    for ids, (tokens, _) in zip(asked, answers, strict=True):
        assert tokens == greedy(llama, ids, 12)
    assert sum(finished.cached for _, finished in answers) > 0
    await engine.unload()


def test_importing_the_engine_leaves_transformers_alone(llama: Path) -> None:
    """Its modelling code costs seconds of the daemon's start."""
    script = (
        "import asyncio, sys\n"
        "from skilldeck_daemon.engine.base import ModelSpec\n"
        "from skilldeck_daemon.engine.cpu.engine import CpuEngine\n"
        f"asyncio.run(CpuEngine().load(ModelSpec({str(llama)!r}, 'm')))\n"
        "assert 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


# ---------------------------------------------------------------- guesses


def counted(monkeypatch: pytest.MonkeyPatch, engine: CpuEngine) -> list[str]:
    """Gets a name for each step that the engine computes from now on."""
    assert engine._model is not None
    decoder = engine._model.decoder
    steps: list[str] = []
    for name in ("prefill", "decode"):

        def count(*args: Any, name: str = name, compute: Any = getattr(decoder, name)) -> Any:
            steps.append(name)
            return compute(*args)

        monkeypatch.setattr(decoder, name, count)
    return steps


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0, logit_bias={7: 5.0}),
        Sampling(temperature=0.3, seed=5, logit_bias={7: 5.0, 8: 5.0}),
        Sampling(temperature=0.5, top_p=0.8, seed=6, presence_penalty=0.2, logit_bias={7: 7.0}),
    ],
    ids=["greedy", "seeded", "edited"],
)
async def test_guessed_tokens_change_nothing_but_the_number_of_steps(
    monkeypatch: pytest.MonkeyPatch, llama: Path, sampling: Sampling
) -> None:
    ids = prompts(1)[0] * 3
    seen: list[tuple[list[int], list[Any], Finished, int]] = []
    for draft in (0, 16):
        engine = CpuEngine()
        await engine.load(ModelSpec(str(llama), "m", {"draft_tokens": draft}))
        assert engine._model is not None
        steps = counted(monkeypatch, engine)
        events = [event async for event in await engine.submit(GenRequest("r", ids, 150, sampling, logprobs=2))]
        told = [event for event in events if isinstance(event, Tokens)]
        last = events[-1]
        assert isinstance(last, Finished)
        scores = [score for event in told for score in event.logprobs]
        seen.append(([token for event in told for token in event.ids], scores, last, len(steps)))
        # What is kept for the next prompt is what was written, not what was guessed.
        again = [*ids, *seen[-1][0], 9]
        _, finished = await collect(engine, "again", again, 4)
        assert finished.cached == len(again) - 2
        await engine.unload()
    (plain, scores, last, steps), (drafted, other_scores, other_last, fewer) = seen
    assert drafted == plain
    assert [score.token for score in other_scores] == [score.token for score in scores]
    for one, other in zip(scores, other_scores, strict=True):
        assert other.logprob == pytest.approx(one.logprob, abs=1e-3)
    assert (last.new, last.reason) == (other_last.new, other_last.reason) == (150, "length")
    assert fewer < 0.8 * steps


async def test_guesses_keep_a_stop_token_and_the_lengths_promise(llama: Path, greedy: Any) -> None:
    engine = CpuEngine()
    await engine.load(ModelSpec(str(llama), "m"))
    ids = prompts(1)[0] * 3
    expected = greedy(llama, ids, 60)
    for length in range(1, 60, 7):
        tokens, finished = await collect(engine, f"l{length}", ids, length)
        assert (tokens, finished.reason) == (expected[:length], "length")
        stop = expected[length]
        tokens, finished = await collect(engine, f"s{length}", ids, 60, stop_ids=frozenset({stop}))
        assert (tokens, finished.reason) == (expected[: expected.index(stop) + 1], "stop")
    await engine.unload()


def test_a_guess_is_what_stood_after_the_same_tokens_the_last_time() -> None:
    lookup = Lookup()
    text = [1, 2, 3, 4, 5, 9, 1, 2, 3, 6, 7, 8, 0, 1, 2]
    assert lookup.guess(text, 3, 4) == [6, 7, 8, 0]
    assert lookup.guess(text, 3, 2) == [6, 7]
    assert lookup.guess(text, 5, 4) == []
    text += [3, 6]
    assert lookup.guess(text, 7, 8) == [8, 0, 1, 2, 3, 6, 7, 8], "through the end where the text repeats itself"
    assert Lookup().guess([], 3, 4) == []
    assert Lookup().guess([3], 3, 4) == []


def test_an_earlier_answer_is_a_guess_for_its_own_salt_only() -> None:
    answers = Answers()
    answers.keep("a", [1, 2, 3, 4, 5])
    answers.keep("a", [2, 3, 4, 9])
    answers.keep("b", [2, 3, 4, 7])
    assert answers.guess("a", (2, 3, 4), 8) == [9], "the newest"
    assert answers.guess("a", (1, 2, 3), 8) == [4, 5]
    assert answers.guess("a", (1, 2, 3), 1) == [4]
    assert answers.guess("b", (1, 2, 3), 8) == answers.guess("", (2, 3, 4), 8) == []
    lookup = Lookup()
    assert lookup.guess([5, 2, 3], 4, 4, answers, "b") == [7]
    assert lookup.guess([2, 3, 4, 6, 2, 3], 4, 4, answers, "b")[:1] == [6], "the text itself comes first"
    assert lookup.guess([2, 3, 4, 6, 2, 3], 4, 4) != []
    for number in range(KEPT):
        answers.keep("b", [number] * 4)
    assert answers.guess("a", (2, 3, 4), 8) == []


async def test_what_was_answered_before_takes_fewer_steps(monkeypatch: pytest.MonkeyPatch, llama: Path) -> None:
    engine = CpuEngine()
    await engine.load(ModelSpec(str(llama), "m"))
    assert engine._model is not None
    steps = counted(monkeypatch, engine)
    taken = []
    for name, salt in (("one", "a"), ("two", "a"), ("three", "b")):
        before = len(steps)
        request = GenRequest(name, prompts(1)[0], 60, Sampling(temperature=0), cache_salt=salt)
        taken.append(
            (
                [t async for e in await engine.submit(request) if isinstance(e, Tokens) for t in e.ids],
                len(steps) - before,
            )
        )
    (first, slow), (again, fast), (other, unaided) = taken
    assert first == again == other
    assert fast < 0.5 * slow
    assert unaided == slow
    await engine.unload()


def test_guesses_grow_while_they_are_right() -> None:
    lookup = Lookup()
    text = [*range(100), 1, 2]
    assert len(lookup.guess(text, 3, 64)) == 24
    lookup.right(24)
    assert len(lookup.guess(text, 3, 64)) == 48
    lookup.right(7)
    assert len(lookup.guess(text, 3, 64)) == 14
    lookup.right(1)
    assert len(lookup.guess(text, 3, 64)) == 8
    lookup.right(0)
    assert len(lookup.guess(text, 3, 64)) == 2


# ---------------------------------------------------------------- slots


def table(rows: int) -> SlotTable:
    return SlotTable(SlotCache([LayerShape(1, 2, 1, 2)] * 2, rows, 32, torch.float32))


def write(slots: SlotTable, slot: Any, tokens: list[int]) -> None:
    """Put tokens into a slot, with the token ids themselves as its keys and values."""
    for token in tokens:
        for store in (slots.cache.k, slots.cache.v):
            for layer in store:
                layer[slot.row, :, len(slot.tokens)] = token
        slot.tokens.append(token)


def holds(slots: SlotTable, slot: Any) -> bool:
    return all(
        layer[slot.row, 0, : len(slot.tokens), 0].tolist() == slot.tokens
        for store in (slots.cache.k, slots.cache.v)
        for layer in store
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_slot_always_holds_the_keys_of_its_tokens(seed: int) -> None:
    source, slots = random.Random(seed), table(5)
    running: list[Any] = []
    for _ in range(200):
        if running and (len(running) == 5 or source.random() < 0.5):
            slot = running.pop(source.randrange(len(running)))
            slots.release(slot)
        else:
            prompt = [source.randrange(3) for _ in range(source.randrange(1, 20))]
            slot, cached = slots.claim(prompt, "", object())
            assert slot.tokens == prompt[:cached]
            assert cached < len(prompt)
            assert holds(slots, slot)
            write(slots, slot, prompt[cached:])
            slots.promote(slot)
            running.append(slot)
        assert all(holds(slots, slot) for slot in slots.slots)
        assert [slot.row for slot in slots.slots] == list(range(5))
        assert {slot.row for slot in running} == set(range(slots.decoding))


def test_a_branch_is_copied_and_leaves_the_trunk() -> None:
    slots = table(3)
    trunk, _ = slots.claim(list(range(20)), "", "a")
    write(slots, trunk, list(range(20)))
    slots.promote(trunk)
    slots.release(trunk)
    branch, cached = slots.claim([0, 1, 2, 9, 9], "", "b")
    assert cached == 3
    assert branch is not trunk
    assert trunk.tokens == list(range(20))
    again, cached = slots.claim([*range(20), 7], "", "c")
    assert (again, cached) == (trunk, 20)


def test_the_least_recently_used_row_is_taken() -> None:
    slots = table(2)
    for start in (0, 10):
        slot, _ = slots.claim([start, start + 1], "", start)
        write(slots, slot, [start, start + 1])
        slots.promote(slot)
        slots.release(slot)
    slots.claim([20, 21], "", 20)
    assert [10, 11] in [slot.tokens for slot in slots.slots]
    assert [0, 1] not in [slot.tokens for slot in slots.slots]


def test_common_prefix() -> None:
    assert common_prefix([], [1]) == 0
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2], [1, 2, 3]) == 2
    assert common_prefix([9], [1]) == 0

"""The llama.cpp engine beyond what every engine promises: failed steps, many prefixes, guesses, its sequences."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.engine.conftest import EXACT
from skilldeck_daemon.engine.base import Finished, GenRequest, ModelSpec, Sampling, Tokens
from skilldeck_daemon.engine.errors import EngineDead
from skilldeck_daemon.engine.llamacpp import gguf
from skilldeck_daemon.engine.llamacpp.engine import LlamaCppEngine
from skilldeck_daemon.engine.llamacpp.lookup import KEPT, Answers, Lookup
from skilldeck_daemon.engine.llamacpp.model import Aborted, LlamaModel
from skilldeck_daemon.engine.llamacpp.sequences import WORTH, Held, SequenceTable, common_prefix
from skilldeck_daemon.engine.llamacpp.weights import gpu_layers
from skilldeck_shared.errors import BadRequest
from support.make_gguf import make_gguf, make_lora

GREEDY = Sampling(temperature=0)


def prompts(count: int) -> list[list[int]]:
    source = random.Random(4)
    return [[source.randrange(3, 320) for _ in range(source.randrange(2, 60))] for _ in range(count)]


@asynccontextmanager
async def loaded(file: Path, **options: Any) -> AsyncIterator[LlamaCppEngine]:
    engine = LlamaCppEngine()
    await engine.load(ModelSpec(str(file), "m", {**EXACT, **options}))
    try:
        yield engine
    finally:
        await engine.unload()


async def collect(engine: LlamaCppEngine, name: str, ids: list[int], n: int, **more: Any) -> tuple[list[int], Finished]:
    events = [event async for event in await engine.submit(GenRequest(name, ids, n, GREEDY, **more))]
    last = events[-1]
    assert isinstance(last, Finished)
    return [token for event in events if isinstance(event, Tokens) for token in event.ids], last


async def test_a_failed_step_ends_its_requests_and_nothing_of_it_is_reused(
    monkeypatch: pytest.MonkeyPatch, llama: Path, llama_gguf: Path, greedy: Any
) -> None:
    ids = prompts(1)[0]

    def fails(*_: Any) -> None:
        raise RuntimeError("out of memory")

    async with loaded(llama_gguf, draft_tokens=0) as engine:
        await collect(engine, "first", ids, 8)
        with monkeypatch.context() as patch:
            patch.setattr(LlamaModel, "decode", fails)
            _, finished = await collect(engine, "second", ids, 8)
        assert finished.reason == "error"
        assert isinstance(finished.error, EngineDead)
        tokens, finished = await collect(engine, "third", ids, 8)
    assert tokens == greedy(llama, ids, 8)
    assert finished.cached == 0


async def test_a_cancellation_ends_a_piece_of_a_prompt_in_its_middle_and_nothing_of_it_is_left(
    monkeypatch: pytest.MonkeyPatch, llama: Path, llama_gguf: Path, greedy: Any
) -> None:
    source = random.Random(7)
    ids = [source.randrange(3, 320) for _ in range(200)]
    compute, ended = LlamaModel.prefill, []
    async with loaded(llama_gguf, draft_tokens=0) as engine:

        def cancelled(model: LlamaModel, sequence: int, piece: list[int], start: int, keep: int) -> Any:
            if start:
                engine.cancel("first")
            try:
                return compute(model, sequence, piece, start, keep)
            except Aborted:
                ended.append(start)
                raise

        with monkeypatch.context() as patch:
            patch.setattr(LlamaModel, "prefill", cancelled)
            tokens, finished = await collect(engine, "first", ids, 8)
        assert (tokens, finished.reason, ended) == ([], "cancelled", [128])
        tokens, finished = await collect(engine, "second", ids, 8)
    assert tokens == greedy(llama, ids, 8)
    assert finished.cached == 128


LIMITED = """
import asyncio, resource, sys
from skilldeck_daemon.engine.base import ModelSpec
from skilldeck_daemon.engine.llamacpp.engine import LlamaCppEngine
from skilldeck_shared.errors import BadRequest

async def main():
    engine = LlamaCppEngine()
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (800 << 20),) * 2)
    try:
        await engine.load(ModelSpec(sys.argv[1], "m", {"slots": 60, "threads": 1}))
    except BadRequest as error:
        print(error.param, error)
    await engine.load(ModelSpec(sys.argv[1], "m", {"context": 256, "max_batch": 1, "threads": 1}))
    print("served", engine.caps.context)
    await engine.unload()

asyncio.run(main())
"""


async def test_memory_that_is_not_there_at_load_is_told_and_less_is_served_after_it(long_gguf: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(long_gguf)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120)
    refused, served = done.stdout.splitlines()
    assert refused.startswith("context long.gguf cannot be served with 60 requests of 32768 tokens"), done
    assert "allocate" in refused
    assert served == "served 256"


async def test_more_requests_than_sequences_keep_prefixes_right(llama: Path, llama_gguf: Path, greedy: Any) -> None:
    """Sequences are taken over, cut and copied; whatever happens, every request's tokens are its own."""
    source = random.Random(6)
    trunks = [[source.randrange(3, 320) for _ in range(WORTH + 20)] for _ in range(3)]
    asked = [
        source.choice(trunks) + [source.randrange(3, 320) for _ in range(source.randrange(1, 12))] for _ in range(16)
    ]
    async with loaded(llama_gguf, max_batch=3, slots=4, prefill_chunk=32) as engine:
        answers = await asyncio.gather(*(collect(engine, f"r{i}", ids, 12) for i, ids in enumerate(asked)))
    for ids, (tokens, _) in zip(asked, answers, strict=True):
        assert tokens == greedy(llama, ids, 12)
    assert sum(finished.cached for _, finished in answers) > 0


# ---------------------------------------------------------------- guesses


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets a name for each step that is computed from now on."""
    steps: list[str] = []
    for name in ("prefill", "decode"):

        def count(*args: Any, name: str = name, compute: Any = getattr(LlamaModel, name)) -> Any:
            steps.append(name)
            return compute(*args)

        monkeypatch.setattr(LlamaModel, name, count)
    return steps


@pytest.fixture
def worthwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses are made whatever they cost: in so small a model the clock would decide."""
    monkeypatch.setattr("skilldeck_daemon.engine.llamacpp.worth.Worth.wait", lambda _: False)


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
    monkeypatch: pytest.MonkeyPatch, worthwhile: None, llama_gguf: Path, sampling: Sampling
) -> None:
    ids = prompts(1)[0] * 3
    seen: list[tuple[list[int], list[Any], Finished, int]] = []
    for draft in (0, 16):
        async with loaded(llama_gguf, draft_tokens=draft) as engine:
            with monkeypatch.context() as patch:
                steps = counted(patch)
                events = [event async for event in await engine.submit(GenRequest("r", ids, 150, sampling, logprobs=2))]
            written = [event for event in events if isinstance(event, Tokens)]
            last = events[-1]
            assert isinstance(last, Finished)
            scores = [score for event in written for score in event.logprobs]
            seen.append(([token for event in written for token in event.ids], scores, last, len(steps)))
            # What is kept for the next prompt is what was written, not what was guessed.
            again = [*ids, *seen[-1][0], 9]
            _, finished = await collect(engine, "again", again, 4)
            assert finished.cached == len(again) - 2
    (plain, scores, last, steps), (drafted, other_scores, other_last, fewer) = seen
    assert drafted == plain
    assert [score.token for score in other_scores] == [score.token for score in scores]
    for one, other in zip(scores, other_scores, strict=True):
        assert other.logprob == pytest.approx(one.logprob, abs=1e-3)
    assert (last.new, last.reason) == (other_last.new, other_last.reason) == (150, "length")
    assert fewer < 0.8 * steps


async def test_guesses_keep_a_stop_token_and_the_lengths_promise(
    worthwhile: None, llama: Path, llama_gguf: Path, greedy: Any
) -> None:
    ids = prompts(1)[0] * 3
    expected = greedy(llama, ids, 60)
    async with loaded(llama_gguf) as engine:
        for length in range(1, 60, 7):
            tokens, finished = await collect(engine, f"l{length}", ids, length)
            assert (tokens, finished.reason) == (expected[:length], "length")
            stop = expected[length]
            tokens, finished = await collect(engine, f"s{length}", ids, 60, stop_ids=frozenset({stop}))
            assert (tokens, finished.reason) == (expected[: expected.index(stop) + 1], "stop")


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


async def test_what_was_answered_before_takes_fewer_steps(
    monkeypatch: pytest.MonkeyPatch, worthwhile: None, llama_gguf: Path
) -> None:
    taken = []
    async with loaded(llama_gguf) as engine:
        steps = counted(monkeypatch)
        for name, salt in (("one", "a"), ("two", "a"), ("three", "b")):
            before = len(steps)
            tokens, _ = await collect(engine, name, prompts(1)[0], 60, cache_salt=salt)
            taken.append((tokens, len(steps) - before))
    (first, slow), (again, fast), (other, unaided) = taken
    assert first == again == other
    assert fast < 0.5 * slow
    assert unaided == slow


def test_guesses_grow_while_they_are_right() -> None:
    lookup = Lookup()
    text = [*range(100), 1, 2]
    assert len(lookup.guess(text, 3, 64)) == 8
    lookup.right(8)
    assert len(lookup.guess(text, 3, 64)) == 16
    lookup.right(24)
    assert len(lookup.guess(text, 3, 64)) == 48
    lookup.right(7)
    assert len(lookup.guess(text, 3, 64)) == 14
    lookup.right(1)
    assert len(lookup.guess(text, 3, 64)) == 8
    lookup.right(0)
    assert len(lookup.guess(text, 3, 64)) == 2


@pytest.mark.parametrize("other", [False, True], ids=["itself", "another"])
async def test_a_draft_model_changes_nothing_but_the_number_of_steps(
    monkeypatch: pytest.MonkeyPatch, worthwhile: None, llama: Path, llama_gguf: Path, make: Any, greedy: Any,
    tmp_path: Path, other: bool,
) -> None:  # fmt: skip
    small = make_gguf(make("Llama", num_hidden_layers=1), tmp_path / "small.gguf") if other else llama_gguf
    monkeypatch.setattr("skilldeck_daemon.engine.llamacpp.draft.SURE", 0.02)  # weights at random are never sure
    monkeypatch.setattr(Lookup, "guess", lambda *_, **__: [])
    steps: list[str] = []
    for name in ("prefill", "decode"):

        def count(model: LlamaModel, *args: Any, compute: Any = getattr(LlamaModel, name)) -> Any:
            if model.slots == 3:  # not the draft's own
                steps.append("")
            return compute(model, *args)

        monkeypatch.setattr(LlamaModel, name, count)
    taken = []
    for options in ({}, {"draft_model": str(small)}):
        before = len(steps)
        async with loaded(llama_gguf, slots=3, max_batch=2, prefill_chunk=32, **options) as engine:
            for number, ids in enumerate(prompts(3)):
                tokens, _ = await collect(engine, f"r{number}", ids, 40, cache_salt="ab"[number % 2])
                assert tokens == greedy(llama, ids, 40)
            both = await asyncio.gather(*(collect(engine, f"b{i}", ids, 20) for i, ids in enumerate(prompts(2))))
            for ids, (tokens, _) in zip(prompts(2), both, strict=True):
                assert tokens == greedy(llama, ids, 20)
            taken.append(len(steps) - before)
    assert taken[1] <= taken[0], "one of random weights is hardly ever right"
    if not other:
        assert taken[1] < 0.6 * taken[0]


async def test_a_draft_model_that_cannot_guess_is_refused_by_its_option(
    llama_gguf: Path, make: Any, tmp_path: Path
) -> None:
    other = make_gguf(make("Llama", vocab_size=900), tmp_path / "other.gguf")
    (tmp_path / "folder").mkdir()
    for path, said in (
        (other, "another vocabulary"),
        (tmp_path / "folder", "not a GGUF file"),
        (tmp_path / "nothing.gguf", "nothing.gguf"),
    ):
        with pytest.raises(BadRequest, match=said) as caught:
            async with loaded(llama_gguf, draft_model=str(path)):
                pass
        assert caught.value.param == "draft_model"


# ---------------------------------------------------------------- adapters, layers, types


@pytest.mark.parametrize("scale", [1.0, 0.5])
async def test_a_lora_is_added_to_the_weights(llama: Path, llama_gguf: Path, tmp_path: Path, scale: float) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    theirs: Any = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32).eval()
    torch.manual_seed(9)
    alpha, rank, pairs = 6.0, 2, {}
    for number, layer in enumerate(theirs.model.layers):
        a, b = torch.randn(rank, 96) * 0.2, torch.randn(64, rank) * 0.2
        pairs[f"blk.{number}.ffn_down.weight"] = (a.numpy(), b.numpy())
        layer.mlp.down_proj.weight.data += scale * alpha / rank * (b @ a)
    adapter = make_lora(tmp_path / "lora.gguf", pairs, alpha)
    ids = prompts(1)[0]
    given = torch.tensor([ids])
    out = theirs.generate(
        given,
        attention_mask=torch.ones_like(given),
        max_new_tokens=20,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    async with loaded(llama_gguf, lora={"path": str(adapter), "scale": scale}) as engine:
        assert engine.caps.lora
        tokens, _ = await collect(engine, "r", ids, 20)
    assert tokens == out[0, len(ids) :].tolist()


async def test_a_lora_of_another_model_is_refused(llama_gguf: Path, tmp_path: Path) -> None:
    wrong = np.zeros((2, 50), "f4")
    adapter = make_lora(tmp_path / "lora.gguf", {"blk.0.ffn_down.weight": (wrong, wrong.T)}, 1.0)
    for path in (adapter, llama_gguf):
        with pytest.raises(BadRequest, match="does not fit the model") as caught:
            async with loaded(llama_gguf, lora=str(path)):
                pass
        assert caught.value.param == "lora"


async def test_a_cache_type_that_the_heads_do_not_allow_is_refused_with_the_reason(llama_gguf: Path) -> None:
    with pytest.raises(BadRequest, match=r"keys as q8_0 .* does not divide"):
        async with loaded(llama_gguf, cache_type_k="q8_0", flash_attention="auto"):
            pass


def test_as_many_layers_go_to_a_gpu_as_fit(llama_gguf: Path) -> None:
    file = gguf.read(llama_gguf)
    layer = sum(tensor.size or 0 for tensor in file.tensors if tensor.name.startswith("blk.2."))
    spare = 512 << 20
    assert gpu_layers(file, -1, 0, None) == gpu_layers(file, 7, 0, None) == 0, "this build uses none"
    assert gpu_layers(file, 7, 0, 0) == 7, "who names a number gets it"
    assert gpu_layers(file, -1, 0, 1 << 40) == 4, "three layers and the output"
    assert gpu_layers(file, -1, 0, spare + 2 * layer) == 2
    assert gpu_layers(file, -1, 3 * layer, spare + 2 * layer) == 1, "each with its part of the cache"
    assert gpu_layers(file, -1, 0, spare - 1) == 0


# ---------------------------------------------------------------- sequences


class Copies:
    """A cache that keeps the token ids themselves."""

    whole = False

    def __init__(self, count: int) -> None:
        self.kept: list[list[int]] = [[] for _ in range(count)]

    def cut(self, sequence: int, tokens: int) -> bool:
        del self.kept[sequence][tokens:]
        return True

    def copy(self, source: int, target: int, tokens: int) -> bool:
        self.kept[target] = self.kept[source][:tokens]
        return True

    def forget(self) -> None:
        self.kept = [[] for _ in self.kept]


class Recurrent(Copies):
    """One whose sequences are states: they can be emptied and gone on with, and nothing else."""

    whole = True

    def cut(self, sequence: int, tokens: int) -> bool:
        if tokens not in (0, len(self.kept[sequence])):
            return False
        return super().cut(sequence, tokens)

    def copy(self, source: int, target: int, tokens: int) -> bool:
        self.kept[target] = list(self.kept[source])
        return self.cut(target, tokens)


def compute(memory: Copies, held: Held, tokens: list[int]) -> None:
    memory.kept[held.number] += tokens
    held.tokens += tokens


@pytest.mark.parametrize("kind", [Copies, Recurrent])
@pytest.mark.parametrize("seed", range(3))
def test_a_sequence_always_holds_what_was_computed_of_its_tokens(kind: type[Copies], seed: int) -> None:
    source, memory = random.Random(seed), kind(5)
    table = SequenceTable(memory, 5)
    trunks = [[source.randrange(9) for _ in range(3 * WORTH)] for _ in range(3)]
    running: list[Held] = []
    reused = 0
    for _ in range(300):
        if running and (len(running) == 5 or source.random() < 0.5):
            table.release(running.pop(source.randrange(len(running))))
        else:
            prompt = [*source.choice(trunks)[: source.randrange(1, 3 * WORTH)], source.randrange(9)]
            held, cached = table.claim(prompt, source.choice("ab"), object())
            assert held.tokens == prompt[:cached] == memory.kept[held.number]
            assert cached < len(prompt)
            reused += cached
            compute(memory, held, prompt[cached:])
            running.append(held)
        assert [held.tokens for held in table.held] == memory.kept
        assert table.live_tokens == sum(len(held.tokens) for held in running)
    assert reused > 0
    table.forget()
    assert [held.tokens for held in table.held] == memory.kept == [[]] * 5


def test_a_branch_is_copied_and_leaves_the_trunk() -> None:
    memory, text = Copies(3), list(range(4 * WORTH))
    table = SequenceTable(memory, 3)
    trunk, _ = table.claim(text, "", "a")
    compute(memory, trunk, text)
    table.release(trunk)
    branch, cached = table.claim([*text[:WORTH], 9, 9], "", "b")
    assert cached == WORTH
    assert branch is not trunk
    assert trunk.tokens == text
    again, cached = table.claim([*text, 7], "", "c")
    assert (again, cached) == (trunk, len(text))


def test_a_common_beginning_that_is_short_is_computed_and_not_copied() -> None:
    memory, text = Copies(2), list(range(4 * WORTH))
    table = SequenceTable(memory, 2)
    trunk, _ = table.claim(text, "", "a")
    compute(memory, trunk, text)
    assert table.claim([*text[: WORTH - 1], 9, 9], "", "b")[1] == 0


def test_the_least_recently_used_sequence_is_taken() -> None:
    memory = Copies(2)
    table = SequenceTable(memory, 2)
    for start in (0, 10):
        held, _ = table.claim([start, start + 1], "", start)
        compute(memory, held, [start, start + 1])
        table.release(held)
    table.claim([20, 21], "", 20)
    assert [10, 11] in [held.tokens for held in table.held]
    assert [0, 1] not in [held.tokens for held in table.held]


def test_common_prefix() -> None:
    assert common_prefix([], [1]) == 0
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2], [1, 2, 3]) == 2
    assert common_prefix([9], [1]) == 0

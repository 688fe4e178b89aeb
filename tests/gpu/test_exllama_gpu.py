"""The exllama engines on a real GPU against transformers, on a small model with random weights."""

from __future__ import annotations

import asyncio
import importlib.util
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.engine.base import Event, Finished, GenRequest, ModelSpec, Sampling, Tokens
from skilldeck_daemon.engine.hub import make_engine

torch = pytest.importorskip("torch")

GREEDY = Sampling(temperature=0)
ENGINES = ("exllamav2", "exllamav3")


@asynccontextmanager
async def loaded(name: str, folder: Path, worker: bool = False, **options: Any) -> AsyncIterator[Any]:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    engine = make_engine(name, worker=worker)
    await engine.load(ModelSpec(str(folder), "small", {"context": 2048, "max_batch": 8, **options}))
    try:
        yield engine
    finally:
        await engine.unload()


async def collect(
    engine: Any, name: str, ids: list[int], n: int, **more: Any
) -> tuple[list[int], Finished, list[Event]]:
    sampling = more.pop("sampling", GREEDY)
    events = [event async for event in await engine.submit(GenRequest(name, ids, n, sampling, **more))]
    last = events[-1]
    assert isinstance(last, Finished)
    return [token for event in events if isinstance(event, Tokens) for token in event.ids], last, events


def prompts(count: int) -> list[list[int]]:
    source = random.Random(3)
    return [[source.randrange(2, 500) for _ in range(source.randrange(3, 600))] for _ in range(count)]


def expected_logprobs(folder: Path, ids: list[int]) -> Any:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).cuda().eval()
    with torch.no_grad():
        return model(torch.tensor([ids]).cuda()).logits[0].log_softmax(-1).cpu()


async def test_the_bundled_model_computes_paged_what_transformers_does() -> None:
    from skilldeck_daemon.bench.references import weights
    from skilldeck_daemon.bench.suites import gpu
    from skilldeck_daemon.engine.models.registry import tiny_file

    if importlib.util.find_spec("exllamav2") is None:
        pytest.skip("exllamav2 is not installed")
    folder = weights(tiny_file())
    async with gpu.loaded(folder, context=2048) as (engine, _):
        await gpu.logits(engine, folder)


@pytest.mark.parametrize("name", ENGINES)
async def test_log_probabilities_are_those_of_transformers(name: str, small: Path) -> None:
    async with loaded(name, small) as engine:
        for i, ids in enumerate(prompts(4)):
            tokens, _, events = await collect(engine, f"r{i}", ids, 24, logprobs=5)
            scores = [score for event in events if isinstance(event, Tokens) for score in event.logprobs]
            expected = expected_logprobs(small, ids + tokens)[len(ids) - 1 : -1]
            for score, row in zip(scores, expected, strict=True):
                assert score.logprob == pytest.approx(float(row[score.token]), abs=0.05)
                assert float(row.max()) - float(row[score.token]) < 0.05, "greedy takes the best, up to rounding"


@pytest.mark.parametrize("name", ENGINES)
async def test_a_batch_gives_what_each_gives_alone(name: str, small: Path) -> None:
    asked = prompts(8)
    async with loaded(name, small) as engine:
        alone = [(await collect(engine, f"a{i}", ids, 32))[0] for i, ids in enumerate(asked)]
        together = await asyncio.gather(*(collect(engine, f"b{i}", ids, 32) for i, ids in enumerate(asked)))
    same = sum(tokens == once for (tokens, _, _), once in zip(together, alone, strict=True))
    assert same >= 6, "half precision may flip a tie, not more"
    assert all(finished.new == 32 for _, finished, _ in together)


@pytest.mark.parametrize("name", ENGINES)
async def test_the_second_round_of_a_conversation_computes_only_what_is_new(name: str, small: Path) -> None:
    ids = prompts(1)[0][:3] + [7] * 1500
    async with loaded(name, small) as engine:
        first, _, _ = await collect(engine, "one", ids, 40)
        second = [*ids, *first, *range(10, 60)]
        _, finished, _ = await collect(engine, "two", second, 5)
    assert (finished.prompt - finished.cached) / finished.prompt <= 0.05


@pytest.mark.parametrize("name", ENGINES)
async def test_cancel_frees_the_slot_at_once(name: str, small: Path) -> None:
    async with loaded(name, small, max_batch=1) as engine:
        handle = await engine.submit(GenRequest("long", [5, 6, 7], 1900, GREEDY))
        seen = 0
        last: Event | None = None
        async for event in handle:
            last = event
            if isinstance(event, Tokens):
                seen += len(event.ids)
                engine.cancel("long")
        assert isinstance(last, Finished)
        assert last.reason == "cancelled"
        assert last.new - seen <= 2
        assert (await collect(engine, "next", [5, 6], 3))[1].new == 3


@pytest.mark.parametrize("cache_type", ["fp16", "q8", "q6", "q4"])
@pytest.mark.parametrize("name", ENGINES)
async def test_every_cache_type_generates(name: str, cache_type: str, small: Path) -> None:
    async with loaded(name, small, cache_type=cache_type) as engine:
        ids = prompts(1)[0]
        tokens, finished, events = await collect(engine, "r", ids, 16, logprobs=0)
        assert finished.new == 16
        first = next(event for event in events if isinstance(event, Tokens)).logprobs[0]
    expected = expected_logprobs(small, ids + tokens)[len(ids) - 1]
    tolerance = {"fp16": 0.05, "q8": 0.1, "q6": 0.3, "q4": 0.8}[cache_type]
    assert first.logprob == pytest.approx(float(expected[first.token]), abs=tolerance)


@pytest.mark.parametrize("options", [{"ngram": True}, {"draft": True}], ids=["ngram", "draft model"])
@pytest.mark.parametrize("name", ENGINES)
async def test_speculation_keeps_the_tokens(name: str, options: dict[str, Any], small: Path) -> None:
    ids = [9, 8, 7, 6] * 20
    async with loaded(name, small) as engine:
        plain, _, _ = await collect(engine, "r", ids, 40)
    more = {"draft_model": str(small)} if "draft" in options else {"ngram": True}
    async with loaded(name, small, **more) as engine:
        tokens, finished, _ = await collect(engine, "r", ids, 40)
    assert finished.new == 40
    assert tokens[:8] == plain[:8]


async def test_a_seed_repeats_its_tokens(small: Path) -> None:
    async with loaded("exllamav2", small) as engine:
        sampling = Sampling(temperature=1.0, top_p=0.9, seed=5)
        once = (await collect(engine, "a", [5, 6, 7], 30, sampling=sampling))[0]
        again = (await collect(engine, "b", [5, 6, 7], 30, sampling=sampling))[0]
    assert once == again


async def test_loading_tells_its_layers_and_the_memory_they_take(small: Path) -> None:
    if importlib.util.find_spec("exllamav2") is None:
        pytest.skip("exllamav2 is not installed")
    engine = make_engine("exllamav2", worker=False)
    told: list[tuple[float, str]] = []
    spec = ModelSpec(str(small), "small", {"context": 2048})
    await engine.load(spec, lambda fraction, stage: told.append((fraction, stage)))
    await engine.unload()
    layers = [stage for _, stage in told if stage.startswith("layer")]
    assert layers
    assert all(" GiB" in stage for stage in layers)
    assert [fraction for fraction, _ in told] == sorted(fraction for fraction, _ in told)


async def test_it_runs_in_a_process_of_its_own(small: Path) -> None:
    async with loaded("exllamav2", small, worker=True) as engine:
        assert (await collect(engine, "r", [5, 6, 7], 10))[1].new == 10

"""What every token engine promises, asked of each of them. The model is random; its tokens are transformers' own."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from daemon.engine.conftest import EXACT
from daemon.engine.exl_stub import exllamav2_missing, install_exllamav2
from skilldeck_daemon.engine.base import (
    Engine,
    Event,
    Finished,
    GenRequest,
    ModelSpec,
    Prefill,
    Sampling,
    Started,
    Tokens,
)
from skilldeck_daemon.engine.errors import EngineBusy, NotLoaded, TooLong
from skilldeck_daemon.engine.hub import make_engine
from skilldeck_shared.errors import BadRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")

GREEDY = Sampling(temperature=0)
OPTIONS = {"max_batch": 4, "queue": 4, "context": 512}
# It writes 512 tokens in the time this process may be kept waiting: a request that is to be ended has more to write.
LLAMACPP = {**OPTIONS, **EXACT, "context": 4096, "slots": 8, "prefill_chunk": 96}
_names = (f"r{n}" for n in itertools.count())
_random = random.Random(11)


def prompt(length: int) -> list[int]:
    """A prompt nobody has asked before."""
    return [_random.randrange(3, 320) for _ in range(length)]


def ask(ids: Sequence[int], max_new: int, sampling: Sampling = GREEDY, **more: Any) -> GenRequest:
    return GenRequest(next(_names), ids, max_new, sampling, **more)


def most(engine: Engine) -> int:
    """So many tokens that a request for them runs until somebody ends it."""
    return engine.caps.context - 20


async def collect(engine: Engine, request: GenRequest) -> tuple[list[int], Finished, list[Event]]:
    events = [event async for event in await engine.submit(request)]
    finished = [event for event in events if isinstance(event, Finished)]
    assert finished == events[-1:], "exactly one Finished, and it comes last"
    return [token for event in events if isinstance(event, Tokens) for token in event.ids], finished[0], events


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["llamacpp", "llamacpp worker", "exllamav2"])
async def engine(request: pytest.FixtureRequest, llama: Path, long_gguf: Path) -> AsyncIterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "exllamav2":
            if reason := exllamav2_missing():
                pytest.skip(reason)
            built: Engine = install_exllamav2(patch, llama)
            await built.load(ModelSpec(str(llama), "small", OPTIONS))
        else:
            built = make_engine("llamacpp", worker=request.param.endswith("worker"))
            await built.load(ModelSpec(str(long_gguf), "small", LLAMACPP))
        yield built
        await built.unload()


@pytest.fixture
def in_process(engine: Engine) -> Engine:
    """Engines that take a mask as the object it is; the worker takes compiled grammars only (test_worker)."""
    if type(engine).__name__ == "WorkerEngine":
        pytest.skip("masks cross to a worker as a grammar's spec")
    return engine


async def test_greedy_is_what_transformers_generates(engine: Engine, llama: Path, greedy: Any) -> None:
    ids = prompt(37)
    tokens, finished, events = await collect(engine, ask(ids, 24))
    assert tokens == greedy(llama, ids, 24)
    assert (finished.reason, finished.prompt, finished.cached, finished.new) == ("length", 37, 0, 24)
    assert isinstance(events[0], Started)
    assert finished.prefill_s >= 0
    assert finished.decode_s > 0


async def test_concurrent_requests_that_arrive_staggered_each_get_their_own_tokens(
    engine: Engine, llama: Path, greedy: Any
) -> None:
    prompts = [prompt(length) for length in (5, 90, 1, 33, 300, 17, 64, 2)]
    handles = []
    for ids in prompts:
        handles.append(asyncio.create_task(collect(engine, ask(ids, 20))))
        for _ in range(3):
            await asyncio.sleep(0)
    for ids, (tokens, finished, _) in zip(prompts, await asyncio.gather(*handles), strict=True):
        assert tokens == greedy(llama, ids, 20), f"prompt of {len(ids)}"
        assert (finished.prompt, finished.new) == (len(ids), 20)


async def test_tokens_arrive_while_the_request_runs(engine: Engine) -> None:
    request = ask(prompt(10), most(engine))
    handle = await engine.submit(request)
    kinds = []
    async for event in handle:
        kinds.append(type(event))
        if kinds.count(Tokens) == 2:
            assert engine.stats().active == 1
            break
    assert Finished not in kinds
    engine.cancel(request.id)
    *_, last = [event async for event in handle]
    assert isinstance(last, Finished)
    assert 2 <= last.new < most(engine)


async def test_prefill_progress_grows_to_the_length_of_the_prompt(engine: Engine) -> None:
    _, _, events = await collect(engine, ask(prompt(300), 2))
    progress = [event for event in events if isinstance(event, Prefill)]
    assert [event.total for event in progress] == [300] * len(progress)
    assert [event.done for event in progress] == sorted(event.done for event in progress)
    assert progress[-1].done == 300


async def test_cancel_ends_a_running_request_and_is_idempotent(engine: Engine) -> None:
    request = ask(prompt(8), most(engine))
    engine.cancel("nobody")
    handle = await engine.submit(request)
    seen = 0
    async for event in handle:
        if isinstance(event, Tokens):
            seen += len(event.ids)
            engine.cancel(request.id)
            engine.cancel(request.id)
        if isinstance(event, Finished):
            assert event.reason == "cancelled"
            assert seen <= event.new < most(engine)
    engine.cancel(request.id)
    _, finished, _ = await collect(engine, ask(prompt(8), 3))
    assert finished.reason == "length"


async def test_cancel_ends_a_waiting_request(engine: Engine) -> None:
    running = [ask(prompt(8), most(engine)) for _ in range(OPTIONS["max_batch"])]
    waiting = ask(prompt(8), most(engine))
    handles = [await engine.submit(request) for request in [*running, waiting]]
    engine.cancel(waiting.id)
    events = [event async for event in handles[-1]]
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].new) == ("cancelled", 0)
    for request in running:
        engine.cancel(request.id)
    for handle in handles[:-1]:
        assert [event async for event in handle][-1].reason == "cancelled"  # type: ignore[union-attr]


async def test_a_full_queue_refuses_and_recovers(engine: Engine) -> None:
    room = OPTIONS["max_batch"] + OPTIONS["queue"]
    requests = [ask(prompt(4), most(engine)) for _ in range(room)]
    handles = [await engine.submit(request) for request in requests]
    with pytest.raises(EngineBusy):
        await engine.submit(ask(prompt(4), 1))
    for request in requests:
        engine.cancel(request.id)
    for handle in handles:
        assert [event async for event in handle][-1].reason == "cancelled"  # type: ignore[union-attr]
    _, finished, _ = await collect(engine, ask(prompt(4), 1))
    assert finished.reason == "length"


async def test_a_prompt_without_room_is_too_long_and_max_new_is_clamped(engine: Engine) -> None:
    context = engine.caps.context
    with pytest.raises(TooLong, match=str(context)):
        await engine.submit(ask(prompt(context), 5))
    tokens, finished, _ = await collect(engine, ask(prompt(context - 12), 5000))
    assert (finished.reason, finished.new) == ("length", len(tokens))
    assert 0 < len(tokens) <= 12


async def test_bad_requests_are_refused_by_name(engine: Engine) -> None:
    with pytest.raises(BadRequest, match="empty"):
        await engine.submit(ask([], 5))
    with pytest.raises(BadRequest, match="token ids"):
        await engine.submit(ask([5, 100000], 5))


async def test_a_stop_id_ends_the_request_and_is_its_last_token(engine: Engine, llama: Path, greedy: Any) -> None:
    ids = prompt(20)
    expected = greedy(llama, ids, 30)
    stop = expected[12]
    tokens, finished, _ = await collect(engine, ask(ids, 30, stop_ids=frozenset({stop})))
    assert tokens == expected[: expected.index(stop) + 1]
    assert (finished.reason, finished.new) == ("stop", len(tokens))


async def test_a_request_that_names_what_says_nothing_does_not_end_with_it(
    engine: Engine, llama: Path, greedy: Any
) -> None:
    ids = prompt(20)
    stop = frozenset(greedy(llama, ids, 1))
    assert (await collect(engine, ask(ids, 3, stop_ids=stop)))[0] == [*stop]
    tokens, _, _ = await collect(engine, ask(ids, 3, stop_ids=stop, blank=stop))
    assert tokens[0] not in stop


async def test_the_same_seed_gives_the_same_tokens_whoever_shares_the_batch(engine: Engine) -> None:
    ids = prompt(12)
    sampling = Sampling(temperature=1.0, top_p=0.95, seed=42)
    alone, _, _ = await collect(engine, ask(ids, 30, sampling))
    among = await asyncio.gather(
        collect(engine, ask(prompt(40), 30, Sampling(temperature=1.3))),
        collect(engine, ask(ids, 30, sampling)),
        collect(engine, ask(ids, 30, Sampling(temperature=1.0, top_p=0.95, seed=43))),
    )
    assert among[1][0] == alone
    assert among[2][0] != alone


async def test_a_repeated_prompt_is_cached_to_the_token(engine: Engine, llama: Path, greedy: Any) -> None:
    ids = prompt(300)
    first, finished, _ = await collect(engine, ask(ids, 10))
    assert finished.cached == 0
    longer = [*ids, *first, *prompt(9)]
    tokens, finished, events = await collect(engine, ask(longer, 10))
    assert tokens == greedy(llama, longer, 10)
    unit = getattr(engine, "prefix_unit", 1)
    # The last sampled token was never computed: it is the first of the new ones.
    assert finished.cached == (300 + 10 - 1) // unit * unit
    assert next(event for event in events if isinstance(event, Prefill)).done >= finished.cached


async def test_a_prefix_of_a_running_request_is_shared(engine: Engine, llama: Path, greedy: Any) -> None:
    shared = prompt(300)
    running = ask([*shared, *prompt(3)], 150)
    handle = await engine.submit(running)
    async for event in handle:
        if isinstance(event, Tokens):
            break
    branch = [*shared, *prompt(5)]
    tokens, finished, _ = await collect(engine, ask(branch, 10))
    unit = getattr(engine, "prefix_unit", 1)
    assert finished.cached == 300 // unit * unit
    assert tokens == greedy(llama, branch, 10)
    engine.cancel(running.id)
    assert [event async for event in handle][-1].prompt == 303  # type: ignore[union-attr]


async def test_a_prefix_is_not_shared_across_salts(engine: Engine) -> None:
    ids = prompt(300)
    expected, _, _ = await collect(engine, ask(ids, 2, cache_salt="one"))
    for salt in ("two", ""):
        other, finished, _ = await collect(engine, ask(ids, 2, cache_salt=salt))
        assert (other, finished.cached) == (expected, 0)
    assert (await collect(engine, ask(ids, 2, cache_salt="one")))[1].cached > 0
    short = prompt(60)  # less than a page of the engines that have pages
    await collect(engine, ask(short, 2, cache_salt="one"))
    assert (await collect(engine, ask(short, 2, cache_salt="two")))[1].cached == 0
    assert (await collect(engine, ask(short, 2)))[1].cached == 0
    assert (await collect(engine, ask(short, 2, cache_salt="one")))[1].cached > 0


async def test_an_answer_is_continued_under_its_salt_alone(engine: Engine, llama: Path, greedy: Any) -> None:
    ids = prompt(300)
    first, _, _ = await collect(engine, ask(ids, 150, cache_salt="one"))
    longer = [*ids, *first, *prompt(9)]
    assert (await collect(engine, ask(longer, 5, cache_salt="two")))[1].cached == 0
    tokens, finished, _ = await collect(engine, ask(longer, 5, cache_salt="one"))
    assert finished.cached > 300
    assert tokens == greedy(llama, longer, 5)


async def test_logprobs_are_those_before_the_sampler(engine: Engine, llama: Path) -> None:
    import torch
    import transformers

    ids = prompt(15)
    # A bias that decides the token must not show in its probability.
    bias = Sampling(temperature=0.7, top_k=3, seed=1, logit_bias={77: 100.0})
    tokens, _, events = await collect(engine, ask(ids, 4, bias, logprobs=5))
    assert tokens == [77] * 4
    scores = [score for event in events if isinstance(event, Tokens) for score in event.logprobs]
    model = transformers.AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor([ids + tokens])).logits[0, len(ids) - 1 : -1].log_softmax(-1)
    for score, row in zip(scores, expected, strict=True):
        assert score.token == 77
        assert score.logprob == pytest.approx(float(row[77]), abs=2e-3)
        best = row.topk(5)
        assert [token for token, _ in score.top] == best.indices.tolist()
        assert [value for _, value in score.top] == pytest.approx(best.values.tolist(), abs=2e-3)


class Sequence_:
    """A mask that allows one given sequence, token by token."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens, self.at = list(tokens), 0

    def fill(self, bitmask: Any, index: int) -> bool:
        bitmask[index] = 0
        token = self.tokens[self.at]
        value = 1 << (token % 32)
        bitmask[index, token // 32] = value - (1 << 32) if value >= 1 << 31 else value
        return True

    def accept(self, token: int) -> bool:
        self.at += 1
        return token == self.tokens[self.at - 1]

    def rollback(self, tokens: int) -> None:
        self.at -= tokens

    @property
    def terminated(self) -> bool:
        return self.at == len(self.tokens)


class Broken(Sequence_):
    """A mask that fails at its third token."""

    def fill(self, bitmask: Any, index: int) -> bool:
        if self.at == 2:
            raise RuntimeError("the grammar broke")
        return super().fill(bitmask, index)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.0, seed=3)], ids=["greedy", "sampled"])
async def test_a_mask_decides_the_tokens_and_ends_the_request(in_process: Engine, sampling: Sampling) -> None:
    wanted = [31, 32, 63, 64, 319, 7]
    tokens, finished, _ = await collect(in_process, ask(prompt(9), 50, sampling, mask=Sequence_(wanted)))
    assert tokens == wanted
    assert (finished.reason, finished.new) == ("stop", 6)


async def test_a_mask_that_raises_ends_its_own_request_only(in_process: Engine, llama: Path, greedy: Any) -> None:
    ids = prompt(9)
    broken, healthy = await asyncio.gather(
        collect(in_process, ask(prompt(9), 50, mask=Broken([5, 6, 7, 8]))), collect(in_process, ask(ids, 30))
    )
    assert broken[0] == [5, 6]
    assert broken[1].reason == "error"
    assert "the grammar broke" in str(broken[1].error)
    assert healthy[0] == greedy(llama, ids, 30)


async def test_caps_and_stats_say_what_is_so(engine: Engine) -> None:
    context = (OPTIONS if type(engine).__name__ == "ExllamaEngine" else LLAMACPP)["context"]
    assert (engine.caps.max_batch, engine.caps.context) == (OPTIONS["max_batch"], context)
    assert engine.caps.seed
    assert engine.caps.logprobs
    assert engine.stats().max_batch == OPTIONS["max_batch"]  # at once, not with the worker's next pulse
    await collect(engine, ask(prompt(9), 50))
    stats = engine.stats()
    assert (stats.active, stats.queued, stats.max_batch) == (0, 0, OPTIONS["max_batch"])


@pytest.mark.parametrize("worker", [False, True], ids=["here", "worker"])
async def test_without_a_model_requests_are_refused(worker: bool) -> None:
    with pytest.raises(NotLoaded):
        await make_engine("llamacpp", worker=worker).submit(ask(prompt(3), 3))


@pytest.mark.parametrize("worker", [False, True], ids=["here", "worker"])
async def test_unload_ends_what_runs(worker: bool, long_gguf: Path) -> None:
    built = make_engine("llamacpp", worker=worker)
    await built.load(ModelSpec(str(long_gguf), "small", {**OPTIONS, "context": 32768}))
    handles = [await built.submit(ask(prompt(9), 30000)) for _ in range(6)]
    await built.unload()
    for handle in handles:
        assert [event async for event in handle][-1].reason == "cancelled"  # type: ignore[union-attr]
    with pytest.raises(NotLoaded):
        await built.submit(ask(prompt(3), 3))

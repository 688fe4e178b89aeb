"""The engine of a model on a CPU against transformers on the same weights: `generate`, and its continuous batching.

All arms get the same prompts and lengths, greedy, one torch thread. Rates are tokens per second of this process's CPU
time, which is what an idle core would give and what a busy machine disturbs least; every prompt is new, so that no
prefix is reused. Guessing tokens (`engine.lookup`) is off but in its own figure, whose prompts are said twice: there it
is measured against itself without, and against transformers' own prompt lookup.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from skilldeck_daemon.bench.measure import Measure, interleaved
from skilldeck_daemon.bench.references import weights
from skilldeck_daemon.engine import engines
from skilldeck_daemon.engine.base import Engine, Finished, GenRequest, ModelSpec, Sampling
from skilldeck_daemon.engine.engines import EngineKind
from skilldeck_daemon.engine.models import registry
from skilldeck_daemon.engine.models.source import ModelSource
from skilldeck_daemon.engine.rates import process_memory
from skilldeck_shared.errors import SkilldeckError

SUITE = "Engine (CPU)"
PROMPT = 128
NEW = 128
BATCH = 8
GOALS = {1: "≥ 1.0", BATCH: "≥ 1.3"}
DRAFT = 16

Prompts = list[list[int]]
Arm = Callable[[Prompts], Awaitable[None]]
Sample = Callable[[], Awaitable[float]]


async def measure(model: str, rounds: int, new: int = NEW) -> list[Measure]:
    """Tokens per CPU-second at 1 and at 8 requests, the seconds a load takes and the memory it costs."""
    found = ModelSource.of(registry.resolve_model(model))
    before, _ = process_memory()
    begun = time.perf_counter()
    kind = engines.choose(found)
    engine = kind.make()
    path = str(found.path)
    info = await engine.load(ModelSpec(path, "bench", {"threads": 1, "max_batch": BATCH, "draft_tokens": 0}))
    measures = [
        Measure(SUITE, "load", "s", (time.perf_counter() - begun,), goal="≤ 2 s" if model == "tiny" else ""),
        Measure(SUITE, "memory of the loaded engine", "MiB", ((process_memory()[0] - before) / 2**20,)),
    ]
    source = random.Random(0)

    def rate(arm: Arm, count: int, said: int = 1) -> Sample:
        async def sample() -> float:
            prompts = [[source.randrange(info.vocab) for _ in range(PROMPT // said)] * said for _ in range(count)]
            cpu = time.process_time()
            await arm(prompts)
            return count * new / (time.process_time() - cpu)

        return sample

    arms: dict[str, Arm] = {"ours": lambda prompts: _ours(engine, prompts, new)}
    try:
        reference = await asyncio.to_thread(_transformers, weights(found.path))
    except (ImportError, OSError, ValueError, SkilldeckError) as error:
        print(f"transformers cannot load {found.path.name}: {error}", file=sys.stderr)
    else:
        arms["generate"] = lambda prompts: asyncio.to_thread(_generate, reference, prompts, new)
        arms["lookup"] = lambda prompts: asyncio.to_thread(
            _generate, reference, prompts, new, prompt_lookup_num_tokens=DRAFT
        )
        arms["continuous"] = lambda prompts: asyncio.to_thread(_continuous, reference, prompts, new)
    try:
        for count in (1, BATCH):
            names = [name for name in arms if name != "lookup" and (name != "continuous" or count > 1)]
            samples = await interleaved({name: rate(arms[name], count) for name in names}, rounds)
            name = f"{count} request{'s' if count > 1 else ''} at once"
            for other, title in (("generate", "transformers generate"), ("continuous", "its continuous batching")):
                if other in samples:
                    measures.append(
                        Measure(
                            SUITE,
                            name,
                            "tokens/CPU-s",
                            samples["ours"],
                            title,
                            samples[other],
                            better="higher",
                            goal=GOALS[count],
                        )
                    )
            if len(samples) == 1:
                measures.append(Measure(SUITE, name, "tokens/CPU-s", samples["ours"], better="higher"))
        return measures + await _copying(kind, path, arms, rate, rounds, new)
    finally:
        await engine.unload()


async def _copying(
    kind: EngineKind, path: str, arms: dict[str, Arm], rate: Callable[[Arm, int, int], Sample], rounds: int, new: int
) -> list[Measure]:
    """One request with guesses, on prompts that say everything twice."""
    engine = kind.make()
    await engine.load(ModelSpec(path, "bench", {"threads": 1, "draft_tokens": DRAFT}))
    try:
        copying: dict[str, Arm] = {"ours": lambda prompts: _ours(engine, prompts, new), "without guesses": arms["ours"]}
        if "lookup" in arms:
            copying["transformers' prompt lookup"] = arms["lookup"]
        samples = await interleaved({name: rate(arm, 1, 2) for name, arm in copying.items()}, rounds)
    finally:
        await engine.unload()
    ours = samples.pop("ours")
    return [
        Measure(SUITE, "1 request that copies, tokens guessed", "tokens/CPU-s", ours, name, others, better="higher")
        for name, others in samples.items()
    ]


async def _ours(engine: Engine, prompts: Prompts, new: int) -> None:
    async def one(index: int, ids: list[int]) -> None:
        name = f"bench-{time.monotonic_ns()}-{index}"
        # A salt of its own: nothing is guessed from the answers before.
        request = GenRequest(name, ids, new, Sampling(temperature=0), cache_salt=name)
        async for event in await engine.submit(request):
            if isinstance(event, Finished) and (event.new != new or event.cached > 1):
                raise RuntimeError(f"measured something else: {event}")

    await asyncio.gather(*(one(index, ids) for index, ids in enumerate(prompts)))


def _transformers(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
    return model.eval()


def _generate(model: Any, prompts: Prompts, new: int, **more: int) -> None:
    import torch

    torch.set_num_threads(1)
    out = model.generate(
        torch.tensor(prompts),
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        **more,
    )
    if out.shape[1] != len(prompts[0]) + new:
        raise RuntimeError("generate stopped early")


def _continuous(model: Any, prompts: Prompts, new: int) -> None:
    import torch
    import transformers

    torch.set_num_threads(1)
    settings: Any = transformers.GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=new, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    # A cache for these requests, made once: by default every call makes one that fills the machine's memory.
    blocks = 2 * len(prompts) * -(-(len(prompts[0]) + new) // 256)
    batching = transformers.ContinuousBatchingConfig(num_blocks=blocks, max_batch_tokens=len(prompts) * len(prompts[0]))
    out = model.generate_batch(
        inputs=prompts,
        generation_config=settings,
        continuous_batching_config=batching,
        progress_bar=False,
        persistent_manager=True,  # it sleeps while the other arms run
    )
    if len(out) != len(prompts):
        raise RuntimeError(f"{len(out)} of {len(prompts)} requests came back")

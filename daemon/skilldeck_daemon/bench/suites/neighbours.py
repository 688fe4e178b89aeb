"""Decoding beside busy processes: a machine that is shared makes a model slower in proportion, and no more.

CROWD processes a core do nothing but compute while one request is answered. What is due to the model is its rate alone
times the part of the cores its threads would get if all who want one took turns. Threads that spin while they wait for
each other get less: 0.65 tokens a second where sleeping ones gave 12.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from skilldeck_daemon.bench import endless, local
from skilldeck_daemon.bench.measure import Measure, interleaved
from skilldeck_daemon.bench.suites.real import Server, fresh_client
from skilldeck_daemon.engine.llamacpp import gguf
from skilldeck_daemon.engine.llamacpp.weights import TINY, cores
from skilldeck_daemon.engine.models import registry
from skilldeck_daemon.engine.models.source import ModelSource
from skilldeck_shared.errors import BadRequest

SUITE = "Busy neighbours"
CROWD = 4
SPIN = "while True: pass"


async def measure(model: str, rounds: int) -> list[Measure]:
    """Tokens per second of one request beside busy processes. Raises BadRequest for what is no GGUF."""
    source = ModelSource.of(registry.resolve_model(model))
    if source.kind != "gguf":
        raise BadRequest(f"{model} is {source.what}.", "Give --model a GGUF file.", param="model")
    count = cores()
    threads = 1 if gguf.read(source.path).parameters < TINY else count
    with local.temporary_home() as home:
        # The bundled model would say a sentence and be done.
        served = endless.write(Path(home) / "model.gguf") if source.path == registry.tiny_file() else source.path
        async with (
            local.process(Path(home), str(served), "--engine-options", '{"draft_tokens": 0}') as daemon,
            fresh_client() as client,
        ):
            await daemon.healthy()
            chance = random.Random(0)
            alone, beside = (Server(daemon.url, "none", daemon.child.pid) for _ in range(2))

            async def crowded() -> float:
                async with crowd(CROWD * count):
                    return await beside.sample(client, chance, 1)

            await interleaved({"alone": partial(alone.sample, client, chance, 1), "beside": crowded}, rounds)
    # Each thread has a core to itself alone; beside the crowd all take turns.
    share = min(1.0, count / (CROWD * count + threads))
    due = tuple(share * rate for rate in alone.rates(1))
    name = f"decode beside {CROWD * count} busy processes on {count} cores"
    reference = f"{share:.0%} of its rate alone"
    return [Measure(SUITE, name, "tokens/s", beside.rates(1), reference, due, "higher", goal="≥ 0.8")]


@contextlib.asynccontextmanager
async def crowd(count: int) -> AsyncIterator[None]:
    """So many processes that compute."""
    spinning = [await asyncio.create_subprocess_exec(sys.executable, "-c", SPIN) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
        for process in spinning:
            await process.wait()

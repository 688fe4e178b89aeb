"""From nothing to healthy: the process start, the store, the listeners and the model, against importing what any such
server imports."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from pathlib import Path

from skilldeck_daemon.bench import local
from skilldeck_daemon.bench.measure import Measure, interleaved, timed

SUITE = "Start"
BARE = "import fastapi, sqlalchemy.ext.asyncio, uvicorn"


async def measure(model: str, rounds: int) -> list[Measure]:
    """Seconds from spawning `skilldeckd serve` to GET /health 200."""

    async def start() -> float:
        with local.temporary_home() as home:
            begun = time.perf_counter()
            async with local.process(Path(home), model) as served:
                await served.healthy()
                seconds = time.perf_counter() - begun
            shutil.rmtree(home, ignore_errors=True)
        return seconds

    async def bare() -> None:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", BARE, env=local.environment())
        await child.wait()

    samples = await interleaved({"ours": start, "bare": timed(bare)}, rounds)
    return [
        Measure(
            SUITE,
            "start to healthy",
            "s",
            samples["ours"],
            f"python -c '{BARE}'",
            samples["bare"],
            goal="≤ 0.7 s warm" if model == "tiny" else "",
        ),
    ]

"""Memory: the daemon and its engine with the model loaded, after work, and what others take for the model.

What two of the processes share, as the interpreter and its libraries, is counted once (PSS)."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import httpx

from skilldeck_daemon.bench import local
from skilldeck_daemon.bench.measure import Measure
from skilldeck_daemon.bench.references import Absent, transformers_serve, wheel
from skilldeck_daemon.engine.models import registry

SUITE = "Memory"
REQUESTS = 200
AT_ONCE = 8
MIB = 2**20


async def measure(
    model: str, rounds: int, *, wheel_python: Path | None = None, requests: int = REQUESTS
) -> list[Measure]:
    """MiB when healthy and after `requests`; transformers serve and the wheel beside it."""
    folder = registry.resolve_model(model)
    others: list[tuple[str, int]] = []
    with local.temporary_home() as home:
        async with local.process(Path(home), model) as served:
            await served.healthy()  # compiled from now on: compiling takes memory of its own
        async with local.process(Path(home), model) as served:
            await served.healthy()
            pid = served.child.pid
            engine = children(pid)
            fresh, loaded = proportional_bytes(pid), sum(map(proportional_bytes, engine))
            await _ask(f"{served.url}/v1", requests)
            worked, computed = proportional_bytes(pid), sum(map(proportional_bytes, children(pid)))
    with _or_say("transformers serve"):
        async with transformers_serve(folder) as server:
            others.append((server.name, local.resident_bytes(server.pid)))
    with _or_say("mistralrs"):
        async with wheel(folder, wheel_python) as child:
            others.append((child.name, child.resident))
    whole, goal = ((fresh + loaded) / MIB,), "≤ 200" if model == "tiny" else ""
    beside: list[tuple[str, tuple[float, ...]]] = [(name, (size / MIB,)) for name, size in others]
    beside = beside or [("", ())]
    return [
        *(Measure(SUITE, "daemon and engine, healthy", "MiB", whole, *other, goal=goal) for other in beside),
        Measure(SUITE, "the daemon", "MiB", (fresh / MIB,)),
        Measure(SUITE, "its engine's process", "MiB", (loaded / MIB,)),
        Measure(SUITE, f"the daemon after {requests} requests", "MiB", (worked / MIB,), "healthy", (fresh / MIB,)),
        Measure(SUITE, f"the engine after {requests} requests", "MiB", (computed / MIB,), "healthy", (loaded / MIB,)),
    ]


@contextlib.contextmanager
def _or_say(name: str):  # type: ignore[no-untyped-def]
    try:
        yield
    except Absent as error:
        print(f"{name}: {error}", file=sys.stderr)


def proportional_bytes(pid: int) -> int:
    """Memory of a process, its part of what it shares; resident memory where the kernel does not say."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return local.resident_bytes(pid)


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [int(child) for child in text.split()]


async def _ask(url: str, requests: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=600) as client:

        async def one(number: int) -> None:
            async with gate:
                body = {"model": "default", "input": f"Hello {number}", "max_output_tokens": 16}
                (await client.post("/responses", json=body)).raise_for_status()

        await asyncio.gather(*(one(number) for number in range(requests)))

"""The store at size: list and retrieve over HTTP with many skills, versions and responses, against a tenth of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable

import httpx

from skilldeck_daemon.app import Daemon
from skilldeck_daemon.bench import local
from skilldeck_daemon.bench.measure import Measure, interleaved, timed
from skilldeck_daemon.store.ids import new_id

SUITE = "Store at size"
RESPONSES = 100_000
RESPONSES_SMALL = 10_000


def response(number: int) -> dict[str, object]:
    """A stored response of ordinary size (about 1.5 KB)."""
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": 1_700_000_000 + number,
        "status": "completed",
        "model": "skilldeck-tiny",
        "output": [{"id": new_id("msg"), "type": "message", "content": [{"type": "output_text", "text": "x" * 1000}]}],
        "background": False,
        "previous_response_id": None,
        "conversation": None,
    }


async def fill(daemon: Daemon, count: int) -> list[str]:
    """Store `count` responses; returns some of their ids."""
    repository = daemon.services.store.responses
    ids = []
    for number in range(count):
        one = response(number)
        await repository.create(one, [], False, "bench")
        if number % max(1, count // 200) == 0:
            ids.append(str(one["id"]))
    return ids


async def measure(model: str, rounds: int, sizes: tuple[int, int] = (RESPONSES_SMALL, RESPONSES)) -> list[Measure]:
    """Milliseconds of GET /responses/{id} and of the run list, at `sizes` stored responses (small, large)."""
    small, large = sizes
    with local.temporary_home() as few, local.temporary_home() as many:
        async with (
            local.in_process(few) as (small_daemon, small_client),
            local.in_process(many) as (large_daemon, large_client),
        ):
            ids = {"small": await fill(small_daemon, small), "large": await fill(large_daemon, large)}

            def getting(client: httpx.AsyncClient, known: list[str]) -> Callable[[], Awaitable[float]]:
                cycle = itertools.cycle(random.Random(1).sample(known, len(known)))

                async def get() -> None:
                    (await client.get(f"/responses/{next(cycle)}")).raise_for_status()

                return timed(get)

            def listing(daemon: Daemon) -> Callable[[], Awaitable[float]]:
                async def page() -> None:
                    await daemon.services.runs.list(20)

                return timed(page)

            got = await interleaved(
                {"large": getting(large_client, ids["large"]), "small": getting(small_client, ids["small"])},
                max(100, rounds),
            )
            listed = await interleaved(
                {"large": listing(large_daemon), "small": listing(small_daemon)}, max(100, rounds)
            )
    goal = "≤ 10 ms, ratio about 1"
    return [
        Measure(SUITE, name, "ms", _ms(samples["large"]), f"with {small:,}", _ms(samples["small"]), goal=goal)
        for name, samples in ((f"retrieve among {large:,}", got), (f"list 20 of {large:,}", listed))
    ]


def _ms(samples: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(value * 1000 for value in samples)

"""One measurement: samples of ours beside samples of a named reference, taken in one run, alternately.

Only the ratio travels between machines; the figures are there to see what it was made of. A sample is what one
repetition gave; medians and the middle half (25th to 75th percentile) are reported, never a best case.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Better = Literal["lower", "higher"]
T = TypeVar("T")


@dataclass(frozen=True)
class Measure:
    """Samples in `unit` of one thing; `theirs` are of `reference`, empty when there is nothing to compare with."""

    suite: str
    name: str
    unit: str
    ours: tuple[float, ...]
    reference: str = ""
    theirs: tuple[float, ...] = ()
    better: Better = "lower"
    goal: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Median of ours over median of the reference."""
        return statistics.median(self.ours) / statistics.median(self.theirs) if self.theirs else None

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {
            "suite": self.suite,
            "name": self.name,
            "unit": self.unit,
            "better": self.better,
            "ours": spread(self.ours),
            "reference": {"name": self.reference, **spread(self.theirs)} if self.theirs else None,
            "ratio": self.ratio,
            "goal": self.goal,
            "note": self.note,
        }


def spread(samples: Sequence[float]) -> dict[str, Any]:
    """{n, median, p25, p75, p95} of at least one sample."""
    ordered = sorted(samples)

    def at(fraction: float) -> float:
        position = fraction * (len(ordered) - 1)
        low = int(position)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (position - low)

    return {"n": len(ordered), "median": at(0.5), "p25": at(0.25), "p75": at(0.75), "p95": at(0.95)}


async def interleaved(
    arms: Mapping[str, Callable[[], Awaitable[float]]], rounds: int, warm_up: int = 1
) -> dict[str, tuple[float, ...]]:
    """Run the arms in turn, forth and back (A B … B A), so that a drift of the machine meets all of them alike.

    Args:
        rounds: samples per arm.
        warm_up: repetitions of each arm before the first sample counts.
    """
    names = list(arms)
    for _ in range(warm_up):
        for name in names:
            await arms[name]()
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            samples[name].append(await arms[name]())
    return {name: tuple(values) for name, values in samples.items()}


def prepared(
    prepare: Callable[[], Awaitable[T]], work: Callable[[T], Awaitable[object]]
) -> Callable[[], Awaitable[float]]:
    """The seconds that one repetition of `work` takes, on what `prepare` made for it just before."""

    async def sample() -> float:
        made = await prepare()
        begun = time.perf_counter()
        await work(made)
        return time.perf_counter() - begun

    return sample


def timed(work: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[float]]:
    """The seconds that one repetition of `work` takes."""

    async def sample() -> float:
        begun = time.perf_counter()
        await work()
        return time.perf_counter() - begun

    return sample

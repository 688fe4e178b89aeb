"""What engines say of their speed."""

from __future__ import annotations

import pytest

from skilldeck_daemon.engine import rates
from skilldeck_daemon.engine.rates import Rate


@pytest.mark.parametrize(
    ("steps", "now", "expected"),
    [
        ([], 0.0, 0.0),
        ([(1.0, 10)], 1.1, 0.0),  # how long the first step took is not known
        ([(0.0, 10), (1.0, 10), (2.0, 30)], 2.1, 20.0),
        ([(0.0, 10), (1.0, 10), (2.0, 30)], 8.0, 0.0),  # idle since
        ([(0.0, 32), (8.0, 32)], 9.0, 4.0),  # slow, and at work
        ([(0.0, 32), (8.0, 32)], 23.0, 4.0),  # the next step takes as long
        ([(0.0, 32), (8.0, 32)], 25.0, 0.0),
        ([(0.0, 32), (100.0, 32)], 101.0, 0.0),  # a pause, no step
    ],
)
def test_a_rate_is_of_the_last_seconds_or_of_the_last_slow_step(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[float, int]], now: float, expected: float
) -> None:
    clock = [0.0]
    monkeypatch.setattr(rates.time, "monotonic", lambda: clock[0])
    rate = Rate()
    for at, count in steps:
        clock[0] = at
        rate.add(count)
    clock[0] = now
    assert rate.per_second() == pytest.approx(expected)

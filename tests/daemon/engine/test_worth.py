"""When guesses pay, by given seconds."""

from __future__ import annotations

from skilldeck_daemon.engine.llamacpp.worth import FIRST, LONGEST, StepTime, Worth


def waited(worth: Worth) -> int:
    """Steps until the next guess."""
    steps = 0
    while worth.wait():
        steps += 1
    return steps


def test_checks_that_lose_time_are_made_less_and_less_often_until_one_pays() -> None:
    worth = Worth()
    assert waited(worth) == 0
    found = []
    for _ in range(5):
        worth.checked(right=0, seconds=1.5, one=1.0)
        found.append(waited(worth))
    assert found == [FIRST, 2 * FIRST, 4 * FIRST, LONGEST, LONGEST]
    # Three tokens in the time of two and a half.
    worth.checked(right=2, seconds=2.5, one=1.0)
    assert waited(worth) == 0
    # Two of eight were right, and nine rows cost 3.4 steps: that is a loss, too.
    worth.checked(right=2, seconds=3.4, one=1.0)
    assert waited(worth) == FIRST
    # A text that is all guessed has no step of one token to compare with.
    worth.checked(right=0, seconds=9.0, one=0.0)
    assert waited(worth) == 0


def test_the_time_of_a_step_follows_the_machine() -> None:
    step = StepTime()
    assert step.seconds == 0
    for _ in range(40):
        step.add(1.0)
    assert abs(step.seconds - 1.0) < 1e-9
    for _ in range(40):
        step.add(2.0)
    assert 1.99 < step.seconds <= 2.0

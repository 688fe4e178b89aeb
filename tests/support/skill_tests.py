"""A folder's tests run once each, for tests of what is seen of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skilldeck_tui.client.client import Client
from skilldeck_tui.skill_tests.cases import Case
from skilldeck_tui.skill_tests.matrix.asked import Asked, make_plan
from skilldeck_tui.skill_tests.matrix.runner import evaluate
from skilldeck_tui.skill_tests.suite import Result, result_of


async def results(client: Client, folder: Path, cases: Sequence[Case]) -> list[Result]:
    """In the order of `cases`."""
    plan = await make_plan(client, folder, cases, Asked(seed=0))
    done = await evaluate(client, plan)
    return [result_of(plan.skill, case, trial) for case, trial in zip(cases, done.trials, strict=True)]

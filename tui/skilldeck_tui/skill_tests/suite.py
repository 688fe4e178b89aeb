"""The tests of one folder, run once each on one model and not kept: what the TUI does on save.

`skilldeck test` runs matrices (`runner.py`), which are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skilldeck_tui.client.client import Client
from skilldeck_tui.client.types import Object
from skilldeck_tui.skill_tests.cases import Case, EvalError
from skilldeck_tui.skill_tests.plan import Try
from skilldeck_tui.skill_tests.reading import load_cases
from skilldeck_tui.skill_tests.statistics import failures
from skilldeck_tui.skill_tests.trial import run_trial
from skilldeck_tui.skill_tests.variants import LATEST, Versions

__all__ = ["Case", "EvalError", "Result", "load_cases", "run_cases"]


NOT_JUDGED = "not judged: it has sentences alone; `skilldeck test --judge MODEL` judges them"


@dataclass
class Result:
    """How a test ended. `failures` is empty when it passed; `commands` are (command, exit code or None)."""

    skill: str
    case: Case
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    run_id: str = ""
    commands: list[tuple[str, int | None]] = field(default_factory=list)
    answer: str = ""

    @property
    def passed(self) -> bool:
        return not self.failures


async def run_cases(
    client: Client,
    folder: Path,
    cases: Sequence[Case],
    *,
    model: str = "default",
    jobs: int = 1,
    environment: Object | None = None,
    started: Callable[[Case], None] | None = None,
    finished: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Upload the folder and run its tests, `jobs` at a time; results come in the order of `cases`. Cancelling cancels
    the runs. Raises the upload's errors; an error of a run is a failure of its test.

    `environment`: further fields of the environment that commands run in.
    """
    versions = Versions(client, folder)
    variant, skill = await versions.resolve(LATEST), await versions.name()
    slots = asyncio.Semaphore(max(1, jobs))

    async def one(case: Case) -> Result:
        async with slots:
            if started is not None:
                started(case)
            attempt = Try(case, model, variant, 0, None, "", "")
            result = result_of(skill, case, await run_trial(client, attempt, skill, environment=environment))
            if finished is not None:
                finished(result)
            return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(case)) for case in cases]
    return [task.result() for task in tasks]


def result_of(skill: str, case: Case, trial: Object) -> Result:
    """A trial as the TUI shows it."""
    commands = [(entry["command"], entry["exit_code"]) for entry in trial["commands"]]
    reasons = [NOT_JUDGED] if trial["status"] == "not_judged" else failures(trial)
    return Result(skill, case, reasons, trial["seconds"], trial["run_id"], commands, trial["answer"])

"""Skill tests inside the TUI: one suite a folder, run in the background whichever mode is shown.

`SkillTests` owns the runs; screens read `suites`. A folder has at most one suite under way: starting it again (a save
came meanwhile) cancels the one before, and its runs with it. Nothing is kept from one start of the TUI to the next; the
runs themselves stay in the daemon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from skilldeck_shared.errors import SkilldeckError

if TYPE_CHECKING:
    from skilldeck_tui.client.client import Client
    from skilldeck_tui.skill_tests.suite import Case, Result


@dataclass
class Suite:
    """The tests of one folder: `results` has an entry for each that ended, `error` why they could not be run."""

    folder: Path
    cases: list[Case] = field(default_factory=list)
    started: set[str] = field(default_factory=set)
    results: dict[str, Result] = field(default_factory=dict)
    error: SkilldeckError | None = None
    running: bool = True

    @staticmethod
    def key(case: Case) -> str:
        """Names are unique within a file only."""
        return f"{case.source}:{case.name}"

    @property
    def passed(self) -> int:
        return sum(result.passed for result in self.results.values())

    @property
    def failed(self) -> list[Result]:
        return [result for result in self.results.values() if not result.passed]


class SkillTests:
    """Call everything in the event loop; `changed` is called after each step and must not block."""

    def __init__(self, client: Callable[[], Client], changed: Callable[[], None]) -> None:
        self.suites: dict[Path, Suite] = {}
        self._client = client
        self._changed = changed
        self._tasks: dict[Path, asyncio.Task[None]] = {}

    def start(self, folder: Path) -> None:
        before = self._tasks.pop(folder, None)
        suite = self.suites[folder] = Suite(folder)
        self._tasks[folder] = asyncio.create_task(self._run(suite, before))
        self._changed()

    def stop(self, folder: Path) -> None:
        """Cancel the folder's suite; what ended so far stays visible."""
        if (task := self._tasks.get(folder)) is not None:
            task.cancel()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, suite: Suite, before: asyncio.Task[None] | None) -> None:
        def started(case: Case) -> None:
            suite.started.add(suite.key(case))
            self._changed()

        def finished(result: Result) -> None:
            suite.results[suite.key(result.case)] = result
            self._changed()

        from skilldeck_tui.skill_tests.suite import load_cases, run_cases

        try:
            if before is not None:
                before.cancel()
                await asyncio.wait([before])
            suite.cases = await asyncio.to_thread(load_cases, suite.folder)
            self._changed()
            await run_cases(self._client(), suite.folder, suite.cases, started=started, finished=finished)
        except SkilldeckError as error:
            suite.error = error
        finally:
            suite.running = False
            self._changed()

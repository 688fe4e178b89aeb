"""Skill tests inside the TUI: one suite a folder, run in the background whichever mode is shown; and its matrix.

`SkillTests` owns the runs; screens read `suites`. A folder has at most one suite under way: starting it again (a save
came meanwhile) cancels the one before, and its runs with it. Every suite is kept in the daemon as an evaluation, so
that a version has its pass rate and the next one is compared with it. After a save only tests that it can have changed
are run: all of them when the skill itself is another, else those whose prompt, files or checks are.

A matrix (`evaluate`) is the last two versions and none, a few tries each; it is one more evaluation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from skilldeck_shared.errors import NotFound, SkilldeckError
from skilldeck_shared.skills.bundle import digest, scan

if TYPE_CHECKING:
    from skilldeck_tui.client.client import Client
    from skilldeck_tui.client.types import Object
    from skilldeck_tui.skill_tests.matrix.plan import Plan, Try
    from skilldeck_tui.skill_tests.suite import Case, Result

MATRIX_RUNS = 3
KEPT = 50
"""Suites of a skill that are kept; a watched skill keeps as many versions."""
TESTS = ("evals/", "samples/")
"""What lies here is of the tests, not of what the model is given to work with."""


@dataclass
class Suite:
    """The tests of one folder: `results` has an entry for each that ended, `error` why they could not be run.

    `before` says of each test whether it passed with the version before; `unaffected` are those that were not run
    again, since nothing of them changed.
    """

    folder: Path
    cases: list[Case] = field(default_factory=list)
    started: set[str] = field(default_factory=set)
    results: dict[str, Result] = field(default_factory=dict)
    before: Mapping[str, bool] = field(default_factory=dict)
    unaffected: set[str] = field(default_factory=set)
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

    @property
    def gained(self) -> int:
        """Tests that pass and did not with the version before."""
        return sum(result.passed and not self.before.get(key, True) for key, result in self.results.items())

    @property
    def lost(self) -> int:
        return sum(not result.passed and self.before.get(key, False) for key, result in self.results.items())


@dataclass(frozen=True)
class Signature:
    """What a suite depended on: the digest of the skill without its tests, and that of each test."""

    skill: str
    cases: Mapping[str, str]


class SkillTests:
    """Call everything in the event loop; `changed` is called after each step and must not block."""

    def __init__(self, client: Callable[[], Client], changed: Callable[[], None]) -> None:
        self.suites: dict[Path, Suite] = {}
        self._client = client
        self._changed = changed
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._matrices: dict[Path, asyncio.Task[None]] = {}
        self._asked: dict[Path, Signature] = {}

    def start(self, folder: Path, *, saved: bool = False) -> None:
        """Run the folder's tests; `saved`: only those that the save can have changed."""
        last, before = self.suites.get(folder), self._tasks.pop(folder, None)
        suite = self.suites[folder] = Suite(folder)
        self._tasks[folder] = asyncio.create_task(self._run(suite, before, last if saved else None))
        self._changed()

    def stop(self, folder: Path) -> None:
        """Cancel the folder's suite; what ended so far stays visible."""
        if (task := self._tasks.get(folder)) is not None:
            task.cancel()

    async def close(self) -> None:
        tasks = [*self._tasks.values(), *self._matrices.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, suite: Suite, before: asyncio.Task[None] | None, last: Suite | None) -> None:
        from skilldeck_tui.skill_tests.matrix.asked import Asked, make_plan
        from skilldeck_tui.skill_tests.matrix.runner import evaluate
        from skilldeck_tui.skill_tests.suite import result_of
        from skilldeck_tui.skill_tests.written.reading import load_cases

        def started(one: Try) -> None:
            suite.started.add(suite.key(one.case))
            self._changed()

        def finished(trial: Object) -> None:
            key = f"{trial['source']}:{trial['test']}"
            suite.results[key] = result_of(plan.skill, cases[key], trial)
            self._changed()

        client, folder = self._client(), suite.folder
        try:
            if before is not None:
                before.cancel()
                await asyncio.wait([before])
            suite.cases = await asyncio.to_thread(load_cases, folder)
            cases = {suite.key(case): case for case in suite.cases}
            asked = await asyncio.to_thread(_asked, folder, suite.cases)
            self._spare(suite, last, asked)
            self._changed()
            affected = [case for key, case in cases.items() if key not in suite.unaffected]
            plan = await make_plan(client, folder, affected, Asked(seed=0))
            suite.before = await _before(client, plan)
            if plan.cases:
                done = await evaluate(
                    client,
                    plan,
                    again=last is None,
                    started=started,
                    finished=finished,
                )
                await self._keep_some(client, plan.skill, done.evaluation)
            self._asked[folder] = asked
        except SkilldeckError as error:
            suite.error = error
        finally:
            suite.running = False
            self._changed()

    def _spare(self, suite: Suite, last: Suite | None, asked: Signature) -> None:
        """Take over the results that cannot have changed."""
        known = self._asked.get(suite.folder)
        if last is None or known is None or known.skill != asked.skill or last.error is not None:
            return
        for key, result in last.results.items():
            if known.cases.get(key) is not None and known.cases.get(key) == asked.cases.get(key):
                suite.results[key] = result
                suite.unaffected.add(key)

    async def _keep_some(self, client: Client, skill: str, evaluation: Object) -> None:
        """This suite is marked as one, and those beyond the newest `KEPT` go."""
        await client.put_evaluation({**evaluation, "suite": True})
        suites = [one for one in (await client.evaluations(skill=skill, limit=1000)).data if one.get("suite")]
        for old in suites[KEPT:]:
            with suppress(NotFound):
                await client.delete_evaluation(str(old["id"]))

    # ------------------------------------------------------------ the matrix

    def evaluating(self, folder: Path) -> bool:
        task = self._matrices.get(folder)
        return task is not None and not task.done()

    def evaluate(self, folder: Path, *, on_error: Callable[[SkilldeckError], None]) -> None:
        """Run the matrix of the folder: this version, the one before, and none; `on_error` hears why it cannot."""

        async def run() -> None:
            try:
                await self._matrix(folder)
            except SkilldeckError as error:
                on_error(error)
            finally:
                self._changed()

        if not self.evaluating(folder):
            self._matrices[folder] = asyncio.create_task(run())

    def stop_evaluating(self, folder: Path) -> None:
        if (task := self._matrices.get(folder)) is not None:
            task.cancel()

    async def _matrix(self, folder: Path) -> None:
        from skilldeck_tui.skill_tests.matrix.asked import Asked, make_plan
        from skilldeck_tui.skill_tests.matrix.runner import evaluate
        from skilldeck_tui.skill_tests.matrix.variants import LATEST, Versions
        from skilldeck_tui.skill_tests.written.reading import load_cases

        client = self._client()
        cases = await asyncio.to_thread(load_cases, folder)
        versions = Versions(client, folder)
        latest = await versions.resolve(LATEST)
        older = [str(one["version"]) for one in await versions.versions() if str(one["version"]) != latest.version]
        asked = Asked(versions=(*older[:1], LATEST), without_skill=True, runs=MATRIX_RUNS, seed=0)
        await evaluate(client, await make_plan(client, folder, cases, asked))


def _asked(folder: Path, cases: list[Case]) -> Signature:
    """Blocks on the disk."""
    from skilldeck_tui.skill_tests.matrix.plan import digest as of

    skill = digest(entry for entry in scan(folder, ignoring=True).entries if not entry.path.startswith(TESTS))
    found = {}
    for case in cases:
        files = [(path.name, of(path.read_bytes().hex())) for path in case.files]
        checks = [[check.kind, check.spec] for check in case.checks]
        # What a check is compared with, or runs, may be any file of the tests.
        own = any(check.kind == "script" or "equals" in str(check.spec) for check in case.checks)
        tests = digest(e for e in scan(folder, ignoring=True).entries if e.path.startswith(TESTS)) if own else ""
        found[Suite.key(case)] = of([case.prompt, files, case.timeout, checks, case.problem, tests])
    return Signature(skill, found)


async def _before(client: Client, plan: Plan) -> dict[str, bool]:
    """How each test ended on the same model with the newest version before this one that it was tried with."""
    model, current = str(plan.models[0]["id"]), int(plan.variants[0].version)
    found: dict[str, tuple[int, bool]] = {}
    for trial in (await client.trials(skill=plan.skill, limit=1000, order="desc")).data:  # of one version the newest
        number = int(trial["version"]) if str(trial["version"]).isdigit() else 0
        if trial["baseline"] or trial["model"] != model or trial["status"] not in ("passed", "failed"):
            continue
        key = f"{trial['source']}:{trial['test']}"
        if 0 < number < current and number > found.get(key, (0, False))[0]:
            found[key] = number, trial["status"] == "passed"
    return {key: passed for key, (_, passed) in found.items()}


async def rates(client: Client, skill: str) -> dict[str, tuple[int, int]]:
    """Of each version that was tested, by its digest: (passed, tried), all models together."""
    found: dict[str, tuple[int, int]] = {}
    for trial in (await client.trials(skill=skill, limit=1000, order="desc")).data:
        if trial["baseline"] or not trial["digest"] or trial["status"] not in ("passed", "failed"):
            continue
        passed, tried = found.get(str(trial["digest"]), (0, 0))
        found[str(trial["digest"])] = (passed + (trial["status"] == "passed"), tried + 1)
    return found

"""Runs an evaluation: every try of its plan, each kept as it ends, so that a kill costs what was under way.

A try whose question (model, prompt, files, skills, seed) was asked before is not asked again: its trial is taken over,
and where only the checks differ the old run is held against the new ones. An evaluation that was cut off is gone on
with by the next one of the same plan, unless the process that runs it still does; so are the runs it left.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from skilldeck_shared.errors import NotFound, SkilldeckError
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.types import Object
from skilldeck_tui.skill_tests.matrix.models import Report, Serving
from skilldeck_tui.skill_tests.matrix.plan import Plan, Try
from skilldeck_tui.skill_tests.matrix.trial import ASKED, Attachments, gone_on_with, judge_again, not_run, run_trial
from skilldeck_tui.skill_tests.statistics import Matrix

KEYS_AT_ONCE = 500
LEFT = 200
"""The newest runs that are looked through for those a killed client left."""
PUBLISHED_SECONDS = 2.0
"""How often the evaluation's own count is written; each trial is published itself."""
IDENTITY = ("id", "object", "created_at", "evaluation_id", "reused", "variant", "version", "source", "test")


@dataclass
class Evaluated:
    """What came out. `reused` tries were answered before; `resumed`: it went on with one that was cut off."""

    evaluation: Object
    trials: list[Object] = field(default_factory=list)
    resumed: bool = False

    @property
    def reused(self) -> int:
        return sum(bool(trial["reused"]) for trial in self.trials)

    @property
    def matrix(self) -> Matrix:
        return Matrix(self.trials)


async def evaluate(
    client: Client,
    plan: Plan,
    *,
    jobs: int = 1,
    seeded: bool = False,
    again: bool = False,
    started: Callable[[Try], None] | None = None,
    finished: Callable[[Object], None] | None = None,
    loading: Report | None = None,
) -> Evaluated:
    """Run the plan, `jobs` tries at a time; trials come in its order. Cancelling cancels the runs; what ended stays.

    A model that cannot be loaded is the error of its tries; those of the others go on.

    Args:
        seeded: the plan's seed was asked for; without, an interrupted evaluation is gone on with under its own.
        again: ask everything, also what was asked before.
    """
    key = await asyncio.to_thread(plan.key, seeded=seeded)
    before = None if again else await _interrupted(client, plan.skill, key)
    if before is not None:
        plan.seed = int(before["seed"])
    tries = await asyncio.to_thread(plan.tries)
    known = {} if again else await _known(client, [one.key for one in tries])
    left = {} if before is None else await _left(client, known, tries)
    for upload in (before or {}).get("uploads") or ():  # of a client that was killed
        with suppress(SkilldeckError):
            await client.delete_file(str(upload))
    begun = {**plan.as_json(), "status": "running", "done": 0, "key": key, "owner": _owner(), "uploads": []}
    done = Evaluated(await client.put_evaluation({**(before or {}), **begun}), resumed=before is not None)
    serving = Serving(client, plan.sources, [name for one in tries for name in _needs(one, plan)], loading)
    run = _Run(client, plan, done, jobs, known, left, serving, started, finished)
    status = "failed"
    try:
        done.trials = await run.all(tries)
        status = "completed"
    except asyncio.CancelledError:
        status = "cancelled"
        raise
    except ExceptionGroup as group:
        raise group.exceptions[0] from group
    finally:
        ended = {**done.evaluation, "status": status, "done": run.ended, "owner": None, "uploads": []}
        with suppress(SkilldeckError):
            done.evaluation = await asyncio.shield(client.put_evaluation(ended))
    return done


class _Slot:
    """One of the tries at a time. It is free once the model is: while one try is looked at the next one runs."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._held = False

    async def __aenter__(self) -> _Slot:
        await self._slots.acquire()
        self._held = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.free()

    def free(self) -> None:
        if self._held:
            self._held = False
            self._slots.release()


class _Run:
    def __init__(
        self,
        client: Client,
        plan: Plan,
        done: Evaluated,
        jobs: int,
        known: dict[str, list[Object]],
        left: dict[str, str],
        serving: Serving,
        started: Callable[[Try], None] | None,
        finished: Callable[[Object], None] | None,
    ) -> None:
        self._client, self._plan, self._done, self._known, self._left = client, plan, done, known, left
        self._slots = asyncio.Semaphore(max(1, jobs))
        self._started, self._finished = started, finished
        self._published = asyncio.get_running_loop().time()
        self._asked: dict[tuple[str, str], asyncio.Future[Object]] = {}
        self._attachments = Attachments(client, self._uploaded)
        self._uploads: list[str] = []
        self._serving = serving
        self.ended = 0

    async def all(self, tries: Sequence[Try]) -> list[Object]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(one)) for one in tries]
        finally:
            await asyncio.shield(self._close())
        return [task.result() for task in tasks]

    async def _close(self) -> None:
        await self._attachments.close()
        await self._serving.close()

    async def _one(self, one: Try) -> Object:
        async with _Slot(self._slots) as slot:
            trial = await self._answered(one, slot)
            mine = self._done.evaluation["id"]
            if trial.get("evaluation_id") != mine:
                trial = await self._client.add_trial({**trial, "evaluation_id": mine})
            self.ended += 1
            if self._finished is not None:
                self._finished(trial)
            await self._publish()
            for model in _needs(one, self._plan):
                await self._serving.over(model)
            return trial

    async def _answered(self, one: Try, slot: _Slot) -> Object:
        """A trial of this try: of before, of the same question in another column, or of a run of its own."""
        key = (one.key, one.checks_key)
        if (same := self._asked.get(key)) is not None:
            return _taken_over(await asyncio.shield(same), one)
        answer = self._asked[key] = asyncio.get_running_loop().create_future()
        try:
            trial = await self._before(one)
            if trial is None:
                trial = await self._run(one, slot)
            answer.set_result(trial)
            return trial
        finally:
            if not answer.done():
                answer.cancel()

    async def _run(self, one: Try, slot: _Slot) -> Object:
        """A run of its own."""
        try:
            for model in _needs(one, self._plan):
                await self._serving.needed(model)
        except SkilldeckError as error:
            return not_run(one, self._plan.skill, str(error))
        if self._started is not None:
            self._started(one)
        return await run_trial(
            self._client,
            one,
            self._plan.skill,
            environment=self._plan.environment,
            judge=self._plan.judge,
            attachments=self._attachments,
            over=slot.free,
        )

    async def _before(self, one: Try) -> Object | None:
        """What is known of this question: a trial, or the run of one held against these checks."""
        mine = self._done.evaluation["id"]
        known = [trial for trial in self._known.get(one.key, ()) if trial["status"] != "error"]
        same = [trial for trial in known if trial["checks_key"] == one.checks_key]
        for trial in same:
            named = (trial["variant"], trial["source"], trial["test"])
            if trial["evaluation_id"] == mine and named == (one.variant.label, one.case.source, one.case.name):
                return trial
        for trial in reversed(same):
            return _taken_over(trial, one)
        for trial in reversed(known):
            if trial["run_id"]:
                # The run, or the files it left, may be gone: then it is asked again.
                with suppress(SkilldeckError):
                    for judge in _needs(one, self._plan)[1:]:
                        await self._serving.needed(judge)
                    return await judge_again(self._client, one, self._plan.skill, trial["run_id"], self._plan.judge)
        if run_id := self._left.pop(one.key, ""):
            with suppress(SkilldeckError, TimeoutError):
                return await gone_on_with(self._client, one, self._plan.skill, run_id, self._plan.judge)
        return None

    async def _publish(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._published >= PUBLISHED_SECONDS:
            self._published = now
            with suppress(SkilldeckError):
                await self._put()

    async def _uploaded(self, id_: str) -> None:
        self._uploads.append(id_)
        await self._put()

    async def _put(self) -> None:
        state = {**self._done.evaluation, "done": self.ended, "uploads": list(self._uploads)}
        self._done.evaluation = await self._client.put_evaluation(state)


def _needs(one: Try, plan: Plan) -> list[str]:
    """The models that a try needs, the one that is tried first."""
    judged = plan.judge and any(check.judged for check in one.case.checks)
    return [one.model, *([plan.judge] if judged else [])]


def _taken_over(trial: Object, one: Try) -> Object:
    """A trial of the same question, as the answer to this try."""
    kept = {name: value for name, value in trial.items() if name not in IDENTITY}
    place = {
        "variant": one.variant.label,
        "version": one.variant.version,
        "source": one.case.source,
        "test": one.case.name,
        "number": one.number,
    }
    return {**kept, **place, "reused": True}


async def trials_of(client: Client, evaluation_id: str) -> list[Object]:
    """All trials of an evaluation, in the order they ended."""
    found: list[Object] = []
    while True:
        page = await client.trials(evaluation_id, after=found[-1]["id"] if found else "")
        found += page.data
        if not page.has_more:
            return found


async def _known(client: Client, keys: Sequence[str]) -> dict[str, list[Object]]:
    """Trials of these questions, of whichever evaluation, oldest first."""
    found: dict[str, list[Object]] = {}
    unique = list(dict.fromkeys(keys))
    for start in range(0, len(unique), KEYS_AT_ONCE):
        after = ""
        while True:
            page = await client.trials(keys=unique[start : start + KEYS_AT_ONCE], after=after)
            for trial in page.data:
                found.setdefault(trial["key"], []).append(trial)
            if not page.has_more:
                break
            after = str(page.data[-1]["id"])
    return found


async def _left(client: Client, known: dict[str, list[Object]], tries: Sequence[Try]) -> dict[str, str]:
    """Runs that were under way when their client was killed, by the key of their question: they go on without it."""
    wanted = {one.key for one in tries} - known.keys()
    found: dict[str, str] = {}
    for run in (await client.runs(limit=LEFT)).data:
        key = str((run.get("metadata") or {}).get(ASKED, ""))
        if key in wanted:
            found.setdefault(key, str(run["id"]))
    return found


async def _interrupted(client: Client, skill: str, key: str) -> Object | None:
    """The newest evaluation of this plan that did not end, unless somebody runs it."""
    with suppress(NotFound):
        for evaluation in (await client.evaluations(skill=skill, limit=50)).data:
            if evaluation.get("key") == key and evaluation["status"] != "completed":
                return None if _alive(evaluation.get("owner")) else evaluation
            if evaluation.get("key") == key:
                return None
    return None


def _owner() -> Object:
    return {"pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str:
    """When a process began, in the kernel's own count: a pid alone is given out again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _alive(owner: object) -> bool:
    if not isinstance(owner, dict) or not owner.get("started"):
        return False
    mine = owner["pid"] == os.getpid()
    return not mine and _started(int(owner["pid"])) == owner["started"]

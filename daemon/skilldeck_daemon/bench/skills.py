"""`skilldeckd bench --skills MODEL…`: does a model finish tasks with skills, and what is each part of ours worth.

Every model does every task in every arm (`skill_runs.py`), greedily, on the same loaded weights. What counts is what
ran and what the answer and the files hold (`skill_tasks`), so a busy machine changes nothing. Counts come with their
95 % interval (Wilson), as twenty tasks say less than they seem to.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skilldeck_daemon.bench.grounding import counted
from skilldeck_daemon.bench.skill_runs import ARMS, Arm, Bench
from skilldeck_daemon.bench.skill_tasks import Deed, Task, Verdict, judge, load
from skilldeck_daemon.core import Core
from skilldeck_daemon.runner import RunnerSettings
from skilldeck_shared.errors import BadRequest

Z = 1.96  # of 95 %


@dataclass(frozen=True)
class Result:
    """`runs`: the task is about commands that run, or that none does; `late`: see tasks.toml."""

    model: str
    arm: str
    task: str
    verdict: Verdict
    deed: Deed
    runs: bool = True
    late: bool = False

    @classmethod
    def read(cls, line: str) -> Result:
        """One line of a file of results."""
        raw = json.loads(line)
        commands = [(command, code) for command, code in raw["deed"].pop("commands")]
        deed, verdict = Deed(**raw.pop("deed"), commands=commands), Verdict(**raw.pop("verdict"))
        return cls(verdict=verdict, deed=deed, **raw)

    def line(self) -> str:
        return json.dumps({**asdict(self), "verdict": self.verdict._asdict()})


def run(
    models: Sequence[str],
    arms: Sequence[str] = (),
    tasks: Sequence[str] = (),
    as_json: bool = False,
    engine_options: dict[str, Any] | None = None,
    kept: Path | None = None,
    fresh: bool = False,
) -> int:
    """Carry out and print; returns the exit status.

    Args:
        arms, tasks: names, or beginnings of names, of those that are wanted; empty: all.
        kept: a file of results, one a line: what is in it is not done again, and what is done is added.
        fresh: the tasks that check what was mended (fresh.toml), not the others.
    """
    chosen_arms = _chosen(ARMS, arms, "arm")
    chosen_tasks = _chosen(load(fresh=fresh), tasks, "task")
    there = [Result.read(line) for line in kept.read_text().splitlines()] if kept and kept.exists() else []
    done = {(result.model, result.arm, result.task): result for result in there}
    for model in models:
        asyncio.run(_measure(model, chosen_arms, chosen_tasks, engine_options or {}, done, kept))
    wanted = {task.name for task in chosen_tasks}
    results = [result for result in done.values() if result.task in wanted]
    if as_json:
        print("[" + ",\n".join(result.line() for result in results) + "]")
    else:
        print(table(results, chosen_arms))
        by_name = {task.name: task for task in chosen_tasks}
        print(counted((by_name[result.task], result.deed, result.verdict) for result in results))
    return 0


def _chosen(there: Sequence[Any], names: Sequence[str], what: str) -> list[Any]:
    whole = {one.name for one in there}
    found = [
        one
        for one in there
        if not names or any(one.name == name if name in whole else one.name.startswith(name) for name in names)
    ]
    for name in names:
        if not any(one.name.startswith(name) for one in found):
            known = "; ".join(one.name for one in there)
            raise BadRequest(f"There is no {what} {name!r}.", f"There is: {known}.", param=what)
    return found


async def _measure(
    model: str,
    arms: Sequence[Arm],
    tasks: Sequence[Task],
    engine_options: dict[str, Any],
    done: dict[tuple[str, str, str], Result],
    kept: Path | None,
) -> None:
    left = [(arm, task) for arm in arms for task in tasks if (Path(model).stem, arm.name, task.name) not in done]
    for loaded in {str(arm.loaded): arm.loaded for arm, _ in left}.values():
        with tempfile.TemporaryDirectory(prefix="skilldeck-bench-") as home:
            options: dict[str, Any] = {"model": model, "engine_options": engine_options, **loaded}
            async with Core(RunnerSettings(data_dir=Path(home), skills="off", **options)) as core:
                await core.load_model()
                bench = Bench(core)
                for arm, task in left:
                    if arm.loaded == loaded:
                        result = await _result(bench, model, task, arm)
                        done[result.model, result.arm, result.task] = result
                        if kept is not None:
                            with kept.open("a", encoding="utf-8") as file:
                                file.write(f"{result.line()}\n")


async def _result(bench: Bench, model: str, task: Task, arm: Arm) -> Result:
    deed = await bench.carry_out(task, arm)
    verdict = judge(task, deed)
    said = "right" if verdict.right else f"{'ran, ' if verdict.ran else ''}{verdict.why}"
    print(f"{arm.name} · {task.name}: {said}", file=sys.stderr, flush=True)
    return Result(Path(model).stem, arm.name, task.name, verdict, deed, bool(task.ran or task.idle), task.late)


def wilson(good: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    if not of:
        return 0.0, 1.0
    share, weight = good / of, Z * Z / of
    middle = (share + weight / 2) / (1 + weight)
    reach = Z * math.sqrt(share * (1 - share) / of + weight / (4 * of)) / (1 + weight)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def table(results: Sequence[Result], arms: Sequence[Arm]) -> str:
    """One line a model and arm, and one more for the late tasks: how often the skill ran (of the tasks in which
    something is to run, or nothing), how often all was right, turns and tokens a task."""
    lines = ["| model | arm | tasks | ran | right | turns | tokens |", "|---|---|---|---|---|---|---|"]
    for model in dict.fromkeys(result.model for result in results):
        for arm in arms:
            whole = [result for result in results if (result.model, result.arm) == (model, arm.name)]
            for which, of in (("all", whole), ("late", [result for result in whole if result.late])):
                if not of or (which == "late" and len(of) == len(whole)):
                    continue
                running = [result for result in of if result.runs]
                ran = _share(sum(result.verdict.ran for result in running), len(running))
                right = _share(sum(result.verdict.right for result in of), len(of))
                turns, tokens = (sum(getattr(one.deed, name) for one in of) / len(of) for name in ("turns", "tokens"))
                lines.append(f"| {model} | {arm.name} | {which} | {ran} | {right} | {turns:.1f} | {tokens:.0f} |")
    return "\n".join(lines)


def _share(good: int, of: int) -> str:
    low, high = wilson(good, of)
    return f"{good}/{of} ({low:.0%}–{high:.0%})"

"""`skilldeck test`: run the tests of skill folders, in as many columns as asked, and say what came out.

For people as lines and a table, as JSON lines, and as JSON, JUnit, Markdown and HTML files.
"""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import typer

from skilldeck_shared.errors import BadRequest
from skilldeck_shared.paths import expanded
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.common import Json, connected
from skilldeck_tui.cli.complete import complete_model
from skilldeck_tui.cli.running.allowed import Allow, Env
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.types import Object
from skilldeck_tui.network import network
from skilldeck_tui.skill_tests.cases import Case, EvalError
from skilldeck_tui.skill_tests.matrix.asked import SEEDS, Asked, make_plan
from skilldeck_tui.skill_tests.matrix.plan import Plan, Try
from skilldeck_tui.skill_tests.matrix.runner import Evaluated, evaluate
from skilldeck_tui.skill_tests.matrix.variants import LATEST, parse_names
from skilldeck_tui.skill_tests.reports.html import page
from skilldeck_tui.skill_tests.reports.junit import junit as junit_document
from skilldeck_tui.skill_tests.reports.summary import summarise
from skilldeck_tui.skill_tests.reports.text import markdown, terminal, version_name
from skilldeck_tui.skill_tests.statistics import failures
from skilldeck_tui.skill_tests.triggers import trigger_cases, triggers_of
from skilldeck_tui.skill_tests.written.reading import load_cases


def run_tests(
    ctx: typer.Context,
    folders: Annotated[list[Path], typer.Argument(help="Skill folders with evals/evals.json or evals/*.yaml.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="The model's name.", autocompletion=complete_model)
    ] = "default",
    models: Annotated[
        str, typer.Option("--models", help="Several models: a,b. Those of this disk are loaded for it.")
    ] = "",
    versions: Annotated[
        str,
        typer.Option("--versions", help="3,5,latest: numbers, latest (the folder), default, folders, git revisions."),
    ] = "",
    without_skill: Annotated[bool, typer.Option("--without-skill", help="Also without the skill: its lift.")] = False,
    among: Annotated[Path | None, typer.Option("--among", help="A folder of skills to mount beside it.")] = None,
    trigger: Annotated[
        bool, typer.Option("--trigger", help="Only whether it is opened, among all skills of the daemon.")
    ] = False,
    runs: Annotated[int, typer.Option("--runs", "-n", min=1, max=1000, help="Tries of each test.")] = 1,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=SEEDS, help="Of the first try; what was asked with it is kept.")
    ] = None,
    judge: Annotated[
        str, typer.Option("--judge", help="A model that judges sentences.", autocompletion=complete_model)
    ] = "",
    min_pass: Annotated[
        float | None, typer.Option("--min-pass", min=0, max=100, help="Per cent that must pass; all when left out.")
    ] = None,
    against: Annotated[
        str, typer.Option("--no-regression-against", help="Fail when a test does worse than with this version.")
    ] = "",
    again: Annotated[bool, typer.Option("--again", help="Ask also what was asked before.")] = False,
    only: Annotated[str, typer.Option("--only", "-k", help="Only tests whose name contains this.")] = "",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Tries at a time.")] = 1,
    junit: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML here.")] = None,
    report: Annotated[
        list[Path] | None, typer.Option("--report", help="Also write a report: .html, .md or .json. Repeatable.")
    ] = None,
    allow: Allow = None,
    env: Env = None,
    json: Json = False,
) -> None:
    """Run the tests of skill folders (evals/evals.json, evals/*.yaml) on models of this machine.

    A test is {name, prompt, files, timeout, expect: {commands, exit_codes, files, answer, …}}; commands and answer are
    regular expressions that must be found, exit_codes what every command may end with, files what must be made. The
    page docs/evals.md has them all. The matrix is tests by models and versions; it is kept, and goes on after a kill.
    """
    asked = Asked(
        models=tuple(parse_names(models)) or (model,),
        versions=tuple(parse_names(versions)) or (LATEST,),
        without_skill=without_skill,
        among=among,
        runs=runs,
        seed=seed,
        judge=judge,
        jobs=jobs,
        only=only,
        again=again,
        allow=tuple(allow or ()),
        env=tuple(env or ()),
        against=against,
        min_pass=min_pass,
        trigger=trigger,
    )

    async def work() -> int:
        for path in report or ():
            if path.suffix not in (".html", ".md", ".json"):
                raise BadRequest(f"{path} is no .html, .md or .json file.", param="report")
        for folder in folders:
            _cases(folder, asked)  # everything is checked before anything starts
        async with connected(ctx, start=True, ready=True) as client:
            done = await run_and_print(client, folders, asked, as_json=json)
        if junit is not None:
            write_junit(junit, done)
        reports = [summarise(one.evaluation, one.trials, against=against) for one in done]
        for path in report or ():
            for found, one in zip(reports, done, strict=True):
                write_report(_place(path, found, len(reports)), found, one.trials)
        return (
            out.OK if all([passes(found, one, asked) for found, one in zip(reports, done, strict=True)]) else out.FAILED
        )

    out.perform(work(), json)


def passes(report: Object, done: Evaluated, asked: Asked) -> bool:
    """Whether the exit code is 0: no certain regression and enough passed where that was asked, else every try passed.
    A version before the subject, and the baseline, may fail."""
    mine = [column for column in report["columns"] if column["variant"] == report["subject"]]
    if any(found["certain"] for found in report["regressions"]):
        return False
    if asked.min_pass is not None:
        # What could not be run or judged has not passed.
        for column in mine:
            total = column["tried"] + column["not_judged"] + column["errors"]
            if not total or 100 * column["passed"] / total < asked.min_pass:
                return False
        return bool(mine)
    if asked.against:
        return any(column["tried"] for column in mine)
    return all(trial["status"] == "passed" for trial in done.trials if trial["variant"] == report["subject"])


async def run_and_print(
    client: Client, folders: Sequence[Path], asked: Asked | None = None, *, as_json: bool = False
) -> list[Evaluated]:
    """Run the tests of the folders, one folder after the other, printing each try as it ends, then the table."""
    asked = asked or Asked()
    done: list[Evaluated] = []
    for folder in folders:
        cases = [case for case in _cases(folder, asked) if asked.only.lower() in case.name.lower()]
        if not cases:
            continue
        environment = network(asked.allow, [expanded(folder).resolve().name], asked.env)
        plan = await make_plan(client, folder, cases, asked, environment=environment)
        done.append(await _run(client, plan, asked, as_json))
    if asked.only and not done:
        raise EvalError(f"No test's name contains {asked.only!r}.")
    trials = [trial for one in done for trial in one.trials]
    if not as_json:
        counts = {
            status: sum(t["status"] == status for t in trials) for status in ("passed", "failed", "not_judged", "error")
        }
        seconds = sum(trial["seconds"] for trial in trials if not trial["reused"])
        line = f"{counts['passed']} passed, {counts['failed']} failed"
        line += f", {counts['not_judged']} not judged" if counts["not_judged"] else ""
        line += f", {counts['error']} could not be run" if counts["error"] else ""
        reused = sum(one.reused for one in done)
        line += f" in {seconds:.1f} s" + (f"; {reused} were asked before" if reused else "")
        out.note(line, "red" if counts["failed"] or counts["error"] else "green")
    return done


def _cases(folder: Path, asked: Asked) -> list[Case]:
    return trigger_cases(folder) if asked.trigger else load_cases(folder)


async def _run(client: Client, plan: Plan, asked: Asked, as_json: bool) -> Evaluated:
    ended = 0
    told: set[str] = set()
    total = len(plan.cases) * len(plan.models) * len(plan.variants) * plan.runs
    wide = len(plan.models) * len(plan.variants) * plan.runs > 1
    if asked.trigger and not plan.among:
        out.note(f"{plan.skill} stands alone, so nothing is chosen: name other skills with --among DIR", "yellow")

    def started(one: Try) -> None:
        out.draw(f"testing {one.case.name}", ended / total, f"{ended} of {total}")

    def finished(trial: Object) -> None:
        nonlocal ended
        ended += 1
        if as_json:
            out.data_json(_as_line(trial))
            return
        _line(trial, wide, briefly=trial["reused"] and trial["run_id"] in told)
        told.add(trial["run_id"])

    done = await evaluate(
        client,
        plan,
        jobs=asked.jobs,
        seeded=asked.seed is not None,
        again=asked.again,
        started=started,
        finished=finished,
        loading=out.draw,
    )
    report = summarise(done.evaluation, done.trials, against=asked.against)
    if as_json:
        out.data_json(report)
    else:
        for line in terminal(report):
            out.data(out.safe(line))
    for chosen in triggers_of(plan.skill, plan.cases, done.trials) if asked.trigger else ():
        if as_json:
            out.data_json(chosen.as_json())
            continue
        for line in chosen.lines():
            out.data(out.safe(line))
    if wide and not as_json:
        out.note(f"kept as {done.evaluation['id']}; seeds from {plan.seed}", "dim")
    return done


def _as_line(trial: Object) -> Object:
    """A trial with the fields that `--json` had before trials were kept."""
    more = {"file": trial["source"], "name": trial["test"], "passed": trial["status"] == "passed"}
    return {**trial, **more, "failures": failures(trial), "run_id": trial["run_id"] or None}


def _line(trial: Object, wide: bool, *, briefly: bool) -> None:
    """`briefly`: its reasons stand above, at the column that the same question was asked for."""
    words = {"passed": ("PASS", "green"), "failed": ("FAIL", "red"), "error": ("FAIL", "red")}
    word, style = words.get(trial["status"], ("NOT JUDGED", "yellow"))
    where = f" [{trial['model']}, {version_name(trial)}, try {trial['number'] + 1}]" if wide else ""
    took = "asked before" if trial["reused"] else f"{trial['seconds']:.1f} s"
    out.data(f"{out.paint(word, style, sys.stdout)} {trial['skill']}: {out.safe(trial['test'])}{where} ({took})")
    if briefly:
        return
    for failure in failures(trial):
        out.data(f"     {out.safe(failure)}")
    if trial["status"] != "passed" and trial["run_id"] and not trial["baseline"]:
        out.data(f"     look at it: skilldeck --run {trial['run_id']}")


# ------------------------------------------------------------ files


def write_junit(path: Path, done: Sequence[Evaluated]) -> None:
    """JUnit XML of what ran. Raises BadRequest when it cannot be written."""
    document = junit_document([(one.evaluation, one.trials) for one in done])
    text = ElementTree.tostring(document, encoding="unicode")
    _write(path, f"<?xml version='1.0' encoding='utf-8'?>\n{text}\n", "junit")


def write_report(path: Path, report: Object, trials: Sequence[Object]) -> None:
    """One report, in the form its name says. Raises BadRequest when it cannot be written."""
    if path.suffix == ".html":
        text = page(report, trials)
    elif path.suffix == ".md":
        text = markdown(report)
    else:
        text = json_text.dumps({**report, "trials": list(trials)}, ensure_ascii=False, indent=2) + "\n"
    _write(path, text, "report")


def _place(path: Path, report: Object, count: int) -> Path:
    """Several skills have a file each."""
    return path if count == 1 else path.with_stem(f"{path.stem}-{report['evaluation']['skill']}")


def _write(path: Path, text: str, param: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {error.strerror}.", param=param) from error

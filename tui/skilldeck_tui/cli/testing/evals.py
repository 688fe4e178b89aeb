"""`skilldeck evals`: the files that hold tests, and the evaluations that were kept."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from skilldeck_shared.errors import BadRequest
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.common import Json, connected
from skilldeck_tui.cli.testing.evals_add import add
from skilldeck_tui.cli.testing.test import write_report
from skilldeck_tui.skill_tests.cases import EvalError
from skilldeck_tui.skill_tests.matrix.runner import trials_of
from skilldeck_tui.skill_tests.reports.summary import summarise
from skilldeck_tui.skill_tests.reports.text import percent, terminal
from skilldeck_tui.skill_tests.statistics import Cell
from skilldeck_tui.skill_tests.written import convert
from skilldeck_tui.skill_tests.written.reading import read_file

evals_app = typer.Typer(help="Tests of skills: their files, and the evaluations that were kept.", no_args_is_help=True)
evals_app.command("add")(add)


@evals_app.command("convert")
def convert_file(
    file: Annotated[Path, typer.Argument(help="evals/evals.json or evals/NAME.yaml of a skill.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here instead of printing.")] = None,
) -> None:
    """Write tests in the other form: evals.json as YAML, YAML as evals.json."""

    async def work() -> None:
        folder = file.resolve().parent.parent
        if not file.is_file():
            raise EvalError(f"There is no file {file}.")
        if file.suffix not in (".json", ".yaml", ".yml"):
            raise EvalError(f"{file} is no .json and no .yaml file.")
        cases = read_file(folder, file)
        text = convert.as_yaml(cases, folder) if file.suffix == ".json" else convert.as_json(cases, folder)
        for lost in convert.lost(cases):
            out.note(f"left out, nobody knows this kind: {lost}", "yellow")
        for case in cases:
            if case.problem:
                out.note(f"{case.name}: {case.problem}", "yellow")
        if output is None:
            out.data(text, end="")
            return
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise BadRequest(f"{output} cannot be written: {error.strerror}.", param="output") from error

    out.perform(work())


@evals_app.command("list")
def list_evaluations(
    ctx: typer.Context,
    skill: Annotated[str, typer.Option("--skill", help="Only those of this skill.")] = "",
    json: Json = False,
) -> None:
    """The evaluations that were kept, newest first."""

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            found = (await client.evaluations(skill=skill)).data
        if json:
            out.data_json(found)
            return
        for one in found:
            when = datetime.fromtimestamp(one["created_at"]).strftime("%Y-%m-%d %H:%M")
            columns = ", ".join([*one["models"], *(variant["label"] for variant in one["variants"])])
            out.data(
                f"{one['id']}  {when}  {one['skill']}: {one['done']} of {one['total']}, {one['status']} ({columns})"
            )

    out.perform(work(), json)


@evals_app.command("show")
def show_evaluation(
    ctx: typer.Context,
    evaluation: Annotated[str, typer.Argument(help="Its id, or last.")] = "last",
    against: Annotated[str, typer.Option("--against", help="Compare with this version.")] = "",
    report: Annotated[list[Path] | None, typer.Option("--report", help="Write a report: .html, .md or .json.")] = None,
    json: Json = False,
) -> None:
    """What came out of an evaluation that was kept."""

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            if evaluation == "last":
                newest = (await client.evaluations(limit=1)).data
                if not newest:
                    raise BadRequest("No evaluation is kept.", "Run one: skilldeck test FOLDER", param="evaluation")
                found = newest[0]
            else:
                found = await client.evaluation(evaluation)
            trials = await trials_of(client, found["id"])
        summary = summarise(found, trials, against=against)
        for path in report or ():
            write_report(path, summary, trials)
        if json:
            out.data_json(summary)
            return
        for line in terminal(summary):
            out.data(out.safe(line))
        cell = Cell(trials)
        out.note(f"{found['skill']}: {cell.passed} of {cell.tried} passed ({percent(cell.rate)}), {found['status']}")

    out.perform(work(), json)


@evals_app.command("rm")
def remove_evaluation(
    ctx: typer.Context, evaluation: Annotated[str, typer.Argument(help="Its id.")], json: Json = False
) -> None:
    """Delete an evaluation with its trials; the runs stay."""

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            gone = await client.delete_evaluation(evaluation)
        out.data_json(gone) if json else out.note(f"{evaluation} is deleted")

    out.perform(work(), json)

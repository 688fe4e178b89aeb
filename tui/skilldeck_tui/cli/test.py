"""`skilldeck test`: run the tests of skill folders and say what failed, for people, as JSON lines, as JUnit."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import typer

from skilldeck_shared.errors import BadRequest
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.allowed import Allow, network
from skilldeck_tui.cli.common import Json, connected
from skilldeck_tui.cli.complete import complete_model
from skilldeck_tui.client.client import Client
from skilldeck_tui.skill_tests.suite import EvalError, Result, load_cases, run_cases

# What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def run_tests(
    ctx: typer.Context,
    folders: Annotated[list[Path], typer.Argument(help="Skill folders with evals/*.yaml.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="The model's name.", autocompletion=complete_model)
    ] = "default",
    only: Annotated[str, typer.Option("--only", "-k", help="Only tests whose name contains this.")] = "",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Tests at a time.")] = 1,
    junit: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML here.")] = None,
    allow: Allow = None,
    json: Json = False,
) -> None:
    """Run the tests of skill folders (evals/*.yaml) on the daemon's model.

    A test is {name, prompt, files, timeout, expect: {commands, exit_codes, files, answer}}; commands and answer are
    regular expressions that must be found, exit_codes what every command may end with, files what must be made.
    """

    async def work() -> int:
        for folder in folders:
            load_cases(folder)  # everything is checked before anything starts
        async with connected(ctx, start=True, ready=True) as client:
            results = await run_and_print(
                client, folders, model=model, only=only, jobs=jobs, as_json=json, allow=allow or ()
            )
        if junit is not None:
            write_junit(junit, results)
        return out.OK if all(result.passed for result in results) else out.FAILED

    out.perform(work(), json)


async def run_and_print(
    client: Client,
    folders: Sequence[Path],
    *,
    model: str = "default",
    only: str = "",
    jobs: int = 1,
    as_json: bool = False,
    allow: Sequence[str] = (),
) -> list[Result]:
    """Run the tests of the folders, one folder after the other, printing each result as it comes."""
    results: list[Result] = []
    ended = 0

    def finished(result: Result) -> None:
        nonlocal ended
        ended += 1
        _json_line(result) if as_json else _line(result)

    chosen = [
        (folder, [case for case in load_cases(folder) if only.lower() in case.name.lower()]) for folder in folders
    ]
    total = sum(len(cases) for _, cases in chosen)
    for folder, cases in chosen:
        results += await run_cases(
            client,
            folder,
            cases,
            model=model,
            jobs=jobs,
            environment=network(allow, [folder.expanduser().resolve().name]),
            started=lambda case: out.draw(f"testing {case.name}", ended / total, f"{ended} of {total}"),
            finished=finished,
        )
    if only and not results:
        raise EvalError(f"No test's name contains {only!r}.")
    if not as_json:
        failed = sum(not result.passed for result in results)
        seconds = sum(result.seconds for result in results)
        text = f"{len(results) - failed} passed, {failed} failed in {seconds:.1f} s"
        out.note(text, "red" if failed else "green")
    return results


def _json_line(result: Result) -> None:
    out.data_json(result.as_json())


def _line(result: Result) -> None:
    mark = out.paint("PASS", "green", sys.stdout) if result.passed else out.paint("FAIL", "red", sys.stdout)
    out.data(f"{mark} {result.skill}: {result.case.name} ({result.seconds:.1f} s)")
    for failure in result.failures:
        out.data(f"     {out.safe(failure)}")
    if result.failures and result.run_id:
        out.data(f"     look at it: skilldeck --run {result.run_id}")


def write_junit(path: Path, results: Sequence[Result]) -> None:
    """The results as JUnit XML, a suite for each skill. Raises BadRequest when it cannot be written."""
    root = ElementTree.Element("testsuites", name="skilldeck")
    for skill, group in groupby(results, key=lambda result: result.skill):
        suite = list(group)
        element = ElementTree.SubElement(
            root,
            "testsuite",
            name=skill,
            tests=str(len(suite)),
            failures=str(sum(not result.passed for result in suite)),
            errors="0",
            time=f"{sum(result.seconds for result in suite):.3f}",
        )
        for result in suite:
            case = ElementTree.SubElement(
                element,
                "testcase",
                classname=f"{skill}.{Path(result.case.source).stem}",
                name=_xml(result.case.name),
                time=f"{result.seconds:.3f}",
            )
            if result.failures:
                failure = ElementTree.SubElement(case, "failure", message=_xml(result.failures[0]))
                failure.text = _xml("\n".join(result.failures))
            log = [f"$ {command}\n(exit code {code})" for command, code in result.commands]
            ElementTree.SubElement(case, "system-out").text = _xml("\n".join([*log, result.answer]))
    ElementTree.indent(root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {error.strerror}.", param="junit") from error


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)

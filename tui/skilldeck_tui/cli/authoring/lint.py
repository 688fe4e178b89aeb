"""`skilldeck lint`: what is wrong with skill folders, without a daemon (the rules are `skilldeck_shared.lint`)."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.lint import engine, fixing
from skilldeck_shared.lint.rules import Finding
from skilldeck_shared.lint.skill import Neighbour
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.common import Json
from skilldeck_tui.cli.installing.collection import Source, choose
from skilldeck_tui.client.types import Object

_STYLES = {"error": "red", "warning": "yellow", "advice": "cyan"}


def lint(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Skill folders, or folders that hold some. This one when left out.")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended mechanically.")] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="RULE", help="Only this rule. Repeatable.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="RULE", help="Without this rule. Repeatable.")
    ] = None,
    among: Annotated[
        list[Path] | None,
        typer.Option("--among", metavar="DIR", help="Further skills to compare descriptions with. Repeatable."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Advice counts for the exit code, too.")] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules and their reasons.")] = False,
    json: Json = False,
) -> None:
    """Check skill folders against the specification and for what makes runs worse.

    Exits with 1 when there are errors or warnings. A skill turns a rule off for itself with a comment in its SKILL.md:
    <!-- skilldeck-lint: ignore RULE -->
    """
    try:
        if rules:
            _list_rules(json)
            return
        engine.chosen(only or (), ignore or ())
        skills = [skill for folder in folders or [Path()] for skill in found(folder)]
        others = neighbours([*skills, *(skill for folder in among or () for skill in found(folder))])
        looked = [_look(skill, others, only or (), ignore or (), fix) for skill in skills]
        _show_json(looked) if json else _show(looked)
    except SkilldeckError as error:
        out.fail(error, json)
    levels = Counter(finding.level for one in looked for finding in one.findings)
    if levels["error"] or levels["warning"] or (strict and levels["advice"]):
        raise typer.Exit(out.FAILED)


@dataclass(frozen=True)
class Looked:
    """One folder with what is wrong, and what was mended."""

    folder: Path
    findings: list[Finding]
    mended: list[Finding]


def found(folder: Path) -> list[Path]:
    """The skills in a folder: itself or those below it. One that holds none is looked at itself, and says so."""
    if not folder.is_dir():
        raise BadRequest(f"{str(folder)!r} is not a folder.", "Give the folder that holds SKILL.md.", param="folder")
    try:
        return [skill.folder for skill in choose(folder, Source("folder", str(folder)), "", every=True)]
    except BadRequest:
        return [folder]


def neighbours(folders: Sequence[Path]) -> list[Neighbour]:
    return [neighbour for folder in folders if (neighbour := engine.neighbour(folder)) is not None]


def _look(folder: Path, others: Sequence[Neighbour], only: Sequence[str], ignore: Sequence[str], mend: bool) -> Looked:
    def look() -> list[Finding]:
        return engine.lint(folder, others=others, only=only, ignore=ignore)

    mended = fixing.fix(folder, look) if mend else []
    return Looked(folder, look(), mended)


def _show(looked: Sequence[Looked]) -> None:
    levels: Counter[str] = Counter()
    told: set[str] = set()
    for one in looked:
        for finding in one.mended:
            out.note(f"{one.folder / finding.path}: mended {finding.rule}: {finding.cure}", "green")
        for finding in one.findings:
            levels[finding.level] += 1
            level = out.paint(finding.level, _STYLES[finding.level], sys.stdout)
            fixable = out.paint(" (--fix)", "dim", sys.stdout) if finding.fix is not None else ""
            out.data(f"{_place(one.folder, finding)}: {level} {finding.rule}: {out.safe(finding.message)}")
            out.data(f"    {out.safe(finding.cure)}{fixable}")
            if finding.rule not in told:  # a reason is told once
                told.add(finding.rule)
                out.data(f"    {out.paint(engine.RULES[finding.rule].why, 'dim', sys.stdout)}")
    counted = ", ".join(_count(levels[level], level) for level in engine.LEVELS if levels[level])
    style = "red" if levels["error"] else "yellow" if levels["warning"] else "green"
    out.note(f"{_count(len(looked), 'skill')}: {counted or 'nothing found'}", style)


def _place(folder: Path, finding: Finding) -> str:
    path = folder if finding.path == "." else folder / finding.path
    return f"{path}:{finding.line}:{finding.column}" if finding.line else str(path)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 or noun == "advice" else f"{number:,} {noun}s"


def _show_json(looked: Sequence[Looked]) -> None:
    """A list of skills, each with its findings and what was mended."""
    shown: list[Object] = [
        {
            "folder": str(one.folder),
            "findings": [_as_json(finding) for finding in one.findings],
            "mended": [_as_json(finding) for finding in one.mended],
        }
        for one in looked
    ]
    out.data_json(shown)


def _as_json(finding: Finding) -> Object:
    return {**finding.as_json(), "why": engine.RULES[finding.rule].why}


def _list_rules(as_json: bool) -> None:
    every = sorted(engine.RULES.values(), key=lambda rule: (engine.LEVELS.index(rule.level), rule.id))
    if as_json:
        out.data_json([{"id": r.id, "level": r.level, "title": r.title, "why": r.why} for r in every])
        return
    for rule in every:
        level = out.paint(f"{rule.level:<8}", _STYLES[rule.level], sys.stdout)
        out.data(f"{rule.id:<22} {level} {rule.title}")
        out.data(f"{'':<31} {out.paint(rule.why, 'dim', sys.stdout)}")

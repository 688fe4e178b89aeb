"""`skilldeck evals add`: a run becomes a test of its skill; the person says what of it must hold."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from skilldeck_shared.errors import BadRequest
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.common import Json, connected
from skilldeck_tui.skill_tests.recording import Check, Proposal, propose, write


def add(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="The run's id (resp_…).")],
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="The skill's folder, if the run does not name it."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What the test is called; its prompt when left out.")] = "",
    hold: Annotated[str, typer.Option("--hold", metavar="1,3-5", help="The checks that must hold, by number.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take the checks that are ticked.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Take all checks.")] = False,
    json: Json = False,
) -> None:
    """Make a test of a run: its prompt, its files, and what of its commands, files and answer must hold.

    On a terminal it asks which checks are meant. Otherwise say so (--yes, --all, --hold); without that nothing is
    written, and the proposal is shown.
    """

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            proposal = await propose(client, run)
        target = folder or proposal.folder
        chosen = _chosen(proposal, hold, yes=yes, everything=everything)
        if not json:
            _show(proposal)
        if chosen is None and not json and sys.stdin.isatty():
            chosen = _ask(proposal)
        if chosen is None:
            if json:
                out.data_json(proposal.as_json())
            else:
                out.note("Nothing was written. Say which must hold: --yes, --all, or --hold 1,3", "dim")
            return
        if target is None:
            raise BadRequest("The skill's folder is not known here.", "Name it: --folder DIR", param="folder")
        path, called = await asyncio.to_thread(write, proposal, target, chosen, name)
        if json:
            out.data_json(
                {**proposal.as_json(), "written": str(path), "name": called, "held": [c.text for c in chosen]}
            )
            return
        out.data(str(path))
        out.note(f"Next: skilldeck test {target} -k {called!r}", "dim")

    out.perform(work(), json)


def _show(proposal: Proposal) -> None:
    out.data(f"prompt  {out.safe(proposal.name)}")
    for name, data in proposal.files:
        out.data(f"file    {out.safe(name)} ({out.size(len(data))})")
    for number, check in enumerate(proposal.checks, start=1):
        out.data(f"{number:>4} [{'x' if check.ticked else ' '}] {out.safe(check.text)}")


def _chosen(proposal: Proposal, hold: str, *, yes: bool, everything: bool) -> list[Check] | None:
    if hold:
        return [proposal.checks[number - 1] for number in numbers(hold, len(proposal.checks))]
    if everything:
        return list(proposal.checks)
    return [check for check in proposal.checks if check.ticked] if yes else None


def _ask(proposal: Proposal) -> list[Check] | None:
    question = "Which must hold? (1,3-5 · enter: those ticked · n: none)"
    said = str(typer.prompt(question, default="", show_default=False, err=True))
    if said.strip().lower() in ("n", "no", "none"):
        return None
    return _chosen(proposal, said.strip(), yes=True, everything=False)


def numbers(text: str, count: int) -> Sequence[int]:
    """`1,3-5` as numbers, each between 1 and `count`. Raises BadRequest."""
    found: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= count:
            raise BadRequest(f"{part.strip()!r} is none of the checks 1 to {count}.", "Write 1,3-5.", param="hold")
        found |= dict.fromkeys(range(first, last + 1))
    return list(found)

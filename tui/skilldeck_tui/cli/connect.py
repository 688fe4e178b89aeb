"""`skilldeck connect PROGRAM`: an agent program's own settings lead to this daemon, shown before they are written."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_tui.agent_programs import BACKUP, PROGRAMS, Change, Wanted, beside, undo
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.common import Json, context
from skilldeck_tui.client.connect import connect as dial

USUAL = "http://127.0.0.1:1234/v1"


def connect(
    ctx: typer.Context,
    program: Annotated[str, typer.Argument(help=f"One of: {', '.join(PROGRAMS)}.")],
    url: Annotated[str, typer.Option("--url", help="Of the daemon; without it, of the one that runs.")] = "",
    model: Annotated[str, typer.Option("--model", help="The model's name.")] = "default",
    key: Annotated[str, typer.Option("--key", help="The API key, where the daemon wants one.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")] = False,
    back: Annotated[bool, typer.Option("--undo", help="Put back what was there before.")] = False,
    json: Json = False,
) -> None:
    """Write into an agent program's settings that it uses this daemon. What changes is shown first; --undo takes it
    back."""

    async def work() -> int | None:
        wanted = PROGRAMS.get(program)
        if wanted is None:
            raise BadRequest(f"There is no {program!r} here.", f"Use one of: {', '.join(PROGRAMS)}.", param="program")
        if back:
            path = undo(wanted, os.environ)
            out.data_json({"path": str(path), "undone": True}) if json else out.data(f"{path} is as it was before")
            return None
        there, tokens = (url, 0) if url else await _daemon(ctx, model)
        change = Change.of(wanted, Wanted(there, model, key, tokens), os.environ)
        if change.nothing:
            out.data_json({"path": str(change.path), "changed": False}) if json else out.note("Nothing to change.")
            return None
        if not json:
            out.data(out.safe(change.shown()), end="")
        if not (yes or _agreed(change)):
            out.note("Nothing was written; --yes writes it.", "yellow")
            return None
        backup = change.write()
        if json:
            out.data_json({"path": str(change.path), "changed": True, "backup": str(backup)})
        else:
            out.note(f"Written. Before: {beside(change.path, BACKUP)}; back: skilldeck connect {program} --undo")
            if key and program == "codex":
                out.note(f"Codex reads the key from its environment: export SKILLDECK_KEY={key}")
            out.note(f"Try: {wanted.then}")
        return None

    out.perform(work(), json)


def _agreed(change: Change) -> bool:
    return sys.stdin.isatty() and typer.confirm(f"Write {change.path}?", err=True)


async def _daemon(ctx: typer.Context, model: str) -> tuple[str, int]:
    """The URL of the daemon that runs, else the usual one, and the tokens its model is served with, else 0."""
    try:
        client = await dial(context(ctx).socket, start=False, ready=False, report=out.waiting)
    except SkilldeckError:
        return USUAL, 0
    out.progress_off()
    try:
        served = await client.models()
        meant = next((one for one in served if model in (one["id"], "default")), {})
        return client.daemon.http_url if client.daemon is not None else USUAL, meant.get("context") or 0
    finally:
        await client.close()

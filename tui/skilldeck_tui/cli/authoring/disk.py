"""Commands about skills on disk: their list (`skilldeck skills --disk`), trust, untrust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skilldeck_shared.paths import expanded
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.common import Json, connected
from skilldeck_tui.client.client import Client

Project = Annotated[Path, typer.Argument(help="The project's folder.")]


async def show_disk_skills(client: Client, *, as_json: bool) -> None:
    """The skills on disk of the working directory's project and of the home."""
    found, warnings = await client.disk_skills(str(Path.cwd()))
    if as_json:
        out.data_json(found)
    else:
        out.table(
            [(s["name"], s["scope"], "yes" if s["offered"] else "no" if s["trusted"] else "not trusted", s["path"])
             for s in found],
            ("NAME", "SCOPE", "OFFERED", "FOLDER"),
        )  # fmt: skip
    for warning in [*warnings, *(f"{s['name']}: {text}" for s in found for text in s["warnings"])]:
        out.note(warning, "yellow")
    untrusted = sorted({str(s["project"]) for s in found if not s["trusted"]})
    for project in untrusted:
        out.note(f"The skills of {project} are offered once you trust it: skilldeck trust {project}", "yellow")
    if not found and not as_json:
        out.note("No skills on disk. They lie in .agents/skills of a project or of your home.", "dim")


def trust(
    ctx: typer.Context,
    project: Annotated[Path | None, typer.Argument(help="The project's folder; without one, the list.")] = None,
    json: Json = False,
) -> None:
    """Offer a project's own skills (.agents/skills) to the model; without a folder, list the trusted projects."""

    async def work() -> None:
        async with connected(ctx, start=True) as client:
            if project is None:
                found = await client.trusted()
                if json:
                    out.data_json(found)
                else:
                    out.table([(p["path"], out.when(p["trusted_at"])) for p in found], ("PROJECT", "TRUSTED"))
                return
            changed = await client.trust(_absolute(project))
        out.data_json(changed) if json else out.data(f"{changed['path']} is trusted")

    out.perform(work(), json)


def untrust(ctx: typer.Context, project: Project, json: Json = False) -> None:
    """No longer offer a project's own skills."""

    async def work() -> None:
        async with connected(ctx, start=True) as client:
            changed = await client.untrust(_absolute(project))
        out.data_json(changed) if json else out.data(f"{changed['path']} is no longer trusted")

    out.perform(work(), json)


def _absolute(project: Path) -> str:
    return str(expanded(project).absolute())

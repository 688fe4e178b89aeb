"""`skilldeck install`: skills from a Git repository, an archive or a folder, with their origin and digest recorded."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.common import Json, connected
from skilldeck_tui.cli.installing.collection import Fetched
from skilldeck_tui.cli.many import Several, uploaded
from skilldeck_tui.client.client import Client

DESCRIBED = 100


def install(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(help="owner/repo, a Git URL, an archive or its URL, or a folder; #PATH names a folder inside."),
    ],
    ref: Annotated[str, typer.Option("--ref", help="A branch or tag of the repository.")] = "",
    skill: Annotated[
        list[str] | None, typer.Option("--skill", "-s", help="A skill of the source, by name or folder. Repeatable.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Install every skill the source holds.")] = False,
    show: Annotated[bool, typer.Option("--list", help="Only list the skills the source holds.")] = False,
    default: Annotated[bool, typer.Option("--default", help="Serve this version when none is named.")] = False,
    json: Json = False,
) -> None:
    """Install skills from elsewhere. Nothing of them is run; those that cannot be used are listed, and exit with 4."""
    if every and skill:
        raise typer.BadParameter("--all takes all, --skill some", param_hint="--all with --skill")

    async def work() -> int:
        from skilldeck_tui.cli.installing.sources import fetched

        bar = out.progress(f"fetching {source}")
        getting = fetched(source, ref=ref, every=every or show, names=skill or (), progress=bar)
        if show:
            async with getting as found:
                return await asyncio.to_thread(_list, found, json)
        async with connected(ctx, start=True) as client, getting as found:
            return await _install(client, found, default=default, as_json=json)

    out.perform(work(), json)


async def _install(client: Client, found: list[Fetched], *, default: bool, as_json: bool) -> int:
    """Every skill that can be; returns the exit code."""
    from skilldeck_tui.client.upload import read_folder, upload_folder

    several = Several("installed", len(found), as_json)
    names: dict[str, tuple[str, str]] = {}
    for skill in found:
        with several.each(skill.path):
            scanned = await asyncio.to_thread(read_folder, skill.folder, lenient=True, within=skill.within)
            name, digest = scanned.manifest.name, scanned.tree.digest
            other, seen = names.setdefault(name, (skill.path, digest))
            if seen != digest:
                raise BadRequest(
                    f"{other} has the name {name!r} too.", f"Install one of them: --skill {skill.path}", param="source"
                )
            done = await upload_folder(
                client, skill.folder, make_default=default, source=skill.source, origin="install", within=skill.within
            )
            if as_json:
                out.data_json(uploaded(done))
                continue
            what = "unchanged" if done.unchanged else "installed"
            out.data(f"{done.skill['name']} v{done.version['version']} {what} from {skill.source}")
            out.note(f"  digest {done.version['digest']}", "dim")
            several.warn(done)
    return several.end()


def _list(found: list[Fetched], as_json: bool) -> int:
    """Name, folder and description of each; what cannot be read says why. Blocks."""
    rows = []
    code = out.OK
    for skill in found:
        name, about, problem = skill.folder.name, "", None
        try:
            manifest = skill.manifest()
            name, about = manifest.name, manifest.description
        except SkilldeckError as error:
            problem = error.title
        except OSError as error:
            problem = f"SKILL.md cannot be read: {error.strerror}."
        if problem:
            code = out.INVALID
        if as_json:
            out.data_json({"name": name, "path": skill.path, "description": about, "error": problem})
        text = " ".join((f"✗ {problem}" if problem else about).split())
        rows.append((name, skill.path, out.safe(text if len(text) <= DESCRIBED else f"{text[: DESCRIBED - 1]}…")))
    if not as_json:
        out.table(rows, ("NAME", "FOLDER", "DESCRIPTION"))
    return code

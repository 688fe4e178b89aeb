"""`skilldeck install`: skills from a Git repository, a zip or a folder, with their origin and digest recorded."""

from __future__ import annotations

from typing import Annotated

import typer

from skilldeck_tui import cli_output as out
from skilldeck_tui.cli_common import Json, connected


def install(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(help="A Git URL, a zip or its URL, or a folder; #PATH names a folder inside.")
    ],
    ref: Annotated[str, typer.Option("--ref", help="A branch or tag of the repository.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Install every skill the source holds.")] = False,
    default: Annotated[bool, typer.Option("--default", help="Serve this version when none is named.")] = False,
    json: Json = False,
) -> None:
    """Install skills from elsewhere. Nothing of them is run; what validation refuses is not installed."""

    async def work() -> None:
        from skilldeck_tui.install import fetched
        from skilldeck_tui.upload import read_folder, upload_folder

        bar = out.progress(f"fetching {source}")
        async with connected(ctx, start=True) as client, fetched(source, ref=ref, every=every, progress=bar) as found:
            for skill in found:  # all are looked at before the first is installed
                read_folder(skill.folder)
            for skill in found:
                done = await upload_folder(
                    client, skill.folder, make_default=default, source=skill.source, origin="install"
                )
                if json:
                    out.data_json({"skill": done.skill, "version": done.version, "unchanged": done.unchanged})
                    continue
                what = "unchanged" if done.unchanged else "installed"
                out.data(f"{done.skill['name']} v{done.version['version']} {what} from {skill.source}")
                out.note(f"  digest {done.version['digest']}", "dim")

    out.perform(work(), json)

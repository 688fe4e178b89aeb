"""`skilldeck new`: a skill from a template, without a daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.common import Json
from skilldeck_tui.new_skill.make import TEMPLATES, make


def new(
    name: Annotated[str, typer.Argument(help="Its name: lowercase letters, digits and hyphens.")],
    template: Annotated[
        str, typer.Option("--template", "-t", metavar="|".join(TEMPLATES), help="What it begins as.")
    ] = "script",
    description: Annotated[
        str, typer.Option("--description", "-d", help="What it does and when to use it; that of the template if empty.")
    ] = "",
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="Where its folder is made.")] = Path(),
    json: Json = False,
) -> None:
    """Make a skill from a template: SKILL.md, what it runs, and tests that the bundled model passes."""
    try:
        folder = make(name, into, template=template, description=description)
    except SkilldeckError as error:
        out.fail(error, json)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    if json:
        out.data_json({"folder": str(folder), "name": name, "template": template, "files": files})
        return
    for file in files:
        out.data(str(folder / file))
    out.note(
        f"Next: skilldeck test {folder} (with --trigger: does it open) · skilldeck lint {folder} · "
        f"skilldeck watch {folder} --test",
        "dim",
    )

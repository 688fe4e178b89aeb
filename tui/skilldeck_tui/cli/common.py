"""What the commands share: options, the connection, finding a skill by its name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from skilldeck_shared import paths
from skilldeck_shared.errors import NotFound
from skilldeck_tui.cli import output as out
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.connect import connect
from skilldeck_tui.client.types import Object, Page

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@dataclass
class Context:
    """The options before the command's name."""

    socket: Path
    start: bool = True


def context(ctx: typer.Context) -> Context:
    found = ctx.find_object(Context)
    return found or Context(paths.socket_path())


@asynccontextmanager
async def connected(ctx: typer.Context, *, start: bool, ready: bool = False) -> AsyncIterator[Client]:
    """A client for one command. `start`: the command may start a daemon; `ready`: it needs a model that answers."""
    options = context(ctx)
    client = await connect(options.socket, start=start and options.start, ready=ready, report=out.waiting)
    out.progress_off()
    try:
        yield client
    finally:
        await client.close()


async def everything(list_page: object, *args: str) -> list[Object]:
    """All objects of a list method of the client, newest first."""
    found: list[Object] = []
    after = ""
    while True:
        page: Page = await list_page(*args, limit=1000, after=after)  # type: ignore[operator]
        found += page.data
        if not page.has_more or not page.data:
            return found
        after = str(page.data[-1]["id"])


async def find_skill(client: Client, name: str) -> Object:
    """The skill of this id or (newest first) name. Raises NotFound with what there is."""
    skills = await everything(client.skills)
    for skill in skills:
        if name in (skill["id"], skill["name"]):
            return skill
    known = ", ".join(sorted({str(skill["name"]) for skill in skills})[:20])
    raise NotFound(
        f"There is no skill {name!r}.",
        f"There are: {known}." if known else "Upload one: skilldeck upload DIR",
        param="skill",
    )


def split_version(text: str) -> tuple[str, str]:
    """`name@3` as name and version; the version is empty when none is given."""
    name, _, version = text.partition("@")
    return name, version

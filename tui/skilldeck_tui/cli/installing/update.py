"""`skilldeck update`: installed skills brought to what their origin holds now, after the difference was shown."""

from __future__ import annotations

import asyncio
import difflib
import re
import sys
from typing import Annotated

import typer

from skilldeck_shared.errors import BadRequest, NotFound
from skilldeck_shared.skills.bundle import Entry
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.authoring.skills import SHOWN_BYTES, coloured
from skilldeck_tui.cli.common import Json, connected, everything, find_skill
from skilldeck_tui.cli.installing.collection import Fetched
from skilldeck_tui.cli.many import Several, uploaded
from skilldeck_tui.client.client import Client, read_all
from skilldeck_tui.client.types import Object

ORIGIN = re.compile(r"(?P<url>.+)@(?:[0-9a-f]{40,64}|sha256:[0-9a-f]{64})(?:\((?P<ref>[^()#]+)\))?(?:#(?P<path>.*))?")
"""As `install` records where a skill came from: a repository at a commit (of a branch or tag), or a zip of a digest."""


def update(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Skills; without any, all that were installed.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Update without asking.")] = False,
    json: Json = False,
) -> None:
    """Bring installed skills to their origin's newest: shows what differs, then asks (without a terminal: --yes)."""

    async def work() -> int:
        async with connected(ctx, start=True) as client:
            skills = [await find_skill(client, name) for name in names or ()]
            for skill in skills:
                if not ORIGIN.fullmatch(str(skill["source"])):
                    raise BadRequest(
                        f"{skill['name']} was not installed from elsewhere.",
                        "Upload its folder again, or install it from its repository.",
                        param="name",
                    )
            skills = skills or [s for s in await everything(client.skills) if ORIGIN.fullmatch(str(s["source"]))]
            return await _update(client, skills, yes=yes, as_json=json)

    out.perform(work(), json)


async def _update(client: Client, skills: list[Object], *, yes: bool, as_json: bool) -> int:
    from skilldeck_tui.cli.installing.sources import fetched

    several = Several("looked at", len(skills), as_json)
    origins: dict[tuple[str, str], list[Object]] = {}
    for skill in skills:
        url, ref, _ = _origin(skill)
        origins.setdefault((url, ref), []).append(skill)
    for (url, ref), ours in origins.items():
        with several.each(url):
            async with fetched(url, ref=ref, every=True, progress=out.progress(f"fetching {url}")) as found:
                out.progress_off()
                for skill in ours:
                    with several.each(str(skill["name"])):
                        await _one(client, skill, _same(skill, found), several, yes=yes, as_json=as_json)
    return several.end()


def _origin(skill: Object) -> tuple[str, str, str]:
    """URL, branch or tag, folder."""
    match = ORIGIN.fullmatch(str(skill["source"]))
    assert match is not None
    return match["url"], match["ref"] or "", match["path"] or ""


def _same(skill: Object, found: list[Fetched]) -> Fetched:
    """Where it lay, or else by its name: folders move. Raises NotFound."""
    url, _, path = _origin(skill)
    marked = {_origin({"source": item.source})[2]: item for item in found}
    for item in (marked.get(path), *(item for item in found if item.name == skill["name"])):
        if item is not None:
            return item
    raise NotFound(f"{url} holds no skill {skill['name']!r} any more.", "Keep yours, or remove it.", param="source")


async def _one(client: Client, skill: Object, new: Fetched, several: Several, *, yes: bool, as_json: bool) -> None:
    from skilldeck_tui.client.upload import read_folder, upload_folder

    name, latest = str(skill["name"]), str(skill["latest_version"])
    scanned = await asyncio.to_thread(read_folder, new.folder, lenient=True, within=new.within)
    if scanned.manifest.name != name:
        raise BadRequest(
            f"{name} is called {scanned.manifest.name!r} there by now.", f"Install that: {new.source}", param="source"
        )
    if scanned.tree.digest == skill["digest"]:
        if as_json:
            out.data_json({"name": name, "changed": [], "updated": False})
        else:
            out.data(f"{name} v{latest} is the newest")
        return
    changed = await _difference(client, skill, new, scanned.tree.entries, shown=not as_json)
    if not (yes or await _agreed(name)):
        if as_json:
            out.data_json({"name": name, "changed": changed, "updated": False})
        else:
            out.note(f"{name} stays at v{latest}; skilldeck update {name} --yes brings it", "yellow")
        return
    # Whoever keeps an older version as the default has chosen it.
    serves = skill["default_version"] == skill["latest_version"]
    done = await upload_folder(
        client, new.folder, make_default=serves, source=new.source, origin="install", within=new.within
    )
    if as_json:
        out.data_json({"name": name, "changed": changed, "updated": True, **uploaded(done)})
        return
    out.data(f"{name} v{latest} → v{done.version['version']} from {new.source}")
    several.warn(done)


async def _agreed(name: str) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    out.question(f"Update {name}? [y/N] ")
    return (await asyncio.to_thread(sys.stdin.readline)).strip().lower() in ("y", "yes")


async def _difference(
    client: Client, skill: Object, new: Fetched, entries: tuple[Entry, ...], *, shown: bool
) -> list[str]:
    """The paths that differ from the latest version; `shown`: as a unified diff, on stdout."""
    before = {file["path"]: file for file in await client.skill_tree(str(skill["id"]), "latest")}
    after = {entry.path: entry for entry in entries}
    changed = []
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        if was and now and (was["sha256"], was["executable"]) == (now.sha256, now.executable):
            continue
        changed.append(path)
        if not shown:
            continue
        old = await read_all(client.read_skill_file(str(skill["id"]), path, "latest")) if _small(was) else None
        text = (new.folder / path).read_bytes() if now and now.size <= SHOWN_BYTES else b"" if not now else None
        names = (f"{path} v{skill['latest_version']}" if was else "/dev/null", f"{path} new" if now else "/dev/null")
        try:
            first, second = (data.decode().splitlines() for data in (b"" if not was else old, text) if data is not None)
        except ValueError:  # not text, or too much of it
            out.data(f"{path}: binary or large file {'changed' if was and now else 'added' if now else 'removed'}")
            continue
        lines = list(difflib.unified_diff(first, second, *names, lineterm=""))
        out.data("\n".join(coloured("\n".join(lines)) if lines else [f"{path}: its mode"]))
    return changed


def _small(file: Object | None) -> bool:
    return file is not None and file["bytes"] <= SHOWN_BYTES

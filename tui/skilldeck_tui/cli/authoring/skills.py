"""Commands about skills: upload, watch, skills (list, versions, show, promote, delete, diff), test."""

from __future__ import annotations

import asyncio
import difflib
import sys
from pathlib import Path
from typing import Annotated

import typer

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.authoring.disk import show_disk_skills
from skilldeck_tui.cli.common import Json, connected, everything, find_skill, split_version
from skilldeck_tui.cli.complete import complete_skill
from skilldeck_tui.cli.many import Several, uploaded
from skilldeck_tui.client.client import Client, read_all
from skilldeck_tui.client.types import Object, UploadedSkill
from skilldeck_tui.client.upload import upload_folder
from skilldeck_tui.skills.packages import standing
from skilldeck_tui.watching.watcher import FolderWatcher, WatchState

skills_app = typer.Typer(help="Skills in the daemon; without a command, their list.", no_args_is_help=False)

Name = Annotated[str, typer.Argument(help="The skill's name or id.", autocompletion=complete_skill)]
SHOWN_BYTES = 1 << 20


def upload(
    ctx: typer.Context,
    folders: Annotated[list[Path], typer.Argument(help="Skill folders, each with a SKILL.md.")],
    default: Annotated[bool, typer.Option("--default", help="Serve this version when none is named.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Make a new skill even if one has this name.")] = False,
    json: Json = False,
) -> None:
    """Upload skill folders. Content that the daemon has already makes no new version."""

    async def work() -> int:
        several = Several("uploaded", len(folders), json)
        async with connected(ctx, start=True) as client:
            for folder in folders:
                with several.each(str(folder)):
                    bar = out.progress(f"uploading {folder.name}")
                    done = await upload_folder(client, folder, by_name=not new, make_default=default, progress=bar)
                    if json:
                        out.data_json(uploaded(done))
                        continue
                    out.data(_line(done))
                    several.warn(done)
        return several.end()

    out.perform(work(), json)


def _line(done: UploadedSkill) -> str:
    what = "unchanged" if done.unchanged else "uploaded"
    return f"{done.skill['name']} v{done.version['version']} {what} ({done.skill['id']})"


def watch(
    ctx: typer.Context,
    folders: Annotated[list[Path], typer.Argument(help="Skill folders to watch.")],
    default: Annotated[bool, typer.Option("--default", help="Serve each new version when none is named.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Run the skill's evals after every new version.")] = False,
    json: Json = False,
) -> None:
    """Watch skill folders: every save becomes a version, until Ctrl-C."""

    async def work() -> None:
        async with connected(ctx, start=True) as client:
            watcher = FolderWatcher(client, make_default=default)
            for folder in folders:
                watcher.add(folder)
            async with asyncio.TaskGroup() as group:
                group.create_task(watcher.run())
                group.create_task(watcher.follow_daemon())
                group.create_task(_show_states(client, watcher, test=test, as_json=json))

    out.perform(work(), json)


async def _show_states(client: Client, watcher: FolderWatcher, *, test: bool, as_json: bool) -> None:
    async for state in watcher.updates():
        if as_json:
            out.data_json(watch_object(state))
        elif state.state == "uploading" and state.total:
            out.draw(f"{state.folder.name}: uploading", state.done / state.total)
        else:
            style = {"current": "green", "error": "red", "gone": "red", "unreadable": "red", "offline": "yellow"}
            text = state.text if state.state != "starting" else "watching"
            made = " new version" if state.made else ""
            out.data(f"{state.folder.name}: {out.paint(text, style.get(state.state, 'dim'), sys.stdout)}{made}")
            for warning in state.warnings if state.state == "current" else ():
                out.note(f"  {warning}", "yellow")
            if state.error is not None and state.error.hint:
                out.note(f"  {state.error.hint}", "dim")
        if test and state.state == "current" and state.made:
            from skilldeck_tui.cli.testing.test import run_and_print

            try:
                await run_and_print(client, [state.folder], as_json=as_json)
            except SkilldeckError as error:
                out.note(f"error: {error}", "red")


def watch_object(state: WatchState) -> Object:
    """A watch state as JSON."""
    return {
        "folder": str(state.folder), "state": state.state, "text": state.text, "name": state.name or None,
        "skill_id": state.skill_id or None, "version": state.version or None, "made": state.made,
        "bytes_done": state.done, "bytes_total": state.total, "warnings": list(state.warnings),
        "error": None if state.error is None else state.error.body()["error"], "line": state.line,
        "column": state.column, "at": state.at,
    }  # fmt: skip


# ------------------------------------------------------------ skills


@skills_app.callback(invoke_without_command=True)
def list_skills(
    ctx: typer.Context,
    disk: Annotated[bool, typer.Option("--disk", help="Those in .agents/skills of this project and the home.")] = False,
    json: Json = False,
) -> None:
    """Skills in the daemon; without a command, their list."""
    if ctx.invoked_subcommand is not None:
        return

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            if disk:
                await show_disk_skills(client, as_json=json)
                return
            found = await everything(client.skills)
        if json:
            out.data_json(found)
            return
        out.table(
            [
                (s["name"], f"v{s['default_version']}", f"v{s['latest_version']}", s["id"], s.get("source") or "-")
                for s in found
            ],
            ("NAME", "DEFAULT", "LATEST", "ID", "SOURCE"),
        )
        if not found:
            out.note("No skills yet. Upload one: skilldeck upload DIR", "dim")

    out.perform(work(), json)


@skills_app.command()
def versions(ctx: typer.Context, name: Name, json: Json = False) -> None:
    """The versions of a skill, newest first."""

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            skill = await find_skill(client, name)
            found = await everything(client.skill_versions, str(skill["id"]))
        if json:
            out.data_json(found)
            return
        marks = {skill["default_version"]: "default"}
        out.table(
            [
                (f"v{v['version']}", out.when(v["created_at"]), marks.get(v["version"], ""),
                 "watched" if v.get("watched") else "", v.get("source") or "-")
                for v in found
            ],
            ("VERSION", "MADE", "", "", "SOURCE"),
        )  # fmt: skip

    out.perform(work(), json)


@skills_app.command()
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.", autocompletion=complete_skill)],
    path: Annotated[str, typer.Argument(help="A file of it; without one, the list of files.")] = "",
    json: Json = False,
) -> None:
    """The files of a skill, how it stands with its packages, or the content of one file."""

    async def work() -> None:
        wanted, version = split_version(name)
        async with connected(ctx, start=False) as client:
            skill = await find_skill(client, wanted)
            if path:
                out.content()(await read_all(client.read_skill_file(str(skill["id"]), path, version)))
                return
            tree = await client.skill_tree(str(skill["id"]), version)
        if json:
            out.data_json(tree)
            return
        out.table(
            [(f["path"], out.size(f["bytes"]), "x" if f["executable"] else "", f["sha256"][:12]) for f in tree],
            ("PATH", "SIZE", "", "SHA-256"),
        )
        for line, kind in standing(skill) if version in ("", skill["latest_version"]) else ():
            out.note(line, {"warning": "yellow", "error": "red"}.get(kind, "dim"))

    out.perform(work(), json)


@skills_app.command()
def promote(
    ctx: typer.Context,
    name: Name,
    version: Annotated[str, typer.Argument(help="The version, or 'latest'.")] = "latest",
    json: Json = False,
) -> None:
    """Make a version the one that serves when none is named."""

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            skill = await find_skill(client, name)
            changed = await client.set_default_version(str(skill["id"]), version)
        out.data_json(changed) if json else out.data(f"{changed['name']} serves v{changed['default_version']}")

    out.perform(work(), json)


@skills_app.command()
def delete(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="NAME, or NAME@VERSION for one version.", autocompletion=complete_skill)],
    json: Json = False,
) -> None:
    """Delete a skill with all its versions, or one version."""

    async def work() -> None:
        wanted, version = split_version(name)
        async with connected(ctx, start=False) as client:
            skill = await find_skill(client, wanted)
            if version:
                gone = await client.delete_skill_version(str(skill["id"]), version)
            else:
                gone = await client.delete_skill(str(skill["id"]))
        out.data_json(gone) if json else out.data(f"{skill['name']}{f' v{version}' if version else ''} deleted")

    out.perform(work(), json)


@skills_app.command()
def diff(
    ctx: typer.Context,
    name: Name,
    old: Annotated[str, typer.Argument(help="A version.")],
    new: Annotated[str, typer.Argument(help="Another; without it, the latest.")] = "latest",
    json: Json = False,
) -> None:
    """What differs between two versions, as a unified diff. Exits with 1 when anything does."""

    async def work() -> int:
        async with connected(ctx, start=False) as client:
            skill_id = str((await find_skill(client, name))["id"])
            changes = await diff_versions(client, skill_id, old, new)
        if json:
            out.data_json(changes)
        else:
            for change in changes:
                out.data("\n".join(coloured(change["diff"])))
        return out.FAILED if changes else out.OK

    out.perform(work(), json)


async def diff_versions(client: Client, skill_id: str, old: str, new: str) -> list[Object]:
    """What two versions differ in, by path: {path, change: added | removed | changed | mode, diff}. The diff of a
    binary file is one line that says so."""
    before = {file["path"]: file for file in await client.skill_tree(skill_id, old)}
    after = {file["path"]: file for file in await client.skill_tree(skill_id, new)}
    changes: list[Object] = []
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        if was and now and was["sha256"] == now["sha256"]:
            if was["executable"] != now["executable"]:
                mode = "executable" if now["executable"] else "not executable"
                changes.append({"path": path, "change": "mode", "diff": f"{path}: now {mode}"})
            continue
        kind = "changed" if was and now else "added" if now else "removed"
        first = await _lines(client, skill_id, old, was)
        second = await _lines(client, skill_id, new, now)
        if first is None or second is None:
            text = f"{path}: binary or large file {kind}"
        else:
            names = (f"{path} v{old}" if was else "/dev/null", f"{path} v{new}" if now else "/dev/null")
            text = "\n".join(difflib.unified_diff(first, second, *names, lineterm=""))
        changes.append({"path": path, "change": kind, "diff": text})
    return changes


async def _lines(client: Client, skill_id: str, version: str, file: Object | None) -> list[str] | None:
    """The text lines of one file; None when it is not text, or more than a person would read."""
    if file is None:
        return []
    if file["bytes"] > SHOWN_BYTES:
        return None
    content = await read_all(client.read_skill_file(skill_id, str(file["path"]), version))
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError:
        return None


def coloured(text: str) -> list[str]:
    styles = {"+": "green", "-": "red", "@": "cyan"}
    return [out.paint(line, styles.get(line[:1], ""), sys.stdout) if line[:1] in styles else line
            for line in text.splitlines()]  # fmt: skip

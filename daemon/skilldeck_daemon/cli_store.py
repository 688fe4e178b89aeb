"""`skilldeckd backup`, `restore`, `fsck`: the data directory kept safe, whether or not a daemon runs on it.

stdout is data: a line, or JSON with --json. Exit codes: 0 done and sound, 1 not done (nothing was changed; the error
and its fix are on stderr), 3 done, and damage was found (it is listed).
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skilldeck_daemon.settings import Settings, load_settings
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.terminal import say

if TYPE_CHECKING:
    from skilldeck_daemon.store.upkeep.backup import Backup

DAMAGE = 3

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
DataDir = Annotated[Path | None, typer.Option(help="The data directory.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the skills, files and responses that are there.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `skilldeckd`."""
    for command in (backup, restore, fsck):
        app.command()(command)


def backup(
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    data_dir: DataDir = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write skills, files, responses and conversations into one file; the daemon may run meanwhile."""
    from skilldeck_daemon.store.upkeep import backup as backups

    made = backups.make(_data(load_settings(data_dir=data_dir)), target.absolute(), overwrite=overwrite)
    _report(made, f"{target}: {made.blobs} blobs, {made.bytes:,} bytes of content", as_json, str(target))


def restore(
    source: Annotated[Path, typer.Argument(help="The file that `backup` wrote.")],
    data_dir: DataDir = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Make an empty data directory what it was when the backup was made, whole or not at all."""
    from skilldeck_daemon.store.upkeep import backup as backups

    data = _data(load_settings(data_dir=data_dir))
    made = backups.restore(source.absolute(), data, replace=replace)
    _report(made, f"{data}: {made.blobs} blobs, {made.bytes:,} bytes of content", as_json, str(source))


def fsck(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check the schema, the rows and every stored byte; nothing is changed."""
    from skilldeck_daemon.store import open_parts
    from skilldeck_daemon.store.upkeep import fsck as checks

    settings = load_settings(data_dir=data_dir)
    if not settings.database_url and not (settings.data_dir / "skilldeck.db").is_file():
        raise SkilldeckError(f"There is no store in {settings.data_dir}.", "Name the data directory with --data-dir.")
    database, blobs = open_parts(settings.data_dir, settings.database_url, settings.blobs_url)
    report = asyncio.run(checks.check(database, blobs))
    if as_json:
        shown = asdict(report) | {"ok": not report.problems, "orphans": list(report.orphans)}
        say(json.dumps({**shown, "orphan_bytes": sum(report.orphans.values())}))
    else:
        for problem in report.problems:
            say(f"{problem.kind:<9} {problem.what}: {problem.wrong}\n          fix: {problem.fix}")
        say(f"schema {report.schema or '?'}, {report.rows} documents, {report.blobs} blobs, {report.bytes:,} bytes")
        if report.orphans:
            say(f"{len(report.orphans)} blobs ({sum(report.orphans.values()):,} bytes) that nothing names any more")
        say(f"{len(report.problems)} problems" if report.problems else "sound")
    raise typer.Exit(DAMAGE if report.problems else 0)


def _data(settings: Settings) -> Path:
    if settings.database_url:
        raise SkilldeckError(
            "The store is not in the data directory (database_url is set).",
            "Use the database's own tools (pg_dump, pg_restore) and copy the bucket after the dump.",
        )
    return settings.data_dir


def _report(made: Backup, line: str, as_json: bool, name: str) -> None:
    say(json.dumps({"file": name, **asdict(made)}) if as_json else line)
    for sha in made.damaged:
        say(f"damaged when the backup was made, and not in it: {sha}", file=sys.stderr)
    if made.damaged:
        raise typer.Exit(DAMAGE)

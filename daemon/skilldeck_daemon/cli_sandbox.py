"""`skilldeckd sandbox build`: the packages that the model's commands find."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from skilldeck_daemon.settings import load_settings
from skilldeck_shared.skills import base_packages
from skilldeck_shared.terminal import say

sandbox_app = typer.Typer(help="What the model's commands find in their sandbox.", no_args_is_help=True)


@sandbox_app.callback()
def _group() -> None:
    """Keeps `build` a command of its own while it is the only one."""


@sandbox_app.command()
def build(
    more: Annotated[
        list[str] | None, typer.Option("--with", help="A further package: NAME, NAME==1.2, npm:NAME. Repeatable.")
    ] = None,
    minimal: Annotated[
        bool, typer.Option("--minimal", help="Only the readers and writers of documents (no pandas, no Node packages).")
    ] = False,
    data_dir: Annotated[Path | None, typer.Option(help="The data directory.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Install the Python packages (and Node's, where there is npm) that skills use most, for commands alone.

    A running daemon uses them from the next container on. Built again, it brings the newest, and what --with named
    before; --minimal begins anew.
    """
    from skilldeck_daemon.containers.network.indexes import Indexes
    from skilldeck_daemon.containers.packages import base_build
    from skilldeck_daemon.containers.sandbox import bwrap

    settings = load_settings(data_dir=data_dir)
    uid = bwrap.SANDBOX_UID if os.geteuid() == 0 and settings.sandbox != "none" else os.geteuid()
    root = base_build.place_for(settings.data_dir, uid)
    usual = [*base_packages.MINIMAL]
    if not minimal:
        usual = [
            *base_packages.FULL,
            *(base_packages.NPM_MARK + name for name in base_packages.NODE if shutil.which("npm")),
            *base_build.wanted_before(root),
        ]
    every = dict.fromkeys([*usual, *(more or ())])
    wanted = [name for name in every if not name.startswith(base_packages.NPM_MARK)]
    node = [name.removeprefix(base_packages.NPM_MARK) for name in every if name.startswith(base_packages.NPM_MARK)]
    indexes = Indexes(settings.package_index, settings.npm_registry)
    built = base_build.build(root, bwrap.find_python(uid).executable, wanted, node, indexes)
    if as_json:
        say(json.dumps(asdict(built)))
        return
    say(f"{built.packages} packages, {built.bytes / 1e6:.0f} MB, in {built.seconds:.0f} s: {built.folder}")
    if settings.sandbox_python is not None:
        say(f"the setting sandbox_python ({settings.sandbox_python}) comes before it")

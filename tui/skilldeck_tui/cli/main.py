"""`skilldeck`: the terminal UI, and everything it can do as commands.

Without a command it opens the TUI. Commands write data to stdout and everything else to stderr, take `--json`, and end
with the exit codes of `output.py`. The TUI's own modules are imported only when it opens, so commands start fast, and
the usual start of the TUI does not come by here (`opening`).
"""

from __future__ import annotations

import gc
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from skilldeck_shared.version import __version__
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.authoring.disk import trust, untrust
from skilldeck_tui.cli.authoring.lint import lint
from skilldeck_tui.cli.authoring.new import new
from skilldeck_tui.cli.authoring.skills import skills_app, upload, watch
from skilldeck_tui.cli.common import Context
from skilldeck_tui.cli.connect import connect
from skilldeck_tui.cli.daemon import containers_app, files_app, logs, models_app, status, stop
from skilldeck_tui.cli.installing.install import install
from skilldeck_tui.cli.installing.update import update
from skilldeck_tui.cli.rules import rules_app
from skilldeck_tui.cli.running.run import run
from skilldeck_tui.cli.testing.evals import evals_app
from skilldeck_tui.cli.testing.test import run_tests
from skilldeck_tui.cli.web import serve_web
from skilldeck_tui.modes import MODES
from skilldeck_tui.opening import Opening, at, opens

app = typer.Typer(
    name="skilldeck",
    help="Develop and run Agent Skills with a local model. Without a command, the terminal UI opens.",
    epilog=out.EXIT_CODES,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(upload)
app.command()(watch)
app.command()(install)
app.command()(update)
app.command("test")(run_tests)
app.add_typer(evals_app, name="evals")
app.command()(lint)
app.command()(new)
app.add_typer(skills_app, name="skills")
app.command()(trust)
app.command()(untrust)
app.add_typer(files_app, name="files")
app.add_typer(models_app, name="models")
app.add_typer(containers_app, name="containers")
app.add_typer(rules_app, name="rules")
app.command()(status)
app.command()(logs)
app.command()(stop)
app.command()(connect)
app.command("serve-web")(serve_web)


def _version(asked: bool) -> None:
    if asked:
        out.put(sys.stdout, f"{__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    socket: Annotated[
        Path | None, typer.Option("--socket", envvar="SKILLDECK_SOCKET", help="The daemon's control socket.")
    ] = None,
    no_start: Annotated[bool, typer.Option("--no-start", help="Never start a daemon.")] = False,
    run_id: Annotated[str, typer.Option("--run", help="Open the TUI on this run.")] = "",
    screenshot: Annotated[
        Path | None, typer.Option("--screenshot", help="Write a picture (SVG) of the TUI and end.")
    ] = None,
    mode: Annotated[str, typer.Option("--mode", help="Open in: chat, skills, files or daemon.")] = "chat",
    size: Annotated[str, typer.Option("--size", metavar="WxH", help="Of the picture.")] = "120x40",
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    """Develop and run Agent Skills with a local model. Without a command, the terminal UI opens."""
    ctx.obj = Context(at(socket), start=not no_start)
    if ctx.invoked_subcommand is not None:
        gc.enable()  # see `__main__`
        return
    if mode not in MODES:
        raise typer.BadParameter(f"must be one of {', '.join(MODES)}", param_hint="--mode")
    found = re.fullmatch(r"(\d{2,4})x(\d{2,4})", size)
    if found is None:
        raise typer.BadParameter("write it as 120x40", param_hint="--size")
    opening = Opening(ctx.obj.socket, not no_start, run_id, screenshot, mode, (int(found[1]), int(found[2])))
    if code := opens(opening):
        raise typer.Exit(code)

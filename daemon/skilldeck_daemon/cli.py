"""`skilldeckd`: serve, doctor, demo, bench, models, sandbox, backup, restore, fsck. stdout is data, stderr diagnostics.

Exit codes: 0 done, 1 failed (the error and its fix are on stderr), 2 wrong usage, 3 damage found, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from skilldeck_daemon import cli_store, heap
from skilldeck_daemon.cli_models import models_app
from skilldeck_daemon.cli_sandbox import sandbox_app
from skilldeck_daemon.cli_settings import read_object, takes_settings
from skilldeck_daemon.engine import engines
from skilldeck_daemon.settings import Settings, load_settings
from skilldeck_shared.ending import ends_well
from skilldeck_shared.errors import BadRequest, NotFound, SkilldeckError
from skilldeck_shared.terminal import say
from skilldeck_shared.version import __version__

if TYPE_CHECKING:
    from skilldeck_daemon.engine.process.child import Child

INVALID = 4
"""The exit code for what is not there or cannot be meant, as `skilldeck` has it."""

app = typer.Typer(
    name="skilldeckd",
    help="Run Agent Skills on your own machine behind OpenAI's HTTP surface.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(models_app, name="models")
app.add_typer(sandbox_app, name="sandbox")
cli_store.register(app)

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def main() -> None:
    """Entry point of `skilldeckd`."""
    with ends_well():
        try:
            app()
        except SkilldeckError as error:
            fail(error)
        except KeyboardInterrupt:
            sys.exit(130)


def fail(error: SkilldeckError) -> NoReturn:
    say(f"error: {error.title}", file=sys.stderr)
    if error.hint:
        say(f"  fix: {error.hint}", file=sys.stderr)
    sys.exit(INVALID if isinstance(error, (BadRequest, NotFound)) else 1)


def _version(asked: bool) -> None:
    if asked:
        say(__version__)
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Only --version."""


@app.command()
@takes_settings
def serve(flags: dict[str, Any]) -> None:
    """Run the daemon until it is told to stop (SIGINT, SIGTERM, SIGHUP, or a client)."""
    settings = load_settings(**flags)
    _run(lambda: _serve(settings))


def _run(work: Callable[[], Any]) -> None:
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):  # it is not made for Windows
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work())


async def _serve(settings: Settings) -> None:
    heap.give_back()
    gc.disable()  # until it listens: all that is imported by then stays
    spare = await _engine_process(settings)
    from skilldeck_daemon import logs
    from skilldeck_daemon.app import Daemon

    _more_descriptors()
    daemon = Daemon(settings, logs.configure(settings.log_level), spare)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup: it stays when its terminal goes
            loop.add_signal_handler(number, daemon.stopping.set)
    await daemon.start()
    heap.collect_less()
    beside = [asyncio.create_task(work) for work in (_then(daemon.loaded, heap.collect_less), heap.trim())]
    try:
        say(f"skilldeckd {__version__} listens on {daemon.services.http_url} and {settings.socket}", flush=True)
        await daemon.serve()
    finally:
        for task in beside:
            task.cancel()
        await daemon.stop()


async def _then(event: asyncio.Event, act: Callable[[], None]) -> None:
    await event.wait()
    act()


async def _engine_process(settings: Settings) -> Child | None:
    """The first engine's process, started before the daemon imports itself: both take their time."""
    if os.name != "posix" or settings.engine_process == "off" or not settings.model or settings.remote_url:
        return None
    from skilldeck_daemon.engine.process import child

    return await child.start(engines.ahead(settings.engine, settings.model))


def _more_descriptors() -> None:
    """The usual soft limit of 1,024 open files is less than a thousand streaming clients need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine: sandbox, engine, disk, sockets; each problem with its fix."""
    from skilldeck_daemon import doctor as checks

    raise typer.Exit(checks.run(as_json))


@app.command()
def demo() -> None:
    """The whole product in one thread: a skill, a file, the bundled model, its shell call, its answer."""
    from skilldeck_daemon import demo as show

    raise typer.Exit(show.main())


@app.command()
def bench(
    model: Annotated[str, typer.Option(help="Folder, Hugging Face id, or 'tiny'.")] = "tiny",
    suite: Annotated[list[str] | None, typer.Option(help="Only this suite; repeat for several.")] = None,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Check and measure exllamav2 on this machine's GPU, and nothing else.")
    ] = False,
    real: Annotated[
        str, typer.Option("--real", help="Measure this GGUF beside llama.cpp itself, and nothing else.")
    ] = "",
    skills: Annotated[
        list[str] | None,
        typer.Option("--skills", help="Whether this model finishes tasks with skills, and nothing else; repeatable."),
    ] = None,
    arm: Annotated[list[str] | None, typer.Option(help="With --skills: only this way of doing them.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="With --skills: only this task.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="With --skills: the tasks that check what was mended, not the others.")
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option(help="With --skills: a file of results; what is in it is not done again."),
    ] = None,
    engine_options: Annotated[
        str | None, typer.Option(help="With --skills: options of the engine, as a JSON object.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Samples per arm.")] = 5,
    as_json: AsJson = False,
    markdown: Annotated[Path | None, typer.Option(help="Also write the report there, with its chart.")] = None,
    mistralrs_python: Annotated[
        Path | None, typer.Option(help="Interpreter of an environment with the wheel mistralrs, to compare with.")
    ] = None,
) -> None:
    """Measure what is fast here and what is not, each beside a reference in the same run."""
    from skilldeck_daemon import bench as measure

    if skills:
        from skilldeck_daemon.bench import skills as skill_tasks

        options = read_object(engine_options, "--engine-options") if engine_options else {}
        raise typer.Exit(skill_tasks.run(skills, arm or (), task or (), as_json, options, results, fresh))
    suites = (measure.GPU,) if gpu else (measure.REAL,) if real else suite or ()
    raise typer.Exit(measure.run(real or model, suites, rounds, as_json, markdown, mistralrs_python))

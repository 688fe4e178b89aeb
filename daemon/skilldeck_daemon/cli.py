"""`skilldeckd`: serve, doctor, demo, bench, models, backup, restore, fsck. stdout is data, stderr diagnostics.

Exit codes: 0 done, 1 failed (the error and its fix are on stderr), 2 wrong usage, 3 damage found, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
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
from skilldeck_daemon.engine import engines
from skilldeck_daemon.settings import Settings, load_settings
from skilldeck_shared.errors import BadRequest, NotFound, SkilldeckError
from skilldeck_shared.version import __version__

if TYPE_CHECKING:
    from skilldeck_daemon.engine.child import Child

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
cli_store.register(app)

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def main() -> None:
    """Entry point of `skilldeckd`."""
    try:
        app()
    except SkilldeckError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)


def fail(error: SkilldeckError) -> NoReturn:
    print(f"error: {error.title}", file=sys.stderr)
    if error.hint:
        print(f"  fix: {error.hint}", file=sys.stderr)
    sys.exit(INVALID if isinstance(error, (BadRequest, NotFound)) else 1)


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Only --version."""


@app.command()
def serve(
    model: Annotated[
        str | None, typer.Option(help="Folder, .gguf file, Hugging Face id, or 'tiny' (bundled); '' for none.")
    ] = None,
    model_name: Annotated[str | None, typer.Option(help="Name to serve the model under.")] = None,
    any_model: Annotated[
        bool | None, typer.Option("--any-model/--no-any-model", help="The default model answers to unknown names.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help=f"{', '.join(engines.NAMES)}.")] = None,
    engine_options: Annotated[str | None, typer.Option(help="Options of the engine, as a JSON object.")] = None,
    remote_url: Annotated[str | None, typer.Option(help="Base URL of the model's server; several by commas.")] = None,
    remote_api_key: Annotated[str | None, typer.Option(help="Key for that server.")] = None,
    remote_model: Annotated[str | None, typer.Option(help="The model's name there.")] = None,
    remote_images: Annotated[
        bool | None, typer.Option("--remote-images/--no-remote-images", help="The model there reads images.")
    ] = None,
    chat_template: Annotated[
        Path | None, typer.Option(help="Jinja file that stands in for the model's chat template.")
    ] = None,
    tool_text: Annotated[
        str | None, typer.Option(help="Calls that the model writes into its text: auto (read them), off.")
    ] = None,
    engine_process: Annotated[
        str | None, typer.Option(help="The engine in a process of its own: auto, on, off.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; beyond loopback needs --api-key.")] = None,
    port: Annotated[int | None, typer.Option(help="0 takes a free port.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept.")] = None,
    database_url: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL, like postgresql://…; else SQLite in the data directory.")
    ] = None,
    blobs_url: Annotated[
        str | None, typer.Option(help="Where several daemons keep contents, like s3://bucket/prefix.")
    ] = None,
    socket: Annotated[Path | None, typer.Option(help="Control socket.")] = None,
    api_key: Annotated[list[str] | None, typer.Option(help="Key that clients must send; repeat for several.")] = None,
    allowed_hosts: Annotated[list[str] | None, typer.Option(help="Further host name the API answers to.")] = None,
    cors_origins: Annotated[list[str] | None, typer.Option(help="Web origin that may call the API.")] = None,
    private_hosts: Annotated[list[str] | None, typer.Option(help="Private host that may be fetched from.")] = None,
    sandbox: Annotated[str | None, typer.Option(help="auto, bwrap, none (no isolation at all).")] = None,
    permission: Annotated[str | None, typer.Option(help="May the model's commands run? auto, ask, deny.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="Largest memory of a container: 1g, 4g, 16g, 64g.")] = None,
    max_containers: Annotated[int | None, typer.Option(help="Sandboxes open at once.")] = None,
    web_search: Annotated[str | None, typer.Option(help="Web search: off, ddgs (public engines), searxng.")] = None,
    searxng_url: Annotated[str | None, typer.Option(help="Base URL of the SearXNG server.")] = None,
    watched_versions: Annotated[
        int | None, typer.Option(help="Versions made by watching that a skill keeps (50).")
    ] = None,
    skills: Annotated[
        str | None, typer.Option(help="Skills in .agents/skills: named (/name, $name in the prompt), auto (all), off.")
    ] = None,
    project: Annotated[Path | None, typer.Option(help="Project whose .agents/skills are offered.")] = None,
    claude_skills: Annotated[
        bool | None, typer.Option("--claude-skills/--no-claude-skills", help="Look in .claude/skills too.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning, error.")] = None,
) -> None:
    """Run the daemon until it is told to stop (SIGINT, SIGTERM, or a client)."""
    flags = {name: value for name, value in locals().items() if value not in (None, [])}
    if engine_options is not None:
        flags["engine_options"] = _object(engine_options, "--engine-options")
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
    heap.few_arenas()
    gc.disable()  # until it listens: all that is imported by then stays
    spare = await _engine_process(settings)
    from skilldeck_daemon import logs
    from skilldeck_daemon.app import Daemon

    _more_descriptors()
    daemon = Daemon(settings, logs.configure(settings.log_level), spare)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, daemon.stopping.set)
    await daemon.start()
    heap.collect_less()
    settling = asyncio.create_task(_then(daemon.loaded, heap.collect_less))
    try:
        print(f"skilldeckd {__version__} listens on {daemon.services.http_url} and {settings.socket}", flush=True)
        await daemon.serve()
    finally:
        settling.cancel()
        await daemon.stop()


async def _then(event: asyncio.Event, act: Callable[[], None]) -> None:
    await event.wait()
    act()


async def _engine_process(settings: Settings) -> Child | None:
    """The first engine's process, started before the daemon imports itself: both take their time."""
    if os.name != "posix" or settings.engine_process == "off" or not settings.model or settings.remote_url:
        return None
    from skilldeck_daemon.engine import child

    return await child.start(engines.ahead(settings.engine, settings.model))


def _more_descriptors() -> None:
    """The usual soft limit of 1,024 open files is less than a thousand streaming clients need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _object(text: str, flag: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SkilldeckError(f"{flag} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise SkilldeckError(f"{flag} must be a JSON object.")
    return value


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
    rounds: Annotated[int, typer.Option(min=1, help="Samples per arm.")] = 5,
    as_json: AsJson = False,
    markdown: Annotated[Path | None, typer.Option(help="Also write the report there, with its chart.")] = None,
    mistralrs_python: Annotated[
        Path | None, typer.Option(help="Interpreter of an environment with the wheel mistralrs, to compare with.")
    ] = None,
) -> None:
    """Measure what is fast here and what is not, each beside a reference in the same run."""
    from skilldeck_daemon import bench as measure

    suites = (measure.GPU,) if gpu else suite or ()
    raise typer.Exit(measure.run(model, suites, rounds, as_json, markdown, mistralrs_python))

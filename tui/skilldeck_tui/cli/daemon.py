"""Commands about the daemon: status, logs, stop, models, files, containers, serve-web."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from datetime import datetime
from json import loads
from pathlib import Path
from typing import Annotated, Any

import typer

from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.paths import expanded
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.common import Json, connected, context, everything
from skilldeck_tui.cli.complete import complete_file, complete_model
from skilldeck_tui.client.client import Client, DaemonUnreachable, Snapshot
from skilldeck_tui.client.connect import log_file, require_daemon
from skilldeck_tui.client.types import Object

STOP_SECONDS = 30.0
LEVELS = ("debug", "info", "warning", "error")

models_app = typer.Typer(help="Models in the daemon and on disk; without a command, those in the daemon.")
files_app = typer.Typer(help="Files in the daemon; without a command, their list.")
containers_app = typer.Typer(help="Containers; without a command, their list.")


def status(ctx: typer.Context, json: Json = False) -> None:
    """What the daemon is and does. Exits with 3 when none runs."""

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            async with client.subscribe() as updates:
                snapshot = await anext(updates)
        assert isinstance(snapshot, Snapshot)
        now = snapshot.status
        if json:
            counts = {name: len(getattr(snapshot, name)) for name in ("skills", "files", "containers", "sessions")}
            out.data_json({**now, "counts": counts, "socket": str(context(ctx).socket)})
            return
        rows = [
            ("state", f"{now['state']} {now.get('detail') or ''}".strip()),
            ("version", f"{now['version']} (process {now['pid']}, since {out.when(now['started_at'])})"),
            ("api", now["http_url"]),
            ("data", now["data_dir"]),
            ("sandbox", f"{now['sandbox']}, permission {now['permission']}"),
            ("runs", f"{now.get('runs_active', 0)} active, {now['approvals_pending']} waiting for approval"),
            ("skills", f"{len(snapshot.skills)}{_kept(now)}"),
            ("containers", sum(c.get("status") == "running" for c in snapshot.containers)),
        ]
        for model in now["models"]:
            load = f"{model['active']}/{model['max_batch']} active, {model['queued']} queued"
            rows.append(
                ("model", f"{model['name']} on {model['engine']}: {load}, {model['tokens_per_s']:.1f} tokens/s")
            )
        for label, value in rows:
            out.data(f"{label:<11} {value}")

    out.perform(work(), json)


def _kept(status: Object) -> str:
    """The pruning rule, where the daemon reports it."""
    kept = status.get("watched_versions")
    return f", each with its newest {kept} watched versions" if kept else ""


def logs(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new records.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last records.")] = 200,
    level: Annotated[str, typer.Option("--level", help="debug, info, warning or error, and above.")] = "",
    json: Json = False,
) -> None:
    """The daemon's log."""
    if level and level not in LEVELS:
        raise typer.BadParameter(f"must be one of {', '.join(LEVELS)}", param_hint="--level")

    async def work() -> None:
        try:
            async with connected(ctx, start=False) as client:
                async for record in client.logs(tail=lines, follow=follow, level=level):
                    if json:
                        out.data_json(vars(record))
                        continue
                    at = datetime.fromtimestamp(record.time).strftime("%H:%M:%S.%f")[:-3]
                    style = {"warning": "yellow", "error": "red", "critical": "red"}.get(record.level, "dim")
                    name = out.paint(f"{record.level:<7}", style, sys.stdout)
                    out.data(f"{at} {name} {record.logger}: {out.safe(record.message)}")
        except DaemonUnreachable:
            if log_file().exists():
                out.note(f"The log of a daemon that a client started is {log_file()}.", "dim")
            raise

    out.perform(work(), json)


def stop(ctx: typer.Context, json: Json = False) -> None:
    """Stop the daemon. Runs that are under way end as cancelled; nothing that was stored is lost."""

    async def work() -> None:
        socket = context(ctx).socket
        client = await Client.connect(socket, check_version=False)
        pid = client.daemon.pid if client.daemon else 0
        await client.shutdown()
        await client.close()
        deadline = asyncio.get_running_loop().time() + STOP_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            try:
                await (await Client.connect(socket, check_version=False)).close()
            except DaemonUnreachable:
                out.data_json({"stopped": True, "pid": pid}) if json else out.data("stopped")
                return
            await asyncio.sleep(0.05)
        raise SkilldeckError(
            f"The daemon (process {pid}) still runs after {STOP_SECONDS:.0f} s.", f"End it with: kill {pid}"
        )

    out.perform(work(), json)


# ------------------------------------------------------------ models


@models_app.callback(invoke_without_command=True)
def list_models(ctx: typer.Context, json: Json = False) -> None:
    """Models in the daemon; without a command, their list."""
    if ctx.invoked_subcommand is not None:
        return

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            found = await client.models()
        if json:
            out.data_json(found)
            return
        out.table(
            [(m["id"], m.get("engine", ""), m.get("context", ""), m.get("description") or m.get("path") or "")
             for m in found],
            ("NAME", "ENGINE", "CONTEXT", ""),
        )  # fmt: skip
        if not found:
            out.note("No model is loaded. Load one: skilldeck models load PATH-OR-ID", "dim")

    out.perform(work(), json)


@models_app.command()
def load(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A folder, a .gguf file, or a name that `models ls` shows.")],
    name: Annotated[str, typer.Option("--name", help="Serve it under this name.")] = "",
    engine: Annotated[
        str, typer.Option("--engine", help="auto, llamacpp, llamacpp-embeddings, exllamav2, exllamav3, remote.")
    ] = "",
    engine_options: Annotated[
        str, typer.Option("--engine-options", help="""Of the engine, as JSON: '{"context": 8192}'.""")
    ] = "",
    remote_url: Annotated[
        str, typer.Option("--remote-url", help="Base URL of the server that runs it, for the engine remote.")
    ] = "",
    keep_default: Annotated[
        bool, typer.Option("--keep-default", help="Requests for 'default' go on to the model they went to.")
    ] = False,
    json: Json = False,
) -> None:
    """Load a model and serve it; it becomes the default one."""

    async def work() -> None:
        async with connected(ctx, start=True) as client:
            # A path is meant as the person sees it; the daemon has another working directory.
            source = str(expanded(model).absolute()) if os.path.exists(expanded(model)) else model
            options = _options(engine_options) | ({"remote_url": remote_url} if remote_url else {})
            loading = client.load_model(source, name=name, engine=engine, options=options, keep_default=keep_default)
            async for step in loading:
                out.draw(step.stage, step.fraction)
                if step.model is not None:
                    out.data_json(step.model) if json else out.data(f"{step.model['id']} is loaded")

    out.perform(work(), json)


def _options(text: str) -> dict[str, Any]:
    try:
        options = loads(text or "{}")
    except ValueError as error:
        raise BadRequest(f"--engine-options is not JSON: {error}.", param="engine_options") from None
    if not isinstance(options, dict):
        raise BadRequest("--engine-options is no JSON object.", "Write {NAME: VALUE}.", param="engine_options")
    return options


@models_app.command()
def unload(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The model's name.", autocompletion=complete_model)],
    json: Json = False,
) -> None:
    """Stop serving a model and free its memory."""

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            gone = await client.unload_model(name)
        out.data_json(gone) if json else out.data(f"{name} is unloaded")

    out.perform(work(), json)


@models_app.command()
def ls(ctx: typer.Context, json: Json = False) -> None:
    """Models on this machine's disk, the bundled one first."""
    _on_disk(ctx, "ls", json=json)


@models_app.command()
def info(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="'tiny', a folder, or a Hugging Face id.")],
    json: Json = False,
) -> None:
    """What a model on this machine is, and where it lies."""
    _on_disk(ctx, "info", model, json=json)


@models_app.command()
def pull(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A Hugging Face id like Qwen/Qwen3-0.6B-GGUF:Q8_0, or id@revision.")],
    mmproj: Annotated[bool, typer.Option("--mmproj", help="A GGUF's projector, too: it reads images then.")] = False,
    json: Json = False,
) -> None:
    """Download a model, or go on with a download that stopped."""
    _on_disk(ctx, "pull", model, *(["--mmproj"] if mmproj else []), json=json)


@models_app.command()
def rm(
    ctx: typer.Context, model: Annotated[str, typer.Argument(help="A downloaded model's id.")], json: Json = False
) -> None:
    """Delete a downloaded model."""
    _on_disk(ctx, "rm", model, json=json)


def _on_disk(ctx: typer.Context, *words: str, json: bool) -> None:
    """`skilldeckd models …`, in the data directory of the daemon when one runs.

    Daemon and client share a machine, so this needs no daemon and outlives one; only the daemon's code reads models.
    """

    async def work() -> int:
        require_daemon()
        environment = dict(os.environ)
        with suppress(DaemonUnreachable):
            async with connected(ctx, start=False) as client, client.subscribe() as updates:
                snapshot = await anext(updates)
                if isinstance(snapshot, Snapshot):
                    environment["SKILLDECK_DATA_DIR"] = str(snapshot.status["data_dir"])
        command = [sys.executable, "-m", "skilldeck_daemon", "models", *words, *(["--json"] if json else [])]
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        try:
            return await process.wait()
        except asyncio.CancelledError:  # it has the terminal's Ctrl-C too; a SIGTERM came to us alone
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise

    out.perform(work(), json)


# ------------------------------------------------------------ files


@files_app.callback(invoke_without_command=True)
def list_files(ctx: typer.Context, json: Json = False) -> None:
    """Files in the daemon; without a command, their list."""
    if ctx.invoked_subcommand is not None:
        return

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            found = await everything(client.files)
        if json:
            out.data_json(found)
            return
        out.table(
            [(f["filename"], out.size(f["bytes"]), f["purpose"], out.when(f["created_at"]), f["id"]) for f in found],
            ("NAME", "SIZE", "PURPOSE", "MADE", "ID"),
        )

    out.perform(work(), json)


@files_app.command("upload")
def upload_files(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="Files to upload.")],
    json: Json = False,
) -> None:
    """Upload files, to attach them by id."""

    async def work() -> None:
        async with connected(ctx, start=True) as client:
            for path in paths:
                stored = await client.upload_file(path, progress=out.progress(f"uploading {path.name}"))
                out.data_json(stored) if json else out.data(f"{stored['id']} {stored['filename']}")

    out.perform(work(), json)


@files_app.command()
def get(
    ctx: typer.Context,
    file_id: Annotated[str, typer.Argument(help="The file's id.", autocompletion=complete_file)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here instead of stdout.")] = None,
) -> None:
    """The content of a file."""

    async def work() -> None:
        async with connected(ctx, start=False) as client, client.read_file(file_id) as chunks:
            if output is None:
                write = out.content()
                async for chunk in chunks:
                    write(chunk)
                return
            part = output.with_name(output.name + ".part")
            try:
                with part.open("wb") as file:
                    async for chunk in chunks:
                        file.write(chunk)
                part.replace(output)
            except OSError as error:
                raise BadRequest(f"{output} cannot be written: {error.strerror}.", param="output") from error
            finally:
                with suppress(OSError):
                    part.unlink()

    out.perform(work())


@files_app.command("delete")
def delete_file(
    ctx: typer.Context,
    file_ids: Annotated[list[str], typer.Argument(help="Ids of files.", autocompletion=complete_file)],
    json: Json = False,
) -> None:
    """Delete files."""

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            for file_id in file_ids:
                gone = await client.delete_file(file_id)
                out.data_json(gone) if json else out.data(f"{file_id} deleted")

    out.perform(work(), json)


# ------------------------------------------------------------ containers


@containers_app.callback(invoke_without_command=True)
def list_containers(ctx: typer.Context, json: Json = False) -> None:
    """Containers; without a command, their list."""
    if ctx.invoked_subcommand is not None:
        return

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            found = await everything(client.containers)
        if json:
            out.data_json(found)
            return
        out.table(
            [(c["id"], c["status"], c.get("memory_limit") or "", out.when(c.get("last_active_at")), c["name"])
             for c in found],
            ("ID", "STATUS", "MEMORY", "LAST USED", "NAME"),
        )  # fmt: skip

    out.perform(work(), json)


@containers_app.command("files")
def container_files(ctx: typer.Context, container_id: str, json: Json = False) -> None:
    """The files of a container."""

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            found = await everything(client.container_files, container_id)
        if json:
            out.data_json(found)
            return
        out.table([(f["id"], out.size(f["bytes"] or 0), f["path"]) for f in found], ("ID", "SIZE", "PATH"))

    out.perform(work(), json)


@containers_app.command("delete")
def delete_container(ctx: typer.Context, container_id: str, json: Json = False) -> None:
    """End a container with its processes and delete its files."""

    async def work() -> None:
        async with connected(ctx, start=False) as client:
            gone = await client.delete_container(container_id)
        out.data_json(gone) if json else out.data(f"{container_id} deleted")

    out.perform(work(), json)

"""`skilldeck run`: one prompt to its end, live.

stdout gets the answer's text (with `--json`: every event as HTTP streams it, one a line). stderr gets what the model
does meanwhile: its commands, their output, exit codes and durations, how packages that its skills need are built, and
at the end the files it made. Ctrl-C cancels
the run; a lost connection is resumed where it broke.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.paths import expanded
from skilldeck_tui import demonstration
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.common import Json, connected, everything, find_skill, split_version
from skilldeck_tui.cli.complete import complete_model, complete_skill
from skilldeck_tui.cli.running.allowed import Allow, Env
from skilldeck_tui.cli.running.made import folder_to_save, show_made
from skilldeck_tui.cli.running.packages import PackageNotes
from skilldeck_tui.client.client import Change, Client, RunEvent, Snapshot
from skilldeck_tui.client.types import Object, unsupported
from skilldeck_tui.client.upload import upload_folder
from skilldeck_tui.network import network
from skilldeck_tui.text.ansi import RESET, Colours

CANCEL_SECONDS = 10.0


def run(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What the model is asked; '-' reads it from stdin.")],
    skill: Annotated[
        list[str] | None,
        typer.Option(
            "--skill", "-s", help="A skill: its folder (uploaded), name, or NAME@VERSION. Repeatable.",
            autocompletion=complete_skill,
        ),
    ] = None,
    file: Annotated[list[Path] | None, typer.Option("--file", "-f", help="A file to attach. Repeatable.")] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The model's name.", autocompletion=complete_model)
    ] = "default",
    container: Annotated[str, typer.Option("--container", help="Run commands in this container.")] = "",
    allow: Allow = None,
    env: Env = None,
    permission: Annotated[
        str, typer.Option("--permission", help="auto, ask or deny; the daemon's own setting if stricter.")
    ] = "",
    instructions: Annotated[str, typer.Option("--instructions", help="The system message.")] = "",
    save: Annotated[
        Path | None, typer.Option("--save", help="Bring the files the run made to this folder.", file_okay=False)
    ] = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Run one prompt to its end and print what happens."""
    if permission not in ("", "auto", "ask", "deny"):
        raise typer.BadParameter("must be auto, ask or deny", param_hint="--permission")
    if container and skill:
        raise typer.BadParameter("a container keeps the skills it was made with", param_hint="--container with --skill")
    if container and (allow or env):
        hint = f"--container with {'--allow' if allow else '--env'}"
        raise typer.BadParameter("a container keeps the network it was made with", param_hint=hint)
    text = sys.stdin.read() if prompt == "-" else prompt

    async def work() -> int:
        folder = folder_to_save(save)
        async with connected(ctx, start=True, ready=True) as client:
            stored, on_disk = await split_skills(client, skill or [])
            request = await build_request(
                client, text, skills=stored, files=file or [], model=model, container=container,
                instructions=instructions, allow=allow or [], env=env or [],
            )  # fmt: skip
            response = await client.start_run(
                request, permission, project=str(Path.cwd()), disk_skills=on_disk, origin="run"
            )  # fmt: skip
            return await follow(client, str(response["id"]), as_json=json, save=folder)

    out.perform(work(), json)


async def build_request(
    client: Client,
    prompt: str,
    *,
    skills: Sequence[str] = (),
    files: Sequence[Path] = (),
    model: str = "default",
    container: str = "",
    instructions: str = "",
    allow: Sequence[str] = (),
    env: Sequence[str] = (),
) -> Object:
    """The body of POST /v1/responses for a prompt with skills and files, which are uploaded as needed.

    Args:
        allow, env: hosts that commands may reach and variables put in for them; for each skill, those of its table in
            config.toml come to them.
    """
    if not prompt.strip():
        raise BadRequest("The prompt is empty.", param="prompt")
    content: list[Object] = [{"type": "input_text", "text": prompt}]
    for path in files:
        stored = await client.upload_file(path, progress=out.progress(f"uploading {path.name}"))
        content.append({"type": "input_file", "file_id": stored["id"]})
    environment: Object = {"type": "container_auto"}
    if container:
        environment = {"type": "container_reference", "container_id": container}
    elif skills:
        environment["skills"] = [await skill_reference(client, name) for name in skills]
    if not container:
        names = [expanded(name).resolve().name if os.path.isdir(name) else split_version(name)[0]
                 for name in skills]  # fmt: skip
        environment |= network(allow, names, env)
    request: Object = {
        "model": model,
        "input": [{"type": "message", "role": "user", "content": content}],
        "tools": [{"type": "shell", "environment": environment}],
    }
    if instructions:
        request["instructions"] = instructions
    return request


async def split_skills(client: Client, given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those to refer to or upload, and those that only lie on disk: a name of both is the stored one."""
    names = [name for name in given if "/" not in name and "@" not in name and not Path(name).is_dir()]
    if not names:
        return list(given), []
    stored = {str(skill[key]) for skill in await everything(client.skills) for key in ("id", "name")}
    if all(name in stored for name in names):
        return list(given), []
    offered = {str(skill["name"]) for skill in (await client.disk_skills(str(Path.cwd())))[0]}
    on_disk = [name for name in names if name not in stored and name in offered]
    return [name for name in given if name not in on_disk], on_disk


async def skill_reference(client: Client, given: str) -> Object:
    """A folder is uploaded and that very version used; a name means its latest version, NAME@N that one."""
    folder = expanded(given)
    if os.path.isdir(folder) and any(entry.name.lower() == "skill.md" for entry in folder.iterdir()):
        uploaded = await upload_folder(client, folder, progress=out.progress(f"uploading {folder.name}"))
        return {
            "type": "skill_reference", "skill_id": uploaded.skill["id"], "version": uploaded.version["version"]
        }  # fmt: skip
    if "/" in given or given.startswith("."):
        raise BadRequest(f"{given} is no folder with a SKILL.md.", param="skill")
    name, version = split_version(given)
    skill = await find_skill(client, name)
    return {"type": "skill_reference", "skill_id": skill["id"], "version": version or "latest"}


async def follow(client: Client, run_id: str, *, as_json: bool, save: Path | None = None) -> int:
    """Print a run until it ends and what it made; returns the exit code. Cancelling cancels the run.

    Args:
        save: the folder that the files it made are brought to.
    """
    printer = JsonPrinter() if as_json else TextPrinter()
    asking = asyncio.create_task(_answer_approvals(client, run_id))
    try:
        async for event in client.follow_run(run_id):
            printer.show(event)
        code = printer.finish()
        made = await show_made(client, printer.response, save) if save is not None or not as_json else out.OK
        return code or made
    except asyncio.CancelledError:
        out.note("cancelling the run …", "dim")
        with suppress(SkilldeckError, TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await client.cancel_run(run_id)
        raise
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking


class JsonPrinter:
    """Every event as one line of JSON."""

    def __init__(self) -> None:
        self.response: Object = {}

    def show(self, event: RunEvent) -> None:
        out.data_json(event.data)
        if event.terminal:
            self.response = event.data.get("response", {})

    def finish(self) -> int:
        return out.OK if self.response.get("status") == "completed" else out.FAILED


class TextPrinter:
    """The answer on stdout, the work on stderr."""

    def __init__(self) -> None:
        self.response: Object = {}
        self._mid_line: Literal["", "stdout", "stderr"] = ""
        self._started: dict[int, float] = {}
        self._told: dict[int, int] = {}  # how many outcomes of a call's commands were shown
        self._commands: list[str] = []
        self._colours = {"stdout": Colours(), "stderr": Colours()}

    def show(self, event: RunEvent) -> None:
        data = event.data
        match event.type:
            case "response.output_text.delta" | "response.refusal.delta":
                self._write("stdout", data["delta"])
            case "response.reasoning_text.delta":
                self._write("stderr", data["delta"], "dim")
            case "response.shell_call_command.done":
                self._command(data["command"])
            case "response.output_item.added" if data["item"]["type"] == "shell_call_output":
                self._colours = {"stdout": Colours(), "stderr": Colours()}
                self._started[data["output_index"]] = event.time
            case "response.shell_call_output_content.delta":
                for name, text in data["delta"].items():
                    self._output(name, text)
            case "response.shell_call_output_content.done":
                self._outcomes(data["output_index"], data["output"], event.time)
            case "response.output_item.done" if data["item"]["type"] == "shell_call_output":
                rest = data["item"]["output"][self._told.get(data["output_index"], 0) :]
                self._outcomes(data["output_index"], rest, event.time)
            case "response.output_item.done" if data["item"]["type"] == "message":
                self._end_line()
            case "response.output_item.done" if data["item"]["type"] in ("function_call", "custom_tool_call"):
                item = data["item"]
                arguments = item.get("arguments", item.get("input", ""))
                self._note(out.safe(f"calls {item['name']}({arguments})", sys.stderr), "cyan")
            case "error":
                self._note(f"error: {data.get('message')}", "red")
        if event.terminal:
            self.response = data.get("response", {})

    def finish(self) -> int:
        self._end_line()
        if self.response.get("model") == demonstration.BUNDLED:
            self._note(demonstration.CLI, "dim")
        if unread := unsupported(self.response):
            self._note(f"stands in nothing the model read: {out.safe(', '.join(unread), sys.stderr)}", "yellow")
        status = self.response.get("status")
        if status == "completed":
            return out.OK
        error = self.response.get("error") or {}
        reason = error.get("message") or (self.response.get("incomplete_details") or {}).get("reason") or ""
        self._note(f"the run ended as {status or 'failed'}{f': {reason}' if reason else ''}", "red")
        return out.FAILED

    def _command(self, command: str) -> None:
        first, *rest = out.safe(command, sys.stderr).splitlines() or [""]
        self._note("\n".join([f"$ {first}", *(f"  {line}" for line in rest)]), "cyan")

    def _outcomes(self, index: int, contents: list[Any], now: float) -> None:
        """Those of commands that have ended, behind what they wrote; the next begins now."""
        took = now - self._started.get(index, now)
        self._started[index] = now
        self._told[index] = self._told.get(index, 0) + len(contents)
        for content in contents:
            outcome = content["outcome"]
            if outcome["type"] == "timeout":
                self._note(f"✗ timed out · {took:.1f}s", "red")
            else:
                code = outcome["exit_code"]
                self._note(f"{'✓' if code == 0 else '✗'} {code} · {took:.1f}s", "green" if code == 0 else "red")

    def _output(self, name: str, text: str) -> None:
        """What a command wrote, in its own colours; its errors, where it gave them none, in yellow."""
        if not out.colours(sys.stderr):
            self._write("stderr", text)
            return
        shown = self._colours[name].feed(text)
        if name == "stderr" and "\x1b" not in shown:
            self._write("stderr", shown, "yellow")
        else:
            self._write("stderr", shown, made_safe=True)

    def _note(self, text: str, style: str) -> None:
        self._end_line()
        out.note(text, style)

    def _write(self, name: Literal["stdout", "stderr"], text: str, style: str = "", *, made_safe: bool = False) -> None:
        if not text:
            return
        if self._mid_line and self._mid_line != name:
            self._end_line()
        out.progress_off()
        stream = sys.stdout if name == "stdout" else sys.stderr
        with out.writing():
            if made_safe:
                out.put_colours(stream, text)
            else:
                out.put(stream, out.paint(text, style, stream) if style else text)
        self._mid_line = "" if text.removesuffix(RESET).endswith("\n") else name

    def _end_line(self) -> None:
        if self._mid_line:
            stream = sys.stdout if self._mid_line == "stdout" else sys.stderr
            with out.writing():
                out.put(stream, "\n")
            self._mid_line = ""


async def _answer_approvals(client: Client, run_id: str) -> None:
    """Ask the person at the terminal whenever this run asks; without one, say where to answer. Beside it, say how the
    building of what its skills need goes."""
    packages = PackageNotes(run_id)
    async with client.subscribe() as updates:
        async for update in updates:
            if isinstance(update, Change) and update.topic == "environment":
                packages.show(update)
            if isinstance(update, Snapshot):
                pending = update.approvals
            elif isinstance(update, Change) and update.topic == "approval" and update.object:
                pending = [update.object]
            else:
                continue
            for approval in pending:
                if approval["run_id"] == run_id and approval["status"] == "pending":
                    await _ask(client, approval)


async def _ask(client: Client, approval: Object) -> None:
    commands = "\n".join(f"  $ {out.safe(command, sys.stderr)}" for command in approval["commands"])
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        out.note(f"waiting for an approval (answer it in the TUI: skilldeck):\n{commands}", "yellow")
        return
    out.note(f"The model wants to run:\n{commands}", "yellow")
    out.question("Allow? [y]es, for this [s]ession, [a]lways, [N]o, or a note for the model: ")
    answer = (await asyncio.to_thread(sys.stdin.readline)).strip()
    allowed = answer.lower() in ("y", "yes", "s", "session", "a", "always")
    message = "" if allowed or answer.lower() in ("", "n", "no") else answer
    with suppress(SkilldeckError):  # answered elsewhere meanwhile, or its run ended
        await client.decide(
            approval["id"],
            "approve" if allowed else "deny",
            message=message,
            for_session=answer.lower() in ("s", "session"),
            always=answer.lower() in ("a", "always"),
        )

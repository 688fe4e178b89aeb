"""`skilldeckd demo`: the whole product in one thread, over the public API.

Starts a daemon of its own (free port, own socket, temporary data directory), uploads the example skills with the
official OpenAI SDK, attaches a real file, lets the bundled model do a task and prints every item as it happens.
Succeeds only if the model's own shell call ran the skill's script with exit code 0 and its answer holds what the
script printed; nothing here knows the answer. On a terminal it then opens the TUI on that run.

Whatever ends the demo ends what it started and removes what it made: its end, ctrl+c, SIGTERM, a terminal that is gone.
When it is killed, the kernel sends its daemon and its TUI a signal, and the next demo removes the folder.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.paths import examples_dir
from skilldeck_shared.terminal import painted, say

SKILL = "invoice-check"
STARTUP_SECONDS = 180.0
FOLDER = "skilldeck-demo-"
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1

BOLD, DIM, GREEN, RED, CYAN = "1", "2", "32", "31", "36"


class DemoFailed(SkilldeckError):
    """The demo did not reach its end; title says where, hint what to look at."""


def paint(style: str, text: str) -> str:
    return painted(text, style) if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


def step(text: str) -> None:
    say(paint(BOLD, f"▸ {text}"), flush=True)


@dataclass
class DemoDaemon:
    """A running daemon of the demo's own."""

    url: str
    socket: Path
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def daemon(home: Path) -> Iterator[DemoDaemon]:
    """Start `skilldeckd serve` on the bundled model and stop it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = home / "daemon.log"
    control = home / "daemon.sock"
    command = [sys.executable, "-m", "skilldeck_daemon", "serve", "--model", "tiny", "--port", str(port)]
    command += ["--data-dir", str(home / "data"), "--socket", str(control)]
    # Settings of this machine's own daemon must not reach the demo's.
    env = {key: value for key, value in os.environ.items() if not key.startswith("SKILLDECK_")}
    env["XDG_CONFIG_HOME"] = str(home / "config")
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
            start_new_session=True,  # keys and the terminal's end are for the demo, which ends the daemon in order
            preexec_fn=_with_us(),
        )  # fmt: skip
    running = DemoDaemon(f"http://127.0.0.1:{port}/v1", control, log, process)
    try:
        wait_until_healthy(running)
        yield running
    finally:
        _end(process)


def _with_us() -> Callable[[], None]:
    """What a child does first, so that it is sent a signal when we are killed."""
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in ENDS:  # a second one would leave the first's work half done
        signal.signal(number, signal.SIG_IGN)
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _leave(number: int, _frame: object) -> None:
    for other in ENDS:
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of this demo's own, locked as long as it runs. Those of demos that were killed are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        with suppress(OSError), (left / "lock").open("r+b") as lock:  # another's, or gone: not ours to remove
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    home = Path(tempfile.mkdtemp(prefix=FOLDER))
    try:
        with (home / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def wait_until_healthy(running: DemoDaemon) -> None:
    """Wait for `GET /health` to say that tokens can flow."""
    health = running.url.removesuffix("/v1") + "/health"
    deadline = time.monotonic() + STARTUP_SECONDS
    while True:
        if running.process.poll() is not None:
            tail = running.log.read_text(errors="replace").strip()[-2000:]
            raise DemoFailed("The daemon ended while it started.", f"Its log:\n{tail}")
        try:
            if httpx.get(health, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            raise DemoFailed("The daemon did not become healthy.", f"Its log: {running.log}")
        time.sleep(0.05)


def upload_skills(client: openai.OpenAI, folder: Path) -> list[openai.types.Skill]:
    """Upload every bundle below `folder`, each as a list of (relative path, bytes)."""
    skills = []
    for bundle in sorted(path.parent for path in folder.glob("*/SKILL.md")):
        parts = [
            (path.relative_to(folder).as_posix(), path.read_bytes())
            for path in sorted(bundle.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        ]
        skills.append(client.skills.create(files=parts))
    return skills


class Printer:
    """Prints a response's stream for a person: text, each shell call, its output as it is written."""

    def __init__(self) -> None:
        self.at_line_start = True

    def write(self, text: str, style: str = "") -> None:
        if text:
            say(paint(style, text) if style else text, end="", flush=True)
            self.at_line_start = text.endswith("\n")

    def line(self, text: str = "", style: str = "") -> None:
        if not self.at_line_start:
            self.write("\n")
        self.write(text, style)
        self.write("\n")

    def event(self, event: Any) -> None:
        match event.type:
            case "response.shell_call_command.done":
                self.line(f"  $ {event.command}", CYAN)
            case "response.shell_call_output_content.delta":
                self.write(event.delta.stdout or "", DIM)
                self.write(event.delta.stderr or "", RED)
            case "response.shell_call_output_content.done":
                for output in event.output:
                    if output.outcome.type == "timeout":
                        self.line("  ✗ timed out", RED)
                    elif output.outcome.exit_code:
                        self.line(f"  ✗ exit {output.outcome.exit_code}", RED)
                    else:
                        self.line("  ✓ exit 0", GREEN)
            case "response.output_text.delta":
                self.write(event.delta)
            case "response.output_text.done":
                self.line()


def check(response: openai.types.responses.Response) -> None:
    """Raise DemoFailed unless the script ran well and the answer holds what it printed."""
    if response.status != "completed":
        raise DemoFailed(f"The run ended as {response.status}.", str(response.error or ""))
    commands = {item.call_id: item.action.commands for item in response.output if item.type == "shell_call"}
    printed = [
        output.stdout.strip()
        for item in response.output
        if item.type == "shell_call_output" and any("scripts/" in c for c in commands.get(item.call_id, []))
        for output in item.output
        if output.outcome.type == "exit" and output.outcome.exit_code == 0 and output.stdout.strip()
    ]
    if not printed:
        raise DemoFailed("The model did not run the skill's script successfully.")
    missing = [line for line in printed[-1].splitlines() if line.strip() not in response.output_text]
    if missing:
        raise DemoFailed(f"The answer lacks {len(missing)} lines of the script's output.", f"First: {missing[0]!r}")


def run_task(client: openai.OpenAI, examples: Path) -> openai.types.responses.Response:
    """Upload the skills and a sample, stream one run to its end and return its response."""
    skills = upload_skills(client, examples)
    step(f"Uploaded {len(skills)} skills: {', '.join(skill.name for skill in skills)}")
    sample = next((examples / SKILL / "samples").iterdir())
    with sample.open("rb") as handle:
        file = client.files.create(file=handle, purpose="user_data")
    prompt = f"Use the {SKILL} skill on {file.filename}"
    step(f"Attached {file.filename} ({file.bytes} bytes). Asking: {prompt}")
    printer = Printer()
    with client.responses.stream(
        model="default",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": prompt},
                    {"type": "input_file", "file_id": file.id},
                ],
            }
        ],
        tools=[
            {
                "type": "shell",
                "environment": {
                    "type": "container_auto",
                    "skills": [{"type": "skill_reference", "skill_id": skill.id} for skill in skills],
                },
            }
        ],
    ) as stream:
        for event in stream:
            printer.event(event)
            if event.type in ("response.completed", "response.incomplete", "response.failed"):
                return event.response
    raise DemoFailed("The stream ended before the response did.")


def open_terminal(running: DemoDaemon, response_id: str) -> int:
    """Show the run in the TUI until it is left; returns its exit status."""
    command = [sys.executable, "-m", "skilldeck_tui", "--run", response_id]
    env = os.environ | {"SKILLDECK_SOCKET": str(running.socket)}
    process = subprocess.Popen(command, env=env, preexec_fn=_with_us())
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            _end(process)


def main(*, open_tui: bool | None = None) -> int:
    """Run the demo; `open_tui` None means: when standard input and output are terminals. Returns the exit status."""
    if open_tui is None:
        open_tui = sys.stdin.isatty() and sys.stdout.isatty()
    for number in ENDS:
        signal.signal(number, _leave)
    try:
        with _folder() as home:
            step("Starting the daemon with the bundled model (skilldeck-tiny, CPU)")
            began = time.monotonic()
            with daemon(home) as running:
                step(f"Ready after {time.monotonic() - began:.1f} s at {running.url}")
                with openai.OpenAI(base_url=running.url, api_key="local", max_retries=0) as client:
                    response = run_task(client, examples_dir())
                    check(response)
                usage = response.usage
                step(
                    paint(GREEN, "The skill ran and the answer holds its result.")
                    + (f" {usage.input_tokens} tokens in, {usage.output_tokens} out." if usage else "")
                )
                return open_terminal(running, response.id) if open_tui else 0
    except (SkilldeckError, openai.OpenAIError) as error:
        say(paint(RED, f"Demo failed: {error}"), file=sys.stderr)
        return 1

"""opencode, qwen-code, pi and aider at their defaults over Chat Completions, as docs/clients.md sets them up.

Each carries out a call of its own, two at once, goes on with a session, and stops the model when it is ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.programs import NOWHERE, drive, program, serving
from support.scripted_model import Call, Endless, ScriptedModel, Turn


@dataclass(frozen=True)
class Agent:
    """A program: what installs it, its settings, and how it is asked. `shell` makes a call of its own shell tool."""

    name: str
    package: str
    settings: Callable[[Path, str], dict[str, str]]
    ask: Callable[[str], list[str]]
    again: Callable[[str], list[str]]
    shell: Callable[[str], Call]


def _opencode(home: Path, url: str) -> dict[str, str]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "skilldeck",
        "options": {"baseURL": url, "apiKey": "local"},
        "models": {"default": {}},
    }
    write(home / ".config/opencode/opencode.json", {"provider": {"skilldeck": provider}, "model": "skilldeck/default"})
    return {"OPENCODE_DISABLE_AUTOUPDATE": "1"}


def _pi(home: Path, url: str) -> dict[str, str]:
    provider = {"baseUrl": url, "apiKey": "local", "api": "openai-completions", "models": [{"id": "default"}]}
    write(home / ".pi/agent/models.json", {"providers": {"skilldeck": provider}})
    return {"PI_OFFLINE": "1"}


def _qwen(home: Path, url: str) -> dict[str, str]:
    # It sends everything through a proxy, this machine's own addresses too (NO_PROXY is not read).
    write(home / ".qwen/settings.json", {"privacy": {"usageStatisticsEnabled": False}})
    direct = {"HTTP_PROXY": "", "HTTPS_PROXY": ""}
    return {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "local", "OPENAI_MODEL": "default", **direct}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


PI = ["--provider", "skilldeck", "--model", "default"]
QWEN = ["--auth-type", "openai", "--approval-mode", "yolo"]
AGENTS = [
    Agent(
        "opencode",
        "opencode-ai",
        _opencode,
        lambda text: ["run", text],
        lambda text: ["run", "--continue", text],
        lambda command: Call("bash", {"command": command, "description": "Look"}),
    ),
    Agent(
        "qwen",
        "@qwen-code/qwen-code",
        _qwen,
        lambda text: [*QWEN, "-p", text],
        lambda text: [*QWEN, "--continue", "-p", text],
        lambda command: Call("run_shell_command", {"command": command, "is_background": False}),
    ),
    Agent(
        "pi",
        "@mariozechner/pi-coding-agent",
        _pi,
        lambda text: [*PI, "-p", text],
        lambda text: [*PI, "--continue", "-p", text],
        lambda command: Call("bash", {"command": command}),
    ),
]


@pytest.fixture(params=AGENTS, ids=lambda agent: agent.name)
def agent(request: pytest.FixtureRequest) -> Agent:
    found: Agent = request.param
    program(found.name, found.package)
    return found


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    # Some ask for a title of the session beside the work, at times of their own.
    with ScriptedModel(context=262_144, strict=False) as model:
        yield model


def answering(model: ScriptedModel, *turns: Turn) -> list[dict[str, Any]]:
    """Play the turns for requests that have tools, and a title for any other; the former as they come."""
    worked: list[dict[str, Any]] = []
    left = list(turns)

    def answer(body: dict[str, Any]) -> Turn:
        if not body.get("tools"):
            return Turn("A title")
        worked.append(body)
        return left.pop(0) if left else Turn("over")

    model._always = answer
    return worked


def run(agent: Agent, url: str, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    path = program(agent.name, agent.package)
    return drive([path, *arguments], tmp_path / "project", home, agent.settings(home, url), timeout=300)


def outputs(body: dict[str, Any]) -> str:
    return str([message["content"] for message in body["messages"] if message["role"] == "tool"])


def test_calls_of_its_own_one_and_two_at_once(agent: Agent, model: ScriptedModel, tmp_path: Path) -> None:
    both = Turn(agent.shell("echo $((6*7))"), agent.shell("echo $((50+6))"))
    worked = answering(model, Turn("I look.", agent.shell("echo $((3*5))")), both, Turn("All done."))
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        done = run(agent, url, tmp_path, *agent.ask("Compute"))
    assert done.returncode == 0, done.stderr
    assert "All done." in done.stdout
    assert "15" in outputs(worked[1])
    assert "42" in outputs(worked[2])
    assert "56" in outputs(worked[2])


def test_a_session_is_gone_on_with(agent: Agent, model: ScriptedModel, tmp_path: Path) -> None:
    # By what is asked: qwen-code has a request with tools of its own between the two.
    worked: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> Turn:
        asked = "Which number?" in str([entry for entry in body["messages"] if entry["role"] == "user"][-1])
        worked.extend([body] if asked and body.get("tools") else [])
        return Turn("It was 17." if asked else "I keep 17 in mind.")

    model._always = answer
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        assert run(agent, url, tmp_path, *agent.ask("Remember 17")).returncode == 0
        done = run(agent, url, tmp_path, *agent.again("Which number?"))
    assert "It was 17." in done.stdout, done.stderr
    assert "I keep 17 in mind." in str(worked[-1]["messages"])


def test_the_model_stops_when_the_program_is_ended(agent: Agent, model: ScriptedModel, tmp_path: Path) -> None:
    worked = answering(model, Turn(Endless("and on ")))
    home, folder = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    folder.mkdir()
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        command = [program(agent.name, agent.package), *agent.ask("Talk")]
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1"}
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, **agent.settings(home, url)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            model.wait(lambda _: bool(worked), timeout=200)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        model.wait(lambda seen: seen.disconnects > 0)


def test_aider_edits_a_file(model: ScriptedModel, tmp_path: Path) -> None:
    aider = program("aider", "(PyPI) aider-chat")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "number.txt").write_text("41\n")
    model.then(Turn("number.txt\n```\n42\n```\n"))
    flags = ["--no-git", "--yes-always", "--no-show-model-warnings", "--no-check-update", "--analytics-disable"]
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        settings = {"OPENAI_API_BASE": url, "OPENAI_API_KEY": "local"}
        command = [aider, "--model", "openai/default", *flags, "--message", "Make it 42", "number.txt"]
        done = drive(command, folder, tmp_path / "home", settings, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (folder / "number.txt").read_text() == "42\n", done.stdout

"""Codex, Claude Code, opencode, qwen-code, pi and Continue at their defaults, as docs/clients.md sets them up.

Each carries out a call of its own, two at once and one of an MCP server, reads an image, goes on with a session, and
stops the model when it is ended. aider, which has no tools, edits a file.
"""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agents import AGENTS, Agent
from support.programs import NOWHERE, drive, program, serving
from support.scripted_model import Call, Endless, ScriptedModel, Turn

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
RUN_S = 300
ADD = re.compile(r"(^|_)add$")
"""The server's tool as the program names it to the model, alone or in a namespace."""


@pytest.fixture(params=AGENTS, ids=lambda agent: agent.name)
def agent(request: pytest.FixtureRequest) -> Agent:
    found: Agent = request.param
    program(found.name, found.package)
    return found


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    # Some ask for a title of the session beside the work, at times of their own. Their prompts have more bytes than a
    # small context has tokens, and would be counted first.
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


def command(agent: Agent, url: str, tmp_path: Path, arguments: list[str], server: bool) -> dict[str, Any]:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    path = program(agent.name, agent.package)
    return {"command": [path, *arguments], "home": home, "variables": agent.settings(home, url, server)}


def run(
    agent: Agent, url: str, tmp_path: Path, arguments: list[str], server: bool = False
) -> subprocess.CompletedProcess[str]:
    how = command(agent, url, tmp_path, arguments, server)
    return drive(how["command"], tmp_path / "project", how["home"], how["variables"], timeout=RUN_S)


def outputs(body: dict[str, Any]) -> str:
    return str([message["content"] for message in body["messages"] if message["role"] == "tool"])


def test_calls_of_its_own_one_and_two_at_once(agent: Agent, model: ScriptedModel, tmp_path: Path) -> None:
    both = Turn(agent.shell("echo $((6*7))"), agent.shell("echo $((50+6))"))
    worked = answering(model, Turn("I look.", agent.shell("echo $((3*5))")), both, Turn("All done."))
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        done = run(agent, url, tmp_path, agent.ask("Compute"))
    assert done.returncode == 0, done.stderr
    assert "All done." in done.stdout
    assert "15" in outputs(worked[1])
    assert "42" in outputs(worked[2])
    assert "56" in outputs(worked[2])


def test_a_tool_of_an_mcp_server_that_it_starts(agent: Agent, model: ScriptedModel, tmp_path: Path) -> None:
    """The server has a tool with a schema that no grammar holds, too: the others stay."""
    if not agent.servers:
        pytest.skip(f"{agent.name} takes no MCP servers")
    worked: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> Turn:
        names = [tool["function"]["name"] for tool in body.get("tools") or ()]
        add = next((name for name in names if ADD.search(name)), None)
        if add is not None:
            worked.append(body)
            return Turn("Added.") if "42 ✓" in outputs(body) else Turn(Call(add, {"a": 20, "b": 22}))
        if agent.search is not None and agent.search.name in names:
            return Turn(agent.search)
        return Turn("over")  # a title, or what it keeps of the session

    model._always = answer
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        done = run(agent, url, tmp_path, agent.ask("Add"), server=True)
    assert (done.returncode, "Added." in done.stdout) == (0, True), done.stderr
    assert "42 ✓" in outputs(worked[-1])


def test_an_image_that_it_reads_for_a_model_of_text(agent: Agent, model: ScriptedModel, tmp_path: Path) -> None:
    if agent.picture is None:
        pytest.skip(f"{agent.name} reads no images")
    path = tmp_path / "project" / "dot.png"
    path.parent.mkdir()
    path.write_bytes(base64.b64decode(PNG))
    worked = answering(model, Turn(agent.picture(path)), Turn("A dot."))
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        done = run(agent, url, tmp_path, agent.ask("What is in dot.png?"))
    assert (done.returncode, "A dot." in done.stdout) == (0, True), (done.stdout, done.stderr)
    assert len(worked) == 2


def test_a_session_is_gone_on_with(agent: Agent, model: ScriptedModel, tmp_path: Path) -> None:
    # By what is asked: qwen-code has a request with tools of its own between the two.
    worked: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> Turn:
        asked = "Which number?" in str([entry for entry in body["messages"] if entry["role"] == "user"][-1])
        worked.extend([body] if asked and body.get("tools") else [])
        return Turn("It was 17." if asked else "I keep 17 in mind.")

    model._always = answer
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        assert run(agent, url, tmp_path, agent.ask("Remember 17")).returncode == 0
        done = run(agent, url, tmp_path, agent.again("Which number?"))
    assert "It was 17." in done.stdout, done.stderr
    assert "I keep 17 in mind." in str(worked[-1]["messages"])


def test_the_model_stops_when_the_program_is_ended(agent: Agent, model: ScriptedModel, tmp_path: Path) -> None:
    worked = answering(model, Turn(Endless("and on ")))
    folder = tmp_path / "project"
    folder.mkdir()
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        how = command(agent, url, tmp_path, agent.ask("Talk"), server=False)
        environment = {"PATH": os.environ["PATH"], "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1"}
        process = subprocess.Popen(
            how["command"],
            cwd=folder,
            env={**environment, "HOME": str(how["home"]), **how["variables"]},
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
    aider = program("aider", "aider-chat", npm=False)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "number.txt").write_text("41\n")
    model.then(Turn("number.txt\n```\n42\n```\n"))
    flags = ["--no-git", "--yes-always", "--no-show-model-warnings", "--no-check-update", "--analytics-disable"]
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        settings = {"OPENAI_API_BASE": url, "OPENAI_API_KEY": "local"}
        command = [aider, "--model", "openai/default", *flags, "--message", "Make it 42", "number.txt"]
        done = drive(command, folder, tmp_path / "home", settings, timeout=RUN_S)
    assert done.returncode == 0, done.stderr
    assert (folder / "number.txt").read_text() == "42\n", done.stdout


def test_mini_swe_agent_works_until_it_says_that_it_is_done(model: ScriptedModel, tmp_path: Path) -> None:
    mini = program("mini", "mini-swe-agent", npm=False)
    folder = tmp_path / "project"
    work = Call("bash", {"command": "echo $((6*7)) > number.txt; cat number.txt"})
    model.then(Turn("I compute.", work), Turn(Call("bash", {"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"})))
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        settings = {"OPENAI_API_BASE": url, "OPENAI_API_KEY": "local"}
        # The first keeps it from asking for a key, the second from giving up on a model without a price.
        settings |= {"MSWEA_CONFIGURED": "true", "MSWEA_COST_TRACKING": "ignore_errors"}
        command = [mini, "-m", "openai/default", "-y", "--exit-immediately", "-t", "Compute 6*7 into number.txt"]
        done = drive(command, folder, tmp_path / "home", settings, timeout=RUN_S)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert (folder / "number.txt").read_text() == "42\n", done.stdout
    assert "42" in outputs(model.requests[1])


def test_cline_calls_tools_of_its_own_one_and_two_at_once(model: ScriptedModel, tmp_path: Path) -> None:
    cline = program("cline", "cline")
    home = tmp_path / "home"

    def run_commands(*commands: str) -> Call:
        return Call("run_commands", {"commands": list(commands)})

    both = Turn(run_commands("echo $((6*7))"), run_commands("echo $((50+6))"))
    worked = answering(model, Turn("I look.", run_commands("echo $((3*5))")), both, Turn("All done."))
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        auth = ["auth", "-p", "openai-compatible", "-k", "local", "-m", "default", "-b", url]
        assert drive([cline, *auth], tmp_path / "project", home, {}).returncode == 0
        done = drive([cline, "Compute them all"], tmp_path / "project", home, {}, timeout=RUN_S)
    assert (done.returncode, "All done." in done.stdout) == (0, True), done.stderr
    assert "15" in outputs(worked[1])
    assert "42" in outputs(worked[2])
    assert "56" in outputs(worked[2])

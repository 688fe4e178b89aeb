"""Claude Code at its defaults against a daemon process: a base URL and a key are all it is given."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.programs import drive, program, serving
from support.scripted_model import Call, ScriptedModel, Turn

# Nothing but what keeps it on this machine.
QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "DISABLE_TELEMETRY": "1"}


@pytest.fixture
def claude() -> str:
    return program("claude", "@anthropic-ai/claude-code")


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    # Its prompts have more bytes than a small context has tokens, and would be counted first.
    with ScriptedModel(context=262_144) as model:
        yield model


def run(claude: str, url: str, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {"ANTHROPIC_BASE_URL": url.removesuffix("/v1"), "ANTHROPIC_API_KEY": "local", **QUIET}
    return drive([claude, "-p", *arguments], tmp_path / "project", tmp_path / "home", variables)


def test_hi_works_with_base_url_and_key_alone(claude: str, model: ScriptedModel, tmp_path: Path) -> None:
    model.then(Turn("Hello from here."))
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        done = run(claude, url, tmp_path, "hi")
    assert (done.returncode, done.stdout.strip()) == (0, "Hello from here."), done.stderr
    system = model.requests[0]["messages"][0]
    assert system["role"] == "system"
    assert "billing-header" not in system["content"]


def test_a_task_with_tools_of_its_own(claude: str, model: ScriptedModel, tmp_path: Path) -> None:
    note = tmp_path / "project" / "note.txt"
    model.then(
        Turn("I compute.", Call("Bash", {"command": "echo $((6*7))", "description": "Compute"})),
        Turn(Call("Write", {"file_path": str(note), "content": "42\n"})),
        Turn("Written."),
    )
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        allowed = ("--allowedTools", "Bash", "Write")
        done = run(claude, url, tmp_path, "Write 6*7 into note.txt", *allowed)
    assert (done.returncode, done.stdout.strip()) == (0, "Written."), done.stderr
    assert note.read_text() == "42\n"
    output = model.requests[1]["messages"][-1]
    assert (output["role"], "42" in output["content"]) == ("tool", True), output


def test_a_session_is_resumed_with_its_history(claude: str, model: ScriptedModel, tmp_path: Path) -> None:
    model.then(Turn("I keep 17 in mind."), Turn("It was 17."))
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        assert run(claude, url, tmp_path, "Remember 17").returncode == 0
        done = run(claude, url, tmp_path, "--continue", "Which number?")
    assert (done.returncode, done.stdout.strip()) == (0, "It was 17."), done.stderr
    assert "I keep 17 in mind." in str(model.requests[1]["messages"])

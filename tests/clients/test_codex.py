"""Codex at its defaults against a daemon process: its first request, calls of its own, grouped tools, the answer.

Only the provider is configured, as docs/clients.md shows; the model is played by a script.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.programs import drive, program, serving
from support.scripted_model import Call, ScriptedModel, Turn

CONFIG = """\
model = "default"
model_provider = "skilldeck"

[model_providers.skilldeck]
name = "skilldeck"
base_url = "{url}"
wire_api = "responses"
"""
# No way out: it is not to look for a newer version of itself, nor to count what it does.
QUIET = "check_for_update_on_startup = false\n\n[analytics]\nenabled = false\n"
TOLD = "The number is 42."


@pytest.fixture
def codex() -> str:
    return program("codex", "@openai/codex")


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    # Its prompts have more bytes than a small context has tokens, and would be counted first.
    with ScriptedModel(context=262_144) as model:
        yield model


def run(codex: str, url: str, tmp_path: Path, prompt: str) -> Any:
    home, folder = tmp_path / "home", tmp_path / "project"
    config = home / ".codex" / "config.toml"
    config.parent.mkdir(parents=True)
    provider, _, table = CONFIG.format(url=url).partition("\n\n")
    config.write_text(f"{provider}\n{QUIET}\n{table}")
    # Its sandbox's helper is kept in its home, which it refuses to do below the folder of temporary files.
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    return drive([codex, "exec", "--skip-git-repo-check", prompt], folder, home, {"TMPDIR": str(elsewhere)})


def test_a_task_with_a_command_of_its_own(codex: str, model: ScriptedModel, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "number.txt").write_text("forty-two\n")
    model.then(Turn("I look.", Call("exec_command", {"cmd": "cat number.txt; echo $((6*7))"})), Turn(TOLD))
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        done = run(codex, url, tmp_path, "Read number.txt")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(TOLD)
    first, second = model.requests
    assert "exec_command" in [tool["function"]["name"] for tool in first["tools"]]
    output = second["messages"][-1]
    assert (output["role"], "42" in output["content"]) == ("tool", True), output


def test_tools_of_a_namespace_are_called_by_the_model_and_carried_out_by_codex(
    codex: str, model: ScriptedModel, tmp_path: Path
) -> None:
    """Whatever the group is, a member is `NAMESPACE__NAME` to the model, and Codex recognises the call it gets."""

    def call_a_member(body: dict[str, Any]) -> Turn:
        names = [tool["function"]["name"] for tool in body["tools"]]
        member = next(name for name in names if name.endswith("__close_agent"))
        return Turn(Call(member, {"target": "nobody"}))

    model.then(call_a_member, Turn(TOLD))
    with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
        done = run(codex, url, tmp_path, "Close the agent")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(TOLD)
    call, output = model.requests[1]["messages"][-2:]
    assert call["tool_calls"][0]["function"]["name"].endswith("__close_agent")
    assert "unsupported call" not in output["content"]
    assert "nobody" in output["content"]  # Codex's own word about the agent that is not there

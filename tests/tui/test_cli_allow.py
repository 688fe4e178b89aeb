"""Hosts for the commands of a run: --allow, and what config.toml says of a skill."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from skilldeck_tui.chat.composing.draft import Draft
from skilldeck_tui.cli.main import app
from skilldeck_tui.network import read_words
from skilldeck_tui.state import DaemonState
from support.fake_daemon import FakeDaemon

EVAL = "- name: counts\n  prompt: count\n"


@pytest.fixture
def fake() -> FakeDaemon:
    made = FakeDaemon()
    made.add_skill("other")
    return made


@pytest.fixture
async def socket(fake: FakeDaemon, tmp_path: Path) -> AsyncIterator[Path]:
    async with fake.listening(tmp_path / "s") as listening:
        yield listening


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    folder = tmp_path / "counter"
    (folder / "evals").mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: counter\ndescription: Counts things.\n---\n# Steps\n")
    (folder / "evals/a.yaml").write_text(EVAL)
    return folder


async def skilldeck(socket: Path, config: str, *args: str) -> Any:
    home = socket.parent / "config/skilldeck"
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(config)
    unset = {name: None for name in os.environ if name.startswith("SKILLDECK_")}
    env = {**unset, "SKILLDECK_SOCKET": str(socket), "XDG_CONFIG_HOME": str(home.parent)}
    return await asyncio.to_thread(CliRunner().invoke, app, list(args), env=env)


def policies(fake: FakeDaemon) -> list[Any]:
    requests = [json.loads(started.request_json) for started in fake.called("StartRun")]
    return [request["tools"][0]["environment"].get("network_policy") for request in requests]


async def test_the_hosts_are_those_given_and_those_of_each_skill(fake: FakeDaemon, socket: Path, skill: Path) -> None:
    config = '[skill.counter]\nallow = ["pypi.org", "api.example.org"]\n'
    given = ["--allow", "*.example.org", "--allow", "pypi.org"]
    every = {"type": "allowlist", "allowed_domains": ["*.example.org", "pypi.org", "api.example.org"]}
    await skilldeck(socket, config, "run", "count", "--skill", str(skill), *given)
    await skilldeck(socket, config, "run", "count", "--skill", "counter@1")
    await skilldeck(socket, config, "run", "count", "--skill", "other")
    await skilldeck(socket, config, "test", str(skill), *given)
    own = {"type": "allowlist", "allowed_domains": ["pypi.org", "api.example.org"]}
    assert policies(fake) == [every, own, None, every]


async def test_values_of_variables_go_to_their_hosts_alone(
    fake: FakeDaemon, socket: Path, skill: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "the value")
    monkeypatch.setenv("OTHER", "another")
    config = '[skill.counter]\nallow = ["api.example.org"]\nenv = ["API_KEY"]\n'
    await skilldeck(socket, config, "run", "count", "--skill", str(skill), "--allow", "pypi.org")
    given = ["--allow", "pypi.org", "--env", "OTHER"]
    await skilldeck(socket, "", "test", str(skill), *given)
    one, two = policies(fake)
    assert one == {
        "type": "allowlist",
        "allowed_domains": ["pypi.org", "api.example.org"],
        "domain_secrets": [{"domain": "api.example.org", "name": "API_KEY", "value": "the value"}],
    }
    assert two["domain_secrets"] == [{"domain": "pypi.org", "name": "OTHER", "value": "another"}]


@pytest.mark.parametrize(
    ("config", "given", "said"),
    [
        ("", ["--env", "API_KEY"], "--env API_KEY is for no host"),
        ("", ["--env", "NOT_SET_HERE", "--allow", "pypi.org"], "the variable NOT_SET_HERE is not set"),
        ("", ["--env", "API_KEY=the value", "--allow", "pypi.org"], "'API_KEY' is no name of a variable"),
        ('[skill.counter]\nenv = ["API_KEY"]\n', [], "skill.counter.env is for no host"),
        ('[skill.counter]\nallow = ["pypi.org"]\nenv = "API_KEY"\n', [], "must be a list of names of variables"),
    ],
)
async def test_a_variable_that_cannot_be_put_in_is_named(
    fake: FakeDaemon,
    socket: Path,
    skill: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: str,
    given: list[str],
    said: str,
) -> None:
    monkeypatch.setenv("API_KEY", "the value")
    ended = await skilldeck(socket, config, "run", "count", "--skill", str(skill), *given)
    assert (ended.exit_code, said in " ".join(ended.stderr.split())) == (4, True), ended.stderr
    assert "the value" not in ended.stderr
    assert policies(fake) == []


def test_a_line_of_the_composer_is_hosts_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "the value")
    draft = Draft()
    draft.allow, draft.env = read_words("api.example.org, *.example.net  $API_KEY")
    environment = draft.copy().request("go", DaemonState())["tools"][0]["environment"]
    assert environment["network_policy"]["allowed_domains"] == ["api.example.org", "*.example.net"]
    assert [secret["domain"] for secret in environment["network_policy"]["domain_secrets"]] == draft.allow
    assert "network_policy" not in Draft().request("go", DaemonState())["tools"][0]["environment"]


async def test_what_cannot_be_meant_is_refused_by_name(fake: FakeDaemon, socket: Path, skill: Path) -> None:
    ended = await skilldeck(socket, "", "run", "count", "--container", "c", "--allow", "pypi.org")
    assert (ended.exit_code, "--container with --allow" in ended.stderr) == (2, True)
    ended = await skilldeck(socket, '[skill.counter]\nallow = "pypi.org"\n', "run", "count", "--skill", str(skill))
    assert ended.exit_code == 4
    assert "skill.counter.allow" in ended.stderr
    assert policies(fake) == []

"""`skilldeck connect`: what an agent program's file becomes, that it is shown first, kept, and put back."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from skilldeck_tui.cli.main import app
from support.fake_daemon import FakeDaemon

URL = "http://127.0.0.1:4321/v1"
FILES = {
    "codex": ".codex/config.toml",
    "claude": ".claude/settings.json",
    "opencode": ".config/opencode/opencode.json",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CODEX_HOME", "CLAUDE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def sh(home: Path, *args: str) -> Result:
    return CliRunner().invoke(app, ["--socket", str(home / "none"), "connect", *args])


@pytest.mark.parametrize("program", FILES)
def test_it_is_shown_and_nothing_is_written_without_a_yes(home: Path, program: str) -> None:
    shown = sh(home, program, "--url", URL)
    assert shown.exit_code == 0
    assert URL.removesuffix("/v1") in shown.stdout
    assert "--yes writes it" in shown.stderr
    assert not (home / FILES[program]).exists()


@pytest.mark.parametrize("program", FILES)
def test_a_file_that_was_not_there_is_gone_again_after_undo(home: Path, program: str) -> None:
    file = home / FILES[program]
    assert sh(home, program, "--url", URL, "--yes").exit_code == 0
    assert URL.removesuffix("/v1") in file.read_text()
    assert "Nothing to change" in sh(home, program, "--url", URL, "--yes").stderr
    assert sh(home, program, "--undo").exit_code == 0
    assert list(file.parent.iterdir()) == []
    assert sh(home, program, "--undo").exit_code != 0


def test_codexs_own_settings_stay_and_come_back_byte_for_byte(home: Path) -> None:
    file = home / FILES["codex"]
    file.parent.mkdir()
    before = '# mine\nmodel = "gpt-5"\napproval_policy = "never"\n'
    before += '\n[mcp_servers.x]\ncommand = "x"  # runs\n\n[tui]\ntheme = "a"\n'
    file.write_text(before)
    sh(home, "codex", "--url", URL, "--model", "qwen", "--key", "k", "--yes")
    found = tomllib.loads(file.read_text())
    assert (found["model"], found["model_provider"], found["approval_policy"]) == ("qwen", "skilldeck", "never")
    assert found["model_providers"]["skilldeck"] == {
        "name": "skilldeck",
        "base_url": URL,
        "wire_api": "responses",
        "env_key": "SKILLDECK_KEY",
    }
    assert (found["mcp_servers"]["x"]["command"], found["tui"]["theme"]) == ("x", "a")
    assert "# mine" in file.read_text()
    sh(home, "codex", "--url", "http://127.0.0.1:1/v1", "--yes")  # a second time, from elsewhere
    assert tomllib.loads(file.read_text())["model_providers"]["skilldeck"]["base_url"] == "http://127.0.0.1:1/v1"
    assert sh(home, "codex", "--undo").exit_code == 0
    assert file.read_text() == before


def test_a_file_that_starts_with_a_table_is_changed_too(home: Path) -> None:
    file = home / FILES["codex"]
    file.parent.mkdir()
    file.write_text('[tui]\ntheme = "a"\n')
    assert sh(home, "codex", "--url", URL, "--yes").exit_code == 0
    found = tomllib.loads(file.read_text())
    assert (found["model_provider"], found["tui"]) == ("skilldeck", {"theme": "a"})


def test_other_settings_of_claude_and_opencode_stay(home: Path) -> None:
    for program, inside in (("claude", {"env": {"A": "b"}, "theme": "dark"}), ("opencode", {"provider": {"x": {}}})):
        file = home / FILES[program]
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(inside))
        assert sh(home, program, "--url", URL, "--yes").exit_code == 0
    claude = json.loads((home / FILES["claude"]).read_text())
    assert (claude["env"]["A"], claude["theme"]) == ("b", "dark")
    assert claude["env"]["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:4321"
    opencode = json.loads((home / FILES["opencode"]).read_text())
    assert set(opencode["provider"]) == {"x", "skilldeck"}
    assert opencode["model"] == "skilldeck/default"


async def test_the_context_of_the_daemons_model_is_written_where_a_program_would_guess_it(home: Path) -> None:
    codex = home / FILES["codex"]
    codex.parent.mkdir()
    codex.write_text("model_context_window = 7\n")
    async with FakeDaemon().listening(home / "s") as socket:
        for program, *model in (("codex",), ("opencode", "--model", "skilldeck-tiny")):
            args = ["--socket", str(socket), "connect", program, *model, "--yes"]
            done = await asyncio.to_thread(CliRunner().invoke, app, args)
            assert done.exit_code == 0, done.output
    assert tomllib.loads(codex.read_text())["model_context_window"] == 4096
    written = json.loads((home / FILES["opencode"]).read_text())
    models = {"skilldeck-tiny": {"limit": {"context": 4096, "output": 1024}}}
    assert written["provider"]["skilldeck"]["models"] == models
    codex.write_text("model_context_window = 7\n")
    # Of a daemon elsewhere nobody knows: a person's own stays.
    assert (await asyncio.to_thread(sh, home, "codex", "--url", URL, "--yes")).exit_code == 0
    assert tomllib.loads(codex.read_text())["model_context_window"] == 7


def test_what_was_changed_since_is_not_undone(home: Path) -> None:
    file = home / FILES["claude"]
    sh(home, "claude", "--url", URL, "--yes")
    file.write_text('{"mine": 1}')
    refused = sh(home, "claude", "--undo")
    assert refused.exit_code != 0
    assert "was changed since" in refused.stderr
    assert file.read_text() == '{"mine": 1}'


@pytest.mark.parametrize("text", ["{ // a comment\n}", "[1]", '{"env": 3}'])
def test_a_file_that_cannot_be_changed_safely_is_left_alone(home: Path, text: str) -> None:
    file = home / FILES["claude"]
    file.parent.mkdir()
    file.write_text(text)
    refused = sh(home, "claude", "--url", URL, "--yes")
    assert refused.exit_code != 0
    assert "docs/clients.md" in refused.stderr
    assert file.read_text() == text
    assert sh(home, "vim").exit_code != 0

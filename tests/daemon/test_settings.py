"""Settings: flag over environment over config.toml over default; what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from skilldeck_daemon.cli import app
from skilldeck_daemon.cli_settings import TABLES
from skilldeck_daemon.settings import BadSettings, Settings, load_settings
from skilldeck_shared.errors import SkilldeckError


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "skilldeck").mkdir()
    return tmp_path / "skilldeck/config.toml"


def test_the_pruning_rule_is_set_by_config_environment_and_flag(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().watched_versions == 50
    config.write_text('watched_versions = 20\nskills = "auto"\nproject = "/srv/p"\n[tui]\ntheme = "x"\n')
    settings = load_settings()
    assert (settings.watched_versions, settings.skills, settings.project) == (20, "auto", Path("/srv/p"))
    monkeypatch.setenv("SKILLDECK_WATCHED_VERSIONS", "10")
    assert load_settings().watched_versions == 10
    assert load_settings(watched_versions=5).watched_versions == 5


def test_web_search_and_mcp_servers_are_read_from_the_config(config: Path) -> None:
    config.write_text(
        'web_search = "searxng"\nsearxng_url = "http://127.0.0.1:8888"\n'
        '[mcp_servers.files]\ncommand = "files-server"\nargs = ["/srv"]\nenv = { KEY = "secret" }\n'
        '[mcp_servers.far]\nurl = "https://mcp.example.org/mcp"\n'
    )
    settings = load_settings()
    assert settings.mcp_servers["files"].args == ["/srv"]
    assert "secret" not in repr(settings)
    assert settings.mcp_servers["far"].url == "https://mcp.example.org/mcp"
    config.write_text('[mcp_servers.files]\ncommand = "a"\nurl = "https://b.c"\n')
    with pytest.raises(BadSettings, match=r"mcp_servers.files.*exactly one"):
        load_settings()
    config.write_text('[mcp_servers.files]\ncomand = "a"\n')
    with pytest.raises(BadSettings, match=r"mcp_servers.files.comand"):
        load_settings()
    config.write_text('web_search = "searxng"\n')
    with pytest.raises(BadSettings, match="searxng_url"):
        load_settings()


def test_names_of_models_are_read_from_the_config_and_the_environment(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (load_settings().aliases, load_settings().any_model) == ({}, False)
    config.write_text('any_model = true\n[aliases]\n"gpt-5" = "default"\n')
    assert (load_settings().aliases, load_settings().any_model) == ({"gpt-5": "default"}, True)
    monkeypatch.setenv("SKILLDECK_ANY_MODEL", "false")
    assert load_settings().any_model is False


@pytest.mark.parametrize(
    ("name", "value"), [("watched_versions", 0), ("skills", "some"), ("port", 70000), ("web_search", "on")]
)
def test_a_wrong_value_names_its_setting(name: str, value: object) -> None:
    with pytest.raises(BadSettings, match=name):
        load_settings(**{name: value})


FLAGS = """
model model-name any-model no-any-model engine engine-options remote-url remote-api-key remote-model remote-images
no-remote-images chat-template tool-text engine-process host port data-dir database-url blobs-url socket api-key
allowed-hosts cors-origins private-hosts sandbox permission max-memory max-containers web-search searxng-url
watched-versions skills project claude-skills no-claude-skills log-level
"""


def _serve(*arguments: str) -> Any:
    return get_command(app).commands["serve"].make_context("serve", list(arguments)).params  # type: ignore[attr-defined]


def test_every_setting_but_the_tables_is_a_flag_with_its_words() -> None:
    command = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert {f"--{name}" for name in FLAGS.split()} <= options
    assert {option.name for option in command.params} == set(Settings.model_fields) - set(TABLES)
    for option in command.params:
        assert (Settings.model_fields[option.name].description or "no words") in option.help
    permission = next(option for option in command.params if option.name == "permission")
    assert permission.help.endswith("One of auto, ask, deny.")


def test_flags_have_the_types_of_their_settings() -> None:
    given = _serve(
        "--port", "0", "--any-model", "--no-claude-skills", "--api-key", "a", "--api-key", "b", "--model", ""
    )
    set_ = {name: value for name, value in given.items() if value not in (None, ())}
    assert set_ == {"port": 0, "any_model": True, "claude_skills": False, "api_key": ["a", "b"], "model": ""}
    settings = load_settings(**set_)
    assert (settings.keys, settings.port, settings.model) == (["a", "b"], 0, "")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--engine-options", "{"), "--engine-options is not JSON"),
        (("--engine-options", "[]"), "--engine-options must be a JSON object"),
        (("--permission", "maybe"), "permission"),
        (("--port", "70000"), "port"),
    ],
)
def test_a_wrong_flag_is_named(arguments: tuple[str, ...], why: str) -> None:
    result = CliRunner().invoke(app, ["serve", *arguments])
    assert result.exit_code != 0
    assert isinstance(result.exception, SkilldeckError)
    assert why in str(result.exception)

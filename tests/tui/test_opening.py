"""How `skilldeck` opens: past the command line's parser where it can, and what that start leaves unloaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from skilldeck_shared import paths
from skilldeck_tui.opening import Opening


def test_a_start_of_the_tui_needs_no_parser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Opening.read([]) == Opening(paths.socket_path())
    read = Opening.read(["--socket", "d.sock", "--no-start", "--run=resp_1", "--mode", "files"])
    assert read == Opening(tmp_path / "d.sock", False, "resp_1", None, "files")


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["--help"], ["--version"], ["--socket"], ["--socket", "--no-start"], ["--mode", "nowhere"],
     ["--no-start=yes"], ["--screenshot", "a.svg"], ["--run", "resp_1", "skills"]],
)  # fmt: skip
def test_everything_else_is_for_the_parser(arguments: list[str]) -> None:
    assert Opening.read(arguments) is None


def test_a_shell_that_asks_for_completions_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SKILLDECK_COMPLETE", "complete_bash")
    assert Opening.read([]) is None


def test_a_mistake_in_the_settings_is_told_with_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "skilldeck").mkdir()
    (tmp_path / "skilldeck" / "config.toml").write_text("[tui]\nshell_lines = 2\n")
    ended = subprocess.run(
        [sys.executable, "-m", "skilldeck_tui", "--no-start"], capture_output=True, text=True,
        env={"XDG_CONFIG_HOME": str(tmp_path), "PATH": "/usr/bin"},
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (4, "error: tui.shell_lines must be a number from 4 to 1000.\n")


@pytest.mark.parametrize("arguments", [["--no-start"], [], ["--mode", "files"], ["--size", "100x30"]])
def test_without_a_terminal_it_says_so_and_starts_nothing(tmp_path: Path, arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "skilldeck_tui", "--socket", str(tmp_path / "d.sock"), *arguments], text=True,
        stdin=subprocess.DEVNULL, capture_output=True, env={"HOME": str(tmp_path), "PATH": "/usr/bin"}, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: The terminal UI needs a terminal.\n")
    assert "\x1b" not in ended.stderr
    assert not (tmp_path / "d.sock").exists()


def test_the_first_paint_waits_for_nothing_of_the_connection() -> None:
    heavy = ["google.protobuf", "grpclib", "h2", "typer", "watchfiles", "yaml"]
    script = f"import sys, skilldeck_tui.app; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"

"""The TUI as a person meets it: in a terminal, typed into, read from its screen, with a real daemon behind it.

tmux is the terminal; each test has a tmux server of its own. The model is scripted, all else is real.
"""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.containers.support import needs_bwrap
from skilldeck_daemon.containers.homes import base_for
from support.programs import serving
from support.scripted_model import ScriptedModel, Turn, shell
from support.tmux import Tmux, surroundings

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

GOOD = "---\nname: notes\ndescription: Keeps notes.\n---\n# Notes\n"
BROKEN = "---\nname: notes\ndescription: a: b\n---\n"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(base_for(tmp_path / "data" / "containers"), ignore_errors=True)  # root's daemons keep them elsewhere


@pytest.fixture
def terminal(home: Path) -> Iterator[Callable[..., Tmux]]:
    opened: list[Tmux] = []

    def open_(width: int = 100, height: int = 30) -> Tmux:
        command = f"'{sys.executable}' -m skilldeck_tui --socket '{home / 's'}' --no-start; echo left with $?; cat"
        opened.append(Tmux(home, width, height, command, surroundings(home)))
        return opened[-1]

    yield open_
    for tmux in opened:
        tmux.close()


@needs_bwrap
def test_a_skill_is_watched_broken_mended_and_used_by_a_run(home: Path, terminal: Callable[..., Tmux]) -> None:
    notes = home / "notes"
    notes.mkdir()
    (notes / "SKILL.md").write_text(GOOD)
    turns = Turn(shell("cat /mnt/skills/notes/SKILL.md; echo to stderr >&2; exit 3")), Turn("It keeps **notes**.")
    with ScriptedModel(*turns) as model, serving(home, "--engine", "remote", "--remote-url", model.url):
        t = terminal()
        t.shows("No skills yet", "● ready")
        t.keys("F3")
        t.shows("add a folder with a SKILL.md")
        t.keys("a")
        t.shows("Add a skill folder")
        t.type(str(notes))
        t.keys("Enter")
        t.shows("● watching ✓", "v1")
        (notes / "SKILL.md").write_text(BROKEN)
        t.shows("✗ line 3", "SKILL.md 3:15", "Version 1 goes on serving.")
        (notes / "SKILL.md").write_text(GOOD + "Mended in time.\n")
        t.shows("● watching ✓", "v1 → v2")
        # The row tells of the new version before the list of versions has it under the cursor, where p finds it.
        t.until(lambda screen: any("v2" in line and "latest" in line for line in screen.splitlines()))
        t.keys("p")
        t.until(lambda screen: "v1 → v2" not in screen and "v2" in screen)
        t.keys("F2")
        t.shows("Ask for something")
        t.type("What does it keep?")
        t.keys("Enter")
        # The save is in the container of the next request, its output on the screen.
        t.shows("Mended in time.", "to stderr", "✗ 3", "It keeps notes.")
        t.resize(50, 24)
        t.until(lambda screen: "It keeps notes." in screen and max(map(len, screen.splitlines())) <= 50)
        t.keys("C-q")
        t.shows("left with 0")


def test_a_killed_daemon_leaves_a_dead_socket_and_a_new_one_takes_over(
    home: Path, terminal: Callable[..., Tmux]
) -> None:
    with ScriptedModel(Turn("First answer."), Turn("Second answer."), strict=False) as model:
        flags = ("--engine", "remote", "--remote-url", model.url)
        with serving(home, *flags) as (process, _):
            t = terminal()
            t.shows("● ready")
            t.type("one")
            t.keys("Enter")
            t.shows("First answer.")
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            t.shows("First answer.", "nothing here is lost")
        assert (home / "s").exists()
        t.type("typed meanwhile")
        t.shows("typed meanwhile")
        # The notice leaves by itself, so on a busy machine it may have come and gone between two looks.
        # (It is wrapped, where a long path makes the banner below it tall.)
        t.repeats("Enter", "The daemon is away")
        t.shows("typed meanwhile")
        with serving(home, *flags):
            t.shows("● ready", "First answer.")
            t.keys("Enter")
            screen = t.shows("Second answer.")
            assert screen.count("First answer.") == 1

"""What is told of packages that skills need: while a run waits for them, and in Skills."""

from __future__ import annotations

from typing import Any

import pytest

from skilldeck_tui.cli.running.packages import PackageNotes
from skilldeck_tui.client.types import Change
from skilldeck_tui.skills.packages import lost, preparing
from skilldeck_tui.skills.skill_rows import about_packages
from skilldeck_tui.state import DaemonState


def told(status: str, *log: str, lines: int = 0, **more: Any) -> Change:
    environment = {
        "id": "env_1", "object": "environment", "status": status, "detail": log[-1] if log else "",
        "skills": ["report"], "runs": ["resp_1"], "python": ["charts>=1"], "node": ["plot-kit@^1"], "log": list(log),
        "lines": lines or len(log), **more,
    }  # fmt: skip
    return Change("environment", "put", "env_1", environment)


def test_run_says_how_the_building_goes_once_each(capsys: pytest.CaptureFixture[str]) -> None:
    notes = PackageNotes("resp_1")
    notes.show(told("asked"))
    assert capsys.readouterr().err == ""
    notes.show(told("building", runs=["resp_2"]))
    assert capsys.readouterr().err == ""
    notes.show(told("building"))
    notes.show(told("building", "Resolved 2", "Downloading charts (12.0MiB)"))
    notes.show(told("building", "Downloading charts (12.0MiB)", "Installed 2", "+ charts==1.0", lines=4))
    notes.show(told("ready", "Installed 2", "+ charts==1.0", lines=4))
    notes.show(told("ready", "Installed 2", lines=4))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "building what report needs: charts>=1, plot-kit@^1"
    assert [line.strip() for line in said[1:5]] == [
        "Resolved 2", "Downloading charts (12.0MiB)", "Installed 2", "+ charts==1.0",
    ]  # fmt: skip
    assert said[5:] == ["✓ what report needs is there"]


def test_run_says_why_it_goes_on_without(capsys: pytest.CaptureFixture[str]) -> None:
    notes = PackageNotes("resp_1")
    notes.show(told("building"))
    notes.show(told("failed", "× No solution found", detail="requirements.txt:3: No solution found"))
    assert capsys.readouterr().err.splitlines()[-1] == (
        "✗ what report needs is not there: requirements.txt:3: No solution found"
    )


def test_chat_names_what_a_run_waits_for() -> None:
    state = DaemonState()
    assert preparing(state, "resp_1") == ""
    state.apply(told("building", "Downloading charts (12.0MiB)"))
    assert preparing(state, "resp_1") == "building what report needs: Downloading charts (12.0MiB)"
    assert preparing(state, "resp_2") == ""
    assert lost(state, {"resp_1"}) == []
    state.apply(told("failed", detail="requirements.txt:3: No solution found"))
    assert preparing(state, "resp_1") == ""
    assert [one["detail"] for one in lost(state, {"resp_1"})] == ["requirements.txt:3: No solution found"]


@pytest.mark.parametrize(
    ("environment", "warnings", "text"),
    [
        (None, [], ""),
        ({"status": "ready", "python": ["charts"], "node": [], "detail": ""}, [], "packages ready: charts"),
        ({"status": "building", "python": list("abcdefgh"), "node": [], "detail": "Downloading x"}, [],
         "packages being built: a, b, c, d, e, f, 2 more · Downloading x"),
        ({"status": "failed", "python": ["x"], "node": [], "detail": "y"}, ["requirements.txt:3: No solution", "two"],
         "packages failed: x\n! requirements.txt:3: No solution\n! two"),
        (None, list("abcdef"), "! a\n! b\n! c\n! d\n! and 2 more"),
    ],
)  # fmt: skip
def test_skills_shows_how_a_skill_stands_with_its_packages(environment: Any, warnings: list[str], text: str) -> None:
    assert about_packages({"environment": environment, "warnings": warnings}).plain == text

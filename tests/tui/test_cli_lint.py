"""`skilldeck lint`, which asks no daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from skilldeck_tui.cli.main import app

GOOD = """---
name: {name}
description: {about}
---
# Steps

Run `python3 scripts/go.py`.
"""
ABOUT = "Counts the words of letters and reports. Use when somebody asks how long a text is."
POEMS = "Writes poems about the sea for birthdays. Use when a poem is asked for."


def lint(*args: str | Path) -> Result:
    return CliRunner().invoke(app, ["lint", *map(str, args)], env={"SKILLDECK_SOCKET": "/nowhere/s"})


def skill(folder: Path, about: str = ABOUT, more: str = "") -> Path:
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / "go.py").write_text("print()\n")
    (folder / "SKILL.md").write_text(GOOD.format(name=folder.name, about=about) + more)
    return folder


def findings(result: Result) -> list[dict[str, Any]]:
    return [finding for one in json.loads(result.stdout) for finding in one["findings"]]


def test_a_folder_without_faults_ends_with_0(tmp_path: Path) -> None:
    result = lint(skill(tmp_path / "letters"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert "1 skill: nothing found" in result.stderr


def test_faults_are_told_by_place_rule_cure_and_once_the_reason(tmp_path: Path) -> None:
    folder = skill(tmp_path / "letters", more="See [rules](references/rules.md).\n")
    result = lint(folder, skill(tmp_path / "poems", about=POEMS, more="See [rules](references/rules.md).\n"))
    assert result.exit_code == 1
    place, cure, why, *others = result.stdout.splitlines()
    assert place == f"{folder}/SKILL.md:8:13: warning missing-file: references/rules.md is not in the skill."
    assert cure == "    Add the file, or take the reference out."
    assert why == "    The model looks for it, fails, and searches on or makes it up."
    assert not any(why in other for other in others)
    (found,) = findings(lint(folder, "--json"))
    assert found == {
        "rule": "missing-file", "level": "warning", "path": "SKILL.md", "line": 8, "column": 13,
        "message": "references/rules.md is not in the skill.", "cure": "Add the file, or take the reference out.",
        "fixable": False, "why": "The model looks for it, fails, and searches on or makes it up.",
    }  # fmt: skip


def test_advice_fails_only_when_it_is_to(tmp_path: Path) -> None:
    folder = skill(tmp_path / "letters", about=f"{ABOUT}\nversion: 1")
    assert lint(folder).exit_code == 0
    assert lint(folder, "--strict").exit_code == 1
    assert lint(folder, "--strict", "--ignore", "unknown-field").exit_code == 0


def test_a_collection_is_compared_within_itself_and_with_others(tmp_path: Path) -> None:
    for name in ("letters", "reports"):
        skill(tmp_path / "mine" / name)
    skill(tmp_path / "mine" / "poems", about=POEMS)
    assert {(f["rule"], f["line"]) for f in findings(lint(tmp_path / "mine", "--json"))} == {("description-overlap", 3)}
    alone = tmp_path / "mine" / "letters"
    assert findings(lint(alone, "--json")) == []
    (found,) = findings(lint(alone, "--json", "--among", tmp_path / "mine"))
    assert "reports" in found["message"]


def test_fix_mends_and_says_what(tmp_path: Path) -> None:
    folder = skill(tmp_path / "letters", about=f"{ABOUT}\nversion: 1", more="Run `./scripts/go.py x`.\n")
    result = lint(folder, "--fix")
    assert result.exit_code == 0
    assert "mended unknown-field" in result.stderr
    assert "mended script-not-executable" in result.stderr
    assert (folder / "scripts" / "go.py").read_text() == "#!/usr/bin/env python3\nprint()\n"
    assert "metadata:\n  version: 1\n" in (folder / "SKILL.md").read_text()


def test_the_rules_are_listed_with_their_reasons() -> None:
    rules = json.loads(lint("--rules", "--json").stdout)
    assert [rule["level"] for rule in rules] == sorted((r["level"] for r in rules), key="error warning advice".index)
    assert "missing-file" in lint("--rules").stdout


@pytest.mark.parametrize(
    ("args", "says"),
    [(["--only", "nope"], "There is no rule 'nope'."), (["/nowhere/at/all"], "is not a folder")],
)
def test_wrong_use_is_refused_with_its_cure(args: list[str], says: str) -> None:
    result = lint(*args)
    assert result.exit_code == 4
    assert says in result.stderr


def test_a_folder_that_holds_no_skill_is_a_finding(tmp_path: Path) -> None:
    (found,) = findings(lint(tmp_path, "--json"))
    assert (found["rule"], found["path"], found["line"]) == ("bundle", ".", None)

"""`skilldeck new`: what it writes, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from skilldeck_shared.errors import BadRequest
from skilldeck_shared.lint import engine
from skilldeck_tui.cli.main import app
from skilldeck_tui.new_skill import make as make_module
from skilldeck_tui.new_skill.make import TEMPLATES, make
from skilldeck_tui.skill_tests.suite import load_cases
from skilldeck_tui.skill_tests.triggers import trigger_cases

PROSE = Path(make_module.__file__).parent / "templates/prose"
RULES = (PROSE / "references/rules.md").read_text()
DRAFT = (PROSE / "samples/draft.txt").read_text()


def new(*args: str | Path) -> Result:
    return CliRunner().invoke(app, ["new", *map(str, args)], env={"SKILLDECK_SOCKET": "/nowhere/s"})


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_skill_has_tests_and_no_findings(tmp_path: Path, template: str) -> None:
    folder = make("my-first", tmp_path, template=template)
    every = [found for name in TEMPLATES if (found := engine.neighbour(make(f"x-{name}", tmp_path, template=name)))]
    assert engine.lint(folder, others=[other for other in every if other.name != f"x-{template}"]) == []
    assert [case.name for case in load_cases(folder)] == ["by name", "by need"]
    assert [(case.checks[0].spec["wanted"], len(case.files)) for case in trigger_cases(folder)] == (
        [(True, 1)] * 3 + [(False, 0)] * 3
    )
    assert not any(case.problem for case in trigger_cases(folder))
    assert "{{" not in "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert all(os.access(path, os.X_OK) for path in folder.glob("scripts/*"))


@pytest.mark.parametrize(
    ("template", "prints"),
    [("prose", RULES + "draft: 17 words\n" + DRAFT),
     ("script", "lines: 4\nwords: 19\n"), ("data", "rows: 3\ncrates: 42\nhours: 13.5\n"),
     ("node", "links: 2\nmap.md\nrules.md\n")],
)  # fmt: skip
def test_its_script_runs_and_says_why_it_cannot(tmp_path: Path, template: str, prints: str) -> None:
    folder = make("mine", tmp_path, template=template)
    (script,), (sample,) = folder.glob("scripts/*"), folder.glob("samples/*")
    program = {".py": sys.executable, ".mjs": "node", ".sh": "sh"}[script.suffix]

    def run(file: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, str(script), str(file)], capture_output=True, text=True, check=False)

    assert (run(sample).returncode, run(sample).stdout) == (0, prints)
    missing = run(folder / "nothing")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "cannot be read" in missing.stderr


def test_the_description_is_what_its_author_says(tmp_path: Path) -> None:
    about = 'Reads "notes": keeps #1 apart. Use when notes are brought.'
    found = engine.neighbour(make("notes", tmp_path, description=about))
    assert found is not None
    assert found.description == about


@pytest.mark.parametrize(
    ("name", "template", "description", "param"),
    [
        ("My Skill", "script", "", "name"),
        ("../up", "script", "", "name"),
        ("a: b", "script", "", "name"),
        ("x\nlicense: y", "script", "", "name"),
        ("", "script", "", "name"),
        ("mine", "nope", "", "template"),
        ("mine", "script", "word " * 300, "description"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, name: str, template: str, description: str, param: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        make(name, tmp_path, template=template, description=description)
    assert refused.value.param == param
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    result = new("mine", "--into", tmp_path)
    assert result.exit_code == 4
    assert "is there already" in result.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_the_command_tells_what_it_made_and_what_is_next(tmp_path: Path) -> None:
    result = new("mine", "--into", tmp_path, "-t", "data")
    assert result.exit_code == 0
    assert f"{tmp_path}/mine/SKILL.md" in result.stdout.splitlines()
    assert f"skilldeck test {tmp_path}/mine" in result.stderr
    made = json.loads(new("other", "--into", tmp_path, "--json").stdout)
    assert made["files"] == [
        "SKILL.md", "evals/basics.yaml", "evals/triggers.json", "samples/letter.txt", "scripts/count.py",
    ]  # fmt: skip

"""Each rule of lint: what it finds where, that it can be turned off, and what mends it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from skilldeck_shared.errors import BadRequest
from skilldeck_shared.lint import engine, fixing
from skilldeck_shared.lint.frontmatter import estimate
from skilldeck_shared.lint.skill import Neighbour

ROOT = Path(__file__).resolve().parents[2]
ABOUT = "Summarizes the columns of CSV tables. Use when someone brings a CSV file and asks what is in it."
GOOD = f"""---
name: tables
description: {ABOUT}
---

Run `python3 scripts/sum.py FILE`. The columns are explained in [columns](references/columns.md).
"""
FILES = {"SKILL.md": GOOD, "scripts/sum.py": "import csv\n\nprint(csv)\n", "references/columns.md": "# Columns\n"}
AKIA = "AKIA" + "Q3EGVXZ7LMN2PKRT"


def skill(
    at: Path, files: Mapping[str, str | bytes], *, name: str = "tables", executable: tuple[str, ...] = ()
) -> Path:
    folder = at / name
    for path, text in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
        place.chmod(0o755 if path in executable else 0o644)
    return folder


def head(lines: str) -> str:
    return GOOD.replace("name: tables\n", f"name: tables\n{lines}\n")


def body(text: str) -> str:
    return f"{GOOD}\n{text}\n"


def about(text: str) -> str:
    return GOOD.replace(ABOUT, text)


FOUND: dict[str, tuple[Mapping[str, str | bytes], str]] = {
    "bundle": ({"SKILL.md": b"", "skill": "", "Skill": ""}, "."),
    "format": ({"SKILL.md": GOOD.replace("name: tables\n", "")}, "SKILL.md:1:1"),
    "folder-name": ({"SKILL.md": GOOD.replace("name: tables", "name: table")}, "SKILL.md:2:7"),
    "unknown-field": ({"SKILL.md": head("version: 1")}, "SKILL.md:3:1"),
    "field-type": ({"SKILL.md": head("allowed-tools: [Read, Bash]")}, "SKILL.md:3:16"),
    "body-empty": ({"SKILL.md": GOOD.partition("\n\nRun")[0] + "\n"}, "SKILL.md:4:1"),
    "body-long": ({"SKILL.md": body("word " * 5000)}, "SKILL.md:5:1"),
    "placeholder": ({"SKILL.md": body("[TODO: write this]")}, "SKILL.md:8:1"),
    "description-short": ({"SKILL.md": about("Use for CSV.")}, "SKILL.md:3:1"),
    "description-no-when": ({"SKILL.md": about("Column statistics of CSV tables, as text or JSON.")}, "SKILL.md:3:1"),
    "description-long": ({"SKILL.md": about(f"{ABOUT} {'More of the same. ' * 42}")}, "SKILL.md:3:1"),
    "description-person": ({"SKILL.md": about("I can help you with CSV files when you bring some.")}, "SKILL.md:3:1"),
    "description-tags": ({"SKILL.md": about(f"{ABOUT} Writes <table> elements.")}, "SKILL.md:3:1"),
    "description-overlap": ({}, "SKILL.md:3:1"),
    "missing-file": ({"SKILL.md": body("See [rows](references/rows.md).")}, "SKILL.md:8:12"),
    "outside-file": ({"SKILL.md": body("See [rows](../rows/SKILL.md).")}, "SKILL.md:8:12"),
    "backslash-path": ({"SKILL.md": body(r"Run `python3 scripts\sum.py`.")}, "SKILL.md:8:14"),
    "client-path": ({"SKILL.md": body("Run `python3 ~/.claude/skills/tables/scripts/sum.py`.")}, "SKILL.md:8:14"),
    "script-not-executable": (
        {"SKILL.md": body("Run `./scripts/go.sh x`."), "scripts/go.sh": "#!/bin/sh\n"}, "scripts/go.sh"
    ),
    "script-no-interpreter": (
        {"SKILL.md": body("```\nscripts/go.sh x\n```"), "scripts/go.sh": "echo\n"}, "scripts/go.sh:1:1"
    ),
    "script-line-ends": ({"scripts/go.sh": "#!/bin/sh\r\necho\r\n"}, "scripts/go.sh:1:1"),
    "script-syntax": ({"scripts/old.py": "\nprint 'x'\n"}, "scripts/old.py:2:1"),
    "script-asks": ({"scripts/ask.py": "name = 1\nname = input('Name? ')\n"}, "scripts/ask.py:2:1"),
    "package-missing": ({"scripts/plot.py": "import os\nimport seaborn\n"}, "scripts/plot.py:2:1"),
    "secret": ({"scripts/s3.py": f"import os\n\nKEY = '{AKIA}'\n"}, "scripts/s3.py:3:8"),
    "absolute-path": ({"SKILL.md": body("Read /home/margit/data/orders.csv first.")}, "SKILL.md:8:6"),
}  # fmt: skip
NEIGHBOUR = Neighbour("csv-columns", f"{ABOUT} Also tells the columns of TSV.")


def others(rule: str) -> list[Neighbour]:
    return [NEIGHBOUR] if rule == "description-overlap" else []


def test_a_good_skill_has_no_findings(tmp_path: Path) -> None:
    neighbours = [Neighbour("tables", ABOUT), Neighbour("poems", "Writes poems about the sea. Use when asked for one.")]
    assert engine.lint(skill(tmp_path, FILES), others=neighbours) == []


def test_every_rule_is_tested() -> None:
    assert FOUND.keys() == engine.RULES.keys()


@pytest.mark.parametrize("rule", FOUND)
def test_a_rule_finds_its_fault_at_its_place_and_can_be_turned_off(tmp_path: Path, rule: str) -> None:
    changes, place = FOUND[rule]
    executable = ("scripts/go.sh",) if rule == "script-no-interpreter" else ()
    folder = skill(tmp_path, {**FILES, **changes} if rule != "bundle" else changes, executable=executable)
    if rule == "bundle":
        (folder / "SKILL.md").unlink()
    found = engine.lint(folder, others=others(rule))
    assert [(finding.rule, finding.place) for finding in found] == [(rule, place)]
    assert all((found[0].message, found[0].cure, engine.RULES[rule].why))
    assert engine.lint(folder, others=others(rule), ignore={rule}) == []
    assert engine.lint(folder, others=others(rule), only={rule}) == found
    assert engine.lint(folder, others=others(rule), only=engine.RULES.keys() - {rule}) == []


@pytest.mark.parametrize("rule", sorted(FOUND.keys() - {"bundle", "format"}))
def test_a_comment_in_the_skill_turns_a_rule_off(tmp_path: Path, rule: str) -> None:
    changes, _ = FOUND[rule]
    folder = skill(tmp_path, {**FILES, **changes}, executable=("scripts/go.sh",) if "interpreter" in rule else ())
    with (folder / "SKILL.md").open("a") as file:
        file.write(f"<!-- skilldeck-lint: ignore script-asks {rule} -->\n")
    assert [finding for finding in engine.lint(folder, others=others(rule)) if finding.rule == rule] == []


def test_a_rule_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no rule 'secrets'"):
        engine.lint(tmp_path, ignore={"secrets"})


@pytest.mark.parametrize(
    "files",
    [
        {"SKILL.md": about("从 CSV 表格中提取列的统计信息，当用户上传表格时使用。")},
        {"SKILL.md": about("Resume tablas CSV columna por columna, cuando alguien trae una.")},
        {"SKILL.md": head("disable-model-invocation: true")},
        {"SKILL.md": head("compatibility: needs seaborn"), "scripts/plot.py": "import seaborn\n"},
        {"scripts/plot.py": '# /// script\n# dependencies = ["seaborn"]\n# ///\nimport seaborn\n'},
        {"requirements.txt": "seaborn>=0.13\n", "scripts/plot.py": "import seaborn\n"},
        {"scripts/plot.py": "import matplotlib, pandas, yaml, dateutil\n"},
        {"scripts/test_sum.py": "import pytest\n"},
        {"scripts/ask.py": "import sys\nif sys.stdin.isatty():\n    input()\n"},
        {"SKILL.md": body("Links look like `[text](references/other.md)` or [text](url).")},
        {"SKILL.md": body("```\n[rows](rows.md)\n```")},
        {"SKILL.md": body("For example, `scripts/deploy.sh` of the project.")},
        {"SKILL.md": body("Write `src/main.py` and `references/{topic}.md`.")},
        {"SKILL.md": body("Paths such as /home/user/data/x.csv and /Users/you/x.csv.")},
        {"SKILL.md": body("AKIAIOSFODNN7EXAMPLE, sk-your-key-goes-here-xxxxxxxxxxxxxxxxxxxx")},
        {"SKILL.md": body("`scripts/sum.py` is a script.")},
        {"references/columns.md": "See [the script](../scripts/sum.py) and [again](scripts/sum.py).\n"},
        {"SKILL.md": about("CSV 표를 요약하고 열마다 통계를 내는 스킬. 트리거 표 요약, 열 통계, 표 검토.")},
        {"SKILL.md": body("Events: see `table-api` `references/events.md` and `table-api`'s `scripts/pull.py`.")},
        {"SKILL.md": body("| `references/budget.ts.snippet` | limits |"), "references/budget.ts.snippet": "x"},
        {"SKILL.md": body("```\nls Makefile scripts/dev.sh 2>/dev/null\n[ -f scripts/deploy.sh ] && echo\n```")},
        {"README.ja.md": "See [plans](docs/plans.md).\n"},
        {"references/columns.md": "AIzaSyA1B2C3D4E5F6G7H8I9J0K1L2M3N4O5P6Q or C:\\Users\\Administrator\\x\n"},
        {"SKILL.md": GOOD.replace("name: tables", "name: table-summary"), ".git/HEAD": "ref: refs/heads/main\n"},
    ],
)
def test_what_well_made_skills_do_is_no_finding(tmp_path: Path, files: Mapping[str, str]) -> None:
    assert engine.lint(skill(tmp_path, {**FILES, **files})) == []


def test_a_skill_that_cannot_be_read_is_told_with_what_else_is_wrong(tmp_path: Path) -> None:
    text = GOOD.replace("name: tables", "name: Tables").replace(ABOUT, "Reads: CSV")
    found = engine.lint(skill(tmp_path, {**FILES, "SKILL.md": text}))
    assert {(finding.rule, finding.line) for finding in found} == {
        ("format", 2), ("format", 3), ("description-short", 3)
    }  # fmt: skip


def test_files_that_hold_secrets_by_their_name_are_found_though_uploads_leave_them_out(tmp_path: Path) -> None:
    (found,) = engine.lint(skill(tmp_path, {**FILES, ".env": "TOKEN=1\n"}))
    assert (found.rule, found.path) == ("secret", ".env")


MENDED: dict[str, tuple[Mapping[str, str], str, str]] = {
    "a field for people": ({"SKILL.md": head("version: 1")}, "SKILL.md", head("metadata:\n  version: 1")),
    "two, beside others": (
        {"SKILL.md": head("version: 1\nmetadata:\n  team: x\nauthor: me")}, "SKILL.md",
        head("metadata:\n  author: me\n  version: 1\n  team: x"),
    ),
    "a list in one line": (
        {"SKILL.md": head("allowed-tools: [Read, 'Bash(git:*)']")}, "SKILL.md", head("allowed-tools: Read Bash(git:*)")
    ),
    "a list in lines": (
        {"SKILL.md": head("allowed-tools:\n  - Read\n  - Write")}, "SKILL.md", head("allowed-tools: Read Write")
    ),
    "a file that lies elsewhere": (
        {"SKILL.md": body("See [columns](docs/Columns.md).")}, "SKILL.md", body("See [columns](references/columns.md).")
    ),
    "backslashes": ({"SKILL.md": body(r"Run `x scripts\sum.py`")}, "SKILL.md", body("Run `x scripts/sum.py`")),
    "one client's place": (
        {"SKILL.md": body("Run `x ~/.codex/skills/tables/scripts/sum.py`")}, "SKILL.md", body("Run `x scripts/sum.py`")
    ),
    "line ends": ({"scripts/go.sh": "#!/bin/sh\r\necho\r\n"}, "scripts/go.sh", "#!/bin/sh\necho\n"),
    "no interpreter": (
        {"SKILL.md": body("Run `./scripts/go.py x`."), "scripts/go.py": "print()\n"}, "scripts/go.py",
        "#!/usr/bin/env python3\nprint()\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MENDED)
def test_what_is_mechanical_is_mended_once_and_for_all(tmp_path: Path, case: str) -> None:
    files, path, expected = MENDED[case]
    folder = skill(tmp_path, {**FILES, **files})
    assert fixing.fix(folder, lambda: engine.lint(folder))
    assert (folder / path).read_text() == expected
    assert engine.lint(folder) == []
    assert sorted(file.name for file in folder.iterdir() if file.name.startswith(".")) == []


def test_a_script_that_is_called_becomes_executable(tmp_path: Path) -> None:
    files = {**FILES, "SKILL.md": body("Run `./scripts/go.sh x`."), "scripts/go.sh": "#!/bin/sh\n"}
    folder = skill(tmp_path, files)
    fixing.fix(folder, lambda: engine.lint(folder))
    assert os.access(folder / "scripts/go.sh", os.X_OK)
    assert engine.lint(folder) == []


def test_what_is_not_mechanical_is_left(tmp_path: Path) -> None:
    text = head("version: |\n  1\n  2\nallowed-tools: [Read, 'Bash(git add:*)']")
    folder = skill(tmp_path, {**FILES, "SKILL.md": text})
    assert fixing.fix(folder, lambda: engine.lint(folder)) == []
    assert (folder / "SKILL.md").read_text() == text


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("Summarize the table.", 4), ("one two " * 50, 100)])
def test_tokens_are_estimated(text: str, tokens: int) -> None:
    assert estimate(text) == pytest.approx(tokens, abs=1)


@pytest.mark.parametrize("example", sorted(path.parent.name for path in ROOT.glob("skills-examples/*/SKILL.md")))
def test_the_examples_have_no_findings(example: str) -> None:
    every = [engine.neighbour(path.parent) for path in ROOT.glob("skills-examples/*/SKILL.md")]
    neighbours = [neighbour for neighbour in every if neighbour is not None]
    assert engine.lint(ROOT / "skills-examples" / example, others=neighbours) == []

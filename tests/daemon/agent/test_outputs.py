"""What the model reads of a command's output beside what the process wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.agent.guidance.outputs import AGAIN, SILENT, CommandOutputs, own_frames
from skilldeck_daemon.agent.guidance.skill_paths import SkillPaths

SCRIPT = "/mnt/skills/report/scripts/make.py"


@pytest.fixture
def skills(tmp_path: Path) -> SkillPaths:
    for path in ("scripts/make.py", "references/forms.md"):
        file = tmp_path / "report" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "report/SKILL.md").write_text(
        "---\nname: report\n---\nRun scripts/make.py\n\n`python3 scripts/make.py <file>`\n"
    )
    (tmp_path / "other/scripts").mkdir(parents=True)
    (tmp_path / "other/scripts/make.py").touch()
    (tmp_path / "other/SKILL.md").write_text("---\nname: other\n---\nBe brief.\n")
    return SkillPaths((name, str(tmp_path / name)) for name in ("other", "report"))


def entry(stderr: str, code: int = 1, stdout: str = "") -> dict[str, Any]:
    return {"stdout": stdout, "stderr": stderr, "outcome": {"type": "exit", "exit_code": code}}


@pytest.mark.parametrize(
    ("command", "stderr", "hint"),
    [
        (
            "report a.csv",
            "bash: line 1: report: command not found\n",
            f"its instructions say:\nRun {SCRIPT}\n\n`python3 {SCRIPT} <file>`\n",
        ),
        (
            "cd /mnt/skills/report && python3 make.py",
            "python3: can't open file '/mnt/skills/report/make.py': [Errno 2] No such file or directory\n",
            f"/mnt/skills/report/make.py is not there; there is {SCRIPT})",
        ),
        (
            "python3 scripts/make.py",  # of which skill is not known
            "python3: can't open file '/mnt/data/scripts/make.py': [Errno 2] No such file or directory\n",
            f"there is /mnt/skills/other/scripts/make.py and {SCRIPT})",
        ),
        (
            "cat forms.md",
            "cat: forms.md: No such file or directory\n",
            "there is /mnt/skills/report/references/forms.md)",
        ),
        ("make.py x", "bash: line 1: make.py: command not found\n", f"{SCRIPT})"),
        (
            f"python3 {SCRIPT} /orders.csv",
            "FileNotFoundError: [Errno 2] No such file or directory: '/orders.csv'\n",
            "/orders.csv is not there; there is /mnt/data/Orders.csv)",
        ),
        (
            "python /mnt/skills/report/SKILL.md",
            "SyntaxError: invalid syntax\n",
            f"SKILL.md holds instructions, it is no program. Run for example: python3 {SCRIPT} <file>)",
        ),
        (
            "cd /tmp && bash /mnt/skills/other/SKILL.md",
            "SKILL.md: line 1: ---: command not found\n",
            "/mnt/skills/other/SKILL.md holds instructions, it is no program. Do what it says, or answer.)",
        ),
        (
            f"python3 {SCRIPT}",
            "ModuleNotFoundError: No module named 'docx.shared'\n",
            "The Python package python-docx is not in this sandbox. To bring it, the user has to run skilldeckd sandbox"
            " build)",
        ),
        (
            "python3 -m bats",
            "/usr/bin/python3: No module named bats\n",
            "the user has to run skilldeckd sandbox build --with bats)",
        ),
        (
            "node a.js",
            "Error: Cannot find module 'pdf-lib'\n",
            "The Node package pdf-lib is not in this sandbox. To bring it, the user has to run skilldeckd sandbox"
            " build)",
        ),
    ],
)
def test_a_dead_end_says_the_way_on(skills: SkillPaths, command: str, stderr: str, hint: str) -> None:
    shown = CommandOutputs(skills, ["Orders.csv"]).shown(entry(stderr, 127), command)
    assert shown["stderr"].startswith(stderr.rstrip("\n"))
    assert hint in shown["stderr"]


@pytest.mark.parametrize(
    ("command", "stderr"),
    [
        ("foo", "bash: line 1: foo: command not found\n"),
        ("cat missing.txt", "cat: missing.txt: No such file or directory\n"),
        ("python3 x.py", "ValueError: bad\n"),
        ("ls", ""),
    ],
)
def test_nothing_is_said_where_nothing_is_known(skills: SkillPaths, command: str, stderr: str) -> None:
    assert CommandOutputs(skills, ["a.csv"]).shown(entry(stderr), command) == entry(stderr)


def test_a_command_that_fails_twice_is_told_so_once_it_does(skills: SkillPaths) -> None:
    outputs = CommandOutputs(skills)
    assert AGAIN not in outputs.shown(entry("bad", 2), "make a")["stderr"]
    assert AGAIN not in outputs.shown(entry("bad", 2), "make b")["stderr"]
    assert outputs.shown(entry("bad", 2), "make b ")["stderr"] == f"bad\n(hint: {AGAIN})"
    assert outputs.shown(entry("", 0), "make b")["stderr"] == ""
    assert AGAIN not in outputs.shown(entry("bad", 2), "make b")["stderr"]


def test_a_model_that_has_its_own_way_gets_no_help() -> None:
    outputs = CommandOutputs(None, ["a.csv"])
    for _ in range(2):
        missing = entry("cat: /a.csv: No such file or directory\n")
        assert outputs.shown(missing, "cat /a.csv") == missing


def test_a_long_output_keeps_its_beginning_and_its_end(skills: SkillPaths) -> None:
    text = "".join(f"row {number}\n" for number in range(5000))
    shown = CommandOutputs(skills, context=8192).shown(entry("", 0, text), "cat")["stdout"]
    assert len(shown) < 6300
    assert shown.startswith("row 0\n")
    assert shown.endswith("row 4999\n")
    assert f"{len(text) - 6144} characters left out" in shown
    assert CommandOutputs(skills).shown(entry("", 0, text), "cat")["stdout"] == text
    assert CommandOutputs(None, context=8192).shown(entry("", 0, text), "cat")["stdout"] == text


def test_a_program_that_printed_nothing_is_told_so(skills: SkillPaths) -> None:
    shown = CommandOutputs(skills).shown(entry("", 0), "python3 - <<'EOF'\nx = 1")
    assert shown["stderr"] == f"(hint: {SILENT})"
    assert CommandOutputs(skills).shown(entry("", 0), "touch a")["stderr"] == ""


def test_a_traceback_keeps_the_lines_that_the_model_can_mend() -> None:
    library = '  File "/run/base/lib/python3.11/site-packages/pypdf/a.py", line 160, in f\n    open(a)\n    ^^^^\n'
    own = '  File "<stdin>", line 2, in <module>\n'
    end = "FileNotFoundError: 'a.pdf'\n"
    command = "python3 - <<'EOF'\nimport pypdf\npypdf.PdfReader('a.pdf')\nEOF\n"
    assert own_frames(f"Traceback:\n{own}{library}{end}", command) == (
        f"Traceback:\n{own}    pypdf.PdfReader('a.pdf')\n{end}"
    )
    script = f'  File "{SCRIPT}", line 2, in <module>\n    read()\n'
    assert own_frames(f"Traceback:\n{script}{library}{end}", f"python3 {SCRIPT}") == f"Traceback:\n{script}{end}"
    for other in (f"Traceback:\n{library}{end}", "ls: no\n"):
        assert own_frames(other, "ls") == other

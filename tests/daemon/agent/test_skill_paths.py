"""Paths in a skill's instructions, as the model reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from skilldeck_daemon.agent.guidance.skill_paths import SkillPaths

SKILL = "/mnt/skills/report"
TEXT = """---
name: report
description: Writes reports with scripts/make.py.
---
# Report

Run `python3 scripts/make.py data.csv --style=assets/plain.css` or ./scripts/make.py, see [forms](forms.md).
The scripts in this folder and/or scripts/none.py; more at https://example.com/scripts/make.py.
cd scripts && python3 make.py; ls scripts/ ; cat /mnt/skills/report/forms.md; cat ../x ~/scripts/make.py
node {baseDir}/scripts/make.py ${CLAUDE_SKILL_DIR}/forms.md "$CLAUDE_SKILL_DIR/assets/my file.txt" $HOME/scripts/make.py
Read "assets/my file.txt", assets/my\\ file.txt and references/deep/more.md.
Then assets/plain.css.
"""
EXPECTED = f"""---
name: report
description: Writes reports with {SKILL}/scripts/make.py.
---
# Report

Run `python3 {SKILL}/scripts/make.py data.csv --style={SKILL}/assets/plain.css` or {SKILL}/scripts/make.py, see \
[forms]({SKILL}/forms.md).
The scripts in this folder and/or scripts/none.py; more at https://example.com/scripts/make.py.
cd {SKILL}/scripts && python3 make.py; ls {SKILL}/scripts/ ; cat {SKILL}/forms.md; cat ../x ~/scripts/make.py
node {SKILL}/scripts/make.py {SKILL}/forms.md "{SKILL}/assets/my file.txt" $HOME/scripts/make.py
Read "{SKILL}/assets/my file.txt", {SKILL}/assets/my\\ file.txt and {SKILL}/references/deep/more.md.
Then {SKILL}/assets/plain.css.
"""


@pytest.fixture
def skills(tmp_path: Path) -> SkillPaths:
    for name, text in (("report", TEXT), ("other", "# Other\nRun scripts/make.py\nthen scripts/other.py.\n")):
        for path in ("scripts/make.py", "assets/plain.css", "assets/my file.txt", "references/deep/more.md"):
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        (tmp_path / name / "SKILL.md").write_text(text)
    (tmp_path / "report/forms.md").write_text("Fill them with scripts/make.py.\n")
    (tmp_path / "report/references/deep/more.md").write_text("See ../../forms.md, near.md and scripts/make.py\n")
    (tmp_path / "report/references/deep/near.md").touch()
    (tmp_path / "other/scripts/other.py").touch()
    return SkillPaths((name, str(tmp_path / name)) for name in ("report", "other"))


def test_what_exists_in_the_skill_is_written_out_in_full_and_nothing_else(skills: SkillPaths) -> None:
    assert skills.written_out(TEXT, f"cat {SKILL}/SKILL.md") == EXPECTED
    # What is told once more (the model prints what it has read) is not written out twice.
    assert skills.written_out(EXPECTED, f"cat {SKILL}/SKILL.md") == EXPECTED


@pytest.mark.parametrize(
    ("command", "output", "expected"),
    [
        (f"sed -n 12p {SKILL}/SKILL.md", "Then assets/plain.css.\n", f"Then {SKILL}/assets/plain.css.\n"),
        (f"cat -n '{SKILL}/SKILL.md'", "    12\tThen assets/plain.css.", f"    12\tThen {SKILL}/assets/plain.css."),
        (f"cd {SKILL} && cat SKILL.md", "Then assets/plain.css.", f"Then {SKILL}/assets/plain.css."),
        (f"cat {SKILL}/forms.md", "Fill them with scripts/make.py.", f"Fill them with {SKILL}/scripts/make.py."),
        (
            f"cd {SKILL}; cat references/deep/more.md",
            "See ../../forms.md, near.md and scripts/make.py",
            f"See ../../forms.md, {SKILL}/references/deep/near.md and {SKILL}/scripts/make.py",
        ),
        # What a command prints beside the instructions stays: the names `ls` lists, another file, a script's report.
        (f"cat {SKILL}/SKILL.md; ls {SKILL}", "SKILL.md\nforms.md\nscripts", "SKILL.md\nforms.md\nscripts"),
        (f"python3 {SKILL}/scripts/make.py", "wrote scripts/make.py", "wrote scripts/make.py"),
        ("cat SKILL.md", "Then assets/plain.css.", "Then assets/plain.css."),
        ("cat /mnt/skills/none/SKILL.md", "No such file: scripts/make.py", "No such file: scripts/make.py"),
    ],
)
def test_a_command_that_prints_instructions_is_known_by_what_it_prints(
    skills: SkillPaths, command: str, output: str, expected: str
) -> None:
    assert skills.written_out(output, command) == expected


def test_each_skill_has_its_own_paths_when_a_command_prints_several(skills: SkillPaths) -> None:
    other = "# Other\nRun scripts/make.py\nthen scripts/other.py.\n"
    written = "# Other\nRun /mnt/skills/other/scripts/make.py\nthen /mnt/skills/other/scripts/other.py.\n"
    for command in (f"cat {SKILL}/SKILL.md /mnt/skills/other/SKILL.md", "cat /mnt/skills/*/SKILL.md"):
        assert skills.written_out(TEXT + other, command) == EXPECTED + written
    assert skills.written_out(other + TEXT, "head -100 /mnt/skills/*/SKILL.md") == written + EXPECTED


def test_without_skills_nothing_changes() -> None:
    assert SkillPaths().written_out(TEXT, f"cat {SKILL}/SKILL.md") == TEXT

"""What a run's commands did with its skills, read from how they were written; and two sessions side by side."""

from __future__ import annotations

from typing import Any

import pytest

from skilldeck_tui.compared import Line, beside, summary
from skilldeck_tui.screens.dialogs.compare import drawn
from skilldeck_tui.skills.skill_use import Step, of_command, uses
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import deck

ENDED: dict[str, Any] = {"outcome": {"type": "exit", "exit_code": 0}, "stdout": "a\nb\n"}


@pytest.mark.parametrize(
    ("command", "steps"),
    [
        ("cat /mnt/skills/s/SKILL.md", [("read", "SKILL.md", "all 2 lines")]),
        ("sed -n '5,40p' /mnt/skills/s/references/a.md", [("read", "references/a.md", "lines 5–40")]),
        ("sed -n '5,$p' /mnt/skills/s/a.md", [("read", "a.md", "lines 5–end")]),
        ("head -n 20 /mnt/skills/s/a.md; tail -5 /mnt/skills/s/b.md",
         [("read", "a.md", "lines 1–20"), ("read", "b.md", "the last 5 lines")]),
        ("grep -n 'Total' /mnt/skills/s/SKILL.md", [("read", "SKILL.md", "lines with Total")]),
        ("ls -la /mnt/skills/s/scripts", [("listed", "scripts", "")]),
        ("python3 -u /mnt/skills/s/run.py a.csv --top 3 > out.txt 2>&1", [("ran", "run.py", "a.csv --top 3", 0)]),
        ("cd /mnt/skills/s && python3 scripts/x.py a.csv", [("ran", "scripts/x.py", "a.csv", 0)]),
        ("cd /mnt/skills/s\nnode scripts/links.mjs x", [("ran", "scripts/links.mjs", "x", 0)]),
        ("/mnt/skills/s/scripts/count.sh a.csv | head -3", [("ran", "scripts/count.sh", "a.csv", 0)]),
        ("MODE=1 timeout 5 python3 /mnt/skills/s/a.py", [("ran", "a.py", "", 0)]),
        ("cp /mnt/skills/s/assets/t.docx .", [("used", "assets/t.docx", "cp")]),
        ("python3 own.py --style /mnt/skills/s/style.css", [("used", "style.css", "python3")]),
        ("python3 summary.py a.csv", []),
        ("cat /mnt/data/a.csv", []),
        ("cat /mnt/skills/../data/a.csv", []),
        ("echo 'cat /mnt/skills/s/SKILL.md'", []),
        ("cat 'unended /mnt/skills/s/a", []),
        ("", []),
    ],
)  # fmt: skip
def test_a_command_tells_what_it_read_and_ran(command: str, steps: list[tuple[Any, ...]]) -> None:
    assert of_command(command, ENDED) == [("s", Step(*step)) for step in steps]


def test_the_code_of_a_command_that_failed_is_told_at_its_last_program() -> None:
    command = "python3 /mnt/skills/s/a.py && bash /mnt/skills/t/b.sh"
    failed = {"outcome": {"type": "exit", "exit_code": 2}}
    assert [(name, step.code) for name, step in of_command(command, failed)] == [("s", None), ("t", 2)]
    assert of_command("bash /mnt/skills/t/b.sh", {"outcome": {"type": "timeout"}})[0][1].code == "timeout"
    assert of_command("bash /mnt/skills/t/b.sh", {})[0][1].code is None


def test_skills_come_in_the_order_they_were_touched_after_those_that_the_words_meant() -> None:
    output = [
        {"type": "code_interpreter_call", "code": "open('/mnt/skills/z/a.json')"},
        {"type": "shell_call", "call_id": "1", "action": {"commands": ["cat /mnt/skills/y/SKILL.md"]}},
    ]
    found = uses(output, ["x"])
    told_of = [(use.name, use.opened, len(use.steps)) for use in found]
    assert told_of == [("x", True, 0), ("z", False, 1), ("y", False, 1)]
    assert found[1].steps == [Step("used", "a.json", "in Python")]
    # A call without its output has no code, and says no number of lines.
    assert found[2].steps == [Step("read", "SKILL.md", "all of it")]


async def test_the_key_at_a_run_shows_what_its_skills_did() -> None:
    fake = FakeDaemon()
    other, skill = fake.add_skill("pdf-tools"), fake.add_skill("counter")

    async def counts(run: FakeRun) -> None:
        run.response["tools"] = [{"type": "shell", "environment": {"skills": [
            {"type": "skill_reference", "skill_id": known["id"]} for known in (other, skill)]}}]  # fmt: skip
        call = run.shell(["cat /mnt/skills/counter/SKILL.md", "python3 /mnt/skills/counter/scripts/count.py a.csv"])
        call.output(0, stdout="# Counter\n\nCounts.\n")
        call.exit([0, 3])
        run.text("It failed.")
        run.complete()

    fake.on_run = counts
    async with deck(fake) as d:
        await d.type("Count")
        await d.press("enter")
        await d.shows("It failed.")
        await d.press("escape", "s")
        await d.shows("◆ counter", "read        SKILL.md  all 3 lines", "ran         scripts/count.py  a.csv  ✗ 3")
        await d.shows("◇ offered, not touched: pdf-tools", "“Count”")


def test_what_is_equal_is_folded_and_figures_are_not_compared() -> None:
    same = [Line("output", f"row {number}") for number in range(9)]
    left = [Line("asked", "› go"), *same, Line("answer", "four"), Line("figures", "m · 1 s")]
    right = [Line("asked", "› go"), *same, Line("answer", "five"), Line("answer", "or six"), Line("figures", "m · 2 s")]
    rows = beside(left, right)
    assert [(row.kind, row.left_out) for row in rows] == [
        ("folded", 8), ("equal", 0), ("equal", 0), ("differs", 0), ("differs", 0), ("equal", 0)
    ]  # fmt: skip
    assert summary(rows) == "2 lines differ"
    assert summary(beside(left, left)) == "They are equal."
    shown = drawn(rows, 43).plain.split("\n")
    assert shown[0] == "⋯ 8 equal lines"
    assert shown[-3].split(" │ ") == ["four                ", "five"]
    assert all(line.index("│") == 21 for line in shown[1:])


async def test_a_session_stands_beside_the_one_that_is_open() -> None:
    fake = FakeDaemon()
    for answer in ("There are 12 rows.", "There are 13 rows."):
        run = fake.start("Count the rows", session_id=fake.add_session(answer[10:12])["id"])
        run.text(answer)
        run.complete()
    async with deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("There are 13 rows.")
        await d.type("/compare ")
        await d.press("enter")
        await d.shows("Compare with which session or run?")
        await d.press("enter")
        await d.shows("There are 13 rows.", "│ There are 12 rows.", "1 line differs")

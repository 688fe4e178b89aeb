"""The tasks of the skill bench are whole, and their verdicts say what they should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skilldeck_daemon.bench.grounding import counted
from skilldeck_daemon.bench.skill_runs import ARMS
from skilldeck_daemon.bench.skill_tasks import Deed, Task, Verdict, judge, load
from skilldeck_daemon.bench.skills import Result, run, table, wilson
from skilldeck_daemon.runner_request import SkillMount

TASK = Task("t", "Do it.", (), ran=(r"run\.py a\.csv",), answer=("12 rows",), absent=("secret",), made={"b": "x"})
DONE = Deed("It has 12 ROWS.", [("python3 run.py a.csv", 0)], {"b": "xyz"}, ended="completed")


def test_every_task_has_skills_that_can_be_mounted_and_says_when_it_is_done() -> None:
    tasks = load()
    assert len({task.name for task in tasks}) == len(tasks) >= 60
    assert sum(task.late for task in tasks) * 2 >= len(tasks)
    assert {len(task.skills) for task in tasks} >= {1, 8}
    assert max(len(task.skills) for task in tasks) >= 50
    for task in tasks:
        assert all(SkillMount(path).read().name == path.name for path in task.skills)
        assert all(path.is_file() for path in task.files)
        assert task.skills
        assert task.answer
        assert task.idle or not set(task.ran) & set(task.answer)


@pytest.mark.parametrize(
    ("change", "ran", "why"),
    [
        ({}, True, ""),
        ({"commands": [("python3 run.py a.csv", 1)]}, False, "the skill's command did not run"),
        ({"commands": []}, False, "the skill's command did not run"),
        ({"answer": "It has 2 rows."}, True, "the answer lacks 12 rows"),
        ({"answer": "12 rows, secret"}, True, "the answer holds secret"),
        ({"answer": "```bash\necho 12 rows\n```"}, True, "the answer is a call"),
        ({"answer": '{"name": "shell", "arguments": "12 rows"}'}, True, "the answer is a call"),
        ({"files": {}}, True, "not made as it should be: b"),
        ({"ended": "max_output_tokens"}, True, "ended: max_output_tokens"),
    ],
)
def test_a_task_is_done_by_what_ran_and_what_answer_and_files_hold(
    change: dict[str, object], ran: bool, why: str
) -> None:
    assert judge(TASK, replace(DONE, **change)) == (ran, not why, why)  # type: ignore[arg-type]


def test_a_task_that_needs_no_command_fails_when_one_ran() -> None:
    idle = Task("t", "Hello!", (), answer=("hello",), idle=True)
    assert judge(idle, replace(DONE, answer="Hello.", commands=[])).right
    assert judge(idle, replace(DONE, answer="Hello.")) == (False, False, "a command ran")


def test_results_are_read_again_and_counted_apart() -> None:
    done = Result("m", "ours", "t", Verdict(True, True), DONE)
    late = replace(done, task="u", verdict=Verdict(False, False, "why"), late=True)
    prose = replace(done, task="p", runs=False)
    assert [Result.read(result.line()) for result in (done, late, prose)] == [done, late, prose]
    arm = next(arm for arm in ARMS if arm.name == "ours")
    rows = table([done, late, prose], [arm]).splitlines()[2:]
    assert [row.split(" | ")[2:5] for row in rows] == [
        ["all", "1/2 (9%–91%)", "2/3 (21%–94%)"],
        ["late", "0/1 (0%–79%)", "0/1 (0%–79%)"],
    ]


def test_what_was_measured_is_not_measured_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = [arm.name for arm in ARMS if arm.name.startswith("plain")]
    lines = [Result("m", arm, "csv, named", Verdict(True, True), DONE).line() for arm in arms]
    kept = tmp_path / "results"
    kept.write_text("\n".join(lines))
    assert run(["/nowhere/m.gguf"], ["plain"], ["csv, named"], kept=kept) == 0  # there is no such model to load
    assert "| m | plain | all | 1/1" in capsys.readouterr().out


def test_the_interval_of_a_share_is_wilsons() -> None:
    low, high = wilson(9, 10)
    assert (round(low, 4), round(high, 4)) == (0.5958, 0.9821)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1
    assert wilson(0, 0) == (0, 1)


def test_what_is_told_as_unsupported_is_counted_and_what_would_be_of_misread_figures() -> None:
    right = replace(DONE, answer="It has 12 rows and 3 columns.", printed="rows: 12\ncolumns: 3\nempty: 4\n")
    wrong = replace(right, answer="It has 15 rows.", unsupported=["15"])
    idle = replace(right, commands=[])
    of = [(TASK, right, Verdict(True, True)), (TASK, wrong, Verdict(True, False)), (TASK, idle, Verdict(True, True))]
    assert counted(of) == (
        "3 figures in 2 answers behind commands: reported as unsupported 0 in right answers and 1 in others;"
        " of each made wrong by one, 2 of 3."  # 4 columns: there is a 4
    )
    assert counted([]) == ""


def test_the_tasks_that_check_what_was_mended_are_whole_and_others() -> None:
    fresh = load(fresh=True)
    assert len(fresh) >= 10
    assert not {task.name for task in fresh} & {task.name for task in load()}
    assert not {skill.name for task in fresh for skill in task.skills} & {
        s.name for task in load() for s in task.skills
    }
    for task in fresh:
        assert all(SkillMount(path).read().name == path.name for path in task.skills)
        assert all(path.is_file() for path in task.files)

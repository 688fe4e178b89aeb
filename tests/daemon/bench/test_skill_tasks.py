"""The tasks of the skill bench are whole, and their verdicts say what they should."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skilldeck_daemon.bench.skill_tasks import Deed, Task, judge, load
from skilldeck_daemon.bench.skills import wilson
from skilldeck_daemon.runner_request import SkillMount

TASK = Task("t", "Do it.", (), ran=(r"run\.py a\.csv",), answer=("12 rows",), absent=("secret",), made={"b": "x"})
DONE = Deed("It has 12 ROWS.", [("python3 run.py a.csv", 0)], {"b": "xyz"}, ended="completed")


def test_every_task_has_skills_that_can_be_mounted_and_says_when_it_is_done() -> None:
    tasks = load()
    assert len({task.name for task in tasks}) == len(tasks) >= 20
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


def test_the_interval_of_a_share_is_wilsons() -> None:
    low, high = wilson(9, 10)
    assert (round(low, 4), round(high, 4)) == (0.5958, 0.9821)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1
    assert wilson(0, 0) == (0, 1)

"""Prompts that should and should not open a skill, among all that the daemon has, model by model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from skilldeck_tui.cli.main import app
from skilldeck_tui.skill_tests.cases import EvalError
from skilldeck_tui.skill_tests.matrix.variants import installed
from skilldeck_tui.skill_tests.triggers import trigger_cases
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun

FRONT = "---\nname: counter\ndescription: Counts the rows of tables. Use when somebody brings one.\n---\n# Steps\n"
PROMPTS = [
    {"query": "How many rows has a.csv?", "should_trigger": True},
    {"query": "Count these lines", "should_trigger": True},
    {"query": "Write a poem", "should_trigger": False},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "counter"
    (made / "evals").mkdir(parents=True)
    (made / "SKILL.md").write_text(FRONT)
    (made / "evals/triggers.json").write_text(json.dumps(PROMPTS))
    return made


def opens(names: dict[str, str]) -> Callable[[FakeRun], Awaitable[None]]:
    """A model that opens, for a prompt that holds a word, the skill of that name."""

    async def play(run: FakeRun) -> None:
        prompt = run.request["input"][0]["content"][0]["text"]
        for word, name in names.items():
            if word in prompt:
                call = run.shell([f"cat /mnt/skills/{name}/SKILL.md"])
                call.exit([0])
        run.text("Done.")
        run.complete()

    return play


async def asked(fake: FakeDaemon, folder: Path, *args: str) -> Result:
    async with fake.listening(folder.parent / "s") as socket:
        command = ["--socket", str(socket), "test", str(folder), "--trigger", *args]
        return await asyncio.to_thread(CliRunner().invoke, app, command)


def told(result: Result) -> dict[str, Any]:
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    (found,) = (line for line in lines if line.get("object") == "evaluation.triggers")
    return dict(found)


def test_the_prompts_are_those_of_both_files_with_the_one_check(folder: Path) -> None:
    (folder / "evals/more.yaml").write_text(
        "- {name: opened, prompt: Rows, expect: {triggered: true, answer: ['3']}}\n- {name: other, prompt: x}\n"
    )
    cases = trigger_cases(folder)
    assert [(case.prompt, case.checks[0].spec["wanted"], len(case.checks)) for case in cases] == [
        ("How many rows has a.csv?", True, 1), ("Count these lines", True, 1), ("Write a poem", False, 1),
        ("Rows", True, 1),
    ]  # fmt: skip


def test_a_skill_that_says_nothing_of_it_says_how(folder: Path) -> None:
    (folder / "evals/triggers.json").unlink()
    with pytest.raises(EvalError, match="says of no prompt") as refused:
        trigger_cases(folder)
    assert "should_trigger" in refused.value.hint


async def test_a_model_that_chooses_well_passes(folder: Path) -> None:
    fake = FakeDaemon()
    fake.add_skill("poems")
    fake.on_run = opens({"rows": "counter", "lines": "counter", "poem": "poems"})
    result = await asked(fake, folder)
    assert result.exit_code == 0
    assert "opened 2 of 2 (100 %, 34–100) when it should, left 1 of 1 (100 %, 21–100) when not" in result.stdout
    # It stood among the others.
    for call in fake.called("StartRun"):
        skills = json.loads(call.request_json)["tools"][0]["environment"]["skills"]
        assert len(skills) == 2


async def test_a_model_that_chooses_badly_fails_and_says_what_it_opened_instead(folder: Path) -> None:
    fake = FakeDaemon()
    fake.add_skill("lines")
    fake.on_run = opens({"rows": "counter", "lines": "lines", "poem": "counter"})
    result = await asked(fake, folder, "--json")
    assert result.exit_code == 1
    found = told(result)
    assert (found["should"]["right"], found["should"]["tried"]) == (1, 2)
    assert (found["should_not"]["right"], found["should_not"]["tried"]) == (0, 1)
    assert found["wrong"] == [
        {"test": "2: Count these lines", "should": True, "opened": ["lines"]},
        {"test": "3: Write a poem", "should": False, "opened": []},
    ]


async def test_a_run_ends_once_it_is_known_and_one_that_broke_tells_nothing(folder: Path) -> None:
    never = asyncio.Event()
    opened: list[str] = []

    async def play(run: FakeRun) -> None:
        prompt = run.request["input"][0]["content"][0]["text"]
        if "poem" in prompt:
            run.fail("out of memory")
        elif "lines" in prompt:  # put before the model: nothing of the run is needed
            run.daemon.timelines[run.id] = {"opened": ["counter"]}
            opened.append(run.id)
            await never.wait()
        else:
            run.shell(["cat /mnt/skills/counter/SKILL.md"]).exit([0])
            opened.append(run.id)
            await never.wait()

    fake = FakeDaemon()
    fake.add_skill("poems")
    fake.on_run = play
    result = await asked(fake, folder, "--json")
    assert result.exit_code == 1
    found = told(result)
    assert (found["should"]["right"], found["should"]["tried"], found["should_not"]["tried"]) == (2, 2, 0)
    assert sorted(call.id for call in fake.called("CancelRun")) == sorted(opened)
    broken = [json.loads(line) for line in result.stdout.splitlines()][2]
    assert (broken["status"], "out of memory" in broken["failures"][0]) == ("error", True)


async def test_the_installed_set_is_the_newest_of_each_name_without_the_skill_itself() -> None:
    fake = FakeDaemon()
    fake.add_skill("poems")
    newest = fake.add_skill("poems")
    fake.add_skill("counter")
    async with fake.client() as client:
        among = await installed(client, "counter")
    assert among.names == ("poems",)
    assert [skill["skill_id"] for skill in among.skills] == [newest["id"]]

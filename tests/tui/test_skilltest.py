"""Skill tests: what their files may hold, and how a run is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skilldeck_shared.paths import examples_dir
from skilldeck_tui.skill_tests.matrix.asked import Asked, make_plan
from skilldeck_tui.skill_tests.matrix.runner import evaluate
from skilldeck_tui.skill_tests.suite import EvalError, Result, load_cases
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.skill_tests import results

FRONT = "---\nname: counter\ndescription: Counts things.\n---\n# Steps\n"


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    folder = tmp_path / "counter"
    (folder / "evals").mkdir(parents=True)
    (folder / "samples").mkdir()
    (folder / "SKILL.md").write_text(FRONT)
    (folder / "samples/a.csv").write_text("x\n")
    return folder


def write(skill: Path, text: str) -> None:
    (skill / "evals/basic.yaml").write_text(text)


def test_every_example_skill_has_tests_that_load() -> None:
    folders = [path for path in examples_dir().iterdir() if (path / "SKILL.md").exists()]
    assert folders
    for folder in folders:
        assert load_cases(folder), folder


def test_a_case_has_defaults_and_a_name_of_its_prompt(skill: Path) -> None:
    write(skill, "prompt: |\n  Count   the\n  lines.\n")
    (case,) = load_cases(skill)
    assert (case.name, case.timeout, case.files, case.checks) == ("Count the lines.", 300.0, (), ())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- prompt: [x", "line 1, column 13 is not YAML"),
        ("[]", "must be a list of tests"),
        ("- 3", r"basic.yaml\[0\] must be a mapping"),
        ("- name: x", r"\[0\].prompt must be text"),
        ("- {prompt: x, timeout: soon}", r"\[0\].timeout must be a number"),
        ("- {prompt: x, files: [../../secret]}", "is no file in the skill's folder"),
        ("- {prompt: x, files: [missing.csv]}", "'missing.csv' is no file"),
        ("- {prompt: x, expcet: {}}", "unknown field 'expcet'"),
        ("- {prompt: x, expect: {comands: []}}", "unknown field 'comands'"),
        ("- {prompt: x, expect: {commands: ['(']}}", r"expect.commands\[0\] is no regular expression"),
        ("- {prompt: x, expect: {answer: [3]}}", r"expect.answer\[0\] must be text"),
        ("- {prompt: x, expect: {exit_codes: [ok]}}", "exit_codes must be a list of numbers"),
        ("- {prompt: x, expect: {files: [{contains: x}]}}", r"files\[0\].path must be"),
        ("- {name: a, prompt: x}\n- {name: a, prompt: y}", "two tests named 'a'"),
    ],
)
def test_a_broken_file_names_the_field(skill: Path, text: str, says: str) -> None:
    write(skill, text)
    with pytest.raises(EvalError, match=says):
        load_cases(skill)


def test_a_folder_without_tests_says_so(skill: Path) -> None:
    with pytest.raises(EvalError, match=r"holds no evals/\*\.yaml"):
        load_cases(skill)
    with pytest.raises(EvalError, match="none is no folder"):
        load_cases(skill / "none")


async def judged(skill: Path, expect: str, model: Any) -> tuple[Result, FakeDaemon]:
    write(skill, f"- name: one\n  prompt: Go.\n  files: [samples/a.csv]\n  timeout: 20\n  expect: {expect}\n")
    fake = FakeDaemon()
    fake.on_run = lambda run: model(fake, run)
    async with fake.client() as client:
        (result,) = await results(client, skill, load_cases(skill))
    return result, fake


async def works(fake: FakeDaemon, run: FakeRun) -> None:
    container = fake.add_container(files={"out/report.txt": b"total: 7\n", "plot.png": b"\x89PNG"})
    call = run.shell(["python count.py", "false"], container=container["id"])
    call.output(0, stdout="7\n")
    call.exit([0, 1])
    run.text("The total\nis 7.")
    run.complete()


@pytest.mark.parametrize(
    ("expect", "failures"),
    [
        ("{}", []),
        ("{commands: ['count\\.py', '^false$'], exit_codes: [0, 1], answer: ['^is 7']}", []),
        ("{files: ['*.png', {path: out/report.txt, contains: ['^total: \\d']}]}", []),
        ("{commands: ['awk']}", ["no command matches 'awk' (commands: python count.py; false)"]),
        ("{exit_codes: [0]}", ["'false' exited with 1, expected one of [0]"]),
        ("{answer: ['is 8']}", ["the answer does not match 'is 8': 'The total\\nis 7.'"]),
        ("{files: [missing.txt]}", ["no file 'missing.txt' (files: out/report.txt, plot.png)"]),
        (
            "{files: [{path: out/report.txt, contains: [average]}]}",
            ["'out/report.txt' does not contain 'average'"],
        ),
    ],
)
async def test_expectations_are_judged_by_what_happened(skill: Path, expect: str, failures: list[str]) -> None:
    result, fake = await judged(skill, expect, works)
    assert result.failures == failures
    assert result.commands == [("python count.py", 0), ("false", 1)]
    assert len(fake.called("DeleteFile")) == 1


async def test_a_failed_run_fails_its_test_with_the_reason(skill: Path) -> None:
    async def fails(fake: FakeDaemon, run: FakeRun) -> None:
        run.fail("out of memory")

    result, _ = await judged(skill, "{exit_codes: [0]}", fails)
    assert result.failures == ["the run ended as failed: out of memory", "no command ran, so none exited as expected"]


async def test_a_run_that_never_ends_is_cancelled_at_its_timeout(skill: Path) -> None:
    async def silent(fake: FakeDaemon, run: FakeRun) -> None:
        run.begin_text()

    write(skill, "- {prompt: x, timeout: 0.05}")
    fake = FakeDaemon()
    fake.on_run = lambda run: silent(fake, run)
    async with fake.client() as client:
        (result,) = await results(client, skill, load_cases(skill))
    assert result.failures == ["the run did not end within 0.05 s"]
    assert len(fake.called("CancelRun")) == 1


async def test_tests_run_side_by_side_and_report_in_their_order(skill: Path) -> None:
    write(skill, "".join(f"- {{name: t{n}, prompt: p{n}}}\n" for n in range(6)))
    began: list[str] = []
    ended: list[str] = []
    fake = FakeDaemon()
    async with fake.client() as client:
        plan = await make_plan(client, skill, load_cases(skill), Asked(seed=0))
        done = await evaluate(
            client, plan, jobs=3,
            started=lambda one: began.append(one.case.name), finished=lambda trial: ended.append(trial["test"]),
        )  # fmt: skip
    assert [trial["test"] for trial in done.trials] == [f"t{n}" for n in range(6)]
    assert sorted(began) == sorted(ended) == [f"t{n}" for n in range(6)]
    assert all(trial["status"] == "passed" for trial in done.trials)

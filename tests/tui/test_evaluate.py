"""Matrices of tests on a whole daemon whose model is played: versions, lift, what is kept, going on after a kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from skilldeck_tui.cli.main import app
from skilldeck_tui.client.client import Client, Link
from skilldeck_tui.client.upload import upload_folder
from skilldeck_tui.skill_tests.matrix.asked import Asked, make_plan
from skilldeck_tui.skill_tests.matrix.runner import evaluate, trials_of
from skilldeck_tui.skill_tests.written.reading import load_cases
from support.daemon import Running, running
from support.scripted_model import Hold, Scripted, Turn, shell
from support.wait import until

SCRIPT = """#!/bin/sh
case "$1" in
  --rows) shift; echo "rows: $(wc -l < "$1")" ;;
  OPTION) shift; echo "total: $(awk '{s += $1} END {print s}' "$1")" ;;
  *) echo "unknown option $1" >&2; exit 2 ;;
esac
"""
TESTS = """
- name: rows
  prompt: How many rows has a.csv?
  files: [samples/a.csv]
  expect: {exit_codes: [0], answer: ['rows: 3']}
- name: total
  prompt: What is the total of a.csv?
  files: [samples/a.csv]
  expect: {exit_codes: [0], answer: [{number: 12}]}
"""


def write(folder: Path, option: str, note: str = "") -> None:
    for name, text in (
        ("SKILL.md", f"---\nname: counter\ndescription: Counts.{note}\n---\nRun `scripts/count.sh --total FILE`.\n"),
        ("scripts/count.sh", SCRIPT.replace("OPTION", option)),
        ("samples/a.csv", "3\n4\n5\n"),
        ("evals/basic.yaml", TESTS),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "scripts/count.sh").chmod(0o755)


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    write(tmp_path / "counter", "--total")
    return tmp_path / "counter"


def last(body: dict[str, Any], role: str) -> str:
    found = [message for message in body["messages"] if message["role"] == role][-1:]
    content = found[0]["content"] if found else ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def uses_the_skill(body: dict[str, Any]) -> Turn:
    """Runs the skill's script with the option that was asked for, and says what it printed."""
    if body["messages"][-1]["role"] == "tool":
        return Turn(last(body, "tool"))
    option = "--rows" if "How many rows" in last(body, "user") else "--total"
    return Turn(shell(f"/mnt/skills/counter/scripts/count.sh {option} a.csv"))


def guesses(body: dict[str, Any]) -> Turn:
    """Whatever the skill says: half of the time right, as the seed has it."""
    return Turn("total: 12, rows: 3" if body["seed"] % 2 else "no idea")


@asynccontextmanager
async def deck(*turns: Scripted, **settings: Any) -> AsyncIterator[tuple[Client, Running]]:
    async with (
        running(*turns, strict=False, **settings) as daemon,
        await Client.connect(daemon.daemon.settings.socket) as client,
    ):
        yield client, daemon


async def skilldeck(daemon: Running, *arguments: str | Path) -> tuple[int, list[Any], str]:
    """A command with --json: its exit code, its lines, its stderr."""
    command = ["--socket", str(daemon.daemon.settings.socket), *map(str, arguments), "--json"]
    done = await asyncio.to_thread(CliRunner().invoke, app, command)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


async def test_a_regression_is_found_with_the_run_that_shows_it(skill: Path, tmp_path: Path) -> None:
    async with deck(*[uses_the_skill] * 40) as (client, daemon):
        write(skill, "--sum", " First.")
        await upload_folder(client, skill)
        write(skill, "--total")
        await upload_folder(client, skill)
        write(skill, "--totals", " Third.")  # the planted one: the option has another name now
        asked = ("test", skill, "--no-regression-against", "2", "--runs", "2", "--seed", "5")
        page, text, xml = tmp_path / "r.html", tmp_path / "r.md", tmp_path / "r.xml"
        code, lines, _ = await skilldeck(daemon, *asked, "--report", page, "--report", text, "--junit", xml)
        assert code == 1
        report = lines[-1]
        (found,) = report["regressions"]
        assert (found["test"], found["before"], found["now"], found["certain"]) == ("total", "2", "latest", True)
        assert found["drop"]["value"] == -1.0
        assert "exited with 2" in found["reason"]
        shown = await client.run(found["run_id"])
        assert any("unknown option --total" in str(item) for item in shown.response["output"])
        rates = {(column["variant"], column["version"]): column["rate"] for column in report["columns"]}
        assert rates == {("2", "2"): 1.0, ("latest", "3"): 0.5}
        assert f"skilldeck --run {found['run_id']}" in text.read_text()
        assert "<svg" in page.read_text()
        assert "<script" not in page.read_text()
        suites = {suite.get("name"): suite.get("failures") for suite in ElementTree.parse(xml).getroot()}
        assert suites == {"counter (scripted, 2)": "0", "counter (scripted, latest)": "1"}
        # Mended, nothing is worse; what was asked of version 2 with these seeds is not asked again.
        write(skill, "--total", " Fourth.")
        before = len(daemon.model.requests)
        code, lines, _ = await skilldeck(daemon, *asked)
        assert (code, lines[-1]["regressions"]) == (0, [])
        assert [column["reused"] for column in lines[-1]["columns"]] == [4, 0]
        assert len(daemon.model.requests) - before == 8  # four tries of two turns
        kept = (await client.evaluations(skill="counter")).data
        assert [(one["status"], one["done"], one["total"]) for one in kept] == [("completed", 8, 8)] * 2
        code, lines, _ = await skilldeck(daemon, "evals", "show", kept[1]["id"], "--against", "2")
        assert [found["test"] for found in lines[0]["regressions"]] == ["total"]
        code, lines, _ = await skilldeck(daemon, "evals", "show", "--report", tmp_path / "last.json")
        assert len(json.loads((tmp_path / "last.json").read_text())["trials"]) == 8
        assert lines[0]["evaluation"]["id"] == kept[0]["id"]
        assert (await skilldeck(daemon, "evals", "rm", kept[0]["id"]))[0] == 0
        _, lines, _ = await skilldeck(daemon, "evals", "list", "--skill", "counter")
        assert [one["id"] for one in lines[0]] == [kept[1]["id"]]


async def test_lift_is_what_the_skill_adds(skill: Path) -> None:
    async with deck(*[uses_the_skill] * 40) as (_, daemon):
        code, lines, _ = await skilldeck(daemon, "test", skill, "--without-skill", "--runs", "5")
        mine, without = lines[-1]["columns"]
        assert (code, mine["rate"], without["rate"]) == (0, 1.0, 0.0)
        assert (mine["lift"]["value"], mine["lift"]["certain"]) == (1.0, True)
        assert without["lift"] is None
        assert (mine["triggered"], without["triggered"]) == (10, 0)


async def test_a_skill_that_does_nothing_has_a_lift_of_zero_within_its_interval(skill: Path) -> None:
    (skill / "evals/basic.yaml").write_text("- {name: guess, prompt: Guess., expect: {answer: [{number: 12}]}}\n")
    async with deck(*[guesses] * 40) as (_, daemon):
        code, lines, _ = await skilldeck(daemon, "test", skill, "--without-skill", "--runs", "6", "--seed", "1")
        assert code == 1
        mine, _ = lines[-1]["columns"]
        assert (mine["passed"], mine["tried"], mine["flaky"]) == (3, 6, True)
        lift = mine["lift"]
        assert (lift["value"], lift["certain"]) == (0.0, False)
        assert lift["low"] < 0 < lift["high"]
        assert lines[-1]["flaky"][0]["test"] == "guess"
        code, _, _ = await skilldeck(daemon, "test", skill, "--runs", "6", "--seed", "1", "--min-pass", "50")
        assert code == 0
        code, _, _ = await skilldeck(daemon, "test", skill, "--runs", "6", "--seed", "1", "--min-pass", "51")
        assert code == 1


async def test_what_was_killed_goes_on_where_it_was(skill: Path, tmp_path: Path) -> None:
    gate = threading.Event()
    held = Turn(Hold(gate), shell("/mnt/skills/counter/scripts/count.sh --rows a.csv"))
    async with deck(*[uses_the_skill] * 4, held, *[uses_the_skill] * 20) as (client, daemon):
        command = ("--socket", str(daemon.daemon.settings.socket), "test", str(skill), "--runs", "2", "--json")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "skilldeck_tui", *command, stdout=asyncio.subprocess.DEVNULL,
            env={**os.environ, "HOME": str(tmp_path)},
        )  # fmt: skip
        await until(lambda: len(daemon.model.requests) == 5)
        (begun,) = (await client.evaluations()).data
        async with asyncio.timeout(20):
            async for update in client.follow():  # a try is kept while the next one runs
                if not isinstance(update, Link) and len(await trials_of(client, begun["id"])) == 2:
                    break
        process.send_signal(signal.SIGKILL)
        await process.wait()
        gate.set()
        (cut,) = (await client.evaluations()).data
        assert (cut["status"], len(await trials_of(client, cut["id"]))) == ("running", 2)
        assert cut["uploads"] == [file["id"] for file in (await client.files()).data] != []
        code, _, _ = await skilldeck(daemon, "test", skill, "--runs", "2")
        assert code == 0
        (whole,) = (await client.evaluations()).data
        assert (whole["id"], whole["status"], whole["seed"]) == (cut["id"], "completed", cut["seed"])
        assert (await client.files()).data == []
        trials = await trials_of(client, cut["id"])
        assert sorted((trial["test"], trial["number"]) for trial in trials) == [
            ("rows", 0), ("rows", 1), ("total", 0), ("total", 1),
        ]  # fmt: skip
        # The run that was under way went on without its client and is taken up; the last try is asked.
        assert len(daemon.model.requests) == 5 + 1 + 2
        # The next one is new, with seeds of its own.
        await skilldeck(daemon, "test", skill, "--runs", "2")
        assert len((await client.evaluations()).data) == 2


async def test_an_interrupted_evaluation_cancels_its_runs_and_goes_on_when_asked_again(skill: Path) -> None:
    gate = threading.Event()
    held = Turn(Hold(gate), "rows: 3")
    async with deck(*[uses_the_skill] * 2, held, *[uses_the_skill] * 8) as (client, daemon):
        plan = await make_plan(client, skill, load_cases(skill), Asked())
        seen: list[Any] = []
        task = asyncio.create_task(evaluate(client, plan, finished=seen.append))
        await until(lambda: len(daemon.model.requests) == 3 and seen)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        (cut,) = (await client.evaluations()).data
        assert (cut["status"], cut["done"], [trial["test"] for trial in seen]) == ("cancelled", 1, ["rows"])
        assert (await client.runs()).data[0]["status"] == "cancelled"
        done = await evaluate(client, await make_plan(client, skill, load_cases(skill), Asked()))
        assert (done.resumed, done.evaluation["id"], done.evaluation["status"]) == (True, cut["id"], "completed")
        assert [trial["status"] for trial in done.trials] == ["passed", "passed"]
        assert done.trials[0] == seen[0]


async def test_only_other_checks_are_held_against_the_run_that_was_made(skill: Path) -> None:
    async with deck(*[uses_the_skill] * 20) as (_, daemon):
        code, _, _ = await skilldeck(daemon, "test", skill, "--seed", "1", "-k", "total")
        assert (code, len(daemon.model.requests)) == (0, 2)
        (skill / "evals/basic.yaml").write_text(TESTS.replace("number: 12", "number: 13"))
        # The tests lie in the bundle, so this is another version: the question is another.
        code, _, _ = await skilldeck(daemon, "test", skill, "--seed", "1", "-k", "total")
        assert (code, len(daemon.model.requests)) == (1, 4)
        code, lines, _ = await skilldeck(daemon, "test", skill, "--seed", "1", "-k", "total", "--judge", "scripted")
        assert (code, len(daemon.model.requests), lines[0]["reused"]) == (1, 4, True)


async def test_versions_are_numbers_folders_and_revisions(skill: Path, tmp_path: Path) -> None:
    async def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        process = await asyncio.create_subprocess_exec(
            "git", "-C", str(skill.parent), *identity, *arguments, stdout=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == 0

    await git("init", "-q")
    await git("add", "-A")
    await git("commit", "-qm", "first")
    write(tmp_path / "other/counter", "--sum")
    write(skill, "--total", " Now.")
    async with deck(*[uses_the_skill] * 40, aliases={"fast": "scripted"}) as (client, daemon):
        names = f"1,latest,{tmp_path}/other/counter,HEAD"
        code, lines, error = await skilldeck(daemon, "test", skill, "-k", "total", "--versions", names)
        assert code == 0, error
        assert [(c["variant"], c["passed"]) for c in lines[-1]["columns"]] == [
            ("1", 1), ("latest", 1), (f"{tmp_path}/other/counter", 0), ("HEAD", 1),
        ]  # fmt: skip
        assert len((await client.skill_versions((await client.skills()).data[0]["id"])).data) == 1
        # The folder is uploaded where its present state is asked for, not to try a version that is there.
        write(skill, "--total", " Later.")
        code, lines, _ = await skilldeck(daemon, "test", skill, "-k", "total", "--versions", "1,default")
        assert (code, [c["variant"] for c in lines[-1]["columns"]]) == (0, ["1"])
        assert len((await client.skill_versions((await client.skills()).data[0]["id"])).data) == 1
        # Two names of the same content are two columns and one question.
        before = len(daemon.model.requests)
        code, lines, _ = await skilldeck(daemon, "test", skill, "-k", "total", "--versions", "latest,.", "-j", "2")
        assert [(c["variant"], c["passed"]) for c in lines[-1]["columns"]] == [("latest", 1), (".", 1)]
        assert len(daemon.model.requests) - before == 2
        code, _, error = await skilldeck(daemon, "test", skill, "--versions", "7")
        assert (code, "has no version 7" in error) == (4, True)
        code, _, error = await skilldeck(daemon, "test", skill, "--versions", "no-such-branch")
        assert (code, "no git revision" in error) == (4, True)
        code, _, error = await skilldeck(daemon, "test", skill, "--models", "scripted,none")
        assert (code, "No model 'none' is served" in error, "scripted (also fast)" in error) == (4, True, True)
        code, lines, _ = await skilldeck(
            daemon, "test", skill, "-k", "total", "--models", "fast,scripted", "--versions", "1"
        )
        assert (code, [column["model"] for column in lines[-1]["columns"]]) == (0, ["scripted"])


TRIGGERS = """
- {name: named, prompt: Use counter., expect: {triggered: true}}
- {name: meant, prompt: Count this., files: [samples/a.csv], expect: {triggered: true}}
- {name: not meant, prompt: Sing., files: [samples/a.csv], expect: {triggered: false}}
- {name: not found, prompt: Sing., files: [samples/a.csv], expect: {triggered: true}}
"""


async def test_whether_a_skill_is_opened_is_seen_also_among_others(skill: Path, tmp_path: Path) -> None:
    (skill / "evals/basic.yaml").write_text(TRIGGERS)
    other = tmp_path / "others/singer"
    other.mkdir(parents=True)
    (other / "SKILL.md").write_text("---\nname: singer\ndescription: Sings songs.\n---\nSing.\n")
    for more in ((), ("--among", tmp_path / "others", "--without-skill")):
        async with deck(*[lambda body: Turn("la")] * 8) as (_, daemon):
            _, lines, _ = await skilldeck(daemon, "test", skill, *more)
        told = {(trial["test"], trial["baseline"]): trial["status"] for trial in lines[:-1]}
        assert [told[name, False] for name in ("named", "meant", "not meant", "not found")] == [
            "passed", "passed", "passed", "failed",
        ]  # fmt: skip
        assert lines[-1]["evaluation"]["among"] == (["singer"] if more else [])
    # Without the skill nobody asks whether it was opened, and nothing else was asked.
    assert {status for (_, baseline), status in told.items() if baseline} == {"not_judged"}


FILES = """
- name: files
  prompt: Make the files.
  expect:
    files:
      - {path: r.json, json: {'$.a[1].b': 7.04, c: [1, x]}, tolerance: 0.1}
      - {path: '*.csv', csv: [{row: 2, column: amount, equals: 5}, {where: {name: y}, column: 2, equals: 5}]}
      - {path: copy.txt, equals: samples/a.csv}
      - {path: none.txt, exists: false}
    script: [evals/check.py]
    turns: 2
    tokens: 1000000
- name: wrong files
  prompt: Make the files.
  expect:
    files:
      - {path: r.json, json: {'$.a[1].b': 8, '$.z': 1}}
      - {path: r.csv, csv: [{row: 1, column: amount, equals: 4}, {row: 9, column: amount, equals: 4}]}
      - {path: r.csv, equals: samples/a.csv}
      - {path: r.json, exists: false}
    script: [evals/no.sh]
    turns: 1
"""
MAKES = (
    """echo '{"a": [0, {"b": 7}], "c": [1, "x"]}' > r.json; printf 'name;amount\\nx;3\\ny;5\\n' > r.csv; """
    """printf '3\\n4\\n5\\n' > copy.txt"""
)
CHECK = """import json, sys
run = json.load(open(sys.argv[1]))
assert run["answer"] == "made" and run["files"] == ["copy.txt", "r.csv", "r.json"], run
assert open("copy.txt").read() == "3\\n4\\n5\\n"
"""


async def test_files_are_looked_into_and_a_script_of_the_bundle_looks_itself(skill: Path) -> None:
    (skill / "evals/basic.yaml").write_text(FILES)
    (skill / "evals/check.py").write_text(CHECK)
    (skill / "evals/no.sh").write_text("echo the total is missing\nexit 3\n")

    def makes(body: dict[str, Any]) -> Turn:
        return Turn("made") if body["messages"][-1]["role"] == "tool" else Turn(shell(MAKES))

    async with deck(*[makes] * 4) as (_, daemon):
        code, lines, _ = await skilldeck(daemon, "test", skill)
    right, wrong = lines[:2]
    assert (code, right["failures"], right["status"], right["turns"]) == (1, [], "passed", 2)
    assert wrong["failures"] == [
        "'r.json' has 7 at $.a[1].b, expected 8",
        "'r.json': there is no 'z' (step 1 of $.z)",
        "'r.csv' has '3' in column amount in row 1, expected 4",
        "'r.csv' has no row in row 9",
        "'r.csv' differs from samples/a.csv in line 1: 'name;amount', expected '3'",
        "there is a file 'r.json'",
        "turns: 2, at most 1 are allowed",
        "evals/no.sh exited with 3: the total is missing",
    ]


async def test_sentences_are_judged_apart_and_never_on_invented_evidence(skill: Path) -> None:
    (skill / "evals/basic.yaml").unlink()
    says = ["The total is told", "It is polite", "It names the file", "It is short"]
    (skill / "evals/evals.json").write_text(json.dumps({"evals": [{"prompt": "Total?", "expectations": says}]}))
    verdicts = {
        says[0]: {"evidence": "total:  12", "reason": "It stands there.", "holds": True},
        says[1]: {"evidence": "", "reason": "There is no greeting.", "holds": False},
        says[2]: {"evidence": "the file a.csv", "reason": "It is named.", "holds": True},
    }

    def plays(body: dict[str, Any]) -> Turn:
        said = last(body, "user")
        if "Statement: " not in said:
            return Turn("The total: 12.")
        return Turn(json.dumps(verdicts.get(said.rpartition("Statement: ")[2], "no verdict")))

    async with deck(*[plays] * 20) as (client, daemon):
        code, (trial, _), _ = await skilldeck(daemon, "test", skill)
        assert (code, trial["status"], trial["failures"]) == (1, "not_judged", [])
        assert {check["status"] for check in trial["checks"][1:]} == {"not_judged"}
        code, (trial, report), _ = await skilldeck(daemon, "test", skill, "--judge", "scripted")
        checks = {check["text"]: check for check in trial["checks"]}
        assert [checks[text]["status"] for text in says] == ["passed", "failed", "not_judged", "not_judged"]
        assert checks[says[0]]["evidence"] == "total:  12"
        assert "its evidence is not in the work" in checks[says[2]]["reason"]
        assert "gave no verdict" in checks[says[3]]["reason"]
        assert (code, trial["status"]) == (1, "failed")
        assert report["columns"][0]["sentences"] == {"passed": 1, "failed": 1, "not_judged": 2}
        assert len((await client.runs()).data) == 2  # a judge's runs do not stay

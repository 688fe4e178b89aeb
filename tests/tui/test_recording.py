"""A run becomes a test of its skill: what is proposed, what is written, and that the test passes on the same run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from skilldeck_shared.errors import BadRequest
from skilldeck_tui.cli.main import app
from skilldeck_tui.cli.testing.evals_add import numbers
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.upload import upload_folder
from skilldeck_tui.skill_tests.recording import Proposal, propose, write
from skilldeck_tui.skill_tests.suite import load_cases
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.skill_tests import results

FRONT = "---\nname: counter\ndescription: Counts the rows of tables. Use when somebody brings one.\n---\n# Steps\n"
PROMPT = "Count the rows of a.csv"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "counter"
    made.mkdir()
    (made / "SKILL.md").write_text(FRONT)
    return made


@pytest.fixture
def fake() -> FakeDaemon:
    fake = FakeDaemon()

    async def works(run: FakeRun) -> None:
        container = fake.add_container(files={"out/sum.csv": b"rows,3\n", "plot.png": b"\x89PNG\0", "a.csv": b"x\n"})
        opened = run.shell(["cat /mnt/skills/counter/SKILL.md"], container=container["id"])
        opened.output(0, stdout=FRONT)
        opened.exit([0])
        call = run.shell(
            ["cd /mnt/skills/counter && python3 scripts/count.py /mnt/data/a.csv"], container=container["id"]
        )
        call.output(0, stdout="Report\nrows: 3 (all)\n")
        call.exit([0])
        run.text("Report\nrows: 3 (all), as asked. 17 more words.")
        run.complete()

    fake.on_run = works
    return fake


@pytest.fixture
async def client(fake: FakeDaemon) -> AsyncIterator[Client]:
    async with fake.client() as client:
        yield client


async def ran(client: Client, folder: Path, prompt: str = PROMPT, data: bytes = b"x\n1\n2\n3\n") -> str:
    uploaded = await upload_folder(client, folder)
    (folder.parent / "a.csv").write_bytes(data)
    file = await client.upload_file(folder.parent / "a.csv")
    content = [{"type": "input_text", "text": prompt}, {"type": "input_file", "file_id": file["id"]}]
    skills = [{"type": "skill_reference", "skill_id": uploaded.skill["id"], "version": "latest"}]
    run = await client.start_run(
        {
            "model": "default",
            "input": [{"type": "message", "role": "user", "content": content}],
            "tools": [{"type": "shell", "environment": {"type": "container_auto", "skills": skills}}],
        }
    )
    async for event in client.follow_run(str(run["id"])):
        if event.terminal:
            break
    return str(run["id"])


def texts(proposal: Proposal) -> list[tuple[str, bool]]:
    return [(check.text, check.ticked) for check in proposal.checks]


async def test_what_was_done_made_and_said_is_proposed(client: Client, folder: Path) -> None:
    proposal = await propose(client, await ran(client, folder))
    assert (proposal.prompt, proposal.skill, proposal.folder) == (PROMPT, "counter", folder)
    assert proposal.files == (("a.csv", b"x\n1\n2\n3\n"),)
    assert [text for text in texts(proposal) if not text[0].startswith("the skill")] == [
        (r"a command matches count\.py .*a\.csv", True),
        ("every command exits with 0", True),
        ("out/sum.csv is made", True),
        ("out/sum.csv holds 'rows,3'", False),
        ("plot.png is made", True),
        ("the answer says rows: 3 (all)", True),
        ("the answer says Report", True),
    ]


async def test_the_test_that_is_written_holds_for_the_run_it_came_from(client: Client, folder: Path) -> None:
    proposal = await propose(client, await ran(client, folder))
    path, name = write(proposal, folder, proposal.checks)
    assert (path, name) == (folder / "evals/recorded.yaml", PROMPT)
    (entry,) = yaml.safe_load(path.read_text())
    assert (entry["prompt"], entry["files"]) == (PROMPT, ["samples/a.csv"])
    assert entry["expect"]["files"][0] == {"path": "out/sum.csv", "contains": ["rows,3"]}
    assert (folder / "samples/a.csv").read_bytes() == b"x\n1\n2\n3\n"
    (result,) = await results(client, folder, load_cases(folder))
    assert result.failures == []


async def test_a_run_that_does_otherwise_fails_it(client: Client, folder: Path, fake: FakeDaemon) -> None:
    proposal = await propose(client, await ran(client, folder))
    write(proposal, folder, proposal.checks)

    async def refuses(run: FakeRun) -> None:
        run.text("I cannot count.")
        run.complete()

    fake.on_run = refuses
    (result,) = await results(client, folder, load_cases(folder))
    assert len(result.failures) >= 5


async def test_a_file_whose_upload_is_gone_is_taken_from_the_container(
    client: Client, folder: Path, fake: FakeDaemon
) -> None:
    run = await ran(client, folder)
    (upload,) = [file["id"] for file in (await client.files()).data]
    await client.delete_file(str(upload))
    fake.file_data.pop(str(upload), None)
    with pytest.raises(BadRequest, match="attached is gone"):
        await propose(client, run)
    (container,) = fake.container_files.values()
    for entry, _ in container.values():
        entry["source"] = "user" if entry["path"] == "/mnt/data/a.csv" else "assistant"
    assert (await propose(client, run)).files == (("a.csv", b"x\n"),)


async def test_a_second_run_is_added_and_overwrites_nothing(client: Client, folder: Path) -> None:
    first = await propose(client, await ran(client, folder))
    path, _ = write(first, folder, first.checks[:1])
    path.write_text("# mine\n" + path.read_text().rstrip("\n"))
    again = await propose(client, await ran(client, folder, data=b"other\n"))
    _, name = write(again, folder, again.checks)
    same, third = await propose(client, await ran(client, folder)), path.read_text()
    write(same, folder, same.checks, "third")
    assert path.read_text().startswith(third)
    assert third.startswith("# mine\n")
    entries = yaml.safe_load(path.read_text())
    assert (
        [entry["name"] for entry in entries]
        == [PROMPT, f"{PROMPT} (2)", "third"]
        == [entries[0]["name"], name, "third"]
    )
    assert [entry["files"] for entry in entries] == [["samples/a.csv"], ["samples/a-2.csv"], ["samples/a.csv"]]
    assert entries[1]["prompt"] == "Count the rows of a-2.csv"
    assert r"count\.py .*a-2\.csv" in entries[1]["expect"]["commands"]
    assert len(load_cases(folder)) == 3


async def test_without_lines_in_common_the_numbers_are_the_facts(
    client: Client, folder: Path, fake: FakeDaemon
) -> None:
    async def tells(run: FakeRun) -> None:
        call = run.shell(["wc -l a.csv"])
        call.output(0, stdout="      4 a.csv\n")
        call.exit([1])
        run.text("There are 4 lines; version 2 has 40.")
        run.complete()

    fake.on_run = tells
    proposal = await propose(client, await ran(client, folder))
    assert texts(proposal) == [
        (r"a command matches wc .*a\.csv", False),
        ("every command exits with 0", False),
        ("the answer says 4", True),
    ]


async def test_what_is_no_test_is_refused(client: Client, folder: Path, fake: FakeDaemon) -> None:
    proposal = await propose(client, await ran(client, folder))
    with pytest.raises(BadRequest, match="cannot fail"):
        write(proposal, folder, [])
    with pytest.raises(BadRequest, match=r"holds no SKILL\.md"):
        write(proposal, folder.parent, proposal.checks)
    (folder / "evals").mkdir()
    (folder / "evals/recorded.yaml").write_text("a: [")
    with pytest.raises(BadRequest, match="is not YAML"):
        write(proposal, folder, proposal.checks)
    assert not (folder / "samples").exists()

    async def waits(run: FakeRun) -> None:
        await run.leaving.wait()

    fake.on_run = waits
    run = await client.start_run({"model": "default", "input": PROMPT})
    with pytest.raises(BadRequest, match="still under way"):
        await propose(client, str(run["id"]))


@pytest.mark.parametrize(("text", "found"), [("1", [1]), ("1,3-5", [1, 3, 4, 5]), (" 2 , 2-3", [2, 3])])
def test_checks_are_chosen_by_number(text: str, found: list[int]) -> None:
    assert numbers(text, 5) == found


@pytest.mark.parametrize("text", ["0", "6", "3-2", "x", "1,,2", "-1"])
def test_a_number_that_no_check_has_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="none of the checks 1 to 5"):
        numbers(text, 5)


async def test_the_command_shows_and_writes_only_when_it_is_told_what(
    fake: FakeDaemon, folder: Path, tmp_path: Path
) -> None:
    async with fake.listening(tmp_path / "s") as socket, fake.client() as client:
        run = await ran(client, folder)

        async def add(*args: str) -> Result:
            command = ["--socket", str(socket), "evals", "add", run, *args]
            return await asyncio.to_thread(CliRunner().invoke, app, command)

        shown = await add()
        assert "Nothing was written" in shown.stderr
        assert "[ ] out/sum.csv holds 'rows,3'" in shown.stdout
        told: dict[str, Any] = json.loads((await add("--json")).stdout)
        assert len(told["checks"]) >= 7
        assert not (folder / "evals").exists()
        written = await add("--yes")
        assert written.exit_code == 0
        assert str(folder / "evals/recorded.yaml") in written.stdout.splitlines()
        assert (await add("--hold", "99")).exit_code == 4
        held = json.loads((await add("--hold", "1,2", "--name", "two", "--json")).stdout)
        assert (held["name"], len(held["held"])) == ("two", 2)

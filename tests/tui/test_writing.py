"""Writing: what was sent comes back, what was being written survives, `!` runs in the session's container."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from skilldeck_shared.errors import NotFound
from skilldeck_tui import editor
from skilldeck_tui.chat.composing.history import MOST, History
from skilldeck_tui.chat.own_commands import SHOWN, as_text
from skilldeck_tui.chat.transcripts.items import Command
from skilldeck_tui.preferences import Memory
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import Deck, deck


def test_history_goes_back_and_forth_and_outlives_the_program(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history.jsonl"
    history = History(path)
    for text in ("one", "two\nlines", "one"):
        history.add(text)
    assert oct(os.stat(path).st_mode & 0o777) == "0o600"
    again = History(path)
    assert again.entries == ["two\nlines", "one"]
    assert again.step(1, "") is None
    assert [again.step(-1, "draft"), again.step(-1, "one"), again.step(-1, "two\nlines")] == ["one", "two\nlines", None]
    assert again.shows("two\nlines")
    assert not again.shows("changed")
    assert [again.step(1, ""), again.step(1, ""), again.step(1, "")] == ["one", "draft", None]


def test_history_is_bounded_and_bears_what_it_finds(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("no json\n" + json.dumps({"a": 1}) + "\n" + json.dumps("kept") + "\n")
    history = History(path)
    for number in range(MOST + 5):
        history.add(str(number))
    history.add("x" * 100_000)
    assert (len(history.entries), history.entries[-1]) == (MOST, str(MOST + 4))
    assert History(path).entries == history.entries
    nowhere = History(tmp_path / "history.jsonl" / "no-folder")
    nowhere.add("still works")
    assert nowhere.entries == ["still works"]


async def test_up_brings_back_what_was_sent_and_ctrl_r_finds_it() -> None:
    fake = FakeDaemon()
    async with deck(fake) as d:
        for text in ("first question", "second one"):
            await d.type(text)
            await d.press("enter")
            await d.shows(f"Echo: {text}")
            await d.until(lambda: not d.chat.busy)
        await d.press("up")
        assert d.chat.composer.text.text == "second one"
        await d.press("up", "up")
        assert d.chat.composer.text.text == "first question"
        await d.press("down", "down")
        assert d.chat.composer.text.text == ""
        await d.press("ctrl+r")
        await d.shows("What was sent before")
        await d.type("first")
        await d.press("enter")
        await d.until(lambda: d.chat.composer.text.text == "first question")


async def test_what_was_being_written_is_there_the_next_time(tmp_path: Path) -> None:
    memory = Memory(path=tmp_path / "tui.json")
    async with deck(FakeDaemon(), memory=memory) as d:
        await d.type("half a thought")
    async with deck(FakeDaemon(), memory=Memory.read(tmp_path / "tui.json")) as d:
        await d.shows("half a thought")


def test_a_text_is_written_on_in_the_editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "editor"
    script.write_text('#!/bin/sh\necho more >> "$1"\nexit ${ENDS:-0}\n')
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(script))
    held: list[str] = []

    class Suspended:
        def __enter__(self) -> None:
            held.append("given up")

        def __exit__(self, *_: object) -> None:
            held.append("back")

    assert editor.edited("text\n", Suspended) == "text\nmore"  # type: ignore[arg-type]
    assert held == ["given up", "back"]
    monkeypatch.setenv("ENDS", "1")
    assert editor.edited("text", Suspended) is None  # type: ignore[arg-type]


async def test_a_command_of_ones_own_runs_in_the_sessions_container_and_the_model_reads_of_it() -> None:
    fake = FakeDaemon()
    asked: list[Any] = []

    def ran(request: Any) -> Any:
        asked.append(request)
        return {"stdout": "a.txt\n", "stderr": "", "exit_code": 0, "timed_out": False}

    fake.exec = ran

    async def work(run: FakeRun) -> None:
        run.shell(["ls"], container="cntr_7").exit([0])
        run.complete()

    fake.on_run = work
    async with deck(fake) as d:
        await d.type("list them")
        await d.press("enter")
        await d.until(lambda: d.chat.turns and d.chat.turns[0].status == "completed")
        await d.type("!ls -a")
        await d.press("enter")
        await d.shows("ls -a", "a.txt")
        assert (asked[0].container_id, asked[0].command) == ("cntr_7", "ls -a")
        assert len(fake.called("StartRun")) == 1
        await d.type("and now?")
        await d.press("enter")
        await d.until(lambda: len(fake.called("StartRun")) == 2)
        text = json.loads(fake.called("StartRun")[1].request_json)["input"][0]["content"][0]["text"]
        assert text == "I ran this in the container myself:\n```\n$ ls -a\na.txt\n```\n\nand now?"


async def test_the_first_command_of_a_session_makes_the_container_that_its_run_goes_on_in() -> None:
    fake = FakeDaemon()
    fake.add_skill("notes")
    fake.exec = lambda request: {"stdout": f"in {request.container_id}\n", "stderr": "", "exit_code": 0}
    made = ""

    async def work(run: FakeRun) -> None:
        run.shell(["ls"], container=made).exit([0])
        run.complete()

    fake.on_run = work
    async with deck(fake) as d:
        for text in ("!pwd", "!ls"):
            await d.type(text)
            await d.press("enter")
            await d.until(lambda: d.chat.turns and d.chat.turns[-1].status == "completed")
            await d.until(lambda text=text: f"$ {text[1:]}" in d.text())  # type: ignore[misc]
        (asked,) = fake.called("CreateContainer")
        (made,) = fake.objects["container"]
        await d.shows(f"in {made}")
        skill = {"type": "skill_reference", "skill_id": d.app.state.skills[0]["id"]}
        assert json.loads(asked.json) == {"name": "session", "skills": [skill]}
        environments = []
        for text in ("what is there?", "and now?"):
            await d.type(text)
            await d.press("enter")
            await d.until(
                lambda: d.chat.turns[-1].run_id and d.chat.turns[-1].status == "completed" and not d.chat.busy
            )
            body = json.loads(fake.called("StartRun")[-1].request_json)
            environments.append(body["tools"][0]["environment"])
            said = body["input"][0]["content"][0]["text"]
            assert said.startswith("I ran this in the container myself") == (text == "what is there?")
        # Once a run has used it, it is found in the history, as any.
        assert environments[0] == {"type": "container_reference", "container_id": made}
        assert environments[1] == {"type": "container_auto", "skills": [skill]}


async def test_commands_of_ones_own_outlive_the_program_until_the_model_is_told(tmp_path: Path) -> None:
    fake = FakeDaemon()
    fake.exec = lambda request: {"stdout": f"\x1b[31m{request.command} ran\n", "stderr": "", "exit_code": 3}
    session = f"session:{fake.add_session('Orders')['id']}"

    async def run(d: Deck, text: str) -> None:
        await d.type(text)
        await d.press("enter")

    async with deck(fake, memory=Memory(path=tmp_path / "tui.json")) as d:
        await run(d, "!in a new one")
        await d.shows("in a new one ran")
        d.chat.open(session)
        await d.hides("in a new one ran")
        await run(d, "!in orders")
        await d.shows("in orders ran")
    async with deck(fake, memory=Memory(path=tmp_path / "tui.json")) as d:
        await d.shows("in a new one ran", "✗ 3")
        d.chat.open(session)
        await d.shows("in orders ran")
        # A message that did not get through told nothing.
        fake.fail["StartRun"] = NotFound("Gone.")
        for starts in (1, 2):
            await run(d, "so?" if starts == 1 else "")
            await d.until(lambda starts=starts: len(fake.called("StartRun")) == starts and not d.chat._sending)  # type: ignore[misc]
            text = json.loads(fake.called("StartRun")[-1].request_json)["input"][0]["content"][0]["text"]
            assert text.startswith("I ran this in the container myself:\n```\n$ in orders\n")
        assert d.chat.own.of(session).commands == []
        d.chat.open("")
        d.chat.open(session)
        await d.until(lambda: not d.chat.loading_session)
        assert [turn.run_id for turn in d.chat.turns if not turn.run_id] == []
    assert stat.S_IMODE((tmp_path / "own-commands.json").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "own-commands.json").read_text()) == {}


async def test_a_command_of_ones_own_is_stopped() -> None:
    fake = FakeDaemon()
    begun = asyncio.Event()

    async def never(request: Any) -> Any:
        begun.set()
        await asyncio.sleep(600)

    fake.exec = never
    async with deck(fake) as d:
        await d.type("!sleep 600")
        await d.press("enter")
        await begun.wait()
        await d.press("ctrl+c")
        await d.shows("■ stopped")
        # A command of one's own is no run, of which a test could be made.
        await d.press("ctrl+t")
        await d.shows("Nothing was asked yet.")


def test_the_model_reads_the_ends_of_a_long_output_within_a_fence_that_holds_it() -> None:
    command = Command("cat x", outcome=3)
    command.output.set("begin ```` " + "x" * 3 * SHOWN + " end", "")
    text = as_text(command)
    assert len(text) < SHOWN + 300
    assert text.startswith("I ran this in the container myself:\n`````\n$ cat x\nbegin")
    assert text.endswith(" end\n(exit code 3)\n`````")

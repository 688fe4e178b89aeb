"""Chat, driven by keys against a scripted daemon."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from skilldeck_shared.errors import BadRequest
from skilldeck_tui.widgets.composing.chips import Chips
from skilldeck_tui.widgets.composing.composer import ComposerText
from skilldeck_tui.widgets.transcript import message
from skilldeck_tui.widgets.transcript.shell_call import ShellCallView
from skilldeck_tui.widgets.transcript.stream_text import StreamText
from skilldeck_tui.widgets.transcript.view import TranscriptView
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import deck


@pytest.fixture
def fake() -> FakeDaemon:
    made = FakeDaemon()
    for name in ("csv-summary", "log-triage"):
        made.add_skill(name)
    return made


def _body(fake: FakeDaemon) -> dict[str, object]:
    body: dict[str, object] = json.loads(fake.called("StartRun")[-1].request_json)
    return body


async def test_a_message_is_sent_with_all_skills_and_its_answer_appears(fake: FakeDaemon) -> None:
    async with deck(fake) as d:
        await d.type("hello there")
        await d.press("enter")
        await d.shows("› hello there", "Echo: hello there", "120 in (64 cached)")
        body = _body(fake)
        assert [skill["skill_id"] for skill in body["tools"][0]["environment"]["skills"]] == [  # type: ignore[index]
            skill["id"] for skill in d.app.state.skills
        ]
        session = next(iter(fake.objects["session"].values()))
        assert body["conversation"] == session["id"]
        assert session["metadata"]["title"] == "hello there"
        assert d.chat.composer.text.text == ""


async def test_the_second_message_goes_to_the_same_session(fake: FakeDaemon) -> None:
    async with deck(fake) as d:
        for text in ("one", "two"):
            await d.type(text)
            await d.press("enter")
            await d.shows(f"Echo: {text}")
            await d.until(lambda: not d.chat.live and not d.chat._sending)
        assert len(fake.objects["session"]) == 1
        assert len(d.chat.turns) == 2


async def test_a_shell_call_is_shown_while_it_runs_and_when_it_ended(fake: FakeDaemon) -> None:
    step = [asyncio.Event() for _ in range(3)]

    async def model(run: FakeRun) -> None:
        call = run.shell(["python3 summary.py orders.csv"])
        call.output(stdout="reading\n")
        await step[0].wait()
        call.output(stderr="two rows skipped\n")
        await step[1].wait()
        call.exit([3])
        await step[2].wait()
        run.text("It **failed**.")
        run.complete()

    fake.on_run = model
    async with deck(fake) as d:
        await d.type("go")
        await d.press("enter")
        await d.shows("$ python3 summary.py orders.csv", "● ", "reading", "running a command")
        step[0].set()
        await d.shows("two rows skipped")
        step[1].set()
        await d.shows("✗ 3")
        step[2].set()
        await d.shows("It failed.", "1 command")


async def test_long_output_is_folded_and_unfolds(fake: FakeDaemon) -> None:
    async def model(run: FakeRun) -> None:
        call = run.shell(["seq 60"])
        call.output(stdout="".join(f"line-{n}\n" for n in range(60)))
        call.exit([0])
        run.complete()

    fake.on_run = model
    async with deck(fake, size=(100, 100)) as d:
        await d.type("go")
        await d.press("enter")
        await d.shows("line-0", "lines folded", "line-59", "✓ 0")
        assert "line-30" not in d.text()
        d.chat.transcript.focus()
        d.chat.transcript.select(d.chat.query_one(ShellCallView))
        await d.press("enter")
        await d.shows("line-30")
        await d.press("enter")
        await d.hides("line-30")


async def test_five_thousand_lines_do_not_lose_the_last(fake: FakeDaemon) -> None:
    async def model(run: FakeRun) -> None:
        call = run.shell(["yes"])
        for n in range(500):
            call.output(stdout="".join(f"row {n * 10 + m}\n" for m in range(10)))
            if n % 50 == 0:
                await asyncio.sleep(0)
        call.exit([0])
        run.complete()

    fake.on_run = model
    async with deck(fake) as d:
        await d.type("go")
        await d.press("enter")
        await d.shows("row 4999", "✓ 0")


async def test_enter_sends_and_ctrl_j_breaks_the_line(fake: FakeDaemon) -> None:
    async with deck(fake) as d:
        await d.type("one")
        await d.press("ctrl+j")
        await d.type("two")
        assert d.chat.composer.text.text == "one\ntwo"
        await d.press("enter")
        await d.until(lambda: fake.called("StartRun"))
        assert _body(fake)["input"][0]["content"][0]["text"] == "one\ntwo"  # type: ignore[index]
        # Skills of the project in whose folder the TUI runs may be named.
        assert fake.called("StartRun")[-1].project == str(Path.cwd())


async def test_a_line_that_comes_in_one_burst_is_sent_whole(fake: FakeDaemon) -> None:
    async with deck(fake) as d:
        d.chat.attach_file(fake.add_file("a.csv", b"x"))
        await d.shows("▤ a.csv")
        # The backspace takes the letter before it, not the attachment.
        await d.burst("x", "backspace", *"one", "ctrl+j", *"two", "enter", *"next")
        await d.until(lambda: fake.called("StartRun"))
        parts = _body(fake)["input"][0]["content"]  # type: ignore[index]
        assert [part.get("text", part["type"]) for part in parts] == ["one\ntwo", "input_file"]


async def test_a_slash_completes_skills_and_narrows_the_request(fake: FakeDaemon) -> None:
    async with deck(fake) as d:
        await d.type("/log")
        await d.shows("◆ log-triage  Does it.")
        await d.press("enter")
        await d.shows("◆ log-triage ×")
        assert d.chat.composer.text.text == ""
        await d.type("hi")
        await d.press("enter")
        await d.until(lambda: fake.called("StartRun"))
        skills = _body(fake)["tools"][0]["environment"]["skills"]  # type: ignore[index]
        assert [fake.objects["skill"][s["skill_id"]]["name"] for s in skills] == ["log-triage"]
        await d.until(lambda: not d.chat.live)
        await d.press("backspace")
        await d.shows("all 2 skills")


async def test_two_picks_in_one_burst_take_a_folder_and_then_a_file_of_it(
    fake: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is pressed while the folder is being looked at."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "report.txt").write_text("local")
    async with deck(fake) as d:
        await d.type("see @data")
        await d.shows("▸ data/")
        await d.press("enter", "enter")
        await d.shows("▤ report.txt 5 B ×")


async def test_an_at_sign_completes_files_of_the_daemon_and_of_the_disk(
    fake: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "report.txt").write_text("local")
    stored = fake.add_file("orders.csv", b"a,b\n")
    async with deck(fake) as d:
        await d.type("see @ord")
        await d.shows("orders.csv  on the daemon")
        await d.press("tab")
        await d.shows("▤ orders.csv 4 B ×")
        assert d.chat.composer.text.text == "see orders.csv "
        await d.type("and @data")
        await d.shows("▸ data/")
        await d.press("enter")
        await d.shows("data/report.txt")
        await d.press("enter")
        await d.shows("▤ report.txt 5 B ×")
        await d.press("enter")
        await d.until(lambda: fake.called("StartRun"))
        parts = _body(fake)["input"][0]["content"]  # type: ignore[index]
        assert parts[0]["text"] == "see orders.csv and report.txt"
        ids = [part["file_id"] for part in parts if part["type"] == "input_file"]
        assert ids[0] == stored["id"]
        assert fake.file_data[ids[1]] == b"local"
        await d.shows("▤ orders.csv  ▤ report.txt")


async def test_a_folder_and_its_file_are_picked_by_two_keys_at_once(
    fake: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "report.txt").write_text("local")
    async with deck(fake) as d:
        await d.type("@data")
        await d.shows("▸ data/")
        for _ in range(2):  # the second before the composer has heard of what the first one wrote
            d.chat.composer.pick()
        await d.shows("▤ report.txt 5 B ×")


async def test_a_pasted_path_becomes_an_attachment_and_other_text_stays_text(fake: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "my data.csv"
    path.write_text("a,b\n")
    async with deck(fake) as d:
        text = d.chat.query_one(ComposerText)
        await d.until(lambda: text.has_focus)
        await d.paste(f"'{path}'\n")
        await d.shows("▤ my data.csv 4 B ×")
        assert text.text == ""
        await d.paste("/no/such/file")
        await d.until(lambda: text.text == "/no/such/file")


async def test_a_message_that_cannot_be_sent_comes_back(fake: FakeDaemon) -> None:
    fake.fail["StartRun"] = BadRequest("The model is not loaded.", "Load one in Daemon.", param="model")
    async with deck(fake) as d:
        await d.type("keep me")
        await d.press("enter")
        await d.shows("Load one in Daemon.")
        await d.until(lambda: d.chat.composer.text.text == "keep me")
        assert not d.chat.turns


async def test_an_attachment_that_fails_says_so_and_holds_the_message_back(fake: FakeDaemon, tmp_path: Path) -> None:
    fake.fail["UploadFile"] = BadRequest("No space.", param="file")
    path = tmp_path / "big.bin"
    path.write_bytes(b"x")
    async with deck(fake) as d:
        d.chat.attach_path(path)
        await d.shows("✗ big.bin")
        await d.type("hi")
        await d.press("enter")
        await d.shows("was not uploaded")
        assert not fake.called("StartRun")
        assert d.chat.composer.text.text == "hi"


async def test_a_live_run_of_another_client_can_be_opened_and_followed(fake: FakeDaemon) -> None:
    run = fake.start("Count the lines")
    run.begin_text().delta("one two")
    async with deck(fake, open_run=run.id) as d:
        await d.shows("› Count the lines", "one two", "writing")
        run.complete()
        await d.shows("120 in")
        await d.shows("○ Count the lines")


async def test_sessions_show_what_they_do(fake: FakeDaemon) -> None:
    session = fake.add_session("Orders")
    async with deck(fake) as d:
        await d.shows("○ Orders")
        run = fake.start("go", session_id=session["id"])
        await d.shows("● Orders")
        approval = fake.add_approval(run, ["rm x"])
        await d.shows("? Orders")
        fake.remove("approval", approval["id"])
        run.fail("out of memory")
        await d.shows("✗ Orders")


async def test_switching_sessions_shows_each_transcript_and_new_is_empty(fake: FakeDaemon) -> None:
    for title in ("First", "Second"):
        run = fake.start(f"ask {title}", session_id=fake.add_session(title)["id"])
        run.text(f"answer {title}")
        run.complete()
    async with deck(fake) as d:
        key = next(row.key for row in d.chat.rows if row.title == "First")
        d.chat.open(key)
        await d.shows("answer First")
        other = "alt+down" if d.chat.rows[0].key == key else "alt+up"
        await d.press(other)
        await d.shows("answer Second")
        await d.hides("answer First")
        await d.press("ctrl+n")
        await d.shows("What shall it do?")


async def test_a_run_that_another_client_starts_in_this_session_appears(fake: FakeDaemon) -> None:
    session = fake.add_session("Shared")
    async with deck(fake) as d:
        d.chat.open(f"session:{session['id']}")
        await d.until(lambda: not d.chat.loading_session)
        run = fake.start("from elsewhere", session_id=session["id"])
        run.text("hello from there")
        await d.shows("› from elsewhere", "hello from there")


async def test_find_goes_through_the_matches_and_unfolds_what_hides_one(fake: FakeDaemon) -> None:
    run = fake.start("go", session_id=fake.add_session("Finding")["id"])
    call = run.shell(["seq 60"])
    call.output(stdout="".join(f"line-{n}-{'needle' if n == 30 else 'hay'}\n" for n in range(60)))
    call.exit([0])
    run.text("There is a needle in it.")
    run.complete()
    async with deck(fake) as d:
        d.chat.open(d.chat.rows[0].key)
        await d.shows("There is a needle")
        await d.press("ctrl+f")
        await d.type("needle")
        await d.shows("2/2")
        await d.press("enter")
        await d.shows("1/2", "line-30-needle")
        await d.press("enter")
        await d.shows("2/2", "There is a needle")
        await d.press("ctrl+f", "escape")
        assert d.chat.focused is d.chat.query_one(TranscriptView)


async def test_items_are_copied_and_exported(fake: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = fake.start("ask", session_id=fake.add_session("Copy me")["id"])
    run.text("the answer")
    run.complete()
    async with deck(fake) as d:
        d.chat.open(d.chat.rows[0].key)
        await d.shows("the answer")
        d.chat.transcript.focus()
        await d.press("up", "c")
        await d.until(lambda: d.app.clipboard == "the answer")
        await d.press("f9")
        await d.until(lambda: (tmp_path / "copy-me.md").exists())
        assert "the answer" in (tmp_path / "copy-me.md").read_text("utf-8")
        await d.press("C")
        await d.until(lambda: d.app.clipboard.startswith("# Copy me"))


async def test_a_session_is_renamed_and_deleted(fake: FakeDaemon) -> None:
    session = fake.add_session("Old name")
    async with deck(fake) as d:
        d.chat.open(f"session:{session['id']}")
        await d.type("/rename")
        await d.press("enter")
        await d.shows("Rename the session")
        await d.press("ctrl+u")
        await d.type("Fresh")
        await d.press("enter")
        await d.shows("○ Fresh")
        d.chat.action_delete_session()
        await d.shows("Delete “Fresh”?")
        await d.press("y")
        await d.until(lambda: not fake.objects["session"])
        await d.shows("What shall it do?")


async def test_old_turns_leave_the_screen_when_there_are_too_many_lines(
    fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skilldeck_tui.widgets.transcript.view.MAX_LINES", 50)
    session = fake.add_session("Long")
    for number in range(5):
        run = fake.start(f"ask {number}", session_id=session["id"])
        run.text(f"answer {number}\n" + "line\n" * 12)
        run.complete()
    async with deck(fake) as d:
        d.chat.open(f"session:{session['id']}")
        await d.shows("ask 4")
        d.chat.transcript.prune()
        await d.press("ctrl+f", "escape", "g")
        await d.shows("earlier turns no longer shown")
        assert len(d.chat.transcript.turn_views) < 5
        assert len(d.chat.turns) == 5


async def test_a_model_that_said_nothing_is_told_from_an_answer(fake: FakeDaemon) -> None:
    async def model(run: FakeRun) -> None:
        run.text("")
        run.complete()

    fake.on_run = model
    async with deck(fake) as d:
        await d.type("go")
        await d.press("enter")
        await d.shows("○ the model said nothing")
        d.chat.open(d.chat.rows[0].key)  # as it is read back
        await d.shows("○ the model said nothing")


async def test_a_line_of_an_answer_stays_a_line(fake: FakeDaemon) -> None:
    async def model(run: FakeRun) -> None:
        run.text("Result:\nrows: 12\nregion: **north**\n")
        run.complete()

    fake.on_run = model
    async with deck(fake) as d:
        await d.type("go")
        await d.press("enter")
        await d.until(lambda: re.search(r"Result:\s*\n.*rows: 12\s*\n.*region: north", d.text()))


async def test_a_thousand_deltas_become_one_markdown(fake: FakeDaemon) -> None:
    async def model(run: FakeRun) -> None:
        message = run.begin_text()
        for n in range(1000):
            message.delta(f"word{n} " if n % 10 else "\n\n## Part\n\n")
            if n % 100 == 0:
                await asyncio.sleep(0)
        message.finish()
        run.complete()

    fake.on_run = model
    async with deck(fake) as d:
        await d.type("go")
        await d.press("enter")
        await d.shows("word999")
        assert d.chat.turns[0].items[0].plain().count("## Part") == 100


async def test_what_goes_with_a_message_wraps_and_a_click_takes_it_off(fake: FakeDaemon) -> None:
    files = [fake.add_file(f"report-of-the-{word}-region.csv", b"a\n") for word in ("north", "south", "west")]
    async with deck(fake, size=(60, 30)) as d:
        for file in files:
            d.chat.attach_file(file)
        await d.shows("north-region.csv 2 B ×", "south-region.csv 2 B ×", "west-region.csv 2 B ×")
        chips = d.chat.query_one(Chips)
        await d.until(lambda: chips.size.height == 3)
        await d.pilot.click(chips, offset=(4, 1))
        await d.hides("south-region.csv")
        assert [a.file_id for a in d.chat.composer.draft.attachments] == [files[0]["id"], files[2]["id"]]


async def test_a_stream_too_fast_to_read_is_plain_until_it_ends(
    fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(message, "HURRY", 1)
    run = fake.start("ask", session_id=fake.add_session("Fast")["id"])
    text = run.begin_text()
    text.delta("# Before\n\n")
    async with deck(fake) as d:
        d.chat.open(d.chat.rows[0].key)
        await d.until(lambda: len(d.chat.query("MarkdownH1")) == 1)
        for number in range(3):
            text.delta(f"**bold {number}**\n\n")
            await d.shows(f"**bold {number}**")
        assert all(f"**bold {number}**" in d.text() for number in range(3))
        assert len(d.chat.query("MarkdownBlock")) == 1, "nothing more was rendered"
        text.delta("the **end**")
        text.finish()
        await d.shows("the end")
        assert not d.chat.query_one(StreamText).display
        assert "**" not in d.text()
        assert [d.text().count(f"bold {number}") for number in range(3)] == [1, 1, 1]
        assert (
            d.text().index("Before") < d.text().index("bold 0") < d.text().index("bold 2") < d.text().index("the end")
        )


async def test_who_goes_from_session_to_session_while_answers_end_keeps_the_app(fake: FakeDaemon) -> None:
    first, second = (fake.add_session(name)["id"] for name in ("A", "B"))
    other = fake.start("other", session_id=second)
    other.text("elsewhere")
    other.complete()
    async with deck(fake) as d:
        for number in range(12):
            run = fake.start(f"ask {number}", session_id=first)
            text = run.begin_text()
            text.delta("one\n\ntwo\n\n" * 20)
            d.chat.open(f"session:{first}")
            await asyncio.sleep(0.15)
            text.delta("**end**")
            text.finish()
            run.complete()
            await asyncio.sleep(0.01 * number)
            d.chat.open(f"session:{second}")
            await asyncio.sleep(0.1)
        assert d.app.is_running
        await d.shows("elsewhere")

"""Going back in a session: ask again, change a message, rewind, fork. What followed stays where it was."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.chat.compacting import gauge
from skilldeck_tui.widgets.transcript.view import TranscriptView
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import Deck, deck


def counting() -> FakeDaemon:
    """Each answer has another number."""
    fake = FakeDaemon()
    answers = iter(range(1, 100))

    async def answer(run: FakeRun) -> None:
        run.text(f"Answer {next(answers)} to {run.summary()['title']}")
        run.complete()

    fake.on_run = answer
    return fake


async def ask(d: Deck, text: str, answer: str) -> None:
    await d.type(text)
    await d.press("enter")
    await d.shows(answer)
    await d.until(lambda: not d.chat.busy)


async def say(d: Deck, command: str) -> None:
    await d.type(command + " ")
    await d.press("enter")


def started(fake: FakeDaemon) -> list[tuple[str, str]]:
    bodies = [json.loads(request.request_json) for request in fake.called("StartRun")]
    return [(body["input"][0]["content"][0]["text"], body["conversation"]) for body in bodies]


async def test_asked_again_it_is_answered_in_a_branch_and_the_session_stays() -> None:
    async with deck(counting(), size=(100, 40)) as d:
        await ask(d, "first", "Answer 1 to first")
        await ask(d, "second", "Answer 2 to second")
        before = d.chat.current
        await say(d, "/retry")
        await d.shows("Answer 1 to first", "on a branch of “first”", "Answer 3 to second", "first (2)")
        await d.hides("Answer 2")
        (fork,) = d.fake.called("ForkSession")
        first, second, again = started(d.fake)
        assert (fork.id, fork.after) == (before.removeprefix("session:"), next(iter(d.fake.objects["run"])))
        assert first[1] == second[1] == fork.id
        assert again == ("second", d.chat.current.removeprefix("session:"))
        branch = d.chat.current
        d.chat.open(before)
        await d.shows("Answer 1 to first", "Answer 2 to second")
        # Opened again, the branch begins with what it was made of.
        d.chat.open(branch)
        await d.shows("Answer 1 to first", "on a branch of “first”", "Answer 3 to second")
        assert [len(turn.branch) > 0 for turn in d.chat.turns] == [False, True]
        # Of a branch another branch begins at a run that is not its own.
        d.chat.transcript.focus()
        await d.press("g", "down", "down", "B")
        await d.until(lambda: len(d.fake.called("ForkSession")) == 2)
        assert d.fake.called("ForkSession")[1].id == fork.id
        await d.shows("first (3)")


async def test_what_is_on_the_screen_is_asked_again_although_its_session_was_read_anew() -> None:
    async with deck(counting()) as d:
        await ask(d, "first", "Answer 1 to first")
        d.chat.turns = [copy.copy(turn) for turn in d.chat.turns]  # the transcript draws them a moment later
        d.chat.transcript.focus()
        await d.press("r")
        await d.shows("Answer 2 to first")
        d.chat.turns = []  # another session is being drawn
        d.chat.transcript.focus()
        await d.press("r")
        await d.shows("There is no message to go back to.")


async def test_a_message_is_changed_and_nothing_is_made_before_it_is_sent() -> None:
    async with deck(counting(), size=(170, 40)) as d:
        await ask(d, "first", "Answer 1 to first")
        await ask(d, "second", "Answer 2 to second")
        session = d.chat.current
        await say(d, "/edit")
        await d.until(lambda: d.chat.composer.text.text == "second")
        await d.shows("↳ branch of first ×", "What followed stays in “first”.")
        await d.hides("Answer 2")
        assert not d.fake.called("ForkSession")
        d.chat.action_leave_branch()
        await d.shows("Answer 2 to second")
        await d.hides("↳ branch of first")
        assert d.chat.current == session
        d.chat.composer.text.load_text("")
        await say(d, "/edit")
        await d.until(lambda: d.chat.composer.text.text == "second")
        await d.type(" time")
        await d.press("enter")
        await d.shows("Answer 3 to second time", "on a branch of “first”")
        assert len(d.fake.called("ForkSession")) == 1
        # What is said next belongs to the branch.
        await ask(d, "third", "Answer 4 to third")
        assert {session for _, session in started(d.fake)[2:]} == {d.chat.current.removeprefix("session:")}


async def test_back_to_the_first_message_is_a_session_of_its_own_with_its_files() -> None:
    fake = counting()
    file = fake.add_file("orders.csv", b"a,b\n")
    async with deck(fake, size=(170, 40)) as d:
        d.chat.attach_file(file)
        await ask(d, "count", "Answer 1 to count")
        await ask(d, "more", "Answer 2 to more")
        await say(d, "/rewind")
        await d.shows("Back to which message?")
        await d.type("count")
        await d.press("enter")
        await d.until(lambda: d.chat.composer.text.text == "count")
        await d.shows("▤ orders.csv", "What followed stays in “count”")
        assert (d.chat.current, d.chat.branch, d.chat.turns) == ("", None, [])
        await d.press("enter")
        await d.shows("Answer 3 to count")
        assert not fake.called("ForkSession")
        last = json.loads(fake.called("StartRun")[-1].request_json)
        assert last["input"][0]["content"][1] == {
            "type": "input_file", "file_id": file["id"], "filename": "orders.csv"
        }  # fmt: skip
        assert last["conversation"] == d.chat.current.removeprefix("session:")
        assert len(fake.objects["session"]) == 2


async def test_runs_of_no_session_go_on_from_the_one_before() -> None:
    fake = counting()
    runs = [fake.start("one"), fake.start("two")]
    for run in runs:
        run.text(f"done {run.summary()['title']}")
        run.complete()
    runs[1].response["previous_response_id"] = runs[0].id
    async with deck(fake, size=(100, 40)) as d:
        d.chat.open(f"run:{runs[1].id}")
        await d.shows("done one", "done two")
        d.chat.transcript.focus()
        await d.press("r")
        await d.shows("done one", "Answer 1 to two")
        await d.hides("done two")
        assert json.loads(fake.called("StartRun")[0].request_json)["previous_response_id"] == runs[0].id


async def test_a_renamed_branch_stays_one() -> None:
    async with deck(counting(), size=(100, 40)) as d:
        await ask(d, "first", "Answer 1 to first")
        await say(d, "/fork")
        await d.shows("This is “first (2)”")
        await d.until(lambda: not d.chat.loading_session)
        await d.type("/rename Another way")
        await d.press("enter")
        await d.shows("Another way")
        metadata = d.fake.objects["session"][d.chat.current.removeprefix("session:")]["metadata"]
        assert metadata["title"] == "Another way"
        assert metadata["branch_of"]


@pytest.mark.parametrize("command", ["/retry", "/edit", "/fork", "/compact"])
async def test_while_a_run_goes_on_nothing_goes_back(command: str) -> None:
    fake = FakeDaemon()

    async def stays(run: FakeRun) -> None:
        run.shell(["sleep 9"])

    fake.on_run = stays
    async with deck(fake) as d:
        await d.type("first")
        await d.press("enter")
        await d.shows("sleep 9")
        await say(d, command)
        await d.shows("The run goes on; ctrl+c stops it.")
        assert not fake.called("ForkSession") + fake.called("CompactSession")


async def test_a_summary_stands_for_what_was_said_and_the_gauge_falls() -> None:
    fake = counting()
    async with deck(fake, size=(100, 40)) as d:
        await ask(d, "first", "Answer 1 to first")
        run = next(iter(fake.objects["run"]))
        fake.timelines[run] = {"spans": [{"kind": "turn", "end": 0, "input_tokens": 3300, "output_tokens": 60}]}
        d.chat.open(d.chat.current)
        await d.shows("context 82% of 4.1k · /compact makes room")
        await say(d, "/compact")
        await d.shows("from here on the model reads a summary", "1 message of yours kept", "Rows were counted.")
        await d.shows("context 10% of 4.1k")
        assert not d.chat.busy
        # All of it stays readable, and the next message goes to the same session.
        await d.shows("Answer 1 to first")
        await ask(d, "second", "Answer 2 to second")
        assert len({session for _, session in started(fake)}) == 1


async def test_a_summary_that_fails_leaves_all_as_it_was() -> None:
    fake = counting()
    async with deck(fake, size=(100, 40)) as d:
        await ask(d, "first", "Answer 1 to first")
        fake.fail["CompactSession"] = SkilldeckError("The model wrote no summary.", "Try again.")
        await say(d, "/compact")
        await d.shows("The model wrote no summary.")
        await d.until(lambda: not d.chat.busy)
        await d.until(lambda: len(d.chat.turns) == len(d.chat.query_one(TranscriptView).turn_views) == 1)


@pytest.mark.parametrize(
    ("used", "context", "shown"),
    [
        (0, 4096, None),
        (100, 0, None),
        (400, 4096, "context 10% of 4.1k"),
        (4000, 4096, "context 98% of 4.1k · /compact makes room"),
    ],
)
def test_the_gauge_says_how_full_it_is_and_when_to_make_room(used: int, context: int, shown: str | None) -> None:
    found: Any = gauge(used, context)
    assert (found.plain if found is not None else None) == shown

"""Events on their way from an engine to a reader: joined where they wait, cut where a stop string ends the text."""

from __future__ import annotations

import asyncio
import threading

import pytest

from skilldeck_daemon.engine.base import (
    ChatEvent,
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    Tokens,
    ToolCallDelta,
    ToolCallStart,
)
from skilldeck_daemon.engine.chat.deltas import joined, written
from skilldeck_daemon.engine.handle import Handle, Mailbox
from skilldeck_daemon.engine.remote.stops import StopsHere

END = Finished("stop", 1, 0, 4)


async def _read(handle: Handle) -> list[Event]:
    return [event async for event in handle]


async def test_tokens_that_wait_for_their_reader_are_one_event_and_nothing_follows_the_end() -> None:
    handle = Handle("r", asyncio.get_running_loop())
    score = TokenLogprob(2, -0.5)
    for event in (Tokens((1,)), Tokens((2,), (score,)), Tokens((3, 4)), END, Tokens((5,))):
        handle.put(event)
    assert await _read(handle) == [Tokens((1, 2, 3, 4), (score,)), END]


async def test_a_reader_that_waits_is_woken_by_another_threads_flush() -> None:
    handle, mail = Handle("r", asyncio.get_running_loop()), Mailbox()
    reading = asyncio.create_task(_read(handle))
    await asyncio.sleep(0)
    mail.post(handle, Tokens((1,)))
    mail.post(handle, END)
    threading.Thread(target=mail.flush).start()
    assert await asyncio.wait_for(reading, 30) == [Tokens((1,)), END]


def test_a_loop_that_is_closed_loses_its_events_and_nobody_elses() -> None:
    closed, mail = asyncio.new_event_loop(), Mailbox()
    closed.close()

    async def main() -> list[Event]:
        handle = Handle("b", asyncio.get_running_loop())
        mail.post(Handle("a", closed), END)
        mail.post(handle, END)
        mail.flush()
        return await _read(handle)

    assert asyncio.run(main()) == [END]


def test_neighbours_of_one_kind_become_one() -> None:
    events: list[ChatEvent] = [
        ReasoningDelta("a"),
        ReasoningDelta("b"),
        TextDelta("c"),
        TextDelta("d"),
        ToolCallStart(0, "call_1", "shell"),
        ToolCallDelta(0, "{"),
        ToolCallDelta(0, "}"),
        ToolCallDelta(1, "{}"),
    ]
    assert list(joined(events)) == [
        ReasoningDelta("ab"),
        TextDelta("cd"),
        events[4],
        ToolCallDelta(0, "{}"),
        ToolCallDelta(1, "{}"),
    ]
    assert written(events) == "abcd{}{}"


@pytest.mark.parametrize(
    ("pieces", "text", "found"),
    [
        (["one END two"], "one ", "END"),
        (["one E", "N", "D two"], "one ", "END"),
        (["one E", "N", "X"], "one ENX", None),
        (["one EN"], "one EN", None),
        (["a\n", "\nb"], "a", "\n\n"),
    ],
)
def test_a_stop_string_ends_the_text_wherever_it_was_cut(pieces: list[str], text: str, found: str | None) -> None:
    stops = StopsHere(["END", "\n\n"])
    shown = [*stops.feed(map(TextDelta, pieces)), *stops.end([])]
    assert (written(shown), stops.found) == (text, found)


def test_text_that_was_held_back_stands_before_the_call_that_follows_it() -> None:
    stops = StopsHere(["END"])
    call = ToolCallStart(0, "call_1", "shell")
    assert list(stops.feed([TextDelta("so E"), call])) == [TextDelta("so "), TextDelta("E"), call]

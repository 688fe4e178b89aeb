"""Merging deltas on their way out: order, content and structure survive; quiet streams are not delayed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from skilldeck_daemon.rpc.coalesce import MAX_MERGED, MAX_PENDING, Coalescer
from skilldeck_daemon.rpc.deltas import merged, place

Event = dict[str, Any]


def text(number: int, delta: str, item: str = "msg_1") -> Event:
    where = {"item_id": item, "output_index": 0, "content_index": 0}
    return {"type": "response.output_text.delta", "sequence_number": number, **where, "delta": delta, "logprobs": []}


def output(number: int, **delta: str) -> Event:
    where = {"item_id": "sho_1", "output_index": 1, "command_index": 0}
    return {"type": "response.shell_call_output_content.delta", "sequence_number": number, **where, "delta": delta}


def done(number: int) -> Event:
    return {"type": "response.completed", "sequence_number": number, "response": {}}


async def through(events: list[Event], interval: float = 0.02) -> list[Event]:
    async def source() -> AsyncIterator[Event]:
        for event in events:
            yield event

    async with aclosing(Coalescer(source(), place, merged, interval)) as coalesced:
        return [event async for event in coalesced]


async def test_neighbouring_deltas_of_one_item_become_one() -> None:
    got = await through([text(0, "a"), text(1, "b"), text(2, "c"), done(3)])
    assert got == [text(2, "abc"), done(3)]


async def test_deltas_of_different_items_are_never_merged_and_keep_their_order() -> None:
    events = [text(0, "a"), text(1, "b", "msg_2"), text(2, "c"), done(3)]
    assert await through(events) == events


async def test_stdout_and_stderr_keep_the_order_in_which_they_were_written() -> None:
    events = [output(0, stdout="1\n"), output(1, stdout="2\n"), output(2, stderr="oops\n"), output(3, stdout="3\n")]
    got = await through([*events, done(4)])
    assert got == [output(1, stdout="1\n2\n"), output(2, stderr="oops\n"), output(3, stdout="3\n"), done(4)]


async def test_any_stream_keeps_its_text_and_its_structure_whatever_is_merged() -> None:
    rng = random.Random(7)
    events: list[Event] = []
    for number in range(5000):
        pick = rng.random()
        if pick < 0.6:
            events.append(text(number, f"{number} ", f"msg_{number % 2000 // 1000}"))
        elif pick < 0.9:
            events.append(output(number, **{rng.choice(["stdout", "stderr"]): f"{number}\n"}))
        else:
            events.append({"type": "response.output_item.done", "sequence_number": number, "item": {"id": number}})
    events.append(done(5000))
    got = await through(events)
    assert len(got) < len(events)
    assert [e["sequence_number"] for e in got] == sorted(e["sequence_number"] for e in got)
    assert [e for e in got if place(e) is None] == [e for e in events if place(e) is None]

    def written(log: list[Event]) -> list[tuple[str, str]]:
        """Each character's place, in order."""
        pieces = []
        for event in log:
            if event["type"] == "response.output_text.delta":
                pieces += [(event["item_id"], word) for word in event["delta"].split()]
            elif "delta" in event:
                pieces += [(name, line) for name, t in event["delta"].items() for line in t.splitlines()]
        return pieces

    assert written(got) == written(events)


async def test_resuming_after_any_delivered_event_misses_and_repeats_nothing() -> None:
    events = [text(n, f"{n} ") if n % 7 else output(n, stdout=f"{n} ") for n in range(100)] + [done(100)]
    whole = await through(events)
    for index, event in enumerate(whole):
        rest = await through([e for e in events if e["sequence_number"] > event["sequence_number"]], interval=0)
        deltas = [e["delta"] for e in whole[: index + 1] + rest if "delta" in e]
        words = " ".join(delta if isinstance(delta, str) else delta["stdout"] for delta in deltas)
        assert words.split() == [str(n) for n in range(100)]


async def test_the_first_delta_after_a_quiet_spell_goes_out_at_once_and_the_end_never_waits() -> None:
    queue: asyncio.Queue[Event | None] = asyncio.Queue()

    async def source() -> AsyncIterator[Event]:
        while (event := await queue.get()) is not None:
            yield event

    # An interval nobody would sit through: what arrives before it has passed was not held back.
    async with aclosing(Coalescer(source(), place, merged, 3600)) as coalesced:
        events = aiter(coalesced)
        queue.put_nowait(text(0, "a"))
        assert await asyncio.wait_for(anext(events), 60) == text(0, "a")
        queue.put_nowait(text(1, "b"))
        queue.put_nowait(text(2, "c"))
        queue.put_nowait(done(3))
        assert await asyncio.wait_for(anext(events), 60) == text(2, "bc")
        assert await asyncio.wait_for(anext(events), 60) == done(3)
        queue.put_nowait(text(4, "x"))
        queue.put_nowait(None)
        assert await asyncio.wait_for(anext(events), 60) == text(4, "x")


async def test_a_slow_reader_slows_the_source_instead_of_filling_memory() -> None:
    made = 0

    async def source() -> AsyncIterator[Event]:
        nonlocal made
        for number in range(100_000):
            made += 1
            yield {"type": "response.output_item.done", "sequence_number": number}

    async with aclosing(Coalescer(source(), place, merged)) as coalesced:
        events = aiter(coalesced)
        await anext(events)
        for _ in range(100):
            await asyncio.sleep(0)
        assert made <= 3 * MAX_PENDING


async def test_one_message_never_grows_without_bound() -> None:
    got = await through([text(n, "x" * 10) for n in range(5 * MAX_MERGED)])
    assert max(len(event["delta"]) for event in got) <= 10 * MAX_MERGED
    assert sum(len(event["delta"]) for event in got) == 50 * MAX_MERGED


async def test_an_error_of_the_source_comes_after_what_it_gave() -> None:
    async def source() -> AsyncIterator[Event]:
        yield text(0, "a")
        raise LookupError("gone")

    async with aclosing(Coalescer(source(), place, merged)) as coalesced:
        events = aiter(coalesced)
        assert await anext(events) == text(0, "a")
        with pytest.raises(LookupError):
            await anext(events)


async def test_leaving_early_ends_the_source() -> None:
    ended = asyncio.Event()

    async def source() -> AsyncIterator[Event]:
        try:
            yield text(0, "a")
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with aclosing(Coalescer(source(), place, merged)) as coalesced:
        async for _ in coalesced:
            break
    assert ended.is_set()

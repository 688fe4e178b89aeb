"""The bus of changes: what a subscriber sees, and what slowness costs it."""

from __future__ import annotations

import asyncio

import pytest

from skilldeck_daemon.libraries.bus import Bus, Change, SubscriberBehind


async def test_every_subscriber_sees_changes_in_order() -> None:
    bus = Bus()
    async with bus.subscribe() as first, bus.subscribe() as second:
        bus.publish("skill", "put", "a", {"n": 1})
        bus.publish("file", "delete", "b")
        for changes in (first, second):
            assert await anext(changes) == Change("skill", "put", "a", {"n": 1})
            assert await anext(changes) == Change("file", "delete", "b", None)


async def test_a_reader_that_waits_is_woken() -> None:
    bus = Bus()
    async with bus.subscribe() as changes:
        waiting = asyncio.create_task(changes.__anext__())
        await asyncio.sleep(0)
        assert not waiting.done()
        bus.publish("run", "put", "r", {})
        assert (await waiting).id == "r"


async def test_states_of_one_object_merge_while_nobody_reads() -> None:
    bus = Bus(capacity=2)
    async with bus.subscribe() as changes:
        for n in range(1000):
            bus.publish("run", "put", "r", {"n": n})
            bus.publish("run", "put", "s", {"n": n})
        bus.publish("run", "delete", "r")
        assert [(await anext(changes)).object, (await anext(changes)).action] == [{"n": 999}, "delete"]


async def test_a_subscriber_too_far_behind_is_told_and_others_go_on() -> None:
    bus = Bus(capacity=10)
    async with bus.subscribe() as slow, bus.subscribe() as quick:
        for n in range(30):
            bus.publish("run", "put", str(n), {})
            assert (await anext(quick)).id == str(n)
        with pytest.raises(SubscriberBehind):
            await anext(slow)


async def test_after_its_block_a_subscriber_gets_nothing_and_holds_nothing() -> None:
    bus = Bus(capacity=1)
    async with bus.subscribe() as changes:
        pass
    bus.publish("run", "put", "a", {})
    bus.publish("run", "put", "b", {})
    async with bus.subscribe() as fresh:
        bus.publish("run", "put", "c", {})
        assert (await anext(fresh)).id == "c"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anext(changes)

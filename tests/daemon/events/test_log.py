"""The event log and its readers."""

from __future__ import annotations

import asyncio

from skilldeck_daemon.events.log import EventLog


async def test_every_reader_sees_every_event_in_order_from_where_it_began() -> None:
    log = EventLog()
    log.append("a")

    async def read(after: int) -> list[int]:
        return [event["sequence_number"] async for event in log.follow(after)]

    readers = [asyncio.create_task(read(after)) for after in (-1, 0, 3, 50)]
    for _ in range(5):
        await asyncio.sleep(0)
        log.append("b")
    log.close()
    assert await asyncio.gather(*readers) == [[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [4, 5], []]
    assert len(log.times) == 6


async def test_a_reader_that_leaves_does_not_disturb_the_others() -> None:
    log = EventLog()

    async def read() -> int:
        return len([event async for event in log.follow()])

    leaving, staying = asyncio.create_task(read()), asyncio.create_task(read())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    log.append("a")
    log.close()
    assert await staying == 1

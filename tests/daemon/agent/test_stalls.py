"""The watchdog of the event loop: what held it is logged, and a loop that waits is none of its business."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator

import pytest

from skilldeck_daemon.agent.accounts.stalls import STALL_S, Stalls
from support.daemon import running
from support.wait import until


@contextlib.contextmanager
def watching() -> Iterator[Stalls]:
    stalls = Stalls()
    stalls.start()
    try:
        yield stalls
    finally:
        stalls.stop()


def holds_the_loop(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))


async def until_noted(stalls: Stalls) -> None:
    await until(lambda: stalls.count)


async def test_work_that_holds_the_loop_is_logged_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), watching() as stalls:
        await asyncio.sleep(0)
        holds_the_loop(4 * STALL_S)
        await until_noted(stalls)
    assert stalls.longest > STALL_S
    assert "in holds_the_loop" in caplog.text


async def test_a_call_that_blocks_without_working_is_one_too_and_is_logged_while_it_does(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skilldeck_daemon.agent.accounts.stalls.LONG_S", 2 * STALL_S)
    with caplog.at_level(logging.WARNING), watching() as watch:
        await asyncio.sleep(0)
        time.sleep(6 * STALL_S)  # noqa: ASYNC251
        said = [record.getMessage() for record in caplog.records]
        await until_noted(watch)
    assert len(said) == 1
    assert "has stood still" in said[0]
    assert all("time.sleep(6 * STALL_S)" in record.getMessage() for record in caplog.records)
    assert len(caplog.records) == 2


async def test_a_loop_that_waits_has_no_stalls() -> None:
    with watching() as stalls:
        await asyncio.sleep(4 * STALL_S)
    assert stalls.count == 0


async def test_stalls_are_counted_in_metrics() -> None:
    async with running() as daemon:
        daemon.daemon.services.stalls.stop()
        daemon.daemon.services.stalls._note(1000.0, ["somewhere\n"])
        text = (await daemon.http.get(daemon.url.removesuffix("/v1") + "/metrics")).text
    told = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("skilldeck_loop_stall"))
    assert float(told["skilldeck_loop_stalls_total"]) >= 1
    assert float(told["skilldeck_loop_stall_seconds_total"]) >= 1000
    assert float(told["skilldeck_loop_stall_longest_seconds"]) == 1000

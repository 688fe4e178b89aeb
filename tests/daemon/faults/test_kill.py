"""`kill -9` of the daemon at random points under load: what it acknowledged is there, what ran has ended.

The suite kills it three times. `SKILLDECK_TEST_KILLS=200` is the long version (about half an hour on two cores):

    SKILLDECK_TEST_KILLS=200 pytest tests/daemon/faults/test_kill.py -s --timeout 7200
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skilldeck_daemon.containers.homes import base_for
from skilldeck_daemon.store import open_parts
from skilldeck_daemon.store.fsck import check
from support.crowd import Crowd
from support.killable import ready, served
from support.scripted_model import Answer, ScriptedModel, Turn, shell
from support.wait import until

KILLS = int(os.environ.get("SKILLDECK_TEST_KILLS", "3"))
SEED = int(os.environ.get("SKILLDECK_TEST_SEED", "0")) or random.randrange(1 << 32)


def answer(body: dict[str, object]) -> Answer:
    """Mostly a word or two; where there is a shell, a command first."""
    messages = body["messages"]
    assert isinstance(messages, list)
    if body.get("tools") and messages[-1]["role"] != "tool":
        return Turn(shell("echo x > made.txt"))
    return Turn("word " * random.choice((1, 20, 200)), no_usage=False)


@pytest.fixture
def home(tmp_path: Path) -> AsyncIterator[Path]:
    yield tmp_path
    shutil.rmtree(base_for(tmp_path / "data" / "containers"), ignore_errors=True)


@pytest.mark.timeout(60 * KILLS + 300)
async def test_whatever_was_acknowledged_survives_kill_9_at_any_point(home: Path) -> None:
    print(f"seed {SEED}")
    moments = random.Random(SEED)
    crowd = Crowd(SEED)
    with ScriptedModel(*[answer] * 1_000_000, strict=False) as model:
        for number in range(KILLS):
            async with served(home, model) as (process, url):
                await ready(url)
                await crowd.check(url)
                over, before = asyncio.Event(), crowd.acknowledged
                writing = asyncio.create_task(crowd.write(url, over))
                if number % 2:  # at a random time, or after a random number of answers
                    await asyncio.wait({writing}, timeout=moments.uniform(0, 1.5))
                else:
                    wanted = before + moments.randrange(1, 60)
                    with contextlib.suppress(AssertionError):  # on a busy machine fewer will do
                        await until(lambda: crowd.acknowledged >= wanted or writing.done(), 20)  # noqa: B023
                process.send_signal(signal.SIGKILL)
                over.set()
                await writing
                assert await process.wait() == -signal.SIGKILL
            print(f"kill {number + 1}: {crowd.acknowledged} acknowledged, {crowd.interrupted} runs interrupted")
        async with served(home, model) as (_, url):
            await ready(url)
            await crowd.check(url, everything=True)
    assert crowd.acknowledged > KILLS
    report = await check(*open_parts(home / "data"))
    assert report.problems == []
    assert list((home / "data/blobs/tmp").iterdir()) == []

"""`kill -9` of the daemon at random points under load: what it acknowledged is there, what ran has ended.

Environments of skills are built meanwhile, and in some rounds a base of the sandbox beside it, whose program is killed
with the daemon: nothing half made is ever used or stays, and the next use builds what is missing.

The suite kills it three times. `SKILLDECK_TEST_KILLS=200` is the long version (about half an hour on two cores):

    SKILLDECK_TEST_KILLS=200 pytest tests/daemon/faults/test_kill.py -s --timeout 0
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from daemon.containers.support import needs_bwrap
from skilldeck_daemon.store import open_parts
from skilldeck_daemon.store.upkeep.fsck import check
from support.builds import answer as packages_answer
from support.builds import builds
from support.crowd import Crowd
from support.killable import ready, served
from support.scripted_model import Answer, ScriptedModel, Turn, shell
from support.wait import until

KILLS = int(os.environ.get("SKILLDECK_TEST_KILLS", "3"))
SEED = int(os.environ.get("SKILLDECK_TEST_SEED", "0")) or random.randrange(1 << 32)
MOMENTS = ("answers", "time", "environment", "base")
"""When a kill comes: after a random number of answers; at a random time of the load, or of a build."""


def answer(body: dict[str, Any]) -> Answer:
    """Mostly a word or two; where there is a shell, a command first."""
    of_packages = packages_answer(body)
    if of_packages is not None:
        return of_packages
    messages = body["messages"]
    if body.get("tools") and messages[-1]["role"] != "tool":
        return Turn(shell("echo x > made.txt"))
    return Turn("word " * random.choice((1, 20, 200)), no_usage=False)


@needs_bwrap
@pytest.mark.timeout(60 * KILLS + 300)
async def test_whatever_was_acknowledged_survives_kill_9_at_any_point(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    moments = random.Random(SEED)
    crowd = Crowd(SEED)
    hit: Counter[str] = Counter()
    with ScriptedModel(*[answer] * 1_000_000, strict=False) as model, builds(tmp_path, SEED) as built:
        for number in range(KILLS):
            moment = MOMENTS[number % len(MOMENTS)]
            async with served(tmp_path, model, *built.flags) as (process, url):
                await ready(url)
                await built.check(url, uses=number % 2)
                await crowd.check(url)
                over, before = asyncio.Event(), crowd.acknowledged
                writing = [crowd.write(url, over), built.upload(url, over, most=1 + (KILLS > 3))]
                tasks = [asyncio.create_task(work) for work in writing]
                with contextlib.suppress(AssertionError):  # on a busy machine fewer will do
                    match moment:
                        case "answers":
                            wanted = before + moments.randrange(1, 60)
                            await until(lambda: crowd.acknowledged >= wanted or tasks[0].done(), 20)  # noqa: B023
                        case "environment":
                            await until(built.building, 20)
                        case "base":
                            built.base()
                            await until(built.base_is_under_way, 20)
                if moment != "answers":
                    await asyncio.sleep(moments.uniform(0, 1.5))
                process.send_signal(signal.SIGKILL)
                built.kill()
                over.set()
                await asyncio.gather(*tasks)
                assert await process.wait() == -signal.SIGKILL
            hit["kills"] += 1
            hit[f"at {moment}"] += 1
            for left in built.left():
                hit["environments half built" if "environment-" in left or len(left) > 60 else "bases half built"] += 1
            print(f"kill {number + 1}: {crowd.acknowledged} acknowledged, {crowd.interrupted} runs interrupted, {hit}")
        async with served(tmp_path, model, *built.flags) as (_, url):
            await ready(url)
            await built.check(url, uses=max(1, KILLS // 5))
            await crowd.check(url, everything=True)
        if hit["at base"]:
            built.build_base()
        print(f"{len(built.skills)} skills with packages, used {built.used} times")
    assert crowd.acknowledged > KILLS
    report = await check(*open_parts(tmp_path / "data"))
    assert report.problems == []
    assert list((tmp_path / "data/blobs/tmp").iterdir()) == []

"""`kill -9` of the daemon at random points under load: what it acknowledged is there, what ran has ended.

The suite kills it three times. `SKILLDECK_TEST_KILLS=200` is the long version (about half an hour on two cores):

    SKILLDECK_TEST_KILLS=200 pytest tests/daemon/faults/test_kill.py -s --timeout 7200
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from skilldeck_daemon.containers.homes import base_for
from skilldeck_daemon.store import open_parts
from skilldeck_daemon.store.fsck import check
from support.crowd import Crowd
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


@contextlib.asynccontextmanager
async def served(home: Path, model: ScriptedModel) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A daemon process that is ready; whoever leaves has killed it, or it is stopped here."""
    flags = ["--port", "0", "--data-dir", str(home / "data"), "--socket", str(home / "s")]
    flags += ["--engine", "remote", "--remote-url", model.url, "--log-level", "error"]
    with (home / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "skilldeck_daemon", "serve", *flags, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 120)).decode()
        found = re.search(r"http://\S+/v1", line)
        assert found is not None, (home / "log").read_text()
        yield process, found.group()
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), 60)


async def ready(url: str) -> None:
    async with httpx.AsyncClient() as http:
        for _ in range(3000):
            if (await http.get(url.removesuffix("/v1") + "/health")).status_code == 200:
                return
            await asyncio.sleep(0.02)
    raise AssertionError("the daemon never became ready")


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

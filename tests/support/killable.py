"""A daemon in a process of its own, for tests that kill it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from support.scripted_model import ScriptedModel


@contextlib.asynccontextmanager
async def served(home: Path, model: ScriptedModel, *more: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A daemon process that is ready; whoever leaves has killed it, or it is stopped here. `more` are flags."""
    flags = ["--port", "0", "--data-dir", str(home / "data"), "--socket", str(home / "s")]
    flags += ["--engine", "remote", "--remote-url", model.url, "--log-level", "error", *more]
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
    async with httpx.AsyncClient(timeout=60) as http:  # the usual 5 s pass while other tests have both cores
        for _ in range(3000):
            if (await http.get(url.removesuffix("/v1") + "/health")).status_code == 200:
                return
            await asyncio.sleep(0.02)
    raise AssertionError("the daemon never became ready")

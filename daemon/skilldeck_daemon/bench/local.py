"""A daemon of the benchmark's own, in this process or beside it, with data in a temporary directory."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from skilldeck_daemon import heap
from skilldeck_daemon.app import Daemon
from skilldeck_daemon.settings import Settings
from skilldeck_shared.errors import Unavailable

READY_SECONDS = 300.0


class NotReady(Unavailable):
    """The daemon under measurement did not become healthy."""


@functools.cache
def _bytecode() -> tempfile.TemporaryDirectory[str]:
    """Where children keep their compiled modules; it goes with this process."""
    return tempfile.TemporaryDirectory(prefix="skilldeck-bench-bytecode-")


def environment(*left: str) -> dict[str, str]:
    """This process's environment for a child that is measured, without our settings and what begins with one of
    `left`. The child finds its modules compiled, as an installed program does, from its second start on: whatever this
    process was told of bytecode (PYTHONDONTWRITEBYTECODE doubles a start), and wherever it may write."""
    dropped = ("SKILLDECK_", "PYTHONDONTWRITEBYTECODE", *left)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONPYCACHEPREFIX": _bytecode().name}


@contextlib.contextmanager
def temporary_home() -> Any:
    """A directory that goes with the measurement."""
    home = Path(tempfile.mkdtemp(prefix="skilldeck-bench-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.asynccontextmanager
async def in_process(home: Path, **settings: Any) -> AsyncIterator[tuple[Daemon, httpx.AsyncClient]]:
    """A started daemon whose model (if any was asked for) is ready, and a client of its API."""
    values = {"model": "", "port": 0, "data_dir": home / "data", "socket": home / "daemon.sock", **settings}
    daemon = Daemon(Settings(**values))
    await daemon.start()
    try:
        async with httpx.AsyncClient(base_url=daemon.services.http_url, timeout=600, trust_env=False) as client:
            if values["model"]:
                await _until_ready(daemon)
            heap.collect_less()  # as `skilldeckd serve` does
            yield daemon, client
    finally:
        await daemon.stop()


async def _until_ready(daemon: Daemon) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while (status := daemon.services.models.status()).state != "ready":
        if time.monotonic() > deadline or status.state not in ("loading", "idle"):
            raise NotReady(f"The model is {status.state} after {READY_SECONDS:.0f} s.", str(status))
        await asyncio.sleep(0.005)


@dataclass(frozen=True)
class Served:
    """A daemon's process; `url` is that of its server, `log` the file with its output."""

    child: asyncio.subprocess.Process
    url: str
    log: Path

    async def healthy(self, seconds: float = READY_SECONDS) -> None:
        """Wait until GET /health answers 200. Raises NotReady with the end of its log when the process ends before."""
        deadline = time.monotonic() + seconds
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"{self.url}/health")).status_code == 200:
                        return
                if self.child.returncode is not None:
                    said = self.log.read_text(encoding="utf-8", errors="replace")[-2000:].strip()
                    raise NotReady(f"skilldeckd ended with status {self.child.returncode}: {said}")
                if time.monotonic() > deadline:
                    raise NotReady(f"{self.url}/health did not answer 200 within {seconds:.0f} s.")
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def process(home: Path, model: str, *more: str) -> AsyncIterator[Served]:
    """`skilldeckd serve` as a process that is starting."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["serve", "--model", model, "--port", str(port), "--data-dir", str(home / "data")]
    arguments += ["--socket", str(home / "daemon.sock"), *more]
    env = environment() | {"XDG_CONFIG_HOME": str(home / "config")}
    with (home / "daemon.log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "skilldeck_daemon", *arguments, stdout=log, stderr=log, env=env
        )
    try:
        yield Served(child, f"http://127.0.0.1:{port}", home / "daemon.log")
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        await child.wait()


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; Linux only."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0

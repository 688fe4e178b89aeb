"""The daemon under load: a process that can be stopped, killed and started again on the same data and port."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from skilldeck_daemon.bench.local import NotReady, Served
from skilldeck_daemon.containers.homes import base_for

START_SECONDS = 180.0


@dataclass(frozen=True)
class Sample:
    """What the daemon held at a moment without runs: open descriptors, and bytes resident (`anonymous`: of no file)."""

    life: int
    seconds: float
    resident: int
    descriptors: int
    anonymous: int = 0


class Service:
    """`skilldeckd serve` with a remote model, or with `model`. `life` counts its starts."""

    def __init__(self, home: Path, model_url: str, *flags: str, model: str = "") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.life = 0
        self._home = home
        self._log = home / "daemon.log"
        self._begun = time.monotonic()
        self._command = [sys.executable, "-m", "skilldeck_daemon", "serve", "--port", str(self.port)]
        self._command += ["--data-dir", str(home / "data"), "--socket", str(home / "s")]
        served = ["--model", model] if model else ["--engine", "remote", "--remote-url", model_url]
        self._command += [*served, *flags]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when tokens can flow."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.life += 1
        try:
            await Served(self._process, self.url, self._log).healthy(START_SECONDS)
        except NotReady as error:
            raise RuntimeError(f"the daemon did not start: {error}\n{self.tail()}") from None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; a SIGTERM that is not obeyed within START_SECONDS is an error."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(how)
        try:
            await asyncio.wait_for(self._process.wait(), START_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise RuntimeError(f"the daemon did not stop:\n{self.tail()}") from None

    async def sample(self) -> Sample:
        """Wait until no run is live and the descriptors have settled, then look."""
        assert self._process is not None
        pid = self._process.pid
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            deadline = time.monotonic() + START_SECONDS
            while active := _active((await client.get(f"{self.url}/metrics")).text):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{active:g} runs are still live although nobody waits for one")
                await asyncio.sleep(0.1)
        counts: list[int] = []
        while len(counts) < 50 and (len(counts) < 5 or len(set(counts[-5:])) > 1):
            counts.append(len(os.listdir(f"/proc/{pid}/fd")))
            await asyncio.sleep(0.1)
        try:
            told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines())
            resident, anonymous = (int(told[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon"))
        except (OSError, KeyError):
            raise RuntimeError(f"the daemon is gone:\n{self.tail()}") from None
        return Sample(self.life, time.monotonic() - self._begun, resident, counts[-1], anonymous)

    def tail(self) -> str:
        return self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""

    def remove(self) -> None:
        """What a root daemon keeps outside its data directory."""
        shutil.rmtree(base_for(self._home / "data" / "containers"), ignore_errors=True)


def _active(metrics: str) -> float:
    for line in metrics.splitlines():
        if line.startswith("skilldeck_runs_active"):
            return float(line.split()[-1])
    raise RuntimeError("/metrics tells no runs_active")

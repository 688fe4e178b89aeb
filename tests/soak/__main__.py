"""Endurance: `cd tests && python -m soak --minutes 60`. Loopback only; everything is in a temporary directory.

Clients act at random (see `work`) in tides of a few seconds. Between two tides nothing runs: what was acknowledged is
asked for again, and the daemon's memory and descriptors are read. In the first part of the time the daemon is killed
or stopped in the middle of a tide, and started again on its data; in the rest it lives on, and must not grow. With
`--fuzz` generated hostile inputs (tests/fuzz) are sent to it beside the clients, one at a time. Its event loop must not
stand still for over a second.

The first half of that last life is its warming up, by when every kind of action and of input came, all that was
acknowledged has been asked for once (each connection to the database keeps 2 MB of pages), and as many containers end
as begin: they wait 20 minutes for somebody to use them again. So an hour is the least that says something of growth.

Prints one JSON object; exit status 1 when something was lost, stuck, wrong, or grew beyond the tolerance.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from fuzz.__main__ import STALL_S, stalls
from fuzz.generate import KINDS, made
from fuzz.targets import Broken, Targets
from soak.daemon import Sample, Service
from soak.ledger import Ledger
from soak.work import Clients, Fault, Interrupted, answer
from support.scripted_model import ScriptedModel

RESTARTS = 0.25
"""The part of the time in which the daemon is restarted."""
WARM_UP = 0.5
"""The part of its last life that counts as warming up."""
WARM = RESTARTS + (1 - RESTARTS) * WARM_UP
CHECKED = 200
"""Objects asked for between two tides, the newest first half; at the end all of them."""


@dataclass
class Soak:
    """What happened. `faults` include stuck runs."""

    ledger: Ledger = field(default_factory=Ledger)
    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    tally: dict[str, int] = field(default_factory=dict)
    interrupted: int = 0
    restarts: int = 0
    hostile: Counter[str] = field(default_factory=Counter)
    stalls: int = 0
    longest_stall: float = 0.0

    def growth(self) -> dict[str, float]:
        """The last third of the last life over the first third after its warm-up, as ratios; 1.0 is flat."""
        life = [sample for sample in self.samples if sample.life == self.samples[-1].life]
        warm = life[int(len(life) * WARM_UP) :]
        part = max(1, len(warm) // 3)

        def ratio(values: list[int]) -> float:
            return statistics.median(values[-part:]) / statistics.median(values[:part])

        return {
            "resident": ratio([sample.resident for sample in warm]),
            "descriptors": ratio([sample.descriptors for sample in warm]),
        }

    def report(self) -> dict[str, Any]:
        return {
            "actions": self.tally,
            "interrupted": self.interrupted,
            "restarts": self.restarts,
            "objects": len(self.ledger.entries),
            "checks": self.ledger.checked,
            "lost": self.ledger.lost[:20],
            "faults": self.faults[:20],
            "hostile": dict(self.hostile),
            "stalls": self.stalls,
            "longest_stall": round(self.longest_stall, 3),
            "growth": self.growth(),
            "samples": [[s.life, round(s.seconds), s.resident, s.anonymous, s.descriptors] for s in self.samples],
        }


async def soak(home: Path, *, seconds: float, clients: int, tide: float, seed: int, hostile: bool = False) -> Soak:
    """Run it; see the module. `tide`: seconds that clients go on beginning actions; `hostile`: fuzz beside them."""
    source, result = random.Random(seed), Soak()
    begun = time.monotonic()
    with ScriptedModel(strict=False, always=answer) as model:
        service = Service(home, model.url, "--max-containers", str(clients + 8))
        await service.start()
        warm = False
        try:
            while (passed := time.monotonic() - begun) < seconds:
                restart = passed < seconds * RESTARTS and (service.life < 3 or source.random() < 0.5)
                await _tide(service, result, source, clients, tide, restart, hostile)
                async with _http(service) as http:
                    everything = not warm and passed > 0.9 * WARM * seconds
                    warm = warm or everything
                    await _check(http, result.ledger, source, len(result.ledger.entries) if everything else CHECKED)
                    await _stood_still(http, result)
                result.samples.append(await service.sample())
                if result.faults or result.ledger.lost:
                    break
            async with _http(service) as http:
                await _check(http, result.ledger, source, len(result.ledger.entries))
        except RuntimeError as error:
            result.faults.append(str(error))
        finally:
            await service.stop()
            service.remove()
    return result


def _http(service: Service) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=service.url, timeout=600, trust_env=False, limits=limits)


async def _tide(
    service: Service, result: Soak, source: random.Random, clients: int, seconds: float, restart: bool, hostile: bool
) -> None:
    """All clients act for `seconds`; with `restart` the daemon ends in the middle, in one way or the other."""
    up = asyncio.Event()
    up.set()
    deadline = time.monotonic() + seconds

    async with _http(service) as http:
        work = Clients(http, result.ledger, source)

        async def client() -> None:
            while time.monotonic() < deadline and not result.faults:
                await up.wait()
                try:
                    await work.act()
                except Interrupted as error:
                    result.interrupted += 1
                    if not restart:
                        result.faults.append(f"interrupted without a restart: {error}")
                    await asyncio.sleep(0.2)
                except Fault as error:
                    result.faults.append(str(error))

        async def ending() -> None:
            await asyncio.sleep(seconds * source.uniform(0.2, 0.8))
            up.clear()
            await service.stop(source.choice((signal.SIGKILL, signal.SIGTERM)))
            await service.start()
            result.restarts += 1
            up.set()

        beside = [ending()] if restart else []
        if hostile:
            beside.append(_hostile(service, result, source.randrange(10**6), up, deadline, restart))
        await asyncio.gather(*(client() for _ in range(clients)), *beside)
        for name, count in work.tally.items():
            result.tally[name] = result.tally.get(name, 0) + count


async def _hostile(
    service: Service, result: Soak, seed: int, up: asyncio.Event, deadline: float, restart: bool
) -> None:
    """Generated inputs, one after the other; what breaks is a fault, but for the moment in which the daemon ends."""
    async with _http(service) as http:
        targets = Targets(service.url, http)
        for number in itertools.count():
            if time.monotonic() >= deadline or result.faults:
                return
            await up.wait()
            kind, life = list(KINDS)[number % len(KINDS)], service.life
            try:
                await targets.send(kind, made(kind, seed * 1_000_000 + number))
                result.hostile[kind] += 1
            except Broken as error:
                if not restart or (up.is_set() and service.life == life):
                    result.faults.append(f"hostile {kind} {seed * 1_000_000 + number}: {error}")
                await asyncio.sleep(0.2)


async def _stood_still(http: httpx.AsyncClient, result: Soak) -> None:
    """Reads what the watchdog counted since the daemon's last start."""
    result.stalls, longest = await stalls(http)
    result.longest_stall = max(result.longest_stall, longest)
    if longest > STALL_S:
        result.faults.append(f"the event loop stood still for {longest:.1f} s")


async def _check(http: httpx.AsyncClient, ledger: Ledger, source: random.Random, count: int) -> None:
    entries = list(ledger.entries.values())
    chosen = entries if count >= len(entries) else entries[-count // 2 :] + source.sample(entries, count // 2)
    gate = asyncio.Semaphore(8)

    async def one(entry: Any) -> None:
        async with gate:
            await ledger.check(http, entry)

    await asyncio.gather(*(one(entry) for entry in chosen))


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tide", type=float, default=10.0, help="seconds between two looks at the daemon")
    parser.add_argument("--tolerance", type=float, default=0.02, help="growth that counts as flat")
    parser.add_argument("--fuzz", action="store_true", help="hostile inputs beside the clients")
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.randrange(10**6)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    home = Path(tempfile.mkdtemp(prefix="skilldeck-soak-"))
    try:
        result = asyncio.run(
            soak(
                home,
                seconds=asked.minutes * 60,
                clients=asked.clients,
                tide=asked.tide,
                seed=seed,
                hostile=asked.fuzz,
            )
        )
        if result.faults or result.ledger.lost:
            with contextlib.suppress(OSError):
                print((home / "daemon.log").read_text(errors="replace")[-6000:], file=sys.stderr)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    report = {"seed": seed, **result.report()}
    print(json.dumps(report, indent=1))
    grown = {name: ratio for name, ratio in report["growth"].items() if ratio > 1 + asked.tolerance}
    if grown:
        print(f"grew beyond {asked.tolerance:.0%}: {grown}", file=sys.stderr)
    return int(bool(result.faults or result.ledger.lost or grown))


if __name__ == "__main__":
    sys.exit(main())

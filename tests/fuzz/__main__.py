"""Sends generated hostile inputs to a daemon of its own for as long as it is asked to; what breaks it joins the corpus.

    python -m fuzz --seconds 60              # `make fuzz`
    python -m fuzz --count 240 --seed 1      # so many inputs, always the same
    python -m fuzz --replay corpus/tools-3   # one file

The daemon is `skilldeckd serve` with the bundled model, a process of its own. It has to answer or hang up, never with
5xx, to be there afterwards, and not to stand still for over a second. Prints what it sent and what came of it, as JSON;
the exit code is 1 when something broke.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from fuzz.generate import CORPUS, KINDS, made
from fuzz.targets import Broken, Targets
from soak.daemon import Service

STALL_S = 1.0


@dataclass
class Fuzzed:
    """What was sent, what came of it, and what broke: (kind, what, file of the input)."""

    seed: int
    sent: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, str, str]] = field(default_factory=list)
    stalls: int = 0
    longest_stall: float = 0.0

    def report(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "sent": dict(self.sent),
            "outcomes": {f"{kind} {outcome}": count for (kind, outcome), count in sorted(self._by_kind().items())},
            "broken": [{"kind": kind, "what": what, "input": place} for kind, what, place in self.broken],
            "stalls": self.stalls,
            "longest_stall": round(self.longest_stall, 3),
        }

    def _by_kind(self) -> dict[tuple[str, str], int]:
        return {tuple(name.split(" ", 1)): count for name, count in self.outcomes.items()}  # type: ignore[misc]


async def fuzz(
    home: Path, *, seed: int, seconds: float = float("inf"), count: int = 0, replay: list[Path] | None = None
) -> Fuzzed:
    """Run until the time is over, `count` inputs were sent, or everything was replayed."""
    result = Fuzzed(seed)
    service = Service(home, "", model="skilldeck-tiny")
    await service.start()
    limits = httpx.Limits(max_keepalive_connections=0)
    try:
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, limits=limits) as http:
            targets = Targets(service.url, http)
            deadline = time.monotonic() + seconds
            kinds = list(KINDS)
            number = 0
            while time.monotonic() < deadline and (not count or number < count):
                if replay is not None:
                    if number == len(replay):
                        break
                    kind, data = replay[number].name.split("-")[0], replay[number].read_bytes()
                else:
                    kind = kinds[number % len(kinds)]
                    data = made(kind, seed * 1_000_000 + number)
                number += 1
                result.sent[kind] += 1
                try:
                    result.outcomes[f"{kind} {await targets.send(kind, data)}"] += 1
                    await targets.alive()
                except Broken as error:
                    result.broken.append((kind, str(error), _kept(kind, data)))
                    if not service.alive:
                        await service.start()
            result.stalls, result.longest_stall = await stalls(http)
            if result.longest_stall > STALL_S:
                result.broken.append(
                    ("stall", f"the loop stood still for {result.longest_stall:.1f} s", service.tail())
                )
    finally:
        await service.stop()
        service.remove()
    return result


async def stalls(http: httpx.AsyncClient) -> tuple[int, float]:
    """How often the daemon's loop stood still since its start, and the longest time in seconds."""
    told = dict(
        line.rsplit(" ", 1) for line in (await http.get("/metrics", timeout=60)).text.splitlines() if line[:1] != "#"
    )
    return int(float(told["skilldeck_loop_stalls_total"])), float(told["skilldeck_loop_stall_longest_seconds"])


def _kept(kind: str, data: bytes) -> str:
    """Where the input was put, beside what was found before."""
    place = CORPUS / f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}"
    place.write_bytes(data)
    return str(place)


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--replay", type=Path, nargs="*", default=None)
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.randrange(10**6)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    home = Path(tempfile.mkdtemp(prefix="skilldeck-fuzz-"))
    try:
        result = asyncio.run(fuzz(home, seed=seed, seconds=asked.seconds, count=asked.count, replay=asked.replay))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(result.report(), indent=1))
    return int(bool(result.broken))


if __name__ == "__main__":
    sys.exit(main())

"""The workshop: from a save to a version that the next request uses, and from an event to the terminal.

Everything is measured from outside, on programs as people start them: `skilldeckd serve`, `skilldeck watch --json`, and
`skilldeck` in a terminal whose output is read. The model is a server that answers at an exact pace, and lines of output
come from a process in a container; a lag is from the moment a piece left its maker to the moment it was drawn, so
the daemon's share is in it. Loads both cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from bisect import bisect_left
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from skilldeck_daemon.bench import local
from skilldeck_daemon.bench.measure import Measure, interleaved, spread, timed
from skilldeck_daemon.bench.paced_model import NAME, Command, Paced, PacedModel
from skilldeck_daemon.bench.terminal import CLIENT, PATIENCE, NotDrawn, Terminal, client_environment, lags

RELOAD, SCREEN = "Hot reload", "Terminal UI"
MANIFEST = "---\nname: saved\ndescription: A folder that is saved again and again.\n---\n# Steps\n"
FILES = (10, 100, 1000)
BUNDLED = 490
"""Files of a folder beyond these lie below .git: a version holds at most 500."""
CHANGED = (1_000, 1_000_000, 8_000_000)
SECONDS = 6.0
IDLE_SECONDS = 10.0
PAINTED = "for something"
"""Of the empty message's text: its first letter is drawn apart while the cursor is on it."""
LINES = (
    "import time\ntime.sleep(2)\nbegun = time.time()\nfor n in range({total}):\n"
    "    if n % 50 == 0:\n        time.sleep(max(0, begun + n / {rate} - time.time()))\n"
    "    print(f'L{{n:06}}@{{time.time():.4f}}', flush=n % 50 == 49)\n"
)


async def measure(
    model: str, rounds: int, files: tuple[int, ...] = FILES, changed: tuple[int, ...] = CHANGED,
    seconds: float = SECONDS, idle: float = IDLE_SECONDS,
) -> list[Measure]:  # fmt: skip
    """The model of the other suites is not used."""
    async with PacedModel().serving() as paced:
        with local.temporary_home() as home:
            remote = ("--engine", "remote", "--remote-url", paced.url)
            async with local.process(home, NAME, *remote) as served:
                await served.healthy()
                async with httpx.AsyncClient(base_url=f"{served.url}/v1", timeout=60, trust_env=False) as http:
                    bench = Workshop(home, http, paced, rounds)
                    measures = await bench.reload(files, changed)
                    measures += await bench.first_paint()
                    measures += await bench.idle(idle)
                    return measures + await bench.streaming(seconds)


class Workshop:
    """One daemon, and the clients that are measured on it, one after the other."""

    def __init__(self, home: Path, http: httpx.AsyncClient, paced: PacedModel, rounds: int) -> None:
        self.home, self.http, self.paced, self.rounds = home, http, paced, rounds
        self.client = [*CLIENT, "--socket", str(home / "daemon.sock"), "--no-start"]

    # ------------------------------------------------------------ saves

    async def reload(self, files: tuple[int, ...], changed: tuple[int, ...]) -> list[Measure]:
        measures = []
        for count in files:
            folder = self._folder(f"files-{count}", count)
            samples = await self._saves(folder, 1_000)
            goal = "p50 ≤ 300 ms" if count == 100 else ""
            note = f"p95 {spread(samples)['p95']:.0f} ms; the quiet period of 150 ms is in it"
            measures.append(
                Measure(RELOAD, f"save to usable version, {count} files", "ms", samples, goal=goal, note=note)
            )
        for size in changed:
            samples = await self._saves(self._folder(f"bytes-{size}", 100), size)
            measures.append(Measure(RELOAD, f"the same, 100 files, {size / 1000:,.0f} KB changed", "ms", samples))
        return measures

    def _folder(self, name: str, count: int) -> Path:
        folder = self.home / name
        for below in ("data", ".git/objects"):
            (folder / below).mkdir(parents=True)
        (folder / "SKILL.md").write_text(MANIFEST.replace("saved", name), encoding="utf-8")
        for number in range(count - 1):
            below = "data" if number < BUNDLED else ".git/objects"
            (folder / below / f"{number:04}.txt").write_bytes(os.urandom(1_000))
        return folder

    async def _saves(self, folder: Path, size: int) -> tuple[float, ...]:
        """Milliseconds from a save of `size` new bytes to the acknowledged version."""
        watch = await asyncio.create_subprocess_exec(
            *self.client, "watch", "--json", str(folder), stdout=asyncio.subprocess.PIPE,
            env=client_environment(self.home), cwd=self.home,
        )  # fmt: skip
        samples = []
        try:
            version = await _next_version(watch)
            for _ in range(1 + 4 * self.rounds):
                partial = self.home / "saved.part"
                partial.write_bytes(os.urandom(size))
                begun = time.perf_counter()
                os.replace(partial, folder / "data" / "saved.bin")
                version = await _next_version(watch)
                samples.append((time.perf_counter() - begun) * 1000)
                # It is what the next request gets that asks for the latest.
                skill = (await self.http.get(f"/skills/{version['skill_id']}")).json()
                if skill["latest_version"] != version["version"]:
                    raise NotDrawn(f"The version {version['version']} of {folder.name} is not served.")
        finally:
            with contextlib.suppress(ProcessLookupError):
                watch.terminate()
            await watch.wait()
        return tuple(samples[1:])

    # ------------------------------------------------------------ the terminal

    @contextlib.asynccontextmanager
    async def _opened(self, *arguments: str) -> AsyncIterator[Terminal]:
        async with Terminal.running([*self.client, *arguments], self.home) as terminal:
            yield terminal

    async def first_paint(self) -> list[Measure]:
        ready: list[float] = []

        async def start() -> float:
            async with self._opened() as terminal:
                painted = await terminal.drawn(PAINTED) - terminal.begun
                ready.append((await terminal.drawn("ready") - terminal.begun) * 1000)
            return painted * 1000

        async def bare() -> None:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "import textual.app", env=client_environment(self.home)
            )
            await child.wait()

        async def milliseconds() -> float:
            return await timed(bare)() * 1000

        samples = await interleaved({"ours": start, "bare": milliseconds}, self.rounds)
        reference = "python -c 'import textual.app'"
        return [
            Measure(SCREEN, "start to first paint", "ms", samples["ours"], reference, samples["bare"], goal="≤ 500 ms"),
            Measure(SCREEN, "start to the daemon's state on the screen", "ms", tuple(ready[1:])),
        ]

    async def idle(self, seconds: float) -> list[Measure]:
        measures = []
        for mode, keys, shown in (("Chat", "", PAINTED), ("Daemon", "\x1b[15~", "tokens/s")):
            samples = []
            async with self._opened() as terminal:
                await terminal.drawn("ready")
                terminal.press(keys)
                await terminal.drawn(shown)
                await asyncio.sleep(2.0)
                for _ in range(self.rounds):
                    before, begun = terminal.processor_seconds(), time.perf_counter()
                    await asyncio.sleep(seconds)
                    samples.append(100 * (terminal.processor_seconds() - before) / (time.perf_counter() - begun))
            measures.append(Measure(SCREEN, f"idle in {mode}", "% of a core", tuple(samples), goal="≤ 4 %"))
        return measures

    async def streaming(self, seconds: float) -> list[Measure]:
        single: list[float] = []
        worst: dict[str, list[float]] = {"deltas": [], "lines": []}
        busy: dict[str, list[float]] = {"deltas": [], "lines": []}
        for _ in range(self.rounds):
            single += (await self._text(20, int(20 * seconds), paragraph=15))[0]
            for name, (samples, share) in (
                ("deltas", await self._text(1_000, int(1_000 * seconds), paragraph=60)),
                ("lines", await self._lines(5_000, int(5_000 * seconds))),
            ):
                worst[name].append(_at(samples, 0.99) * 1000)
                busy[name].append(share)
        event = tuple(1000 * lag for lag in single)
        note = f"p95 {spread(event)['p95']:.0f} ms; from the model's server, through the daemon, to the terminal"
        return [
            Measure(SCREEN, "event to painted, 20/s", "ms", event, goal="p50 ≤ 5 ms", note=note),
            Measure(SCREEN, "lag p99 at 1,000 deltas/s", "ms", tuple(worst["deltas"]), goal="≤ 100 ms"),
            Measure(SCREEN, "its processor time meanwhile", "% of a core", tuple(busy["deltas"])),
            Measure(SCREEN, "lag p99 at 5,000 output lines/s", "ms", tuple(worst["lines"]), goal="≤ 100 ms"),
            Measure(SCREEN, "and its processor time", "% of a core", tuple(busy["lines"])),
        ]

    async def _text(self, rate: int, count: int, paragraph: int) -> tuple[list[float], float]:
        """Lags of every piece of a streamed text, and the share of a core that drawing took."""
        pieces = [f"m{n:06}{'.' * 2 if n % paragraph == 0 else ''} " for n in range(count)]
        pieces = [f"{piece}\n\n" if n % paragraph == paragraph - 1 else piece for n, piece in enumerate(pieces)]
        answer = Paced([*pieces, "The end."], rate)
        self.paced.answers = [answer]
        async with self._watched("Write") as terminal:
            before, begun = terminal.processor_seconds(), time.perf_counter()
            answer.go.set()
            await terminal.drawn("The end.")
            share = 100 * (terminal.processor_seconds() - before) / (time.perf_counter() - begun)
            return lags(terminal.newest(r"m(\d{6})"), self.paced.sent), share

    async def _lines(self, rate: int, count: int) -> tuple[list[float], float]:
        """The same of the lines that a command prints."""
        script = LINES.format(total=count, rate=rate)
        go = Paced(("The end.",), 1e6)
        go.go.set()
        # Of what a command prints half its limit goes out live, so the limit is more than twice what is printed.
        self.paced.answers = [Command(f"python3 - <<'E'\n{script}E", max_output_length=100 * count), go]
        async with self._watched("Print", shell=True) as terminal:
            before, begun = terminal.processor_seconds(), time.perf_counter()
            await terminal.drawn("The end.")
            share = 100 * (terminal.processor_seconds() - before) / (time.perf_counter() - begun)
            shift = time.perf_counter() - time.time()
            seen = re.findall(r"L(\d{6})@(\d+\.\d{4})", "".join(text for _, text in terminal.draws))
            made = _between({int(number): float(when) + shift for number, when in seen}, count)
            return lags(terminal.newest(r"L(\d{6})@\d+\.\d{4}"), made), share

    @contextlib.asynccontextmanager
    async def _watched(self, prompt: str, *, shell: bool = False) -> AsyncIterator[Terminal]:
        """The TUI on a new run."""
        body: dict[str, Any] = {"model": "default", "input": prompt, "background": True}
        if shell:
            body["tools"] = [{"type": "shell", "environment": {"type": "container_auto"}}]
        answer = await self.http.post("/responses", json=body)
        answer.raise_for_status()
        async with self._opened("--run", answer.json()["id"]) as terminal:
            await terminal.drawn(prompt)
            yield terminal


async def _next_version(watch: asyncio.subprocess.Process) -> dict[str, Any]:
    """The next version that `skilldeck watch --json` reports."""
    assert watch.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while line := await watch.stdout.readline():
            state: dict[str, Any] = json.loads(line)
            if state["error"] is not None:
                raise NotDrawn(f"{state['folder']} cannot be watched: {state['text']}")
            if state["state"] == "current" and state["made"]:
                return state
    raise NotDrawn("`skilldeck watch` ended.")


def _between(seen: dict[int, float], count: int) -> list[float]:
    """When each of `count` lines was printed: those that were drawn say it, the others lie evenly between."""
    known = sorted(seen)
    made: list[float] = []
    for number in range(min(count, known[-1] + 1) if known else 0):
        after = known[bisect_left(known, number)]
        before = made[-1] if made else seen[after]
        steps = after - number + 1
        made.append(before + (seen[after] - before) / steps)
    return made


def _at(samples: list[float], fraction: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]

"""What the daemon's benchmarks measure of a client, in the client's own process; prints its samples as JSON.

    python -m skilldeck_tui.measuring runner SOCKET FOLDER ROUNDS
    python -m skilldeck_tui.measuring results SOCKET EVALUATION COPY ROUNDS TRIALS

`runner` runs the tests of a skill's folder: per round what the runner takes beyond its runs, in per cent of the model's
time. `results` loads all trials of an evaluation: per round the seconds of that, of reading the same JSON from a
COPY of it, and from opening its matrix in the terminal UI (without a terminal, 120x40) to the table drawn.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from skilldeck_tui.app import SkilldeckApp
from skilldeck_tui.client.client import Client
from skilldeck_tui.preferences import Memory, Preferences
from skilldeck_tui.screens.dialogs.matrix import MatrixScreen
from skilldeck_tui.skill_tests.matrix.asked import Asked, make_plan
from skilldeck_tui.skill_tests.matrix.runner import evaluate
from skilldeck_tui.skill_tests.written.reading import load_cases


async def runner(socket: Path, folder: Path, rounds: int) -> list[float]:
    shares = []
    async with await Client.connect(socket) as client:
        for _ in range(rounds):
            began = time.perf_counter()
            plan = await make_plan(client, folder, load_cases(folder), Asked())
            done = await evaluate(client, plan)
            wall = time.perf_counter() - began
            failed = [trial for trial in done.trials if trial["status"] != "passed"]
            if failed:
                raise SystemExit(f"{len(failed)} tests did not pass: {failed[0]}")
            runs = sum(trial["seconds"] for trial in done.trials)
            shares.append(100 * (wall - runs) / sum(trial["model_seconds"] for trial in done.trials))
    return shares


async def results(socket: Path, evaluation: str, copy: Path, rounds: int, trials: int) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {"loaded": [], "file": [], "shown": []}
    async with await Client.connect(socket) as client:
        for number in range(rounds + 1):
            began = time.perf_counter()
            found = (await client.trials(evaluation)).data
            loaded = time.perf_counter() - began
            if len(found) != trials:
                raise SystemExit(f"{len(found)} trials came, not {trials}")
            began = time.perf_counter()
            json.loads(copy.read_bytes())
            if number:  # the first one warms up
                samples["loaded"].append(loaded)
                samples["file"].append(time.perf_counter() - began)
        samples["shown"] = await shown(client, str(found[0]["skill"]), rounds, trials)
    return samples


class _Matrix(MatrixScreen):
    """Tells when so many trials are drawn."""

    def __init__(self, skill: str, trials: int) -> None:
        super().__init__(skill, None)
        self.awaited, self.drawn = trials, asyncio.Event()

    def show(self) -> None:
        super().show()
        if len(self.trials) >= self.awaited:
            self.call_after_refresh(self.drawn.set)


async def shown(client: Client, skill: str, rounds: int, trials: int) -> list[float]:
    seconds = []
    app = SkilldeckApp(lambda: client, preferences=Preferences(notify=False), memory=Memory())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        for number in range(rounds + 1):
            matrix = _Matrix(skill, trials)
            began = time.perf_counter()
            await app.push_screen(matrix)
            await matrix.drawn.wait()
            if number:
                seconds.append(time.perf_counter() - began)
            matrix.dismiss()
            await pilot.pause()
    return seconds


async def main(what: str, socket: str, *rest: str) -> None:
    found: Any
    if what == "runner":
        folder, rounds = rest
        found = await runner(Path(socket), Path(folder), int(rounds))
    else:
        evaluation, copy, rounds, trials = rest
        found = await results(Path(socket), evaluation, Path(copy), int(rounds), int(trials))
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

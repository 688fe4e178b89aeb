"""Tests of skills: what the runner adds to a model's time, and how long a client waits for a large matrix's results.

The runner's share is what an evaluation takes beyond its runs: looking up, attaching files, reading what happened,
keeping it. The model answers at an exact pace, three seconds a try, as a large one on a GPU would.

The client is a program of its own, as `skilldeck` is (`skilldeck_tui/measuring.py`); it reads 1,000 trials of ordinary
size over the control socket until they are objects, and then opens their matrix in the terminal UI until it is drawn.
The same bytes are read from a file beside it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from skilldeck_daemon.app import Daemon
from skilldeck_daemon.bench import local
from skilldeck_daemon.bench.measure import Measure
from skilldeck_daemon.bench.paced_model import NAME, Answer, Command, Paced, PacedModel, ready
from skilldeck_shared.errors import Unavailable

SUITE = "Tests of skills"
TRIALS, TESTS_SHOWN = 1000, 50
GOAL = "200 ms"
TESTS, PIECES, RATE = 4, 150, 50.0
SHARE = "≤ 2 %"
CLIENT = (sys.executable, "-m", "skilldeck_tui.measuring")


async def measure(model: str, rounds: int) -> list[Measure]:
    """The model of the other suites is not used."""
    return [*await _overhead(rounds), *await _loading(rounds)]


async def _overhead(rounds: int) -> list[Measure]:
    """What the runner adds, in per cent of the model's own time."""
    async with PacedModel().serving() as paced:
        with tempfile.TemporaryDirectory(prefix="skilldeck-bench-") as folder:
            skill = _skill(Path(folder) / "counter")
            remote = {"model": NAME, "engine": "remote", "remote_url": paced.url}
            async with local.in_process(Path(folder), **remote) as (daemon, _):
                answer: list[Answer] = [Command("wc -l orders.csv"), Paced(["word "] * PIECES, RATE, ready())]
                paced.answers = answer * (TESTS * rounds)
                out = await _program("runner", str(daemon.settings.socket), str(skill), str(rounds))
    shares = tuple(json.loads(out))
    note = f"{TESTS} tests of {PIECES / RATE:g} s, each with a file, a command and two checks"
    return [Measure(SUITE, "the runner beside the model", "%", shares, goal=SHARE, note=note)]


def _skill(folder: Path) -> Path:
    (folder / "evals").mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: counter\ndescription: Counts lines.\n---\nRun `wc -l FILE`.\n")
    (folder / "orders.csv").write_text("region,amount\nnorth,3\n" * 100)
    test = "- {{name: t{}, prompt: Count {}., files: [orders.csv], expect: {{exit_codes: [0], files: [orders.csv]}}}}\n"
    (folder / "evals/basic.yaml").write_text("".join(test.format(number, number) for number in range(TESTS)))
    return folder


async def _loading(rounds: int) -> list[Measure]:
    """Results of one evaluation, loaded, and shown."""
    with tempfile.TemporaryDirectory(prefix="skilldeck-bench-") as folder:
        async with local.in_process(Path(folder)) as (daemon, _):
            evaluation = await _fill(daemon)
            copy = Path(folder) / "trials.json"
            kept = await daemon.services.evaluations.trials(TRIALS, evaluation=evaluation)
            copy.write_text(json.dumps(kept.data))
            arguments = (str(daemon.settings.socket), evaluation, str(copy), str(rounds), str(TRIALS))
            out = await _program("results", *arguments)
            size = copy.stat().st_size
    samples = {name: tuple(1000 * value for value in values) for name, values in json.loads(out).items()}
    return [
        Measure(
            SUITE,
            f"{TRIALS:,} results loaded",
            "ms",
            samples["loaded"],
            "the same JSON from a file",
            samples["file"],
            goal=GOAL,
            note=f"{size / 1e6:.1f} MB of JSON",
        ),
        Measure(
            SUITE,
            f"{TRIALS:,} results shown",
            "ms",
            samples["shown"],
            goal=GOAL,
            note="from opening the matrix in the terminal UI to the table drawn",
        ),
    ]


async def _program(*arguments: str) -> bytes:
    """What a client prints. Raises Unavailable with what it said when it failed."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*CLIENT, *arguments, stdout=pipe, stderr=pipe)
    out, error = await process.communicate()
    if process.returncode:
        raise Unavailable(f"The client could not be measured: {error.decode(errors='replace')[-500:]}")
    return out


async def _fill(daemon: Daemon) -> str:
    kept = daemon.services.evaluations
    columns = [("latest", False), ("without", True)]
    made = await kept.put(
        {
            "skill": "counter",
            "status": "completed",
            "models": ["skilldeck-tiny"],
            "variants": [{"label": n, "version": "3", "digest": "", "baseline": bare} for n, bare in columns],
            "tests": [{"source": "basic.yaml", "name": f"test {number}"} for number in range(TESTS_SHOWN)],
            "runs": TRIALS // TESTS_SHOWN // len(columns),
            "total": TRIALS,
            "done": TRIALS,
        }
    )
    for number in range(TRIALS):
        await kept.add_trial({**_trial(number), "evaluation_id": made["id"]})
    return str(made["id"])


def _trial(number: int) -> dict[str, Any]:
    """About 2 KB: four checks, three commands, a short answer."""
    odd = bool(number // TESTS_SHOWN % 2)
    check = {"kind": "answer", "text": "the answer matches rows: 12", "status": "passed", "reason": "", "evidence": ""}
    command = {"command": "python3 /mnt/skills/counter/scripts/count.py --rows orders.csv | head -20", "exit_code": 0}
    return {
        "skill": "counter", "source": "basic.yaml", "test": f"test {number % TESTS_SHOWN}",
        "model": "skilldeck-tiny", "variant": "without" if odd else "latest", "version": "3", "digest": "d" * 64,
        "baseline": odd, "number": number // 2 // TESTS_SHOWN, "seed": number, "key": f"{number:064x}",
        "checks_key": "c" * 64, "status": "passed", "checks": [check] * 4, "seconds": 12.5, "model_seconds": 12.0,
        "input_tokens": 2400, "cached_tokens": 1200, "output_tokens": 180, "turns": 2, "triggered": True,
        "reused": False, "run_id": "resp_" + "0" * 48,
        "commands": [command] * 3, "files": ["orders.csv", "out.txt"], "answer": "The table has 12 rows. " * 20,
    }  # fmt: skip

"""The store at size: list and retrieve over HTTP with many skills, versions and responses, against a tenth of them.

The rows are copies of ones that the daemon itself stored, written in bulk; only ids and names differ. `SQLite alone` is
the one statement that cannot be avoided, on the same file through Python's own driver: what is beyond it is ours.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Table, insert, select

from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.agent.response import new_response
from skilldeck_daemon.app import Daemon
from skilldeck_daemon.bench import local
from skilldeck_daemon.bench.measure import Measure, interleaved, timed
from skilldeck_daemon.engine.base import Sampling
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.store.run_records import Item, StoredResponse
from skilldeck_daemon.store.tables.schema import response_parts, responses, skill_versions, skills

SUITE = "Store at size"
SKILLS = 1_000
VERSIONS = 10
RESPONSES = 100_000
SMALLER = 10
SAMPLES = 100
CHUNK = 2_000
GOAL = "≤ 10 ms, ratio about 1"

Row = dict[str, Any]


@dataclass
class Filled:
    """A daemon's ids to ask for, and its file."""

    client: httpx.AsyncClient
    file: Path
    skills: list[str] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)


async def measure(
    model: str, rounds: int, sizes: tuple[int, int, int] = (SKILLS, VERSIONS, RESPONSES)
) -> list[Measure]:
    """Milliseconds of each request at `sizes` (skills, versions of each, responses), and at a tenth of them."""
    count, versions, stored = sizes
    with local.temporary_home() as few, local.temporary_home() as many:
        async with (
            local.in_process(Path(few)) as (small_daemon, small_client),
            local.in_process(Path(many)) as (large_daemon, large_client),
        ):
            small = await fill(small_daemon, small_client, max(1, count // SMALLER), versions, stored // SMALLER)
            large = await fill(large_daemon, large_client, count, versions, stored)
            measures: list[Measure] = []
            for name, path, statement in (
                ("GET /responses/ID", "/responses/{response}", "SELECT doc FROM responses WHERE id = '{response}'"),
                ("GET /skills/ID", "/skills/{skill}", "SELECT * FROM skills WHERE id = '{skill}'"),
                (
                    "GET /skills/ID/versions",
                    "/skills/{skill}/versions",
                    "SELECT * FROM skill_versions WHERE skill_id = '{skill}' ORDER BY seq DESC LIMIT 21",
                ),
                ("GET /skills, first page", "/skills?limit=20", "SELECT * FROM skills ORDER BY seq DESC LIMIT 21"),
                ("GET /skills, page in the middle", "/skills?limit=20&after={skill}", ""),
            ):
                measures += await _request(name, path, statement, large, small, max(SAMPLES, rounds))
            measures += await _runs(large_daemon, small_daemon, max(SAMPLES, rounds))
    about = f"{count:,} skills of {versions} versions, {stored:,} responses"
    return [
        Measure(**{**measure.__dict__, "note": about if number == 0 else ""}) for number, measure in enumerate(measures)
    ]


async def _request(name: str, path: str, statement: str, large: Filled, small: Filled, rounds: int) -> list[Measure]:
    def asking(filled: Filled) -> Callable[[], Awaitable[float]]:
        ids = _ids(filled)

        async def ask() -> None:
            (await filled.client.get(path.format(**next(ids)))).raise_for_status()

        return timed(ask)

    with closing(sqlite3.connect(f"file:{large.file}?mode=ro", uri=True)) as connection:
        ids = _ids(large)

        async def alone() -> None:
            connection.execute(statement.format(**next(ids))).fetchall()

        arms = {"large": asking(large), "small": asking(small)}
        if statement:
            arms["alone"] = timed(alone)
        samples = {arm: _ms(values) for arm, values in (await interleaved(arms, rounds)).items()}
    found = [Measure(SUITE, name, "ms", samples["large"], "with a tenth", samples["small"], goal=GOAL)]
    if statement:
        found.append(Measure(SUITE, name, "ms", samples["large"], "SQLite alone", samples["alone"]))
    return found


async def _runs(large: Daemon, small: Daemon, rounds: int) -> list[Measure]:
    """The list of runs, which the control socket serves."""

    def listing(daemon: Daemon) -> Callable[[], Awaitable[float]]:
        async def page() -> None:
            await daemon.services.runs.list(20)

        return timed(page)

    samples = await interleaved({"large": listing(large), "small": listing(small)}, rounds)
    large_ms, small_ms = _ms(samples["large"]), _ms(samples["small"])
    return [Measure(SUITE, "the newest 20 runs", "ms", large_ms, "with a tenth", small_ms, goal=GOAL)]


def _ids(filled: Filled) -> itertools.cycle[dict[str, str]]:
    source = random.Random(1)
    pairs = [{"skill": source.choice(filled.skills), "response": source.choice(filled.responses)} for _ in range(200)]
    return itertools.cycle(pairs)


async def fill(daemon: Daemon, client: httpx.AsyncClient, count: int, versions: int, stored: int) -> Filled:
    """Bring a fresh daemon to that size; the given numbers include the originals."""
    text = (
        b"---\nname: original\ndescription: Measures how a store behaves when it is full.\n---\n" + b"A line.\n" * 100
    )
    made = await client.post("/skills", files=[("files", ("original/SKILL.md", text))])
    skill = made.raise_for_status().json()["id"]
    response = _response()
    await daemon.services.store.responses.create(response, [{"type": "message", "role": "user"}], False, "bench")
    filled = Filled(client, daemon.settings.data_dir / "skilldeck.db", [skill], [response["id"]])

    first = (await _rows(daemon, skills))[0] | {"latest_version": versions, "last_version": versions}
    version = (await _rows(daemon, skill_versions))[0]
    ids = [new_id("skill") for _ in range(count - 1)]
    await _write(daemon, skills, (first | {"id": id, "name": f"skill-{number}"} for number, id in enumerate(ids)))
    numbered = ((id, number) for id in ids for number in range(1, versions + 1))
    copies = (version | {"id": new_id("skillver"), "skill_id": id, "version": number} for id, number in numbered)
    await _write(daemon, skill_versions, copies)
    filled.skills += ids

    row = (await _rows(daemon, responses))[0]
    part = (await _rows(daemon, response_parts))[0]
    ids = [new_id("resp") for _ in range(stored - 1)]
    await _write(daemon, responses, (row | {"id": id, "doc": row["doc"].replace(response["id"], id)} for id in ids))
    await _write(daemon, response_parts, (part | {"response_id": id} for id in ids))
    filled.responses += ids
    return filled


async def _rows(daemon: Daemon, table: Table) -> list[Row]:
    async with daemon.services.store.database.read() as connection:
        rows = [dict(row) for row in (await connection.execute(select(table))).mappings()]
    return [{name: value for name, value in row.items() if name != "seq"} for row in rows]


async def _write(daemon: Daemon, table: Table, rows: Any) -> None:
    source = iter(rows)
    while chunk := list(itertools.islice(source, CHUNK)):
        async with daemon.services.store.database.write() as connection:
            await connection.execute(insert(table), chunk)


def _response() -> StoredResponse:
    """A stored response of ordinary size (about 2 KB)."""
    message: Item = {
        "id": new_id("msg"),
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "x" * 1000, "annotations": [], "logprobs": []}],
    }
    made = new_response(new_id("resp"), ResponseRequest.parse({"input": "Write."}), "skilldeck-tiny", Sampling())
    return {**made, "status": "completed", "completed_at": made["created_at"], "output": [message]}


def _ms(samples: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(value * 1000 for value in samples)

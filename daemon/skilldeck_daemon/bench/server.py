"""What the server costs: streams over HTTP against the engine's own tokens, and processor time an event.

The model writes without end (`endless`), the client is a process of its own that does not parse. The reference is the
same engine in the same daemon, asked for the same number of tokens without a surface; `transformers serve` is measured
on the same model beside it, at one stream and at as many.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from skilldeck_daemon.app import Daemon
from skilldeck_daemon.bench import endless, local
from skilldeck_daemon.bench.measure import Measure, interleaved
from skilldeck_daemon.bench.references import Absent, Transformers, transformers_serve
from skilldeck_daemon.engine.base import Engine, GenRequest, Sampling, Tokens
from skilldeck_daemon.engine.chat import TokenChatModel
from skilldeck_shared.errors import Unavailable

SUITE = "Server"
STREAMS = (1, 32)
NEW = 256
PROMPT = 20


class Client:
    """The client's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Client:
        pipe = asyncio.subprocess.PIPE
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "skilldeck_daemon.bench.sse_client", stdin=pipe, stdout=pipe
            )
        )

    async def play(self, port: int, path: str, bodies: list[dict[str, Any]]) -> dict[str, Any]:
        """{"seconds", "tokens", "events"} of posting all bodies at once and reading their streams."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"host": "127.0.0.1", "port": port, "path": path, "bodies": [json.dumps(body) for body in bodies]}
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self._process.stdout.readline())
        if answer["refused"]:
            raise Unavailable(f"A stream of {path} gave no tokens: {answer['refused'][0]}")
        return answer

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


class _Arms:
    """One sample each of the engine alone, of our stream, and of transformers serve's."""

    def __init__(self, daemon: Daemon, client: Client, new: int) -> None:
        model = daemon.services.models.get("default")
        assert isinstance(model, TokenChatModel)
        self._engine: Engine = model.engine
        self._vocab = model.info.vocab or 0
        self._port = urlsplit(daemon.services.http_url).port or 0
        self._client = client
        self._new = new
        self._random = random.Random(0)
        self._asked = 0
        self.cost: dict[tuple[str, int], list[float]] = {}  # microseconds of this process, by arm and streams

    def _account(self, arm: str, streams: int, begun: float, count: int) -> None:
        self.cost.setdefault((arm, streams), []).append((time.process_time() - begun) / count * 1e6)

    async def engine(self, streams: int) -> float:
        """Tokens per second."""

        async def one() -> None:
            self._asked += 1
            ids = [self._random.randrange(self._vocab // 2, self._vocab) for _ in range(PROMPT)]
            request = GenRequest(f"bench-{self._asked}", ids, self._new, Sampling(temperature=0))
            count = 0
            async for event in await self._engine.submit(request):
                count += len(event.ids) if isinstance(event, Tokens) else 0
            if count != self._new:
                raise Unavailable(f"The engine wrote {count} of {self._new} tokens.")

        cpu, begun = time.process_time(), time.perf_counter()
        await asyncio.gather(*(one() for _ in range(streams)))
        seconds = time.perf_counter() - begun
        self._account("engine", streams, cpu, streams * self._new)
        return streams * self._new / seconds

    async def ours(self, streams: int) -> float:
        bodies = [
            {"model": "default", "input": self._prompt(), "stream": True, "temperature": 0}
            | {"max_output_tokens": self._new}
            for _ in range(streams)
        ]
        cpu = time.process_time()
        played = await self._client.play(self._port, "/v1/responses", bodies)
        self._account("ours", streams, cpu, played["events"])
        return float(played["tokens"] / played["seconds"])

    async def theirs(self, server: Transformers, streams: int) -> float:
        bodies = [
            {"model": server.model, "messages": [{"role": "user", "content": self._prompt()}], "stream": True}
            | {"temperature": 0, "max_tokens": self._new, "stream_options": {"include_usage": True}}
            for _ in range(streams)
        ]
        try:
            played = await self._client.play(server.port, "/v1/chat/completions", bodies)
        except Unavailable as error:
            raise Absent(str(error)) from error
        return float(played["tokens"] / played["seconds"])

    def _prompt(self) -> str:
        return f"Count from {self._random.randrange(10**6)}."


async def measure(
    model: str, rounds: int, streams: tuple[int, ...] = STREAMS, new: int = NEW, reference: bool = True
) -> list[Measure]:
    """Tokens per second at each number of streams, and microseconds an event; `reference`: transformers serve too."""
    measures: list[Measure] = []
    with local.temporary_home() as home:
        folder = endless.write(Path(home) / "model")
        client = await Client.start()
        try:
            options = {"max_batch": max(streams)}
            async with local.in_process(Path(home), model=str(folder), engine_options=options) as (daemon, _):
                arms = _Arms(daemon, client, new)
                for count in streams:
                    measures += await _overhead(arms, count, rounds)
                if reference:
                    for count in streams:
                        measures += await _beside(arms, folder, count, rounds)
        finally:
            await client.end()
    return measures


async def _overhead(arms: _Arms, streams: int, rounds: int) -> list[Measure]:
    samples = await interleaved({"ours": lambda: arms.ours(streams), "engine": lambda: arms.engine(streams)}, rounds)
    name = _name(streams)
    # The first of each was the warm-up.
    ours, engine = arms.cost[("ours", streams)][1:], arms.cost[("engine", streams)][1:]
    beyond = [total - part for total, part in zip(ours, engine, strict=True)]
    return [
        Measure(
            SUITE, name, "tokens/s", samples["ours"], "the engine alone", samples["engine"], "higher", goal="≥ 0.97"
        ),
        Measure(
            SUITE,
            f"processor time an event, {name}",
            "µs",
            tuple(ours),
            "taking a token from the engine",
            tuple(engine),
        ),
        Measure(
            SUITE, f"of it the server's, {name}", "µs", tuple(beyond), goal="≤ 50 µs" if streams == max(STREAMS) else ""
        ),
    ]


async def _beside(arms: _Arms, folder: Path, streams: int, rounds: int) -> list[Measure]:
    """Ours beside transformers serve, with its continuous batching where there are several streams and it works."""
    for batching in (True, False) if streams > 1 else (False,):
        try:
            async with transformers_serve(folder, batching=batching) as server:
                samples = await interleaved(
                    {"ours": lambda: arms.ours(streams), "theirs": lambda: arms.theirs(server, streams)}, rounds
                )
        except Absent as error:
            how = "with" if batching else "without"
            print(f"{_name(streams)}, transformers serve {how} batching: {error}", file=sys.stderr)
        else:
            reference = f"{server.name}{', batching' if batching else ''}"
            ours, theirs = samples["ours"], samples["theirs"]
            return [Measure(SUITE, _name(streams), "tokens/s", ours, reference, theirs, "higher")]
    return []


def _name(streams: int) -> str:
    return f"{streams} stream{'s' if streams > 1 else ''}"

"""What the server costs: streams over HTTP against the engine's own tokens, and processor time a token.

The model writes without end (`endless`) and is not guessed, as its endless repetition would come 65 tokens at a time.
The client is a process of its own that does not parse. The reference is the same engine in the same daemon, asked for
the same number of tokens without a surface; `transformers serve` is measured on the same model beside it, at one stream
and at as many.

What a run costs once (its request, its template, its rows in the database) and what each of its tokens costs are told
apart: a rate is given of the time in which all streams write, and again for the whole request; and of a run's processor
time, that of a short run is taken off.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from skilldeck_daemon.app import Daemon
from skilldeck_daemon.bench import endless, local
from skilldeck_daemon.bench.measure import Measure, interleaved
from skilldeck_daemon.bench.references import Absent, Transformers, transformers_serve
from skilldeck_daemon.bench.sse_client import together
from skilldeck_daemon.engine.base import Engine, GenRequest, Sampling, Tokens
from skilldeck_daemon.engine.chat.model import TokenChatModel
from skilldeck_shared.errors import Unavailable

SUITE = "Server"
STREAMS = (1, 32)
NEW = 256
SHORT = 16
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
        """What `sse_client` says of posting all bodies at once and reading their streams."""
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


@dataclass(frozen=True)
class _Sample:
    """Of several streams at once; `rate`: tokens per second while all write; `processor`: seconds of this process."""

    streams: int
    tokens: int
    events: int
    seconds: float
    rate: float
    processor: float

    @property
    def whole(self) -> float:
        """Tokens per second of the whole request."""
        return self.tokens / self.seconds


class _Arms:
    """One sample each of the engine alone, of our stream, and of transformers serve's."""

    def __init__(self, daemon: Daemon, client: Client, new: int) -> None:
        model = daemon.services.models.get("default")
        assert isinstance(model, TokenChatModel)
        self._engine: Engine = model.engine
        self._vocab = model.info.vocab or 0
        self._port = urlsplit(daemon.services.http_url).port or 0
        self._client = client
        self.new = new
        self._random = random.Random(0)
        self._asked = 0
        self.samples: dict[str, list[_Sample]] = {}

    async def engine(self, streams: int) -> float:
        """Tokens per second while all write."""

        async def one() -> list[tuple[float, int]]:
            self._asked += 1
            ids = [self._random.randrange(self._vocab // 2, self._vocab) for _ in range(PROMPT)]
            request = GenRequest(f"bench-{self._asked}", ids, self.new, Sampling(temperature=0))
            arrivals = [
                (time.perf_counter(), len(event.ids))
                async for event in await self._engine.submit(request)
                if isinstance(event, Tokens)
            ]
            if (count := sum(count for _, count in arrivals)) != self.new:
                raise Unavailable(f"The engine wrote {count} of {self.new} tokens.")
            return arrivals

        cpu, begun = time.process_time(), time.perf_counter()
        arrivals = await asyncio.gather(*(one() for _ in range(streams)))
        seconds = time.perf_counter() - begun
        tokens = streams * self.new
        cpu = time.process_time() - cpu
        return self._add("engine", _Sample(streams, tokens, 0, seconds, together(arrivals), cpu))

    async def ours(self, streams: int, new: int = 0) -> float:
        """The same over HTTP. `new`: how many tokens, another number than the model's own being an arm of its own."""
        bodies = [
            {"model": "default", "input": self._prompt(), "stream": True, "temperature": 0}
            | {"max_output_tokens": new or self.new}
            for _ in range(streams)
        ]
        cpu = time.process_time()
        played = await self._client.play(self._port, "/v1/responses", bodies)
        cpu = time.process_time() - cpu
        sample = _Sample(streams, played["tokens"], played["events"], played["seconds"], played["rate"], cpu)
        return self._add("short" if new else "ours", sample)

    def _add(self, arm: str, sample: _Sample) -> float:
        self.samples.setdefault(arm, []).append(sample)
        return sample.rate

    async def theirs(self, server: Transformers, streams: int) -> float:
        bodies = [
            {"model": server.model, "messages": [{"role": "user", "content": self._prompt()}], "stream": True}
            | {"temperature": 0, "max_tokens": self.new, "stream_options": {"include_usage": True}}
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
    """Tokens per second at each number of streams, and what they cost; `reference`: transformers serve too."""
    measures: list[Measure] = []
    with local.temporary_home() as home:
        file = endless.write(Path(home) / "model.gguf")
        client = await Client.start()
        try:
            options = {"max_batch": max(streams), "draft_tokens": 0}
            async with local.in_process(Path(home), model=str(file), engine_options=options) as (daemon, _):
                arms = _Arms(daemon, client, new)
                for count in streams:
                    measures += await _overhead(arms, count, rounds)
                if reference and (folder := _for_transformers(Path(home) / "model")) is not None:
                    for count in streams:
                        measures += await _beside(arms, folder, count, rounds)
        finally:
            await client.end()
    return measures


def _for_transformers(folder: Path) -> Path | None:
    """The model as transformers loads it; None, having said why, where it cannot be written."""
    try:
        return endless.write_folder(folder)
    except (Absent, ImportError) as error:
        print(f"transformers serve: {error}", file=sys.stderr)
        return None


async def _overhead(arms: _Arms, streams: int, rounds: int) -> list[Measure]:
    arms.samples.clear()
    await interleaved(
        {
            "ours": lambda: arms.ours(streams),
            "short": lambda: arms.ours(streams, SHORT),
            "engine": lambda: arms.engine(streams),
        },
        rounds,
    )
    # The first of each was the warm-up.
    ours, short, engine = (arms.samples[arm][1:] for arm in ("ours", "short", "engine"))
    name, alone = _name(streams), "the engine alone"
    token = [
        (long.processor - brief.processor) / (long.tokens - brief.tokens)
        for long, brief in zip(ours, short, strict=True)
    ]
    taking = [sample.processor / sample.tokens for sample in engine]
    once = [(brief.processor - brief.tokens * each) / brief.streams for brief, each in zip(short, token, strict=True)]
    events = sum(sample.events for sample in ours) / sum(sample.tokens for sample in ours)

    def rates(samples: list[_Sample]) -> tuple[float, ...]:
        return tuple(sample.rate for sample in samples)

    def wholes(samples: list[_Sample]) -> tuple[float, ...]:
        return tuple(sample.whole for sample in samples)

    def micro(seconds: Iterable[float]) -> tuple[float, ...]:
        return tuple(1e6 * value for value in seconds)

    return [
        Measure(
            SUITE, f"{name}, while {'all write' if streams > 1 else 'it writes'}", "tokens/s", rates(ours), alone,
            rates(engine), "higher", goal="≥ 0.97",
        ),
        Measure(
            SUITE, f"{name}, the whole request of {arms.new} tokens", "tokens/s", wholes(ours), alone, wholes(engine),
            "higher",
        ),
        Measure(
            SUITE, f"processor time a token, {name}", "µs", micro(token), "taking a token from the engine",
            micro(taking), note=f"{events:.2f} events a token: those within 2 ms or half of one a stream are one",
        ),
        Measure(
            SUITE, f"of it the server's, {name}", "µs",
            micro(each - part for each, part in zip(token, taking, strict=True)),
            goal="≤ 50 µs" if streams == max(STREAMS) else "",
        ),
        Measure(SUITE, f"processor time a run beside its tokens, {name}", "ms", tuple(1e3 * each for each in once)),
    ]  # fmt: skip


async def _beside(arms: _Arms, folder: Path, streams: int, rounds: int) -> list[Measure]:
    """Ours beside transformers serve, with its continuous batching where there are several streams and it works."""
    for batching in (True, False) if streams > 1 else (False,):
        try:
            async with transformers_serve(folder, batching=batching) as server:
                arms.samples.clear()
                samples = await interleaved(
                    {"ours": lambda: arms.ours(streams), "theirs": lambda: arms.theirs(server, streams)}, rounds
                )
        except Absent as error:
            how = "with" if batching else "without"
            print(f"{_name(streams)}, transformers serve {how} batching: {error}", file=sys.stderr)
        else:
            reference = f"{server.name}{', batching' if batching else ''}"
            ours = tuple(sample.whole for sample in arms.samples["ours"][1:])
            name = f"{_name(streams)}, the whole request of {arms.new} tokens"
            return [Measure(SUITE, name, "tokens/s", ours, reference, samples["theirs"], "higher")]
    return []


def _name(streams: int) -> str:
    return f"{streams} stream{'s' if streams > 1 else ''}"

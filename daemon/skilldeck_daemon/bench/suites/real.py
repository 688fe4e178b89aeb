"""`skilldeckd bench --real FILE.gguf`: a real model here, beside llama.cpp alone on the same file.

The reference is the server inside the very library our engine uses, with as many slots, tokens and threads. Both serve
their chat endpoint and are asked alternately, each time with a text neither has seen; one client reads both. Its
threads spin while they wait, as they do for everybody: beside other work it falls behind by more than it should, so
measure on a quiet machine, or with OMP_WAIT_POLICY=passive, which our engine sets for itself. The second round of a
tool loop is of ours alone: how much of its prompt was computed again. Where the wheel mistralrs is at hand it serves
the same file, one request, as many threads; its rates are those that it measures itself.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from skilldeck_daemon.bench import local
from skilldeck_daemon.bench.measure import Measure, interleaved
from skilldeck_daemon.bench.references import Absent, wheel
from skilldeck_daemon.bench.sse_client import together
from skilldeck_daemon.bench.suites.memory import children
from skilldeck_daemon.engine.llamacpp.weights import cores
from skilldeck_daemon.engine.models import registry
from skilldeck_daemon.engine.models.source import ModelSource
from skilldeck_shared.errors import BadRequest, Unavailable

SUITE = "Real model"
STREAMS = (1, 8)
CONTEXT = 2048
NEW = 64
WORDS = 350  # of a prompt: 500 to 700 tokens
SHORT = 30  # of one of several: they are to write at once, not one while another is read
ALONE = "llama.cpp alone"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "shell",
        "description": "Run a command.",
        "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    },
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "shell", "arguments": '{"command": "ls"}'}}


@dataclass(frozen=True)
class Answer:
    """One streamed answer: seconds to its first text, when the rest came, tokens as the server counted them."""

    first: float
    arrivals: list[tuple[float, int]]
    prompt: int
    cached: int
    tokens: int


@dataclass
class Server:
    """One arm: where it listens, the process at its root, and what it answered; the first sample is the warm-up."""

    url: str
    key: str
    pid: int
    samples: dict[int, list[list[Answer]]] = field(default_factory=dict)

    def answers(self, streams: int) -> list[Answer]:
        return [answer for sample in self.samples[streams][1:] for answer in sample]

    def rates(self, streams: int) -> tuple[float, ...]:
        """Tokens per second of each sample, while all write."""
        return tuple(_rate(sample) for sample in self.samples[streams][1:])

    async def sample(self, client: httpx.AsyncClient, chance: random.Random, streams: int) -> float:
        asked = [
            _body([{"role": "user", "content": _text(chance, WORDS if streams == 1 else SHORT)}])
            for _ in range(streams)
        ]
        answers = await asyncio.gather(*(ask(client, self, body) for body in asked))
        self.samples.setdefault(streams, []).append(list(answers))
        return _rate(answers)


def _rate(answers: list[Answer]) -> float:
    deltas = sum(count for answer in answers for _, count in answer.arrivals)
    return together([answer.arrivals for answer in answers]) * sum(answer.tokens for answer in answers) / deltas


def _body(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    options = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0, "max_tokens": NEW}
    return {"model": "default", "messages": messages, **options, **more}


def _text(chance: random.Random, count: int = WORDS) -> str:
    words = ["river", "count", "table", "green", "seven", "morning", "letter", "walk", "engine", "paper", "glass"]
    noise = " ".join(f"{chance.choice(words)}{chance.randrange(100)}" for _ in range(count // 2))
    return f"{chance.randrange(10**9)} {noise}\n\nTell a long story about the words above, in plain sentences."


def fresh_client() -> httpx.AsyncClient:
    """Connects anew for each request: a server closes what was idle for 5 s, as long as the other's turn takes."""
    return httpx.AsyncClient(timeout=None, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


async def ask(client: httpx.AsyncClient, server: Server, body: dict[str, Any]) -> Answer:
    """Post one chat and read it to its end."""
    arrivals: list[tuple[float, int]] = []
    usage: dict[str, Any] = {}
    begun = time.perf_counter()
    headers = {"authorization": f"Bearer {server.key}"}
    async with client.stream("POST", f"{server.url}/v1/chat/completions", json=body, headers=headers) as answer:
        if answer.status_code != 200:
            raise Unavailable(f"{server.url} answered {answer.status_code}: {(await answer.aread())[:300]!r}")
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            delta = chunk["choices"][0].get("delta", {}) if chunk.get("choices") else {}
            if delta.get("content") or delta.get("reasoning_content") or delta.get("tool_calls"):
                arrivals.append((time.perf_counter(), 1))
            usage = chunk.get("usage") or usage
    if not arrivals or not usage:
        raise Unavailable(f"{server.url} wrote nothing.", "Take an instruct model: this one ended at once.")
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Answer(arrivals[0][0] - begun, arrivals, usage["prompt_tokens"], cached, usage["completion_tokens"])


async def measure(model: str, rounds: int, *, wheel_python: Path | None = None) -> list[Measure]:
    """`wheel_python`: of an environment with mistralrs; ours when None. Raises BadRequest for what is no GGUF."""
    source = ModelSource.of(registry.resolve_model(model))
    if source.kind != "gguf":
        raise BadRequest(f"{model} is {source.what}.", "Give --real a GGUF file.", param="real")
    with local.temporary_home() as home:
        options = json.dumps({"context": CONTEXT, "max_batch": max(STREAMS)})
        async with local.process(Path(home), str(source.path), "--engine-options", options) as daemon:
            await daemon.healthy()
            async with alone(source.path) as theirs, fresh_client() as client:
                ours = Server(daemon.url, "none", daemon.child.pid)
                measures = await _beside(client, ours, theirs, rounds)
                measures.append(_memory(ours, theirs))
                measures.append(await _second_round(client, ours))
            async with fresh_client() as client:
                measures += await _beside_wheel(client, ours, source.path, rounds, wheel_python)
    return measures


async def _beside(client: httpx.AsyncClient, ours: Server, theirs: Server, rounds: int) -> list[Measure]:
    chance = random.Random(0)
    measures = []
    for streams in STREAMS:
        arms = {name: partial(arm.sample, client, chance, streams) for name, arm in (("ours", ours), (ALONE, theirs))}
        await interleaved(arms, rounds)
        name = f"{streams} request{'s' if streams > 1 else ''}"
        measures.append(
            Measure(
                SUITE, f"decode, {name}", "tokens/s", ours.rates(streams), ALONE, theirs.rates(streams), "higher",
                goal="≥ 0.97",
            )
        )  # fmt: skip
    mine, other = ours.answers(1), theirs.answers(1)
    prompt = round(sum(answer.prompt for answer in mine) / len(mine))

    def read(answers: list[Answer]) -> tuple[float, ...]:
        return tuple((answer.prompt - answer.cached) / answer.first for answer in answers)

    def first(answers: list[Answer]) -> tuple[float, ...]:
        return tuple(answer.first for answer in answers)

    about = f"of {prompt} tokens"
    measures.append(
        Measure(SUITE, f"a prompt {about}", "tokens/s", read(mine), ALONE, read(other), "higher", goal="≥ 0.97")
    )
    measures.append(Measure(SUITE, f"first token after a prompt {about}", "s", first(mine), ALONE, first(other)))
    return measures


async def _beside_wheel(
    client: httpx.AsyncClient, ours: Server, file: Path, rounds: int, python: Path | None
) -> list[Measure]:
    """Ours beside mistralrs on the same file; nothing, having said why, where it cannot run."""
    chance, samples = random.Random(2), dict[str, list[dict[str, Any]]](theirs=[])
    ours.samples.pop(1, None)
    try:
        async with wheel(file, python, threads=cores()) as other:

            async def theirs() -> float:
                answer = await other.ask(_text(chance), NEW)
                samples["theirs"].append(answer)
                return float(answer["written"])

            await interleaved({"ours": partial(ours.sample, client, chance, 1), "theirs": theirs}, rounds)
    except Absent as error:
        print(f"mistralrs: {error}", file=sys.stderr)
        return []
    # The first of each was the warm-up.
    mine, others = ours.answers(1), samples["theirs"][1:]
    read = tuple((answer.prompt - answer.cached) / answer.first for answer in mine)
    return [
        Measure(
            SUITE, "decode, 1 request", "tokens/s", ours.rates(1), other.name,
            tuple(float(answer["written"]) for answer in others), "higher", goal="≥ 1.3",
        ),
        Measure(
            SUITE, "a prompt", "tokens/s", read, other.name, tuple(float(answer["read"]) for answer in others),
            "higher", goal="≥ 0.9",
        ),
    ]  # fmt: skip


def _memory(ours: Server, theirs: Server) -> Measure:
    def mib(server: Server) -> tuple[float, ...]:
        return (sum(local.resident_bytes(pid) for pid in (server.pid, *children(server.pid))) / (1 << 20),)

    note = "all processes, the mapped file included"
    return Measure(SUITE, "memory", "MiB", mib(ours), ALONE, mib(theirs), goal="≤ 1.15", note=note)


async def _second_round(client: httpx.AsyncClient, ours: Server) -> Measure:
    """A tool's result comes back: what of the prompt before it, and of the call, is computed again."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": _text(random.Random(1)) + " Run `ls` first."}]
    named = {"type": "function", "function": {"name": "shell"}}
    headers = {"authorization": f"Bearer {ours.key}"}
    body = {**_body(messages, tools=[TOOL], tool_choice=named), "stream": False}
    del body["stream_options"]
    answer = (await client.post(f"{ours.url}/v1/chat/completions", json=body, headers=headers)).json()
    if "choices" not in answer:
        raise Unavailable(f"A request with a tool was refused: {json.dumps(answer)[:300]}")
    message = answer["choices"][0]["message"]
    calls = message.get("tool_calls") or [CALL]  # a call that the limit cut off is none
    result = {"role": "tool", "tool_call_id": calls[0]["id"], "content": "a.csv\nb.csv"}
    told = {"role": "assistant", "content": message.get("content") or "", "tool_calls": calls}
    again = await ask(client, ours, _body([*messages, told, result], tools=[TOOL]))
    known = answer["usage"]["prompt_tokens"]
    share = 100 * max(known - again.cached, 0) / again.prompt
    note = f"of {again.prompt} tokens {again.cached} were kept"
    return Measure(SUITE, "second round of a tool loop: computed again", "%", (share,), goal="≤ 5 %", note=note)


@asynccontextmanager
async def alone(file: Path) -> AsyncIterator[Server]:
    """llama.cpp's own server on the file, as a process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    key = secrets.token_hex(16)
    words = [str(file), str(port), str(max(STREAMS)), str(CONTEXT), str(cores())]
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "skilldeck_daemon.bench.llamacpp_child", *words, stdin=pipe, stdout=pipe
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{key}\n".encode())
        said = (await child.stdout.readline()).decode().strip()
        if not said:
            raise Unavailable("llama.cpp's own server did not start.", "Its output above says why.")
        yield Server(said if said.startswith("http") else f"http://127.0.0.1:{port}", key, child.pid)
    finally:
        if child.stdin is not None:
            child.stdin.close()
        await child.wait()

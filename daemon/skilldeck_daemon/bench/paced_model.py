"""A chat-completions server on loopback that answers at an exact pace, so that what follows it can be timed.

It stands where a very fast model would; everything behind it (daemon, socket, terminal UI) is the real thing. Each
request takes the next answer; `sent` holds, for every piece of the last text, when it was written to the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

NAME = "paced"
CONTEXT = 131_072


@dataclass
class Paced:
    """Text in pieces, `rate` of them a second, beginning when `go` is set."""

    pieces: Sequence[str]
    rate: float
    go: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Command:
    """One call of the shell."""

    command: str
    timeout_ms: int = 120_000
    max_output_length: int | None = None


Answer = Paced | Command


class PacedModel:
    """`url` is the base URL; give `answers` before the run that takes them starts."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[Answer] = []
        self.sent: list[float] = []

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[PacedModel]:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next((line for line in head.split("\r\n") if line.startswith("content-length:")), ":0")
            await reader.readexactly(int(length.partition(":")[2]))
            if head.split(" ")[1].endswith("/models"):
                model = {"id": NAME, "object": "model", "max_model_len": CONTEXT}
                self._headers(writer, "application/json")
                writer.write(json.dumps({"object": "list", "data": [model]}).encode())
            else:
                self._headers(writer, "text/event-stream")
                await self._answer(writer)
            await writer.drain()
        writer.close()

    @staticmethod
    def _headers(writer: asyncio.StreamWriter, kind: str) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode())

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        answer = self.answers.pop(0) if self.answers else Paced((".",), 1e6, ready())
        _chunk(writer, {"role": "assistant", "content": ""})
        if isinstance(answer, Command):
            told = {"timeout_ms": answer.timeout_ms, "max_output_length": answer.max_output_length}
            arguments = json.dumps({"commands": [answer.command], **told})
            function = {"name": "shell", "arguments": arguments}
            _chunk(writer, {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]})
            _chunk(writer, {}, "tool_calls")
        else:
            await self._play(writer, answer)
            _chunk(writer, {}, "stop")
        writer.write(b"data: [DONE]\n\n")

    async def _play(self, writer: asyncio.StreamWriter, answer: Paced) -> None:
        await writer.drain()
        await answer.go.wait()
        self.sent = []
        begun = time.perf_counter()
        while (done := len(self.sent)) < len(answer.pieces):
            due = min(len(answer.pieces), int((time.perf_counter() - begun) * answer.rate) + 1)
            for piece in answer.pieces[done:due]:
                _chunk(writer, {"content": piece})
                self.sent.append(time.perf_counter())
            await writer.drain()
            await asyncio.sleep(max(0.0005, begun + due / answer.rate - time.perf_counter()))


def _chunk(writer: asyncio.StreamWriter, delta: dict[str, Any], finish: str | None = None) -> None:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": NAME, "choices": [choice]}
    writer.write(b"data: " + json.dumps(body).encode() + b"\n\n")


def ready() -> asyncio.Event:
    """A `go` that is given."""
    event = asyncio.Event()
    event.set()
    return event

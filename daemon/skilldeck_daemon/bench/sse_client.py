"""A client that costs next to nothing, in a process of its own: `python -m skilldeck_daemon.bench.sse_client`.

Each line of stdin is one round, {"host", "port", "path", "bodies": [JSON texts]}: all bodies are posted at once and
their streams read to the end without being parsed. Answers with one line: {"seconds", "rate", "tokens", "events"},
`rate` being the tokens per second while all streams wrote (`together`).
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

USAGE = re.compile(rb'"(?:output|completion)_tokens":\s*(\d+)')
DELTA = b'delta"'  # ends the type of a Responses event, and is the name of the field in a chunk of Chat
TAIL = 16 * 1024


Arrivals = Sequence[tuple[float, int]]
"""When something of one stream came, in seconds, and how much came then."""


def together(streams: Sequence[Arrivals]) -> float:
    """What came per second from the moment when all streams had begun to when the first ended; of streams that never
    wrote at once, from the first arrival to the last; 0 when all came in one. What came at the very beginning was made
    before it."""
    begins, ends = max(each[0][0] for each in streams), min(each[-1][0] for each in streams)
    if ends <= begins:
        begins, ends = min(each[0][0] for each in streams), max(each[-1][0] for each in streams)
    if ends == begins:
        return 0.0
    return sum(count for each in streams for at, count in each if begins < at <= ends) / (ends - begins)


class Stream(asyncio.Protocol):
    """One request; `ended` when the server has closed the connection."""

    def __init__(self, head: bytes) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self.events = 0
        self.arrivals: list[tuple[float, int]] = []  # of deltas
        self.tail = b""
        self._head = head
        self._edge = b""

    def connection_made(self, transport: Any) -> None:
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        self.events += (self._edge + data).count(b"\ndata: {")
        self._edge = data[-7:]  # one less than what is counted, so that nothing is counted twice
        if deltas := data.count(DELTA):
            self.arrivals.append((time.perf_counter(), deltas))
        self.tail = (self.tail + data)[-TAIL:]

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    @property
    def tokens(self) -> int:
        """As the server counted them; 0 when it did not say."""
        found = USAGE.findall(self.tail)
        return int(found[-1]) if found else 0


def head(host: str, path: str, body: str) -> bytes:
    content = body.encode()
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", "content-type: application/json", "connection: close"]
    return "\r\n".join([*lines, f"content-length: {len(content)}", "", ""]).encode() + content


async def play(round: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    streams = []
    for body in round["bodies"]:
        request = head(round["host"], round["path"], body)
        _, stream = await loop.create_connection(partial(Stream, request), round["host"], round["port"])
        streams.append(stream)
    await asyncio.gather(*(stream.ended for stream in streams))
    seconds = time.perf_counter() - begun
    tokens = sum(stream.tokens for stream in streams)
    deltas = sum(count for stream in streams for _, count in stream.arrivals)
    return {
        "seconds": seconds,
        "rate": together([stream.arrivals for stream in streams]) * tokens / deltas if tokens else 0.0,
        "tokens": tokens,
        "events": sum(stream.events for stream in streams),
        "refused": [stream.tail[-300:].decode("utf-8", "replace") for stream in streams if not stream.tokens][:1],
    }


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(asyncio.run(play(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()

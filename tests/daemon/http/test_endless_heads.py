"""Requests whose head never ends are answered and ended after 64 KiB, before any key is looked at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from skilldeck_daemon.http.header_timeout import HEAD_BYTES, MOST_HEADERS
from support.daemon import Running, running

MOST_SENT = 64 << 20
"""What a client may send until it is stopped: far above what the sockets between the two hold, far below endless."""


def repeated(piece: bytes) -> Iterator[bytes]:
    block = piece * (16_384 // len(piece) + 1)
    for _ in range(MOST_SENT // len(block)):
        yield block


def numbered(count: int) -> Iterator[bytes]:
    yield b"".join(b"x-%d: 1\r\n" % number for number in range(count))


HEAD = b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
UPGRADE = (
    b"GET /v1/responses HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)

ENDLESS: dict[str, tuple[bytes, Callable[[], Iterator[bytes]]]] = {
    "a request line": (b"GET /", lambda: repeated(b"a")),
    "a query": (b"GET /v1/models?", lambda: repeated(b"a=1&")),
    "a header's name": (HEAD, lambda: repeated(b"x")),
    "a header's value": (HEAD + b"x-long: ", lambda: repeated(b"x")),
    "many headers": (HEAD, lambda: repeated(b"x: 1\r\n")),
    "empty lines ahead of the request": (b"", lambda: repeated(b"\r\n")),
    "the trailers of a chunked body": (CHUNKED + b"2\r\n{}\r\n0\r\n", lambda: repeated(b"x-trailer: 1\r\n")),
    "a trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nx-trailer: ", lambda: repeated(b"x")),
    "a chunk's extension": (CHUNKED + b"2;", lambda: repeated(b"x")),
    "a WebSocket's headers": (UPGRADE + b"x-long: ", lambda: repeated(b"x")),
    "a WebSocket's many headers": (UPGRADE, lambda: repeated(b"x: 1\r\n")),
}


async def send(daemon: Running, first: bytes, rest: Iterator[bytes]) -> tuple[bytes, int]:
    """What the daemon answers until it ends the connection, and how many bytes it took."""
    url = urlsplit(daemon.daemon.services.http_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    sent = len(first)

    async def write() -> None:
        nonlocal sent
        writer.write(first)
        for block in rest:
            writer.write(block)
            await writer.drain()
            sent += len(block)

    writing = asyncio.create_task(write())
    answer = b""
    try:
        while piece := await reader.read(65_536):
            answer += piece
    except ConnectionError:
        pass
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    writer.close()
    return answer, sent


@pytest.mark.parametrize("what", ENDLESS)
async def test_what_never_ends_is_answered_431(what: str) -> None:
    async with running(load=False, api_key=["secret"]) as daemon:
        first, rest = ENDLESS[what]
        answer, sent = await asyncio.wait_for(send(daemon, first, rest()), 60)
        head, _, body = answer.partition(b"\r\n\r\n")
        # Without a key the start of the body is enough for the answer; then only the end is left to give.
        assert head.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 401 ")), (what, answer[:200])
        if head.startswith(b"HTTP/1.1 431 "):
            assert json.loads(body)["error"]["code"] == "headers_too_large"
            assert b"connection: close" in head
        assert sent < MOST_SENT // 2, "it went on reading"
        assert (await daemon.http.get("/models")).status_code == 200


async def test_trailers_without_end_are_answered_while_the_body_is_read() -> None:
    async with running(load=False) as daemon:
        first, rest = ENDLESS["a trailer"]
        answer, _ = await asyncio.wait_for(send(daemon, first, rest()), 60)
        assert answer.startswith(b"HTTP/1.1 431 "), answer[:200]


def head_of(size: int) -> bytes:
    start = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-long: "
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(head_of(HEAD_BYTES), 200, id="just as large as it may be"),
        pytest.param(head_of(HEAD_BYTES + 1), 431, id="a byte more"),
        pytest.param(
            b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            + b"".join(numbered(MOST_HEADERS - 2))
            + b"\r\n",
            200,
            id="as many headers as there may be",
        ),
        pytest.param(
            b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            + b"".join(numbered(MOST_HEADERS - 1))
            + b"\r\n",
            431,
            id="one more",
        ),
        pytest.param(UPGRADE + b"content-length: 5\r\n\r\n", 400, id="a WebSocket upgrade with a body to come"),
        pytest.param(UPGRADE + b"transfer-encoding: chunked\r\n\r\n", 400, id="one with chunks to come"),
    ],
)
async def test_the_limits_are_exact(request_: bytes, status: int) -> None:
    async with running(load=False) as daemon:
        answer, _ = await asyncio.wait_for(send(daemon, request_, iter(())), 30)
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]


async def test_a_body_in_many_small_chunks_and_a_further_request_are_read_whole() -> None:
    body = b'{"model": "default", "input": "' + b"x" * 300_000 + b'"}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    request = CHUNKED + chunks + b"0\r\nx-trailer: 1\r\n\r\n" + head_of(4_000)
    async with running(load=False) as daemon:
        answer, _ = await asyncio.wait_for(send(daemon, request, iter(())), 60)
        assert answer.startswith(b"HTTP/1.1 503 "), "no model is loaded"
        assert b"HTTP/1.1 200 OK" in answer

"""Fetching other people's URLs, tried against a hostile local server."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest

from skilldeck_daemon.attachments.fetch import FetchRefused, addressed, fetch
from skilldeck_shared.addresses import is_public

SPECIAL = """
127.0.0.1 10.0.0.1 172.16.3.4 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 240.0.0.1 255.255.255.255
192.0.2.1 198.18.0.1 192.88.99.1 ::1 :: fe80::1 fe80::1%eth0 fc00::1 ff02::1 ::ffff:10.0.0.1 64:ff9b::a00:1
64:ff9b:1::1 2002:a00:1:: 2001:0:1::1 2001:db8::1 ::7f00:1 nonsense
"""


class HostileServer:
    """Answers each path with raw bytes; `hits` counts requests."""

    def __init__(self) -> None:
        self.hits: list[str] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            self.hits.append(path)
            await self.answer(path, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        def send(status: str, headers: str, body: bytes = b"") -> None:
            writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n".encode() + body)

        if path.startswith("/report"):
            send(
                "200 OK",
                'Content-Type: text/csv; charset=utf-8\r\nContent-Disposition: x; filename="../a b.csv"\r\n',
                b"a,b",
            )
        elif path == "/inside":
            send("302 Found", "Location: http://127.0.0.2:1/secret\r\n")
        elif path == "/scheme":
            send("302 Found", "Location: file:///etc/passwd\r\n")
        elif path == "/loop":
            send("302 Found", "Location: /loop\r\n")
        elif path == "/bomb":
            send("200 OK", "Content-Encoding: gzip\r\n", gzip.compress(bytes(5_000_000)))
        elif path == "/nested":
            send("200 OK", "Content-Encoding: gzip, gzip\r\n", gzip.compress(gzip.compress(bytes(50_000_000))))
        elif path == "/claims":
            send("200 OK", "Content-Length: 99999999999\r\n", b"x")
        elif path == "/endless":
            send("200 OK", "")
            for _ in range(1000):
                writer.write(bytes(10_000))
                await writer.drain()
        elif path == "/silent":
            await asyncio.sleep(30)
        elif path == "/garbage":
            writer.write(b"\x00\xff not http\r\n\r\n")
        else:
            send("404 Not Found", "")


@pytest.fixture
async def server() -> AsyncIterator[HostileServer]:
    hostile = HostileServer()
    listening = await asyncio.start_server(hostile.handle, "127.0.0.1", 0)
    hostile.port = listening.sockets[0].getsockname()[1]
    yield hostile
    listening.close()


async def get(server: HostileServer, path: str, timeout: float = 10) -> object:
    return await fetch(
        f"http://127.0.0.1:{server.port}{path}",
        max_bytes=1_000_000,
        exceptions={f"127.0.0.1:{server.port}"},
        timeout=timeout,
    )


async def test_an_ordinary_answer_arrives_whole_with_a_safe_name(server: HostileServer) -> None:
    fetched = await get(server, "/report?q=1")
    assert (fetched.content, fetched.media_type, fetched.filename) == (b"a,b", "text/csv", "_a b.csv")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/inside", "not a public address"),
        ("/scheme", "Only http and https"),
        ("/loop", "redirects"),
        ("/bomb", "larger than"),
        ("/nested", "encoding"),
        ("/claims", "at most"),
        ("/endless", "larger than"),
        ("/garbage", "could not be fetched"),
        ("/missing", "404"),
    ],
)
async def test_a_hostile_answer_is_refused_and_the_field_named(server: HostileServer, path: str, words: str) -> None:
    with pytest.raises(FetchRefused, match=words) as caught:
        await get(server, path)
    assert (caught.value.status, caught.value.param) == (400, "file_url")


async def test_a_server_that_never_answers_is_given_up(server: HostileServer) -> None:
    with pytest.raises(FetchRefused, match="within"):
        await get(server, "/silent", timeout=0.3)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "[::ffff:127.0.0.1]"])
async def test_local_addresses_are_refused_before_anything_is_sent(server: HostileServer, host: str) -> None:
    with pytest.raises(FetchRefused):
        await fetch(f"http://{host}:{server.port}/report", max_bytes=100)
    assert server.hits == []


@pytest.mark.parametrize(
    "url", ["ftp://example.com/x", "file:///etc/passwd", "//x", "http://", "http://u:p@example.com/", ""]
)
async def test_urls_that_are_no_plain_http_are_refused(url: str) -> None:
    with pytest.raises(FetchRefused):
        await fetch(url, max_bytes=100)


@pytest.mark.parametrize("address", SPECIAL.split())
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_ordinary_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_the_connection_goes_to_the_checked_address_under_the_name_of_its_host(library: Any) -> None:
    request = library.Request("POST", "https://localhost:8443/a?b=c", json={"d": 1})
    there = await addressed(request, ["localhost"])
    assert there.url.host in ("127.0.0.1", "::1")
    assert (there.url.port, there.url.raw_path) == (8443, b"/a?b=c")
    assert there.headers["host"] == "localhost:8443"
    assert there.extensions["sni_hostname"] == "localhost"
    assert request.url.host == "localhost"  # redirects are relative to it
    with pytest.raises(FetchRefused, match="not a public address"):
        await addressed(request, [])

"""Clients that do not read, and clients that hardly write: they cost themselves, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import pytest

from skilldeck_daemon.http import auth
from skilldeck_daemon.http import header_timeout as patience
from skilldeck_shared.proto import control_pb2 as pb
from skilldeck_tui.client.client import Client
from support.daemon import running
from support.scripted_model import Endless, Text, Turn
from support.wait import until

WORDS = " ".join(map(str, range(100_000)))


@contextlib.contextmanager
def raw(family: int, address: object) -> Iterator[socket.socket]:
    """A blocking socket with hardly any room for what nobody reads."""
    with socket.socket(family) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address)  # type: ignore[arg-type]
        yield connection


def watch(path: Path, run_id: str) -> bytes:
    """The bytes of a WatchRun call over the control socket."""
    call = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    call.initiate_connection()
    headers = {":method": "POST", ":scheme": "http", ":path": "/skilldeck.control.v1.Control/WatchRun"}
    headers |= {":authority": "localhost", "te": "trailers", "content-type": "application/grpc"}
    call.send_headers(1, list(headers.items()))
    message = pb.WatchRunRequest(run_id=run_id, after=-1).SerializeToString()
    call.send_data(1, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
    return call.data_to_send()


async def test_socket_clients_that_never_read_delay_neither_the_run_nor_other_watchers() -> None:
    async with running(Turn(Text(WORDS, chunk=100)), Turn("next"), Turn(Endless())) as daemon:
        path = daemon.daemon.settings.socket
        async with await Client.connect(path) as client:
            response = await client.start_run({"model": "default", "input": "talk"})
            with contextlib.ExitStack() as stuck:
                for _ in range(20):
                    connection = stuck.enter_context(raw(socket.AF_UNIX, str(path)))
                    connection.sendall(watch(path, response["id"]))
                text = ""
                async for event in client.watch_run(response["id"]):
                    if event.type == "response.output_text.delta":
                        text += event.data["delta"]
                assert text == WORDS
                assert (await daemon.respond("and next"))["status"] == "completed"
                # A watcher that is stuck in the middle of a live run does not keep the daemon from stopping either.
                live = await client.start_run({"model": "default", "input": "talk for ever"})
                connection = stuck.enter_context(raw(socket.AF_UNIX, str(path)))
                connection.sendall(watch(path, live["id"]))
                await daemon.model.until(lambda model: len(model.requests) == 3)
                async with asyncio.timeout(60):
                    await daemon.daemon.stop()


async def test_an_http_client_that_never_reads_its_stream_delays_nobody() -> None:
    async with running(Turn(Text(WORDS, chunk=100)), Turn("next")) as daemon:
        host, port = daemon.url.split("/")[2].split(":")
        body = json.dumps({"model": "default", "input": "talk", "stream": True}).encode()
        head = f"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
        with raw(socket.AF_INET, (host, int(port))) as connection:
            connection.sendall(f"{head}content-type: application/json\r\n\r\n".encode() + body)
            await daemon.model.until(lambda model: model.finished == 1, 60)
            assert (await daemon.respond("and next"))["status"] == "completed"
            await until(lambda: daemon.daemon.services.runs.active == 0)
        page = await daemon.daemon.services.runs.list()
        assert [run["status"] for run in page.data] == ["completed", "completed"]


async def test_headers_that_trickle_close_their_connections_and_others_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "HEADER_SECONDS", 3.0)  # the requests of others must come in whole within it
    async with running(load=False) as daemon:
        host, port = daemon.url.split("/")[2].split(":")

        length = len((await daemon.http.get("/files")).content)

        async def loris(first: bytes) -> int:
            """Sends a byte now and then; returns how many until the server hung up."""
            reader, writer = await asyncio.open_connection(host, int(port))
            sent = 0
            try:
                writer.write(first)
                if first:  # a whole request came first: the next one on the connection trickles
                    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                    await reader.readexactly(length)
                writer.write(b"GET /v1/files HTTP/1.1\r\nhost: localhost\r\nx-long: ")
                while not reader.at_eof():
                    writer.write(b"a")
                    sent += 1
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(1), 0.05)
            except ConnectionError:
                pass
            finally:
                writer.close()
            return sent

        whole = b"GET /v1/files HTTP/1.1\r\nhost: localhost\r\n\r\n"
        async with asyncio.timeout(60):
            lorises = [asyncio.create_task(loris(b"" if number % 2 else whole)) for number in range(100)]
            for _ in range(10):
                assert (await daemon.http.get("/files")).status_code == 200
            assert min(await asyncio.gather(*lorises)) > 0
        assert (await daemon.http.get("/files")).status_code == 200


async def test_a_body_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "BODY_IDLE_SECONDS", 0.3)
    async with running(load=False) as daemon:
        host, port = daemon.url.split("/")[2].split(":")
        form = b"content-type: multipart/form-data; boundary=x\r\n"
        for path, kind in (("responses", b"content-type: application/json\r\n"), ("files", form)):
            reader, writer = await asyncio.open_connection(host, int(port))
            head = f"POST /v1/{path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n".encode()
            writer.write(head + kind + b'\r\n{"model": ')
            async with asyncio.timeout(60):
                answer = await reader.readuntil(b"}}")
            assert answer.startswith(b"HTTP/1.1 408"), answer
            assert b"request_timeout" in answer
            writer.close()
        await until(lambda: not list(daemon.daemon.services.store.blobs.temporary.iterdir()))

"""Clients that mean harm, or that break: what they send is refused by name, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from skilldeck_daemon.engine.detokenize import Vocabulary
from skilldeck_daemon.http import sse
from support.daemon import Running, running
from support.scripted_model import NUMBERS, Endless, Turn
from support.wait import until

LONE = '"a\\ud800b"'
TINY = Path(__file__).resolve().parents[3] / "daemon/training/weights"


async def post(daemon: Running, path: str, text: str) -> httpx.Response:
    return await daemon.http.post(path, content=text.encode(), headers={"content-type": "application/json"})


def tool(parameters: str) -> str:
    return f'[{{"type": "function", "name": "f", "parameters": {parameters}}}]'


@pytest.mark.parametrize(
    ("path", "field", "param"),
    [
        ("/responses", f'"tool_choice": {{"type": {LONE}}}', "tool_choice"),
        ("/responses", f'"truncation": {LONE}', "truncation"),
        ("/responses", f'"text": {{"format": {{"type": {LONE}}}}}', "text.format.type"),
        ("/responses", f'"tools": [{{"type": {LONE}}}]', "tools[0].type"),
        ("/responses", f'"logit_bias": {{{LONE}: 1}}', "logit_bias"),
        ("/responses", f'"model": {LONE}', "model"),
        ("/chat/completions", f'"tool_choice": {{"type": {LONE}}}', "tool_choice.type"),
        ("/responses/compact", f'"previous_response_id": {LONE}', "previous_response_id"),
    ],
)
async def test_half_a_surrogate_pair_in_what_is_refused_is_told_as_text(path: str, field: str, param: str) -> None:
    async with running() as daemon:
        said = '"messages": [{"role": "user", "content": "x"}]' if path == "/chat/completions" else '"input": "x"'
        body = '{"model": "default", ' + said + ", " + field + "}"
        answer = await post(daemon, path, body)
        assert (answer.status_code // 100, answer.json()["error"]["param"]) == (4, param), answer.text


async def test_half_a_surrogate_pair_in_what_is_kept_as_it_came_is_text_everywhere() -> None:
    parameters = f'{{"type": "object", "description": {LONE}, "properties": {{{LONE}: {{"enum": [{LONE}]}}}}}}'
    note = f'{{"type": "file_citation", "file_id": "f", "index": 0, "filename": {LONE}}}'
    part = f'{{"type": "output_text", "text": {LONE}, "annotations": [{note}], "logprobs": []}}'
    items = f'[{{"role": "assistant", "content": [{part}]}}, {{"role": "user", "content": {LONE}}}]'
    async with running(Turn("ok")) as daemon:
        answer = await post(
            daemon, "/responses", f'{{"model": "default", "input": {items}, "tools": {tool(parameters)}}}'
        )
        assert answer.status_code == 200, answer.text
        response = answer.json()
        assert response["tools"][0]["parameters"]["properties"] == {"a\ufffdb": {"enum": ["a\ufffdb"]}}
        assert daemon.model.requests[0]["messages"][-1]["content"] == "a\ufffdb"
        kept = (await daemon.http.get(f"/responses/{response['id']}/input_items")).json()["data"]
        assert kept[1]["content"][0]["annotations"][0]["filename"] == "a\ufffdb"
        paired = await post(daemon, "/conversations", '{"metadata": {"smile": "\\ud83d\\ude00"}}')
        assert paired.json()["metadata"] == {"smile": "😀"}


async def test_a_body_is_nested_only_so_deep_over_http_and_over_a_websocket() -> None:
    """Python allows a thousand calls within one another: a schema of 900 levels could be read and not written."""

    def body(depth: int, type: str = "") -> str:
        return (
            "{" + type + '"model": "default", "input": "x", "tools": ' + tool('{"a":' * depth + "1" + "}" * depth) + "}"
        )

    message = '"type": "response.create", '

    async with running(Turn("ok"), Turn("ok")) as daemon:
        fine = await post(daemon, "/responses", body(150))
        assert fine.status_code == 200, fine.text
        assert json.dumps(fine.json()["tools"]).count('{"a":') == 150
        url = daemon.url.replace("http", "ws") + "/responses"
        async with websockets.connect(url, proxy=None, max_size=None) as connection:
            for depth in (250, 900, 5_000, 200_000):
                refused = await post(daemon, "/responses", body(depth))
                assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_json"), refused.text
                await connection.send(body(depth, message))
                event = json.loads(await connection.recv())
                assert (event["type"], event["error"]["code"]) == ("error", "invalid_json"), event
            for number in ("NaN", "1e999", "9" * 5000):
                await connection.send(f'{{"type": "response.create", "model": "default", "temperature": {number}}}')
                assert json.loads(await connection.recv())["error"]["code"] == "invalid_json"
            await connection.send(body(3, message))  # the connection goes on
            assert json.loads(await connection.recv())["type"] == "response.created"


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=-3", 206, b"789"),
        ("bytes=9-1", 400, None),
        ("bytes=", 400, None),
        ("nonsense", 400, None),
        ("lines=1-2", 400, None),
        ("bytes=99-", 416, None),
    ],
)
async def test_ranges_of_a_file_are_served_or_refused_like_all_that_is_wrong(
    asked: str, status: int, content: bytes | None
) -> None:
    async with running() as daemon:
        form: dict[str, Any] = {"files": {"file": ("a", b"0123456789")}, "data": {"purpose": "user_data"}}
        file = (await daemon.http.post("/files", **form)).json()
        answer = await daemon.http.get(f"/files/{file['id']}/content", headers={"range": asked})
        assert answer.status_code == status
        if content is not None:
            assert answer.content == content
        else:
            assert answer.json()["error"]["param"] == "range"
        if status == 416:
            assert answer.headers["content-range"] == "bytes */10"


async def test_a_client_that_leaves_midway_is_no_fault_of_the_daemon(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Turn("ok")) as daemon:
        port = int(daemon.url.split(":")[2].split("/")[0])
        for path, kind in (
            ("responses", "application/json"),
            ("files", "multipart/form-data; boundary=b"),
            ("skills", "multipart/form-data; boundary=b"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 99\r\n\r\n"
            writer.write(head.encode() + b"--b\r\n")
            await writer.drain()
            writer.close()
            assert await reader.read() == b""
        await daemon.respond()
        staging = daemon.daemon.services.store.blobs.temporary
        await until(lambda: not list(staging.iterdir()))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.timing("0.3 s stand for the minute after which a client is deaf: beside others a good one may be as slow")
async def test_a_client_that_takes_nothing_of_its_stream_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "STALL_S", 0.3)
    async with running(Turn(Endless(NUMBERS)), Turn("fine")) as daemon:
        host, port = daemon.url.removeprefix("http://").removesuffix("/v1").split(":")
        body = json.dumps({"model": "default", "input": "go", "stream": True}).encode()
        head = f"POST /v1/responses HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        with contextlib.closing(socket.create_connection((host, int(port)))) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(head.encode() + body)
            await daemon.model.until(lambda model: len(model.requests) == 1)
            await daemon.model.until(lambda model: model.disconnects == 1, timeout=60)
            await until(lambda: not daemon.daemon.services.runs.active)
            assert (await daemon.respond())["status"] == "completed"


async def test_every_host_header_must_be_right() -> None:
    async with running() as daemon:
        port = int(daemon.url.split(":")[2].split("/")[0])
        for hosts, status in (("localhost", b"200"), ("localhost,evil.example", b"403"), ("", b"403")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            lines = "".join(f"Host: {host}\r\n" for host in hosts.split(",") if host)
            writer.write(f"GET /v1/models HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
            assert (await reader.readline()).split()[1] == status
            writer.close()


class SlowServer:
    """A host whose one file arrives when the test opens the gate; `arrived` tells that it was asked for."""

    def __init__(self) -> None:
        self.arrived, self.gate = asyncio.Event(), asyncio.Event()
        self.host = ""

    @property
    def input(self) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [{"type": "input_file", "file_url": f"http://{self.host}/n.txt"}]}]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.arrived.set()
        await self.gate.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nnotes")
        await writer.drain()
        writer.close()


@pytest.fixture
async def slow() -> AsyncIterator[SlowServer]:
    server = SlowServer()
    async with await asyncio.start_server(server.answer, "127.0.0.1", 0) as listening:
        server.host = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield server


async def test_a_response_in_a_conversation_never_misses_the_turn_before_it(slow: SlowServer) -> None:
    """It is reserved before its history is read: a request that takes long to prepare would have read too early."""
    async with running(Turn("one"), Turn("two"), private_hosts=[slow.host]) as daemon:
        conversation = (await daemon.http.post("/conversations", json={})).json()["id"]
        first = asyncio.create_task(daemon.respond(slow.input, conversation=conversation))
        await asyncio.wait_for(slow.arrived.wait(), 30)
        body = {"model": "default", "input": "second", "conversation": conversation}
        early = await daemon.http.post("/responses", json=body)
        assert (early.status_code, early.json()["error"]["code"]) == (400, "conversation_locked")
        slow.gate.set()
        await asyncio.wait_for(first, 30)
        await daemon.respond("second", conversation=conversation)
        told = [message["role"] for message in daemon.model.requests[1]["messages"]]
        assert told[-3:] == ["user", "assistant", "user"]
        refused = await daemon.http.post("/responses", json={**body, "model": "none"})
        assert refused.status_code == 404  # and does not stay reserved
        daemon.model.then(Turn("three"))
        await daemon.respond("third", conversation=conversation)


async def test_a_stop_refuses_what_is_still_being_prepared(slow: SlowServer) -> None:
    async with running(private_hosts=[slow.host]) as daemon:
        body = {"model": "default", "input": slow.input}
        asked = asyncio.create_task(daemon.http.post("/responses", json=body))
        await asyncio.wait_for(slow.arrived.wait(), 30)
        await daemon.daemon.services.runs.close()
        slow.gate.set()
        answer = await asyncio.wait_for(asked, 30)
        assert (answer.status_code, "shutting down" in answer.text) == (503, True)


def test_encoding_a_long_text_leaves_the_others_their_turn() -> None:
    """One request of 20 MB stopped every other one for a minute: the tokenizer held Python's lock."""
    vocabulary = Vocabulary.load(TINY)
    text, ticks, ended = "x" * (2 << 20), 0, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not ended.is_set():
            ticks += 1
            time.sleep(0.001)

    ticking = threading.Thread(target=tick)
    ticking.start()
    try:
        before = ticks
        assert len(vocabulary.encode(text)) > 100_000
        during = ticks - before
    finally:
        ended.set()
        ticking.join()
    # A tick or two can fall before and after; with the lock held there are no others.
    assert during > 10, during

"""WebSocket mode of /v1/responses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from skilldeck_daemon.http.responses import websocket
from support.daemon import SHELL, Running, running
from support.ordering import TERMINAL, check_stream
from support.scripted_model import NUMBERS, Call, Drop, Endless, Hold, Text, Turn, shell
from support.wait import until

WEATHER: dict[str, Any] = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}


@contextlib.asynccontextmanager
async def connected(daemon: Running, key: str = "none") -> AsyncIterator[ClientConnection]:
    url = daemon.url.replace("http", "ws") + "/responses"
    headers = {"authorization": f"Bearer {key}"}
    async with websockets.connect(url, additional_headers=headers, proxy=None, open_timeout=60) as connection:
        yield connection


async def send(connection: ClientConnection, input: Any = "go", **body: Any) -> None:
    await connection.send(json.dumps({"type": "response.create", "model": "default", "input": input, **body}))


async def read(connection: ClientConnection) -> list[dict[str, Any]]:
    """The events of one response, checked, or one error."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] not in TERMINAL:
        events.append(json.loads(await connection.recv()))
        if events[-1]["type"] == "error":
            return events
    check_stream(events)
    return events


async def refusal(connection: ClientConnection) -> dict[str, Any]:
    event = (await read(connection))[-1]
    assert set(event) == {"type", "status", "error"}, event
    assert set(event["error"]) == {"message", "type", "param", "code"}
    return event


async def test_responses_come_one_after_another_in_the_order_they_were_asked_for() -> None:
    async with running(*[Turn(Text(f"answer {n}", chunk=3)) for n in range(3)]) as daemon, connected(daemon) as ws:
        for _ in range(3):
            await send(ws)
        texts = [(await read(ws))[-1]["response"]["output"][0]["content"][0]["text"] for _ in range(3)]
        assert texts == ["answer 0", "answer 1", "answer 2"]


async def test_tools_and_the_shell_work_as_over_http() -> None:
    async with running(Turn(shell("echo hi")), Turn("It says hi.")) as daemon, connected(daemon) as ws:
        await send(ws, tools=[SHELL])
        response = (await read(ws))[-1]["response"]
        assert [item["type"] for item in response["output"]] == ["shell_call", "shell_call_output", "message"]
        assert (await daemon.http.get(f"/responses/{response['id']}")).json() == response


async def test_an_unstored_response_is_continued_on_its_connection_only() -> None:
    async with running(Turn(Call("weather", {})), Turn("Sunny."), Turn("Yes.")) as daemon:
        async with connected(daemon) as ws, connected(daemon) as other:
            await send(ws, "Weather?", store=False, tools=[WEATHER])
            first = (await read(ws))[-1]["response"]
            output = {"type": "function_call_output", "call_id": first["output"][0]["call_id"], "output": "20"}
            await send(ws, [output], store=False, tools=[WEATHER], previous_response_id=first["id"])
            second = (await read(ws))[-1]["response"]
            assert second["previous_response_id"] == first["id"]
            told = daemon.model.requests[1]["messages"]
            assert [entry["role"] for entry in told] == ["user", "assistant", "tool"]
            await send(other, "Sure?", store=False, previous_response_id=second["id"])
            error = await refusal(other)
            assert (error["status"], error["error"]["code"]) == (400, "previous_response_not_found")
            assert error["error"]["param"] == "previous_response_id"
            await send(ws, "Sure?", store=False, previous_response_id=second["id"])
            assert (await read(ws))[-1]["type"] == "response.completed"
            assert (await daemon.http.get(f"/responses/{second['id']}")).status_code == 404


@pytest.mark.parametrize("fault", ["refused", "failed"])
async def test_a_failed_continuation_forgets_the_response(fault: str) -> None:
    turns = [Turn("one")] + ([Turn("x", Drop())] if fault == "failed" else [])
    async with running(*turns) as daemon, connected(daemon) as ws:
        await send(ws, store=False)
        first = (await read(ws))[-1]["response"]["id"]
        more: dict[str, Any] = {"temperature": 9} if fault == "refused" else {}
        await send(ws, store=False, previous_response_id=first, **more)
        assert (await read(ws))[-1]["type"] == ("error" if fault == "refused" else "response.failed")
        await send(ws, store=False, previous_response_id=first)
        assert (await refusal(ws))["error"]["code"] == "previous_response_not_found"


async def test_a_stored_response_is_continued_on_any_connection() -> None:
    async with running(Turn("one"), Turn("two")) as daemon:
        async with connected(daemon) as ws:
            await send(ws, "first")
            first = (await read(ws))[-1]["response"]["id"]
        async with connected(daemon) as ws:
            await send(ws, "second", previous_response_id=first)
            await read(ws)
        assert [entry["content"] for entry in daemon.model.requests[1]["messages"]] == ["first", "one", "second"]


WRONG: list[tuple[str, str | None]] = [
    ("{", None),
    ("[" * 5000, None),
    ("[]", None),
    ("{}", "type"),
    ('{"type": "session.update"}', "type"),
    ('{"type": "response.create", "input": "x", "background": true}', "background"),
    ('{"type": "response.create", "input": "x", "temperature": 3}', "temperature"),
    ('{"type": "response.create", "input": "x", "generate": false}', "generate"),
    ('{"type": "response.create", "model": "gpt-9", "input": "x"}', "model"),
]


async def test_a_bad_request_is_told_and_the_connection_goes_on() -> None:
    async with running(Turn("fine")) as daemon, connected(daemon) as ws:
        for message, param in WRONG:
            await ws.send(message)
            event = await refusal(ws)
            assert 400 <= event["status"] < 500, message
            assert event["error"]["param"] == param, message
        await ws.send(json.dumps({"type": "response.create", "input": "x", "stream": True}).encode())
        assert (await read(ws))[-1]["type"] == "response.completed"


async def test_a_key_is_needed_where_one_is_set() -> None:
    async with running(Turn("fine"), api_key=["secret"]) as daemon:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connected(daemon, key="wrong"):
                pass
        assert refused.value.response.status_code == 401
        async with connected(daemon, key="secret") as ws:
            await send(ws)
            assert (await read(ws))[-1]["type"] == "response.completed"


async def test_a_client_that_leaves_cancels_its_response_and_those_that_wait() -> None:
    async with running(Turn("so far ", Endless())) as daemon:
        async with connected(daemon) as ws:
            for _ in range(3):
                await send(ws)
            await daemon.model.until(lambda model: len(model.requests) == 1)
        await daemon.model.until(lambda model: model.disconnects == 1)
        await until(lambda: not daemon.daemon.services.runs.active)
        assert len(daemon.model.requests) == 1


async def test_more_than_may_wait_is_refused_while_the_rest_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MAX_WAITING", 2)
    gate = threading.Event()
    async with running(Turn(Hold(gate), "one"), Turn("two"), Turn("three")) as daemon, connected(daemon) as ws:
        await send(ws)
        await daemon.model.until(lambda model: len(model.requests) == 1)
        for _ in range(3):
            await send(ws)
        events = [json.loads(await ws.recv())]
        while events[-1]["type"] != "error":
            events.append(json.loads(await ws.recv()))
        assert (events[-1]["status"], events[-1]["error"]["code"]) == (429, "rate_limit_exceeded")
        gate.set()
        ended = 0
        while ended < 3:
            ended += json.loads(await ws.recv())["type"] == "response.completed"


async def test_a_connection_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    async with running(Turn(Hold(gate), "one")) as daemon:
        monkeypatch.setattr(websocket.Connection.__init__, "__defaults__", (0.05,))
        async with connected(daemon) as ws:
            event = await refusal(ws)
            assert event["error"]["code"] == "websocket_connection_limit_reached"
            with pytest.raises(websockets.ConnectionClosed):
                await ws.recv()


async def test_a_client_that_takes_nothing_is_given_up_and_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "STALL_S", 0.3)
    async with running(Turn(Endless(NUMBERS)), Turn("fine")) as daemon:
        host, port = daemon.url.removeprefix("http://").removesuffix("/v1").split(":")
        deaf = socket.create_connection((host, int(port)))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = json.dumps({"type": "response.create", "model": "default", "input": "go"}).encode()
        frame = bytes([0x81, 0x80 | len(body), 0, 0, 0, 0]) + body
        head = f"GET /v1/responses HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        deaf.sendall(f"{head}Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        with contextlib.closing(deaf):
            assert b" 101 " in await asyncio.to_thread(deaf.recv, 4096)
            deaf.sendall(frame)
            await daemon.model.until(lambda model: len(model.requests) == 1)
            async with connected(daemon) as ws:
                await send(ws)
                assert (await read(ws))[-1]["type"] == "response.completed"
            await daemon.model.until(lambda model: model.disconnects == 1)
            await until(lambda: not daemon.daemon.services.runs.active)


async def test_many_connections_keep_their_order() -> None:
    async with running(*[Turn(Text("abcdefgh", chunk=1))] * 32) as daemon:

        async def one() -> None:
            async with connected(daemon) as ws:
                await send(ws)
                assert (await read(ws))[-1]["response"]["output"][0]["content"][0]["text"] == "abcdefgh"

        await asyncio.gather(*(one() for _ in range(32)))

"""Events as bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skilldeck_daemon.http import sse
from skilldeck_daemon.http.responses.routes import WAITING
from skilldeck_daemon.http.sse import EventStream, encode
from support.wait import until


@pytest.mark.parametrize("delta", ["plain", "größe 😀 \u2028", 'a "quoted"\nline\x00', ""])
def test_an_event_is_one_line_of_json(delta: str) -> None:
    event = {"type": "response.output_text.delta", "delta": delta, "times": [1.5, 1e22], "none": None}
    name, data, *rest = encode(event).split(b"\n")
    assert (name, rest) == (b"event: response.output_text.delta", [b"", b""])
    assert json.loads(data.removeprefix(b"data: ")) == event
    assert encode(event, named=False) == data + b"\n\n"


def test_half_a_character_is_replaced_and_the_stream_goes_on() -> None:
    data = encode({"type": "t", "delta": "a\ud83d"}).split(b"\ndata: ")[1]
    assert json.loads(data) == {"type": "t", "delta": "a?"}


class Client:
    """The other end of an answer. With `takes`, it makes room for so many messages and then for none."""

    def __init__(self, takes: int = 10**6) -> None:
        self.bodies: list[bytes] = []
        self.left = False
        self.commented = asyncio.Event()  # twice
        self._takes = takes

    async def send(self, message: Any) -> None:
        self.bodies.append(message.get("body", b""))
        if self.bodies.count(b": keep-alive\n\n") == 2:
            self.commented.set()
        if len(self.bodies) > self._takes:
            await asyncio.Event().wait()

    async def receive(self) -> Any:
        await asyncio.Event().wait()

    async def read(self, events: AsyncIterator[dict[str, Any]]) -> None:
        def gone() -> None:
            self.left = True

        await EventStream(events, gone=gone)({"type": "http"}, self.receive, self.send)


@pytest.mark.timing("events come every 50 ms, silence is a second: busy cores that pause the test make one")
async def test_a_silence_is_filled_with_comments_and_a_busy_stream_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_S", 1.0)
    client = Client()
    silent = asyncio.Event()

    async def events() -> AsyncIterator[dict[str, Any]]:
        for _ in range(30):
            await asyncio.sleep(0.05)
            yield {"type": "t"}
        silent.set()
        await client.commented.wait()
        yield {"type": "last"}

    reading = asyncio.create_task(client.read(events()))
    await silent.wait()
    assert b": keep-alive\n\n" not in client.bodies
    await reading
    assert client.bodies[-3:] == [b": keep-alive\n\n", encode({"type": "last"}), sse.DONE]
    assert not client.left


async def test_a_silence_before_the_answer_is_filled_with_the_last_event_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Codex hears no comments: five minutes without an event are a lost stream to it."""
    monkeypatch.setattr(sse, "KEEP_ALIVE_S", 0.02)
    waiting = {"type": "response.in_progress", "sequence_number": 1}
    answer = {"type": "response.output_item.added", "sequence_number": 2}
    client = Client()

    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "response.created", "sequence_number": 0}
        yield waiting
        await until(lambda: client.bodies.count(encode(waiting)) >= 3)
        yield answer
        await client.commented.wait()

    stream = EventStream(events(), again=WAITING)
    await asyncio.wait_for(stream({"type": "http"}, client.receive, client.send), 60)
    after = client.bodies[client.bodies.index(encode(answer)) + 1 :]
    assert set(after) == {b": keep-alive\n\n", sse.DONE}


@pytest.mark.parametrize("takes", [1, 2], ids=["of the events", "of the comments"])
async def test_a_client_that_makes_no_room_is_given_up(monkeypatch: pytest.MonkeyPatch, takes: int) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_S", 0.05)
    monkeypatch.setattr(sse, "STALL_S", 0.1)
    client = Client(takes)

    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "first"}
        await asyncio.Event().wait()

    await asyncio.wait_for(client.read(events()), 60)
    assert client.left

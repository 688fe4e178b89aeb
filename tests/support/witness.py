"""Every answer that any daemon of the tests gives over HTTP, whoever asks and how, held against the specifications.

`fixtures` for a conftest: the daemon's application is wrapped for the whole session, and a test during which an answer
broke a specification fails with what was wrong. JSON answers are compared with their operation, errors have their
four keys, streams of Responses (SSE and WebSocket) keep every rule of `ordering`, chunks of Chat fit their schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skilldeck_daemon.http import app as http
from support import contract, openresponses
from support.ordering import TERMINAL, check_stream

LIMIT = 16 << 20
"""Bytes of one answer that are looked at; longer ones are downloads."""
KINDS = ("application/json", "text/event-stream")
Event = dict[str, Any]


class Witness:
    """What was seen. `problems` are those since they were last taken; `answers` counts what was compared."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.answers = 0

    def take(self) -> list[str]:
        taken, self.problems = self.problems, []
        return taken

    def wrap(self, app: ASGIApp) -> ASGIApp:
        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                seen: _Answer | _Socket = _Answer(scope)
            elif scope["type"] == "websocket" and scope["path"] == "/v1/responses":
                seen = _Socket()
            else:
                return await app(scope, receive, send)

            async def tell(message: Message) -> None:
                await send(message)
                try:
                    self.answers += seen.message(message)
                except Exception as error:  # also a KeyError is a finding, and the daemon must not notice
                    self.problems.append(f"{scope.get('method', 'WS')} {scope['path']}: {error!r}"[:4000])

            await app(scope, receive, tell)

        return watched


class _Answer:
    """One HTTP answer. `message` returns how many answers were compared."""

    def __init__(self, scope: Scope) -> None:
        self.method, self.path = scope["method"], scope["path"]
        self.query = scope["query_string"]
        # Anthropic's SDK is answered in Anthropic's shapes, which its strict mode checks.
        self.anthropic = self.path.startswith("/v1/messages") or b"anthropic-version" in dict(scope["headers"])
        self.status, self.kind = 0, ""
        self.body = bytearray()

    def message(self, message: Message) -> int:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.kind = dict(message["headers"]).get(b"content-type", b"").decode("latin-1").split(";")[0]
        elif self.kind in KINDS and len(self.body) <= LIMIT:
            self.body += message.get("body", b"")
        ended = message["type"] == "http.response.body" and not message.get("more_body")
        if not ended or self.kind not in KINDS or len(self.body) > LIMIT or self.anthropic:
            return 0
        if self.kind == "text/event-stream":
            self._stream([line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")])
        elif self.method != "HEAD":
            self._object(json.loads(self.body))
        return 1

    def _object(self, body: Any) -> None:
        contract.check(self.method, self.path, self.status, body)
        if isinstance(body, dict) and body.get("object") == "response" and "output" in body:
            openresponses.check_response(body)

    def _stream(self, lines: list[str]) -> None:
        assert lines, "an empty stream"
        assert lines[-1] == "[DONE]", "the stream has no [DONE]"
        events = [json.loads(line) for line in lines[:-1]]
        if self.path.startswith("/v1/chat/completions"):
            _chunks(events)
        elif self.path.startswith("/v1/responses"):
            if events and events[0]["sequence_number"] == 0:
                check_stream(events)
            for event in events:
                openresponses.check_event(event)


class _Socket:
    """The events of one WebSocket connection."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def message(self, message: Message) -> int:
        if message["type"] != "websocket.send":
            return 0
        event = json.loads(message["text"])
        if event["type"] == "error":
            openresponses.check_socket_error(event)
            assert set(event["error"]) == contract.ERROR_KEYS, event
            return 1
        openresponses.check_event(event)
        self.events.append(event)
        if event["type"] not in TERMINAL:
            return 0
        events, self.events = self.events, []
        check_stream(events)
        return 1


def _chunks(chunks: list[Event]) -> None:
    if chunks and "error" in chunks[-1]:
        assert set(chunks.pop()["error"]) == contract.ERROR_KEYS
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) <= 1, "the head changed"
    for chunk in chunks:
        contract.conforms("CreateChatCompletionStreamResponse", chunk)


witness = Witness()


@pytest.fixture(scope="session", autouse=True)
def witnessed() -> Iterator[Witness]:
    """Wrap the application of every daemon that is started from here on."""
    build = http.build
    http.build = lambda services: witness.wrap(build(services))
    yield witness
    http.build = build


@pytest.fixture(autouse=True)
def answers_keep_the_specification(witnessed: Witness) -> Iterator[None]:
    """Fail the test during which an answer did not."""
    yield
    problems = witnessed.take()
    assert not problems, f"{len(problems)} answers broke the specification:\n" + "\n".join(problems[:5])

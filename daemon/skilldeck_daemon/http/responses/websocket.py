"""WebSocket mode of /responses: many responses, one after another, over one connection.

    → {"type": "response.create", …the fields of POST /responses but stream and background}
    ← the events of that response, as its stream has them; the first says in `skilldeck` what was left out (`notes.py`)
    ← {"type": "error", "status", "error": {type, code, message, param}} for a request that could not begin

Requests wait for their turn. The last response can be continued (`previous_response_id`) although it is not stored; it
is forgotten when a continuation fails. A client that leaves cancels what is being made for it; so does one that takes
nothing for a minute, so that no run fills memory for a reader that never reads. A connection lives for an hour; a
response that has begun by then is finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.agent.run import Run
from skilldeck_daemon.http.errors import responses_body
from skilldeck_daemon.http.notes import Notes
from skilldeck_daemon.http.routing import Routes
from skilldeck_daemon.http.sse import STALL_S
from skilldeck_daemon.wire.fields import Fields
from skilldeck_daemon.wire.json_text import parse_json
from skilldeck_shared.errors import BadRequest, Busy, SkilldeckError
from skilldeck_shared.json_types import JsonObject

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services

LIMIT_S = 3600.0
MAX_WAITING = 32
"""Requests that wait for their turn; and together at most one body's worth of bytes."""
POLICY_VIOLATION = 1008
LONG_TEXT = 64 * 1024
"""Characters from which reading a request is worth a thread."""


class ConnectionLimit(BadRequest):
    """The hour is over."""

    code = "websocket_connection_limit_reached"


class Gone(Exception):
    """The client left, or takes nothing any more."""


def router(services: Services) -> Routes:
    """The route, without the `/v1` prefix."""
    api = Routes()

    @api.websocket("/responses")
    async def respond(socket: WebSocket) -> None:
        await Connection(services, socket).serve()

    return api


class Connection:
    """One client. `serve` returns when it has left or its hour is over; nothing of it runs on then."""

    def __init__(self, services: Services, socket: WebSocket, limit_s: float = LIMIT_S) -> None:
        self._services = services
        self._socket = socket
        self._permission = socket.headers.get("x-skilldeck-permission")
        self._deadline = asyncio.get_running_loop().time() + limit_s
        self._bytes = services.settings.max_body_mb << 20
        self._waiting: deque[str] = deque()
        self._arrived = asyncio.Event()
        self._sending = asyncio.Lock()
        self._gone = False
        self._run: Run | None = None
        self._last: Run | None = None
        self._stand_in = ""  # the model that answers in place of the one named

    async def serve(self) -> None:
        await self._socket.accept()
        reader = asyncio.create_task(self._read())
        try:
            await self._answer_all()
        except Gone:
            pass
        finally:
            if self._run is not None:
                self._run.cancel()
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
            if not self._gone:
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(STALL_S):
                        await self._socket.close(POLICY_VIOLATION)

    # -- what arrives

    async def _read(self) -> None:
        """Take messages while responses are made, so that a client that leaves is noticed at once."""
        with contextlib.suppress(Gone):
            while True:
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    self._leave()
                    return
                text = message.get("text")
                if text is None:
                    text = (message.get("bytes") or b"").decode("utf-8", "replace")
                if len(self._waiting) >= MAX_WAITING or sum(map(len, self._waiting)) + len(text) > self._bytes:
                    await self._refuse(Busy("Too many requests wait on this connection.", "Read the answers first."))
                    continue
                self._waiting.append(text)
                self._arrived.set()

    def _leave(self) -> None:
        self._gone = True
        self._arrived.set()
        if self._run is not None:
            self._run.cancel()

    async def _next(self) -> str:
        """The next request's text. Raises Gone, and ConnectionLimit when the hour is over."""
        while True:
            if self._gone:
                raise Gone
            left = self._deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise ConnectionLimit("This connection has reached its 60 minutes.", "Open a new one.")
            if self._waiting:
                return self._waiting.popleft()
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._arrived.wait()

    # -- what is sent

    async def _send(self, event: Mapping[str, Any]) -> None:
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace").decode()
        try:
            async with asyncio.timeout(STALL_S), self._sending:
                await self._socket.send_text(text)
        except (TimeoutError, WebSocketDisconnect, OSError, RuntimeError) as error:
            self._leave()
            raise Gone from error

    async def _refuse(self, error: SkilldeckError) -> None:
        shown = responses_body(error)["error"]
        # Here, other than over HTTP, the code is never null.
        await self._send(
            {"type": "error", "status": error.status, "error": {**shown, "code": error.code or error.type}}
        )

    # -- responses

    async def _answer_all(self) -> None:
        while True:
            try:
                text = await self._next()
            except ConnectionLimit as error:
                return await self._refuse(error)
            try:
                self._run = await self._start(text)
            except SkilldeckError as error:
                await self._refuse(error)
                continue
            if self._gone:
                raise Gone
            said = Notes.of(self._run, model=self._stand_in).headers()
            async for event in self._run.events():
                await self._send({**event, "skilldeck": said} if said else event)
                said = {}
            # A failed continuation is forgotten together with what it continued.
            failed = self._run.response["status"] in ("failed", "cancelled")
            self._last, self._run = (None if failed else self._run), None

    async def _start(self, text: str) -> Run:
        continued = None
        try:
            body = await asyncio.to_thread(_read_event, text) if len(text) > LONG_TEXT else _read_event(text)
            previous = body.get("previous_response_id")
            if self._last is not None and previous == self._last.id:
                continued = self._last
            request = ResponseRequest.parse({**body, "stream": True}, stream_field=False)
            self._stand_in = self._services.models.stand_in(request.model)
            return await self._services.runs.start(request, self._permission, after=continued)
        except SkilldeckError:
            if continued is not None:
                self._last = None
            raise


def _read_event(text: str) -> JsonObject:
    """The body of a response.create event."""
    fields = Fields(parse_json(text.encode("utf-8", "replace")))
    fields.needed("type", choices=("response.create",))
    fields.refuse("background", why="A connection makes one response after another; use POST /v1/responses.")
    if fields.value.get("generate") is False:
        raise BadRequest("'generate' cannot be false here.", "Nothing needs to be warmed up.", param="generate")
    return {name: entry for name, entry in fields.value.items() if name != "type"}

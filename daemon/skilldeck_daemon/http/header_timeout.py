"""The HTTP protocol of the server, with an end to its patience and to its memory.

A client that sends a byte now and then would otherwise hold a connection, and its file descriptor, for ever; and one
whose headers never end would fill the memory before any key is checked, since the parser collects what it has not
finished. So what comes is counted: `HEAD_BYTES` that complete no header section, bring no byte of a body and end no
request (an endless request line, a header without end, many of them, the trailers of a chunked body, the extensions of
a chunk) are answered with 431 and the end of the connection.
"""

from __future__ import annotations

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from skilldeck_shared.errors import BadRequest, SkilldeckError

HEADER_SECONDS = 20.0
"""From a connection, or the first byte of a further request on it, to the end of the request's headers."""
HEAD_BYTES = 64 * 1024
MOST_HEADERS = 256
SLICE = 16 * 1024
"""Bytes given to the parser at once: what it may take in beyond the limit when a body's end and a header's beginning
come together."""
LINGER_SECONDS = 1.0
"""How long a refused client may go on sending, unread: closing at once would destroy the answer on its way."""

REASONS = {400: "Bad Request", 431: "Request Header Fields Too Large"}


class HeadersTooLarge(BadRequest):
    """More than a request line and headers may have."""

    status = 431
    code = "headers_too_large"


class PatientProtocol(HttpToolsProtocol):
    """See the module."""

    _deadline: asyncio.TimerHandle | None = None
    _count = 0  # bytes since the parser last got somewhere
    _got_somewhere = False
    _heading = False  # inside a request's headers
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        at = 0
        # A refused client is not read any more, and one that became a WebSocket is read by another protocol.
        while at < len(data) and not self._refused and not self.transport.is_closing():
            if self._count >= HEAD_BYTES:
                self._refuse(HeadersTooLarge(f"The request's headers are larger than {HEAD_BYTES // 1024} KiB."))
                return
            piece = data[at : at + min(SLICE, HEAD_BYTES - self._count)]
            at += len(piece)
            self._got_somewhere = False
            super().data_received(piece)
            self._count = 0 if self._got_somewhere else self._count + len(piece)
            if self.transport.get_protocol() is not self:
                return

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._heading = True
        if self._deadline is None:
            self._expect()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MOST_HEADERS:
            self._refuse(HeadersTooLarge(f"The request has more than {MOST_HEADERS} headers."))
        elif not self._refused:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._arrived()
        self._got_somewhere, self._heading = True, False
        if self._refused:
            return
        if self.parser.should_upgrade() and self._should_upgrade() and _has_body(self.headers):
            # Its frames could not be distinguished from its body, which the parser would wait for.
            self._refuse(BadRequest("A WebSocket upgrade has no body.", "Send the request as a frame."))
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._got_somewhere = True
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._got_somewhere = True
        if not self._refused:
            super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        if not self._refused:
            super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        if not self._refused:
            super().send_400_response(msg)

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def _refuse(self, error: SkilldeckError) -> None:
        """Answer and end the connection; only end it while another answer is being written, or is due first."""
        if self._refused:
            return
        self._refused = True
        self._arrived()
        self._unset_keepalive_if_required()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._heading or self.pipeline or cycle.response_started:
                self.transport.close()
                return
            cycle.disconnected = True  # its request never ends: what it still says is not sent
            cycle.message_event.set()
        body = json.dumps(error.body()).encode()
        head = f"HTTP/1.1 {error.status} {REASONS[error.status]}\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _expect(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    lengths = [value.strip() for name, value in headers if name == b"content-length"]
    return any(value != b"0" for value in lengths) or any(name == b"transfer-encoding" for name, _ in headers)

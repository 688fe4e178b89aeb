"""The server name in a TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3), read without a TLS library."""

from __future__ import annotations

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) < count:
            raise ValueError("malformed TLS hello")
        self.at += count
        return piece

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def block(self, width: int) -> _Reader:
        return _Reader(self.take(self.number(width)))

    @property
    def left(self) -> int:
        return len(self.data) - self.at


def server_name(data: bytes) -> str | None:
    """The name in the hello that `data` begins with; None when more bytes are needed.

    Raises: `ValueError` for anything that is not a TLS hello with exactly one host name.
    """
    message = b""
    at = 0
    while True:
        if len(data) > at and data[at] != _HANDSHAKE:
            raise ValueError("not TLS")
        if len(data) < at + 5:
            return None
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        if size == 0 or size > 16_640:
            raise ValueError("malformed TLS record")
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
        if len(message) >= 4:
            if message[0] != _CLIENT_HELLO:
                raise ValueError("not a TLS hello")
            wanted = int.from_bytes(message[1:4], "big")
            if len(message) >= 4 + wanted:
                return _name(_Reader(message[4 : 4 + wanted]))
        if at > len(data):
            return None


def _name(hello: _Reader) -> str:
    hello.take(2 + 32)  # version, random
    hello.block(1)  # session id
    hello.block(2)  # cipher suites
    hello.block(1)  # compression
    if not hello.left:
        raise ValueError("no server name")
    extensions = hello.block(2)
    while extensions.left:
        kind = extensions.number(2)
        body = extensions.block(2)
        if kind != _SERVER_NAME:
            continue
        names = body.block(2)
        if names.number(1) != 0:
            raise ValueError("unknown kind of server name")
        name = names.block(2).data.decode("ascii")
        if names.left or not name:
            raise ValueError("more than one server name")
        return name
    raise ValueError("no server name")

"""The bytes of a request's body: decoded where they were sent compressed, and looked at before they are read.

Some clients send a form under another content type (OpenAI's own SDK posts files as `application/json` when a path is
called by hand), so what a body is, is decided by how it begins: `boundary_of` reads no further than that, and `chunks`
gives everything all the same.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request

from skilldeck_shared.errors import BadRequest

LINE_BYTES = 512
"""A boundary has at most 70 characters (RFC 2046); what comes later is no opening line."""
PIECE = 1 << 20
"""Compressed bodies are unpacked in pieces of this size, so that who counts them can stop."""
_OPENING = re.compile(rb"--([^\s\"]{1,256})[ \t]*\r\n(?i:content-)")
_KEPT = "skilldeck.body"
WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


async def boundary_of(request: Request) -> bytes:
    """The boundary that the body's first line is; empty when it begins otherwise."""
    body = _Body.of(request)
    while not _OPENING.match(body.seen) and len(body.seen) < LINE_BYTES and await body.more():
        pass
    found = _OPENING.match(body.seen)
    return found[1] if found else b""


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """The whole body, decoded; what was looked at comes first. Raises BadRequest where it cannot be decoded."""
    body = _Body.of(request)
    while body.seen or await body.more():
        piece, body.seen = body.seen, b""
        yield piece


class _Body:
    """The body of one request while it is read: `seen` is what was received and nobody has taken yet."""

    def __init__(self, request: Request) -> None:
        self.seen = b""
        self._pieces = _decoded(request)

    @classmethod
    def of(cls, request: Request) -> _Body:
        body: _Body = request.scope.setdefault(_KEPT, cls(request))
        return body

    async def more(self) -> bool:
        """Receive something; whether there was anything left."""
        async for piece in self._pieces:
            if piece:
                self.seen += piece
                return True
        return False


async def _decoded(request: Request) -> AsyncIterator[bytes]:
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding in ("", "identity"):
        async for piece in request.stream():
            yield piece
        return
    if coding not in WINDOWS:
        hint = "Send gzip, deflate, or the body as it is."
        raise BadRequest(f"Bodies in the encoding {coding[:64]!r} are not read here.", hint, param="content-encoding")
    unpacker: Any = zlib.decompressobj(WINDOWS[coding])
    first = True
    async for piece in request.stream():
        if first and piece and coding == "deflate" and piece[0] & 0x0F != 8:
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)  # bare deflate, which many send under that name
        first = first and not piece
        while piece:
            yield _unpacked(unpacker, piece, coding)
            piece = unpacker.unconsumed_tail
    if not first and not unpacker.eof:
        raise BadRequest(f"The body ends before its {coding} data does.", "Send it whole.", param="content-encoding")


def _unpacked(unpacker: Any, piece: bytes, coding: str) -> bytes:
    try:
        return bytes(unpacker.decompress(piece, PIECE))
    except zlib.error as error:
        raise BadRequest(f"The body is not valid {coding}: {error}.", param="content-encoding") from None

"""The bytes of a request's body: decoded where they were sent compressed, and looked at before they are read.

Some clients send a form under another content type (OpenAI's own SDK posts files as `application/json` when a path is
called by hand), so what a body is, is decided by how it begins: `boundary_of` reads no further than that, and `chunks`
gives everything all the same.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from starlette.requests import Request

from skilldeck_shared.coding import Undecodable, decoded
from skilldeck_shared.errors import BadRequest

LINE_BYTES = 512
"""A boundary has at most 70 characters (RFC 2046); what comes later is no opening line."""
_OPENING = re.compile(rb"--([^\s\"]{1,256})[ \t]*\r\n(?i:content-)")
_KEPT = "skilldeck.body"


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
    try:
        async for piece in decoded(request.stream(), request.headers.get("content-encoding", "")):
            yield piece
    except Undecodable as error:
        hint = "Send it whole: as gzip, as deflate, or as it is."
        raise BadRequest(f"The body {error}.", hint, param="content-encoding") from None

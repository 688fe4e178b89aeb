"""What another server may send. One that never ends fills no memory, whoever wrote it.

An answer ends as "length" where it is longer than what was asked for can be; a line and a body that is read whole have
limits of their own, beyond which the answer counts as lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from skilldeck_shared.coding import Undecodable, decoded

LONGEST_TOKEN = 512
"""Bytes; the longest of the published vocabularies have about 250."""
LINE_BYTES = 4 << 20
"""One event. Some servers send a whole call in one: the largest seen had 300 KB."""
BODY_BYTES = 64 << 20
"""What is read whole: a prompt in its template, its tokens, a list of models."""
ERROR_BYTES = 64 << 10
TOKENS = 131_072
"""Where neither the request nor the server names a limit: the most that published models write at once."""
LEAST_BYTES = 64 << 10
MOST_BYTES = 16 << 20
LINES_A_TOKEN = 16
"""Two for each piece, and servers that send single characters."""
LINES = 20_000
"""Besides: comments while a prompt is read, one every few seconds."""


class TooMuch(httpx.ReadError):
    """The other server sends more than can be meant."""


class Bounds:
    """The bounds of one answer. `tokens`: the request's limit, else the context; 0 when neither is known."""

    def __init__(self, tokens: int) -> None:
        tokens = tokens or TOKENS
        self._bytes = min(max(tokens * LONGEST_TOKEN, LEAST_BYTES), MOST_BYTES)
        self._lines = tokens * LINES_A_TOKEN + LINES

    def reached(self, lines: int, text: str) -> bool:
        """Whether the answer has become too long with so many further lines of its stream and this text in them."""
        self._lines -= lines
        self._bytes -= len(text)
        return self._lines < 0 or self._bytes < 0


async def body_of(answer: httpx.Response) -> AsyncIterator[bytes]:
    """Its body in pieces, unpacked. Raises httpx.ReadError where that cannot be done."""
    try:
        async for chunk in decoded(answer.aiter_raw(), answer.headers.get("content-encoding", "")):
            yield chunk
    except Undecodable as error:
        raise httpx.ReadError(f"its answer {error}") from None


async def whole(answer: httpx.Response) -> httpx.Response:
    """The answer with its decoded body: of an error its beginning. Raises TooMuch for another beyond BODY_BYTES."""
    body = bytearray()
    good = answer.status_code == 200
    async for chunk in body_of(answer):
        body += chunk
        if good and len(body) > BODY_BYTES:
            raise TooMuch(f"it sent more than {BODY_BYTES >> 20} MiB")
        if not good and len(body) > ERROR_BYTES:
            break
    headers = [(name, value) for name, value in answer.headers.raw if name.lower() not in _CODED]
    content = bytes(body if good else body[:ERROR_BYTES])
    return httpx.Response(answer.status_code, headers=headers, content=content, request=answer.request)


_CODED = {b"content-encoding", b"content-length", b"transfer-encoding"}

"""Bodies that were sent compressed (Content-Encoding), unpacked in bounded pieces.

HTTP clients unpack what comes in one go, and one coding inside another: 64 KiB of `gzip, gzip` are 64 GB. Here a piece
has at most `PIECE` bytes, so that who counts them can stop, and there is one coding or none.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Any

PIECE = 1 << 20
CODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
ACCEPTED = "gzip, deflate"
"""For the Accept-Encoding of a client that reads through here."""


class Undecodable(ValueError):
    """The text says what is wrong with the body: 'is not valid gzip: …'."""


async def decoded(pieces: AsyncIterator[bytes], coding: str) -> AsyncIterator[bytes]:
    """The body as it was before it was compressed.

    Args:
        coding: the value of Content-Encoding; empty when there is none.
    Raises:
        Undecodable: for another coding, for several, and for data that is none of it or ends early.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        async for piece in pieces:
            yield piece
        return
    if coding not in CODINGS:
        raise Undecodable(f"is in the encoding {coding[:64]!r}, which is not read here")
    unpacker: Any = zlib.decompressobj(CODINGS[coding])
    first = True
    async for piece in pieces:
        if first and piece and coding == "deflate" and piece[0] & 0x0F != 8:
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)  # bare deflate, which many send under that name
        first = first and not piece
        while piece:
            try:
                yield bytes(unpacker.decompress(piece, PIECE))
            except zlib.error as error:
                raise Undecodable(f"is not valid {coding}: {error}") from None
            piece = unpacker.unconsumed_tail
    if not first and not unpacker.eof:
        raise Undecodable(f"ends before its {coding} data does")

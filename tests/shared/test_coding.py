"""Bodies that were sent compressed: unpacked in bounded pieces, or refused in words."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from skilldeck_shared.coding import PIECE, Undecodable, decoded

TEXT = b"a line of text\n" * 1000
BARE = zlib.compress(TEXT)[2:-4]


async def _pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


async def _decoded(body: bytes, coding: str, size: int = 100) -> list[bytes]:
    return [piece async for piece in decoded(_pieces(body, size), coding)]


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT)),
        (" GZIP ", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", BARE),
    ],
)
@pytest.mark.parametrize("size", [1, 100_000])
async def test_a_body_is_what_it_was(coding: str, body: bytes, size: int) -> None:
    assert b"".join(await _decoded(body, coding, size)) == TEXT


async def test_no_piece_is_larger_than_whoever_counts_them_expects() -> None:
    pieces = await _decoded(gzip.compress(bytes(5 * PIECE)), "gzip", 1 << 20)
    assert sum(map(len, pieces)) == 5 * PIECE
    assert max(map(len, pieces)) <= PIECE


@pytest.mark.parametrize(
    ("coding", "body", "why"),
    [
        ("br", TEXT, "in the encoding 'br'"),
        ("gzip, gzip", gzip.compress(TEXT), "in the encoding 'gzip, gzip'"),
        ("gzip", TEXT, "not valid gzip"),
        ("gzip", gzip.compress(TEXT)[:-20], "ends before its gzip data does"),
    ],
)
async def test_what_cannot_be_read_says_why(coding: str, body: bytes, why: str) -> None:
    with pytest.raises(Undecodable, match=why):
        await _decoded(body, coding)

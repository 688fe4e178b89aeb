"""Text in files: which encoding it has, and reading parts of it by characters.

One reading for all of a file (`read`), so that a preview and what is read after it never overlap or leave a gap:
line ends become `\\n`, bytes that do not decode become U+FFFD. Blocks: `read` reads files; call it in a thread.
"""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import BinaryIO

SNIFF_BYTES = 32 * 1024
_SKIP_CHARS = 1 << 20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = frozenset(range(0x20)) - frozenset(b"\t\n\r\f\x1b") | {0x7F}
_NOT_1252 = frozenset((0x81, 0x8D, 0x8F, 0x90, 0x9D))


def encoding_of(head: bytes, more: bool) -> str | None:
    """The encoding of a text that begins with `head`, None when it is not text.

    Args:
        more: the file goes on after `head`, which may end inside a character.
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name if _decodes(head, name, more) else None
    if b"\0" in head:
        return _unmarked_utf16(head, more)
    if _CONTROLS.intersection(head):
        return None
    if _decodes(head, "utf-8", more):
        return "utf-8"
    # Every byte means something in Windows-1252, so only what is never there sets it apart from noise.
    return None if _NOT_1252.intersection(head) else "windows-1252"


def _unmarked_utf16(head: bytes, more: bool) -> str | None:
    """UTF-16 without a mark, known by the zero halves of its ASCII characters."""
    halves = {"utf-16-be": head[0::2], "utf-16-le": head[1::2]}
    for name, high in halves.items():
        other = halves["utf-16-le" if name == "utf-16-be" else "utf-16-be"]
        if high.count(0) * 10 < len(high) * 7 or other.count(0) or not _decodes(head, name, more):
            continue
        if not any(ord(character) in _CONTROLS for character in head[: len(head) // 2 * 2].decode(name, "replace")):
            return name
    return None


def _decodes(head: bytes, encoding: str, more: bool) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)("strict").decode(head, final=not more)
    except UnicodeDecodeError:
        return False
    return True


def read(source: Path | bytes | str, encoding: str, offset: int, limit: int) -> tuple[str, bool]:
    """`limit` characters from `offset` on, and whether more follow. A `str` is text already."""
    if isinstance(source, str):
        return source[offset : offset + limit], len(source) > offset + limit
    file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with file, io.TextIOWrapper(file, encoding, errors="replace", newline=None) as text:
        while offset > 0:
            skipped = len(text.read(min(offset, _SKIP_CHARS)))
            if not skipped:
                return "", False
            offset -= skipped
        piece = text.read(limit)
        return piece, bool(text.read(1))


def head_of(source: Path | bytes, size: int = SNIFF_BYTES) -> bytes:
    """The first bytes."""
    if isinstance(source, bytes):
        return source[:size]
    with source.open("rb") as file:
        return file.read(size)

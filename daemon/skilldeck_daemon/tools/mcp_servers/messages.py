"""What an MCP server sends, one whole message at a time and within bounds, before the `mcp` package reads it.

The package parses on the event loop whatever comes: 32 MiB of `[],[],` hold it for seconds, and a line over stdio may
be as long as the memory. So a message goes on when it is whole, has at most `MESSAGE_BYTES`, and no more JSON values
than a request may have (`wire/json_text.py`); else the call it answers gets an error instead.

It drops a message with half a surrogate pair, and waits on; JSON may spell a half as an escape, and servers that cut
texts by UTF-16 do. Each becomes the escape of U+FFFD on its way in, which has the same length.
"""

from __future__ import annotations

import codecs
import json
import logging
import re
from typing import Literal

from skilldeck_daemon.wire.json_text import MAX_VALUES, too_many
from skilldeck_shared.characters import EscapedCharacters

log = logging.getLogger(__name__)

MESSAGE_BYTES = 16 * 1024 * 1024
"""Of one message: a screenshot of a few MB as base64 fits."""
ENCODING = "utf_8_messages"
"""What a program's output is read with: the package lets nothing else between the two."""
SHOWN = 200
_EMPTY = re.compile(rb"\n{3,}")
_ID = re.compile(rb'"id"\s*:\s*(\d{1,15}|"[^"\\]{1,100}")')


class Messages:
    """Bytes in, whole messages out. `flush` returns what is left at the end, as one more.

    Args:
        ends: a message ends with its line, with an empty line (an event stream), or with the body.
    """

    def __init__(self, ends: Literal["line", "event", "body"]) -> None:
        self._ends = ends
        self._pieces: list[bytes] = []
        self._size = 0
        self._skipping = False
        self._blank = True  # nothing of the line so far, which may come in several pieces
        self._escapes = EscapedCharacters()

    def feed(self, piece: bytes) -> bytes:
        out: list[bytes] = []
        end = 0
        if self._ends != "body":
            piece = _EMPTY.sub(b"\n\n", piece)
            end = piece.rfind(b"\n") + 1
            for line in piece[:end].split(b"\n")[:-1]:
                self._add(line + b"\n", out)
                blank, self._blank = self._blank and not line.strip(), True
                if self._ends == "line" or blank:
                    self._end(out)
        self._add(piece[end:], out)
        self._blank = self._blank and not piece[end:].strip()
        return b"".join(out)

    def flush(self) -> bytes:
        out: list[bytes] = []
        self._end(out)
        return b"".join(out)

    def _add(self, piece: bytes, out: list[bytes]) -> None:
        self._size += len(piece)
        if self._skipping:
            return
        self._pieces.append(piece)
        if self._size > MESSAGE_BYTES:
            self._refuse(f"larger than {MESSAGE_BYTES >> 20} MiB", out)

    def _refuse(self, why: str, out: list[bytes]) -> None:
        begun = b"".join(self._pieces)[:SHOWN]
        self._pieces, self._skipping = [], True
        if error := _error(begun, why):
            out.append(b"data: " + error + b"\n" if self._ends == "event" else error)

    def _end(self, out: list[bytes]) -> None:
        if not self._skipping and self._pieces:
            message = b"".join(self._pieces)
            if too_many(message):
                self._refuse(f"of more than {MAX_VALUES:,} values", out)
            else:
                whole = self._escapes.feed(message.decode("latin-1")) + self._escapes.flush()
                out.append(whole.encode("latin-1"))  # escapes are ASCII, so other bytes pass as they are
        self._pieces, self._size, self._skipping = [], 0, False


class _Decoder(codecs.IncrementalDecoder):
    """A program's output. What is too large becomes the error of its call, and what is no message is left out: programs
    that print their log there are many."""

    def __init__(self, errors: str = "strict") -> None:
        super().__init__(errors)
        self._messages = Messages("line")

    def decode(self, input: object, final: bool = False) -> str:
        data = self._messages.feed(bytes(input))  # type: ignore[call-overload]
        if final:
            data += self._messages.flush()
        lines = [line for line in data.split(b"\n") if line.lstrip()[:1] in (b"{", b"[")]
        if not lines:
            return ""
        return b"\n".join([*lines, b""]).decode(errors="replace")


def _error(begun: bytes, why: str) -> bytes:
    """The answer to the call that a message answers, as far as its beginning says which."""
    log.warning("an MCP server sent a message %s: %r…", why, begun[:SHOWN])
    found = _ID.search(begun)
    if found is None:
        return b""
    error = {"code": -32603, "message": f"Its answer is {why}."}
    return b'{"jsonrpc": "2.0", "id": %s, "error": %s}\n' % (found[1], json.dumps(error).encode())


def _found(name: str) -> codecs.CodecInfo | None:
    if name != ENCODING:
        return None
    return codecs.CodecInfo(codecs.utf_8_encode, codecs.utf_8_decode, incrementaldecoder=_Decoder, name=ENCODING)


codecs.register(_found)

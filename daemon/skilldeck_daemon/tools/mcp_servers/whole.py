"""Whole characters from MCP servers: the package's client drops a message with half a surrogate pair, and waits on.

JSON may spell a half as an escape, and servers that cut texts by UTF-16 do. Each becomes the escape of U+FFFD on its
way in, which has the same length: for programs in the encoding that their output is read with, for HTTP in the body.
"""

from __future__ import annotations

import codecs

from skilldeck_shared.characters import EscapedCharacters

ENCODING = "utf_8_whole"


class _Decoder(codecs.IncrementalDecoder):
    def __init__(self, errors: str = "strict") -> None:
        super().__init__(errors)
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors)
        self._escapes = EscapedCharacters()

    def decode(self, input: object, final: bool = False) -> str:
        text = self._escapes.feed(self._utf8.decode(input, final))  # type: ignore[arg-type]
        return text + self._escapes.flush() if final else text


def _found(name: str) -> codecs.CodecInfo | None:
    if name != ENCODING:
        return None
    return codecs.CodecInfo(codecs.utf_8_encode, codecs.utf_8_decode, incrementaldecoder=_Decoder, name=ENCODING)


codecs.register(_found)


class WholeBody:
    """The bytes of a body that arrives in pieces. Escapes are ASCII, so other bytes pass as they are."""

    def __init__(self) -> None:
        self._escapes = EscapedCharacters()

    def feed(self, piece: bytes) -> bytes:
        return self._escapes.feed(piece.decode("latin-1")).encode("latin-1")

    def flush(self) -> bytes:
        return self._escapes.flush().encode("latin-1")

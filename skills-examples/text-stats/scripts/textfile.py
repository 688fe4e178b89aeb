"""Reading text files of unknown origin, and failing clearly.

The same file lies in every example skill, because a skill travels alone. It offers:

- `open_text` and `read_text`: a file as text, whatever its encoding: UTF-8, UTF-16 or UTF-32 by byte order mark, else
  UTF-8, else Windows-1252. Empty, binary, missing and unreadable files raise `BadInput`.
- `short`: one printable line out of any text, without control characters and terminal codes.
- `run`: calls a main function; `BadInput` becomes one `error: ...` line on standard error and exit status 2.

The file is read twice, in pieces, and never held whole by `open_text`.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Callable
from typing import TextIO

PIECE = 1 << 20
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
KNOWN_BINARY = (
    (b"%PDF-", "a PDF document; convert it to text first"),
    (b"PK\x03\x04", "a zip archive or an Office document; unpack or export it first"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
)
TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")  # colours, cursor moves, titles
CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))


class BadInput(Exception):
    """The input cannot be used; the message says which one and why, in one line."""


def short(text: object, width: int = 60) -> str:
    """`text` as one printable line of at most `width` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in TERMINAL.sub("", str(text)[: width * 20])).split())
    return line if len(line) <= width else line[: width - 3].rstrip() + "..."


def encoding_of(path: str) -> str:
    """The encoding `path` can be read with; raises BadInput when it is not readable text."""
    shown = short(os.path.basename(path.rstrip("/")) or path, 80)
    if os.path.isdir(path):
        raise BadInput(f"{shown} is a directory, expected a file")
    if not os.path.exists(path):
        raise BadInput(f"{shown} does not exist")
    if not os.path.isfile(path):
        raise BadInput(f"{shown} is not a regular file")
    try:
        with open(path, "rb") as stream:
            piece = stream.read(PIECE)
            if not piece:
                raise BadInput(f"{shown} is empty")
            for magic, what in KNOWN_BINARY:
                if piece.startswith(magic):
                    raise BadInput(f"{shown} is {what}")
            marked = next((name for mark, name in MARKS if piece.startswith(mark)), None)
            if marked is None and is_binary(piece):
                raise BadInput(f"{shown} is a binary file, expected text")
            decoder = codecs.getincrementaldecoder(marked or "utf-8")()
            while piece:
                if marked is None and b"\0" in piece:
                    raise BadInput(f"{shown} is a binary file, expected text")
                decoder.decode(piece)
                piece = stream.read(PIECE)
            decoder.decode(b"", True)
    except UnicodeDecodeError:
        if marked:
            raise BadInput(f"{shown} starts as {marked.upper()} text but is damaged") from None
        return "cp1252"
    except OSError as problem:
        raise BadInput(f"{shown} cannot be read: {problem.strerror or problem}") from None
    return marked or "utf-8"


def is_binary(piece: bytes) -> bool:
    """Whether NUL bytes or many control bytes give `piece` away as something other than text."""
    controls = len(piece) - len(piece.translate(None, CONTROL_BYTES))
    return b"\0" in piece or controls > max(8, len(piece) // 50)


def open_text(path: str, newline: str | None = None) -> TextIO:
    """`path` opened for reading as text; the caller closes it."""
    return open(path, encoding=encoding_of(path), errors="replace", newline=newline)


def read_text(path: str, limit: int = 64 << 20) -> str:
    """All of `path` as text; more than `limit` bytes raise BadInput."""
    encoding = encoding_of(path)
    if os.path.getsize(path) > limit:
        raise BadInput(f"{short(os.path.basename(path), 80)} is larger than {limit >> 20} MiB")
    with open(path, encoding=encoding, errors="replace") as stream:
        return stream.read()


def run(main: Callable[[], int]) -> None:
    """Call `main` and exit with what it returns; a closed pipe is no error worth a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
    except BadInput as problem:
        sys.stdout.flush()
        print(f"error: {short(problem, 300)}", file=sys.stderr)
        status = 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)

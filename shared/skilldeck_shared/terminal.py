"""Text of others made safe for a terminal: the one function for it. Pure.

A file's name, a model's words, a skill's description, an error of a server: whatever comes from elsewhere may hold
escape sequences that move the cursor, rewrite what a person sees, set the clipboard or answer questions for them.
Whatever is written to a terminal goes through `clean` at the place where it is written: `say` and `shown` here (the
CLI's `output.py`, skilldeckd's commands and log), the TUI's filter of lines. `tests/tui/test_terminal_text.py` holds
that there are no others.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_].*?(?:\x1b\\|$)|[ -/]*[0-~])|[\x80-\x9f]",
    re.DOTALL,
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Begins a style of ours; nobody else can write it.
_MARK = f"\ue000{os.urandom(6).hex()}"
_ACTED_ON = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """Text without what a terminal would act on: escape sequences, control characters, direction overrides,
    and half surrogate pairs, which end the writing to it.

    Newlines stay, tabs become blanks, and a carriage return keeps what was written after it, as a terminal shows it.
    """
    if "\x1b" in text or any("\x80" <= c <= "\x9f" for c in text):
        text = ESCAPES.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n")
        if "\r" in text:
            text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))
    return _CONTROLS.sub("", text).replace("\t", "    ")


def acts(text: str) -> bool:
    """Whether a terminal would act on something in the text, beyond the ends of its lines and tabs."""
    return not text.isprintable() and _ACTED_ON.search(text) is not None


def painted(text: str, code: str) -> str:
    """The text in a style of ours (an SGR code), for `shown` to write: it alone tells our sequences from others'."""
    return f"{_MARK}{code};{text}{_MARK}0;"


def shown(text: str, stream: TextIO) -> str:
    """The text as it is written to the stream: into a pipe as it is, for a terminal `clean`, with our styles."""
    first, *styled = text.split(_MARK)
    terminal = stream.isatty()
    out = [clean(first) if terminal else first]
    for piece in styled:
        code, _, rest = piece.partition(";")
        out.append(f"\x1b[{code}m{clean(rest)}" if terminal else rest)
    return "".join(out)


def say(text: str = "", *, file: TextIO | None = None, end: str = "\n", flush: bool = False) -> None:
    """`print` for what may hold text of others."""
    stream = file or sys.stdout
    print(shown(text, stream), file=stream, end=end, flush=flush)


def live(text: str, stream: TextIO) -> None:
    """Write one line in the place of the last; an empty one leaves its place to what comes."""
    stream.write(f"\r\x1b[K{shown(text, stream)}")
    stream.flush()

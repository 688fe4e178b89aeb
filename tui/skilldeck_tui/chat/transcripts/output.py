"""The output of one command as lines, bounded.

Lines keep the order in which stdout and stderr came. At most `MAX_LINES` are held: the oldest go first and are
counted, so that a command that writes for hours costs no more memory than one that writes for seconds.
"""

from __future__ import annotations

from typing import Literal

from rich.style import Style

from skilldeck_tui.text.ansi import PLAIN, Span, coloured

MAX_LINES = 50_000
_SLACK = 5_000
_LONGEST = 20_000

Stream = Literal["stdout", "stderr"]


class OutputBuffer:
    """Lines `(stream, text)`; the last may still grow. `first` is the number of lines dropped before `lines[0]`.

    `colours` are the styled spans of lines by their number, counted from the first ever written.
    """

    def __init__(self) -> None:
        self.lines: list[tuple[Stream, str]] = []
        self.first = 0
        self.colours: dict[int, tuple[Span, ...]] = {}
        self.bytes = {"stdout": 0, "stderr": 0}
        self.characters = 0
        self.revision = 0
        self._open = False
        self._raw = ""
        self._styles: dict[Stream, Style] = {"stdout": PLAIN, "stderr": PLAIN}  # as the last line that ended left it

    @property
    def total(self) -> int:
        """Lines written so far, dropped ones included."""
        return self.first + len(self.lines)

    @property
    def closed(self) -> int:
        """How many of `total` cannot change any more."""
        return self.total - 1 if self._open else self.total

    @property
    def total_bytes(self) -> int:
        return self.bytes["stdout"] + self.bytes["stderr"]

    def write(self, stream: Stream, text: str) -> None:
        if not text:
            return
        self.characters += len(text)
        self.bytes[stream] += len(text.encode("utf-8", "replace"))
        self.revision += 1
        first, *rest = text.split("\n")
        if self._open and self.lines[-1][0] == stream:
            # A progress bar may grow a line for ever.
            first = self._raw[-_LONGEST:] + first
            self._pop()
        last = len(rest)
        for number, line in enumerate((first, *rest)):
            shown, spans, style = coloured(line, self._styles[stream])
            if number < last:
                self._styles[stream] = style
            if spans:
                self.colours[self.total] = spans
            self.lines.append((stream, shown))
        # Kept as it came: an escape sequence or a carriage return may go on in the next piece.
        self._raw = rest[-1] if rest else first
        # Text that ends in a newline leaves an empty open line; the next piece begins it.
        if rest and not rest[-1]:
            self._pop()
            self._open = False
        else:
            self._open = True
        if len(self.lines) > MAX_LINES + _SLACK:
            drop = len(self.lines) - MAX_LINES
            del self.lines[:drop]
            self.first += drop
            self.colours = {at: spans for at, spans in self.colours.items() if at >= self.first}

    def _pop(self) -> None:
        self.lines.pop()
        self.colours.pop(self.total, None)

    def set(self, stdout: str, stderr: str) -> None:
        """Replace everything, for output that was not seen as it came."""
        revision = self.revision
        self.__init__()  # type: ignore[misc]
        self.revision = revision + 1
        self.write("stdout", stdout)
        self._open = False
        self.write("stderr", stderr)
        self._open = False

    def close(self) -> None:
        self._open = False

    def text(self, stream: Stream | None = None) -> str:
        return "\n".join(line for kind, line in self.lines if stream is None or kind == stream)

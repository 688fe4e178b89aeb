"""How commands speak: data on stdout, everything else on stderr, one exit code for each kind of ending.

With `--json` stdout holds one JSON document, or one a line for commands that go on (run, watch, logs, test), and an
error is one JSON line on stderr. Colours and progress bars appear only on a terminal, and never with NO_COLOR.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NoReturn, TextIO

import typer

from skilldeck_shared.ending import nowhere
from skilldeck_shared.errors import BadRequest, Conflict, Forbidden, NotFound, SkilldeckError, TooLarge
from skilldeck_shared.terminal import clean, live, painted, shown
from skilldeck_tui.client.types import DaemonUnreachable

OK, FAILED, USAGE, UNREACHABLE, INVALID, BROKEN, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

EXIT_CODES = """\b
Exit codes: 0 done · 1 the run or a test failed · 2 wrong usage · 3 no daemon
answers · 4 not found or invalid input · 5 the daemon failed · 130 interrupted"""

_STYLES = {"dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Unwritable(SkilldeckError):
    """stdout takes nothing more."""

    def __init__(self, why: str | None) -> None:
        super().__init__(f"The result cannot be written: {why or 'stdout is closed'}.")


def exit_code(error: SkilldeckError) -> int:
    """The exit code that belongs to an error."""
    if isinstance(error, Unwritable):
        return FAILED
    if isinstance(error, DaemonUnreachable) or error.code in ("daemon_failed", "daemon_not_installed"):
        return UNREACHABLE
    if isinstance(error, (BadRequest, NotFound, Conflict, Forbidden, TooLarge)):
        return INVALID
    return BROKEN


def colours(stream: TextIO) -> bool:
    """Whether colours may be written to a stream."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    if not colours(stream or sys.stderr):
        return text
    return painted(text, _STYLES[style])


def safe(text: str, stream: TextIO | None = None) -> str:
    """What a model or its commands wrote, for what takes it apart before it is written; see `put`."""
    return clean(text) if (stream or sys.stdout).isatty() else text


def put(stream: TextIO, text: str) -> None:
    """Write a text, whoever it is of: for a terminal without what it would act on but `paint`."""
    stream.write(shown(text, stream))
    stream.flush()


def note(text: str, style: str = "") -> None:
    """A diagnostic line."""
    progress_off()
    put(sys.stderr, (paint(text, style) if style else text) + "\n")


def put_colours(stream: TextIO, text: str) -> None:
    """Write what `ansi.Colours` made of a command's output: of its sequences it keeps colours alone."""
    stream.write(text)
    stream.flush()


def question(text: str) -> None:
    """A question on stderr, answered behind it."""
    progress_off()
    put(sys.stderr, text)


def data(text: str, end: str = "\n") -> None:
    """A line of the result."""
    progress_off()
    with writing():
        put(sys.stdout, text + end)


def content() -> Callable[[bytes], None]:
    """What writes a file to stdout, given its bytes in pieces: as they are, for a terminal as safe text."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(piece: bytes) -> None:
        with writing():
            if sys.stdout.isatty():
                put(sys.stdout, decoder.decode(piece))
            else:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()

    return write


@contextmanager
def writing() -> Iterator[None]:
    """Around every write of the result. Raises Unwritable, or BrokenPipeError where the reader has enough."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        nowhere()
        raise Unwritable(error.strerror) from None


def data_json(value: Any) -> None:
    """One JSON document on one line."""
    data(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str))


def fail(error: SkilldeckError, as_json: bool = False) -> NoReturn:
    """Say what went wrong and end with its exit code."""
    raise typer.Exit(explain(error, as_json))


def explain(error: SkilldeckError, as_json: bool = False, *, folder: str = "") -> int:
    """Say what went wrong (with one of several folders); returns the exit code that belongs to it."""
    progress_off()
    if as_json:
        body = error.body() | {"title": error.title, "hint": error.hint}
        if folder:
            body["folder"] = folder
        for name in ("line", "column"):
            if isinstance(getattr(error, name, None), int):
                body[name] = getattr(error, name)
        put(sys.stderr, json.dumps(body, ensure_ascii=False) + "\n")
    else:
        note(f"{paint('error:', 'red')} {f'{folder}: ' if folder else ''}{error.title}")
        if error.hint:
            note(f"  {error.hint}", "dim")
    return exit_code(error)


def perform(work: Coroutine[Any, Any, int | None], as_json: bool = False) -> None:
    """Run a command to its end and exit with its code."""

    async def interruptible() -> int | None:
        task = asyncio.current_task()
        if task is not None and threading.current_thread() is threading.main_thread():
            # A terminal that closes and a supervisor that stops us end a command as Ctrl-C does: runs are cancelled.
            for number in (signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await work

    try:
        code = asyncio.run(interruptible())
    except SkilldeckError as error:
        fail(error, as_json)
    except UnicodeEncodeError as error:  # what the wire cannot carry; a terminal's bytes come as half surrogate pairs
        around = str(error.object)[max(0, error.start - 20) : error.end + 20]
        fail(
            BadRequest(f"A name or text is no UTF-8: {around!a}.", "Rename the file, or write it as UTF-8."),
            as_json,
        )
    except (KeyboardInterrupt, asyncio.CancelledError):
        progress_off()
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # `skilldeck logs | head`: the reader has enough.
        nowhere()
        raise typer.Exit(OK) from None
    if code:
        raise typer.Exit(code)


def table(rows: Iterable[Sequence[object]], headers: Sequence[str]) -> None:
    """Aligned columns; headers only on a terminal, so that a pipe gets rows alone."""
    cells = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():  # a row is a line, whatever the names in it are
        cells = [list(headers), *([" ".join(clean(cell).split("\n")) for cell in row] for row in cells)]
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(len(headers))]
    for number, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        data(paint(line, "dim", sys.stdout) if number == 0 and sys.stdout.isatty() else line)


def when(seconds: float | None) -> str:
    """A time as people here write it, to the second."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S") if seconds else "-"


def size(count: int) -> str:
    """Bytes for people: 999 B, 1.0 KB, 3.4 MB."""
    value, unit = float(count), "B"
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


_bar = ""


def progress(label: str) -> Callable[[int, int], None]:
    """A progress bar on stderr for an upload of bytes; silent where there is no terminal."""

    def show(done: int, total: int) -> None:
        fraction = done / total if total else 1.0
        draw(label, fraction, f"{size(done)} of {size(total)}")
        if done >= total:
            progress_off()

    return show


def draw(label: str, fraction: float, detail: str = "") -> None:
    """Draw the bar; a negative fraction is unknown."""
    global _bar
    if not sys.stderr.isatty():
        return
    width = 24
    filled = "━" * round(width * fraction) if fraction >= 0 else ""
    bar = f"{filled}{paint('━' * (width - len(filled)), 'dim')} " if fraction >= 0 else ""
    _bar = f"{' '.join(label.split())} {bar}{detail}".rstrip()
    live(_bar, sys.stderr)


def progress_off() -> None:
    """Remove the bar, before anything else is written."""
    global _bar
    if _bar:
        live("", sys.stderr)
        _bar = ""


def waiting(stage: str, fraction: float) -> None:
    """What `connect` reports, as a bar."""
    draw(stage, fraction)

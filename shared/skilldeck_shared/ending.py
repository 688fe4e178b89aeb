"""How a whole command line ends where nobody can read it: on a full disk, for a reader that has enough, without stdout.

Commands write their results themselves and know (the CLI's `output.writing`); what a parser writes, such as help, and
what is still in a buffer at the end is here.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from skilldeck_shared.terminal import say

NOWHERE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


@contextmanager
def ends_well() -> Iterator[None]:
    """Around a command line. Where its output cannot be written it ends with a sentence on stderr and exit status 1, or
    quietly when the reader has gone; never with a traceback."""
    _open_standard()
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        nowhere()
        sys.exit(0)
    except OSError as error:
        if error.errno not in NOWHERE:
            raise
        nowhere()
        say(f"error: The result cannot be written: {error.strerror}.", file=sys.stderr)
        sys.exit(1)


def nowhere() -> None:
    """What is still to be written to stdout would fail once more when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_standard() -> None:
    """Who was started with a closed descriptor (`>&-`) has None there, and the next file opened takes its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: SIM115

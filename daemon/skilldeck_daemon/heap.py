"""What the daemon's process does with its memory: how seldom garbage is looked for, and how little the C library keeps.

Both change the whole process, so that only a program that is the daemon asks for them; a `Core` inside another one
does not.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc

M_ARENA_MAX = -8  # of malloc.h
ARENAS = 2


def few_arenas() -> None:
    """Let all threads share two of glibc's arenas; before any thread has been started. Nothing on other C libraries.

    It would make one for each of up to 16 threads, and each keeps what its busiest moment left in pieces: the process
    grew by 4 MB a minute under load, and was still growing after an hour, while what it used stayed at 32 MB.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(M_ARENA_MAX, ARENAS)


def collect_less() -> None:
    """What is there now stays, and the garbage collector looks at it no more.

    It is 300,000 objects, and every full pass over them stopped all streams for 0.1 s. The events of running responses
    stay too: a pass after each 10,000 new objects instead of 700 saved another tenth of a run's processor time. About
    every sixteenth pass is a full one, not every hundredth: with so much out of its way it takes 10 ms, and the garbage
    of four minutes of load would lie among what lives.
    """
    gc.freeze()
    gc.set_threshold(10_000, 2, 2)
    gc.enable()

"""What the daemon's process does with its memory: how seldom garbage is looked for, and how little the C library keeps.

Both change the whole process, so that only a program that is the daemon asks for them; a `Core` inside another one
does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
ARENAS = 2
LARGE = 2 << 20
"""Bytes from which on a piece of memory is one of its own, and as many free ones are given back. Over those of buffers
that come and go, which would cost their pages anew each time."""

TRIM_S = 30.0


def give_back() -> None:
    """Let glibc keep little of what was freed; before any thread has been started. Nothing on other C libraries.

    All threads share two arenas. It would make one for each of up to 16 threads, and each keeps what its busiest moment
    left in pieces: the process grew by 4 MB a minute under load, and was still growing after an hour, while what it had
    in use stayed at 32 MB.

    Large pieces lie apart and go when they are freed. With each one that is freed glibc would let larger ones lie among
    the small (up to 32 MiB), where what outlives them keeps their room from being given back.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(M_ARENA_MAX, ARENAS)
        library.mallopt(M_MMAP_THRESHOLD, LARGE)
        library.mallopt(M_TRIM_THRESHOLD, LARGE)


async def trim() -> None:
    """Every half minute the free pages between what lives go back to the system; without an end.

    glibc gives back by itself only what lies free at the end of its heap. One piece that outlives a busy moment keeps
    all below it: 164 MB of which a twentieth lived stayed 164 MB, and were 14 MB after this, which took 10 ms, and
    0.3 ms with nothing to give. It runs in a thread, with the interpreter's lock released.
    """
    with contextlib.suppress(OSError, AttributeError):
        malloc_trim = ctypes.CDLL("libc.so.6").malloc_trim
        while True:
            await asyncio.sleep(TRIM_S)
            await asyncio.to_thread(malloc_trim, 0)


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

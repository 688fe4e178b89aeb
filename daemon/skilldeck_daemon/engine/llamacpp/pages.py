"""Memory that was set aside and zeroed, handed back until it is used.

llama.cpp writes zeros over the whole cache when it makes it, so that 16,384 tokens of a small model take 100 MB from
the start, and of a larger one gigabytes. A private page of zeros that the kernel takes back reads as zeros again, so
nothing changes but what the process takes. Linux only.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

BLOCK = 2 << 20  # bytes that are looked at and handed back at once: a huge page
_DONT_NEED = 4  # MADV_DONTNEED
_MAPS = Path("/proc/self/maps")

Ranges = list[tuple[int, int]]


def anonymous() -> Ranges:
    """The address ranges of this process's private memory that belongs to no file; empty where nobody says."""
    found: Ranges = []
    try:
        lines = _MAPS.read_text("utf-8").splitlines()
    except OSError:
        return found
    for line in lines:
        addresses, rights, _offset, _device, inode, *name = line.split(maxsplit=5)
        if rights == "rw-p" and inode == "0" and not name:
            begin, end = (int(address, 16) for address in addresses.split("-"))
            found.append((begin, end))
    return found


def give_back(before: Ranges) -> int:
    """Hand back the blocks of zeros in what is mapped now and was not `before`; the bytes handed back.

    No other thread may write there meanwhile: only for what was just made, in a process that makes nothing else.
    """
    call = ctypes.CDLL(None).madvise
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    compare = ctypes.CDLL(None).memcmp
    compare.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    zeros = ctypes.create_string_buffer(BLOCK)
    given = 0
    for begin, end in _new(before, anonymous()):
        for at in range((begin + BLOCK - 1) // BLOCK * BLOCK, end - BLOCK + 1, BLOCK):
            if compare(at, zeros, BLOCK) == 0 and call(at, BLOCK, _DONT_NEED) == 0:
                given += BLOCK
    return given


def _new(before: Ranges, now: Ranges) -> Ranges:
    """What of `now` is not in `before`."""
    left = now
    for begin, end in before:
        kept: Ranges = []
        for low, high in left:
            if low < min(begin, high):
                kept.append((low, min(begin, high)))
            if max(end, low) < high:
                kept.append((max(end, low), high))
        left = kept
    return left

"""The process's memory: threads share two arenas, free pages go back, and what is loaded is not looked at again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import ctypes, gc, threading
from skilldeck_daemon import heap
{call}
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(8)
def work():
    together.wait()
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


def arenas(call: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE.format(call=call)], capture_output=True, text=True, check=True)
    return done.stdout.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the arenas are glibc's")
def test_all_threads_share_two_arenas() -> None:
    assert arenas("") > 2, "eight threads at once would make more"
    assert arenas("heap.give_back()") <= 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the rule is glibc's")
def test_large_pieces_lie_apart_whatever_was_freed_before() -> None:
    code = """
import ctypes
from skilldeck_daemon import heap
{call}
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def mapped():
    start = libc.malloc(8 << 20)
    places = [(line, *(int(end, 16) for end in line.split()[0].split("-"))) for line in open("/proc/self/maps")]
    libc.free(start)
    return not any("[heap]" in line for line, first, last in places if first <= start < last)
print(mapped(), mapped())
"""
    for call, apart in (("", "True False"), ("heap.give_back()", "True True")):
        done = subprocess.run(
            [sys.executable, "-c", code.format(call=call)], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == apart.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap is glibc's")
def test_free_pages_between_what_lives_go_back() -> None:
    code = """
import asyncio
from skilldeck_daemon import heap
heap.give_back()
heap.TRIM_S = 0.01
def anonymous():
    return int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1])
async def main():
    pieces = [b"x" * (1000 + number * 7919 % 50_000) for number in range(3000)]
    full, lives = anonymous(), pieces[::20]
    del pieces
    kept, task = anonymous(), asyncio.create_task(heap.trim())
    await asyncio.sleep(0)
    while anonymous() > full / 2:
        await asyncio.sleep(0.01)
    print(kept > full * 0.9, len(lives))
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["True", "150"]


def test_what_is_loaded_is_not_looked_at_again() -> None:
    code = """
import gc
from skilldeck_daemon import heap
gc.disable()
kept = [[] for _ in range(1000)]
heap.collect_less()
print(gc.isenabled(), gc.get_freeze_count() > 1000, any(kept[0] is found for found in gc.get_objects()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False"]


def test_garbage_that_outlived_a_few_passes_goes_with_the_next_two_hundred_thousand_objects() -> None:
    code = """
import gc, weakref
from skilldeck_daemon import heap
class Cycle: pass
heap.collect_less()
cycle = Cycle()
cycle.itself = cycle
kept = [[] for _ in range(150_000)]
gone = weakref.ref(cycle)
del cycle
kept += [[] for _ in range(200_000)]
print(gone() is None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]

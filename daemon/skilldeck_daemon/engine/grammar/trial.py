"""Whether a grammar may be compiled in this process: tried first in a disposable one (`trial_child.py`).

Two such processes at most, each started when it is first needed and kept. One that dies, or takes too long, was ended
by the grammar it had: that is the verdict, and the next grammar gets a new process. Verdicts are remembered, the bad
ones too, so that sending a grammar again costs nothing. Work whose caller is gone before it began is dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from skilldeck_daemon.engine.grammar import trial_child

PROCESSES = 2
WALL_S = 30.0  # the limit of processor time is what counts; this one is for a process that does nothing at all
REMEMBERED = 4096
CHAINED = "is nested or chained too deeply to be compiled"
SLOW = f"takes more than {trial_child.CPU_S} seconds to compile"
STUCK = f"took more than {WALL_S:g} seconds to compile"
LARGE = f"needs more than {trial_child.MEMORY_MIB} MiB to compile"
# What the child needs to find its Python; the daemon's keys are none of its business.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Verdict:
    """Why a grammar cannot be used ("" when it can), and the MiB it took. `fatal`: it ended the process."""

    problem: str
    mib: int = 0
    fatal: bool = False


@dataclass(frozen=True)
class TrialVocabulary:
    """What a grammar can mean of a vocabulary: how many ids there are, and its end tokens."""

    size: int
    ends: tuple[tuple[int, bytes], ...]

    def as_json(self) -> dict[str, object]:
        return {"size": self.size, "ends": {str(index): raw.decode("latin-1") for index, raw in self.ends}}


_pool = ThreadPoolExecutor(PROCESSES, thread_name_prefix="grammar-trial")
_own = threading.local()  # each thread of the pool has a process of its own
_verdicts: OrderedDict[tuple[TrialVocabulary, bytes], Verdict] = OrderedDict()  # used on event loops, and locked
_lock = threading.Lock()


async def tried(grammar: str, vocabulary: TrialVocabulary) -> Verdict:
    """The verdict on a grammar. Cancelling it drops what has not begun."""
    key = (vocabulary, hashlib.sha256(grammar.encode("utf-8", "surrogatepass")).digest())
    with _lock:
        known = _verdicts.get(key)
    if known is None:
        line = json.dumps({**vocabulary.as_json(), "grammar": grammar}).encode() + b"\n"
        known = await asyncio.get_running_loop().run_in_executor(_pool, _try, line)
        if known.problem == STUCK:  # the machine's doing, perhaps
            return known
        with _lock:
            _verdicts[key] = known
            while len(_verdicts) > REMEMBERED:
                _verdicts.popitem(last=False)
    return known


def _try(line: bytes) -> Verdict:
    for _attempt in range(2):  # a process may have ended, idle, just before
        child = getattr(_own, "child", None)
        if child is None or child.poll() is not None:
            child = _own.child = _start()
        answer = _asked(child, line)
        if answer:
            found = json.loads(answer)
            return Verdict(found["problem"], found["mib"])
        code = child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        _own.child = None
        if code != 0:
            break
    how = {-signal.SIGXCPU: SLOW, -signal.SIGKILL: STUCK, -signal.SIGABRT: LARGE}
    return Verdict(how.get(code, CHAINED), fatal=True)


def _start() -> subprocess.Popen[bytes]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-P", str(Path(trial_child.__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**kept, "MALLOC_ARENA_MAX": "1", "RAYON_NUM_THREADS": "1"},
        start_new_session=True,
    )


def _asked(child: subprocess.Popen[bytes], line: bytes) -> bytes:
    """The answer, b"" when the process died over it or had to be ended."""
    assert child.stdin is not None
    assert child.stdout is not None
    end = time.monotonic() + WALL_S
    ready = select.poll()  # select() knows only the first 1,024 descriptors
    ready.register(child.stdout, select.POLLIN)
    answer = b""
    try:
        child.stdin.write(line)
        child.stdin.flush()
        while not answer.endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0 or not ready.poll(left * 1000):
                child.kill()
                return b""
            piece = os.read(child.stdout.fileno(), 1 << 16)
            if not piece:
                return b""
            answer += piece
    except BrokenPipeError:
        return b""
    return answer

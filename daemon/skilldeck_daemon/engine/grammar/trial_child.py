"""A disposable process that compiles strangers' grammars, to see whether the daemon may: run by its path.

llguidance recurses natively: a chain of some thousand rules or `$ref`s overflows the stack and ends the process that
compiles it, whatever the size of its stack. So that is done here first, under limits of memory, processor time and
half the stack that a thread of the daemon has: what holds here holds there.

A line of JSON in is `{"size", "ends": {id: bytes as latin-1}, "grammar"}`, a line out `{"problem", "mib"}`. The
vocabulary is one of bytes under the ids of the real one: what a grammar means does not depend on more, except for the
end tokens it may name. Ends with its input, and after `IDLE_S` without work.
"""

from __future__ import annotations

import json
import resource
import select
import sys
import threading
from typing import Any

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

MEMORY_MIB = 256  # beyond what the process has at its start
CPU_S = 4  # for each grammar
LARGE_MIB = 32  # a process that has grown by as much begins anew, so that the next grammar is measured from nothing
IDLE_S = 600
STEPS = 8  # tokens tried: the first masks are where a grammar that compiles may still be too much
LEAST_STACK = 512 << 10


class _Bytes:
    """A vocabulary of single bytes, padded to the size of the real one."""

    def __init__(self, size: int, ends: dict[int, bytes]) -> None:
        taken = iter(index for index in range(size + 256) if index not in ends)
        self.tokens = [b""] * max(size, 256 + len(ends), *(index + 1 for index in ends))
        for value in range(256):
            self.tokens[next(taken)] = bytes([value])
        for index, raw in ends.items():
            self.tokens[index] = raw
        self.eos_token_id = min(ends, default=0)
        self.bos_token_id = None
        self.special_token_ids = list(ends)

    def __call__(self, text: bytes | str) -> list[int]:
        raw = text if isinstance(text, bytes) else text.encode()
        return [self.tokens.index(bytes([value])) for value in raw]


def problem(tokenizer: LLTokenizer, grammar: str) -> str:
    """Why a grammar cannot be used, "" when it can."""
    matcher = LLMatcher(tokenizer, grammar, log_level=0)
    for step in range(STEPS):
        if matcher.is_error():
            return str(matcher.get_error())
        if matcher.is_stopped():
            break
        allowed = int.from_bytes(matcher.compute_bitmask(), "little")
        if not allowed:
            break
        last = allowed.bit_length() - 1
        matcher.consume_token(last if step % 2 else (allowed & -allowed).bit_length() - 1)
    return str(matcher.get_error()) if matcher.is_error() else ""


class _Work:
    """One grammar after another, each in a thread with the stack that `main` set."""

    def __init__(self) -> None:
        self._key = ""
        self._tokenizer: LLTokenizer | None = None
        self._problem = ""
        self._before = 0

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        self._problem = "The compiler ended without a word."
        thread = threading.Thread(target=self._run, args=(job,))
        thread.start()
        thread.join()
        return {"problem": self._problem[:4000], "mib": (_peak_kib() - self._before) >> 10}

    def _run(self, job: dict[str, Any]) -> None:
        key = json.dumps([job["size"], job["ends"]])
        try:
            if self._tokenizer is None or key != self._key:
                ends = {int(index): raw.encode("latin-1") for index, raw in job["ends"].items()}
                words = TokenizerWrapper(_Bytes(job["size"], ends))
                self._key, self._tokenizer = key, LLTokenizer(words, eos_token=list(ends) or None)
            self._before = _peak_kib()
            self._problem = problem(self._tokenizer, job["grammar"])
        except Exception as error:
            self._problem = str(error) or type(error).__name__


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    # glibc gives threads 2 MiB where the limit says nothing.
    threading.stack_size(max((stack if 0 < stack < 1 << 30 else 2 << 20) // 2 & ~0xFFFF, LEAST_STACK))
    with open("/proc/self/statm", encoding="ascii") as statm:
        here = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + (MEMORY_MIB << 20),) * 2)
    work = _Work()
    while select.select([sys.stdin], [], [], IDLE_S)[0]:
        line = sys.stdin.buffer.readline()
        if not line:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + CPU_S + 1, -1))
        answer = work.answer(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        if answer["mib"] >= LARGE_MIB:
            return


if __name__ == "__main__":
    main()

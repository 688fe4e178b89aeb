"""Sandboxes that were being started when an earlier daemon was killed.

bwrap clones the sandbox's first process, writes its user mapping, and only then lets it go on. When bwrap dies in
between (with its parent, by --die-with-parent) that process waits for a word that never comes: it has run nothing and
never will, but nothing ends it either. Under load 7 of 100 daemons that were killed in a start left one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import time
from pathlib import Path

PATIENCE_S = 2.0


def find(base: Path) -> list[int]:
    """The bwrap processes whose container lies under `base`; a doctor that looks at the same place has its own."""
    place = os.fsencode(base) + b"/"
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(os.path.basename(word) == b"bwrap" for word in words) and any(
            flag == b"--bind" and path.startswith(place) and not path.startswith(place + b".doctor-")
            for flag, path in itertools.pairwise(words)
        ):
            found.append(int(name))
    return found


def end(base: Path) -> int:
    """Kills them; returns how many there were. Only for who holds the lock on `base`: its own would die as well."""
    handles = []
    for pid in find(base):
        with contextlib.suppress(OSError):
            handles.append(os.pidfd_open(pid))
    poll = select.poll()
    for handle in handles:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        poll.register(handle, select.POLLIN)
    left = set(handles)
    until = time.monotonic() + PATIENCE_S
    while left and time.monotonic() < until:
        for handle, _ in poll.poll(50):
            poll.unregister(handle)
            left.discard(handle)
    for handle in handles:
        os.close(handle)
    return len(handles)

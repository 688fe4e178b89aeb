"""Process trees and memory as /proc shows them from outside a sandbox. Every function tolerates vanishing processes."""

from __future__ import annotations

import contextlib
import os
import signal
from functools import cache
from pathlib import Path


@cache
def _has_children_files() -> bool:
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb", 0) as file:
                found += map(int, file.read().split())
    except (OSError, ValueError):
        pass
    return found


def _parents() -> dict[int, list[int]]:
    table: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb", 0) as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
                table.setdefault(parent, []).append(int(name))
    return table


def descendants(root: int) -> list[int]:
    """The processes below `root`, without it. In a pid namespace whose init is `root` that is everybody."""
    table = None if _has_children_files() else _parents()
    found: list[int] = []
    queue = [root]
    while queue:
        pid = queue.pop()
        below = _children(pid) if table is None else table.get(pid, [])
        found += below
        queue += below
    return found


def memory(pid: int) -> int:
    """Bytes of private and shared memory the process holds (no file pages); 0 when it is gone or a zombie."""
    total = 0
    try:
        with open(f"/proc/{pid}/status", "rb", 0) as file:
            for line in file.read().splitlines():
                if line.startswith((b"RssAnon:", b"RssShmem:")):
                    total += int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return total


def proportional_memory(pid: int) -> int:
    """As `memory`, but pages shared by forks are divided among them; dearer to read, and not always allowed."""
    total = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb", 0) as file:
            for line in file.read().splitlines():
                if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")):
                    total += int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return memory(pid)
    return total


def started(pid: int) -> int:
    """When the process started, in clock ticks since boot: sets a pid apart from its later reuse. 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", 0) as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def machine_memory(field: str) -> int:
    """Bytes that /proc/meminfo has under this name."""
    with open("/proc/meminfo", "rb", 0) as file:
        for line in file.read().splitlines():
            if line.startswith(field.encode() + b":"):
                return int(line.split()[1]) * 1024
    raise KeyError(field)


def kill(pid: int, when: int) -> None:
    """SIGKILL to the process if it is still the one that started at `when`."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if started(pid) == when:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def kill_all(pids: list[int]) -> None:
    """SIGKILL to processes that cannot have been reaped: their parent is stopped."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def kill_below(root: int, root_started: int, pids: list[int]) -> None:
    """SIGKILL to processes that are still below `root`. Pids are reused: theirs are pinned first, and `root` must
    still be the process that started at `root_started`."""
    handles: dict[int, int] = {}
    try:
        for pid in pids:
            with contextlib.suppress(OSError):
                handles[pid] = os.pidfd_open(pid)
        still = set(descendants(root))
        if started(root) != root_started:
            return
        for pid, handle in handles.items():
            if pid in still:
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        for handle in handles.values():
            os.close(handle)

"""Limits the kernel does not enforce: memory without a cgroup, disk usage, free space.

One `Watchdog` serves all containers. It looks ten times a second, and only at containers that have processes; the
looking happens in a thread. Memory is best effort (a bomb may pass the limit by what it can touch in 100 ms; each
process alone is bounded by RLIMIT_DATA); where a memory cgroup exists the kernel does this part exactly.

Over memory: the largest processes are killed until the rest fits, as the kernel's OOM killer would. Memory that no
process shows (socket buffers, unmapped shared pages) is only seen by what it leaves the machine: below a floor the
calls are stopped, the newest first. Files in the memory-backed directories are limited in size by their mounts, and in
number here: over it the sandbox ends, as only that frees them. Terminals, of which the kernel has so many for all
containers together, are counted here too.
Over disk: every process of the container is killed; its files stay, and later calls may free space.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from pathlib import Path

from skilldeck_daemon.containers import artifacts
from skilldeck_daemon.containers.errors import DiskFull
from skilldeck_daemon.containers.sandbox import bwrap, proc
from skilldeck_daemon.containers.sandbox.cgroups import Group
from skilldeck_daemon.containers.spec import GIB, ContainerSpec

log = logging.getLogger(__name__)

INTERVAL_S = 0.1
SCAN_EVERY_S = 0.2
SCAN_SHARE = 10
"""A scan that took t seconds is not repeated for ten times t."""
MAX_FILES = 200_000
GROWTH = 1024 * 1024
"""What a call may add to a container that is over its quota already: enough to delete and tidy."""
HOPELESS = 4 * GIB
"""This far above its quota a container runs nothing any more."""
MEMORY_FLOOR = 256 * 1024 * 1024
MEMORY_FLOOR_SHARE = 50
"""Without a memory cgroup: the least memory that calls must leave the machine, or a fiftieth of all it has."""
SCRATCH = ("tmp", "dev/shm")
TERMINALS = 128
"""Of one container: as many as it may have processes."""


def human(size: int) -> str:
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 10 or unit == "bytes" else f"{value:.1f} {unit}"


class Watchdog:
    """Looks after the containers it made monitors for, until `close`."""

    def __init__(self, base: Path, *, floor: int, quota: int) -> None:
        self.base = base
        self.floor = floor
        self.quota = quota
        self.memory_floor = min(MEMORY_FLOOR, proc.machine_memory("MemTotal") // MEMORY_FLOOR_SHARE)
        self._active: set[Monitor] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def monitor(self, spec: ContainerSpec, data_dir: Path) -> Monitor:
        return Monitor(self, spec, data_dir)

    def free(self) -> int:
        """Bytes an ordinary process may still write on the containers' disk."""
        info = os.statvfs(self.base)
        return info.f_bavail * info.f_frsize

    def activate(self, monitor: Monitor) -> None:
        self._active.add(monitor)
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._loop(), name="container-watchdog")

    def forget(self, monitor: Monitor) -> None:
        self._active.discard(monitor)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _loop(self) -> None:
        while True:
            if not self._active:
                self._wake.clear()
                await self._wake.wait()
            await asyncio.sleep(INTERVAL_S)
            monitors = list(self._active)
            try:
                idle = await asyncio.to_thread(self._look, monitors)
            except Exception:  # whatever it was, the next round must still happen
                log.exception("looking after containers failed")
                continue
            for monitor in idle:
                if not monitor.calling:
                    self._active.discard(monitor)

    def _look(self, monitors: list[Monitor]) -> list[Monitor]:
        """One round, in a thread. Returns the monitors that have nothing to watch."""
        low = self.free() < self.floor
        idle = [monitor for monitor in monitors if not monitor.look(low)]
        bound = [monitor for monitor in monitors if monitor.calling and monitor.group is None]
        if bound and proc.machine_memory("MemAvailable") < self.memory_floor:
            max(bound, key=lambda monitor: monitor.since).stop("stopped: the machine is out of memory")
        return idle


class Monitor:
    """The limits of one container. `began` and `ended` bracket each command."""

    def __init__(self, dog: Watchdog, spec: ContainerSpec, data_dir: Path) -> None:
        self.calling = False
        self.since = 0.0
        """When the running call began, by the monotonic clock."""
        self.group: Group | None = None
        """The memory cgroup of the running sandbox; then the kernel enforces memory."""
        self._dog = dog
        self._spec = spec
        self._data_dir = data_dir
        self._init: int | None = None
        self._started = 0
        self._note = ""
        self._used = 0
        self._allowed: int | None = dog.quota
        self._next_scan = 0.0
        self._oom_kills = 0

    # Called on the event loop.

    def admit(self, size: int) -> None:
        if self._dog.free() - size < self._dog.floor:
            raise DiskFull(
                f"The disk has less than {human(self._dog.floor)} free.",
                "Free some space on the daemon's disk, or lower its disk floor.",
            )
        if self._used >= self._dog.quota + HOPELESS or (size and self._used + size > self._dog.quota):
            raise DiskFull(
                f"The container may hold {human(self._dog.quota)} and has {human(self._used)}.",
                "Delete files in it, or use a new container.",
            )
        self._used += size

    def began(self, init_pid: int | None) -> None:
        if init_pid != self._init:
            self._init = init_pid
            self._started = proc.started(init_pid) if init_pid is not None else 0
        self.calling = True
        self.since = time.monotonic()
        # Over its quota already, the call is measured against what its first look finds.
        self._allowed = None if self._used >= self._dog.quota else self._dog.quota
        self._next_scan = 0.0
        if self.group is not None:
            self._oom_kills = self.group.oom_kills()
        self._dog.activate(self)

    def ended(self) -> None:
        self.calling = False
        if self.group is not None and self.group.oom_kills() > self._oom_kills:
            self._note = self._memory_note()

    def take_note(self) -> str:
        note, self._note = self._note, ""
        return note

    def close(self) -> None:
        self._dog.forget(self)

    # Called in the watchdog's thread.

    def look(self, low_disk: bool) -> bool:
        """One look. False when no process but PID 1 is left."""
        init = self._init
        if init is None or proc.started(init) != self._started:
            return False
        pids = proc.descendants(init)
        if not pids:
            return False
        if self.group is None:
            self._check_memory(init, pids)
            self._check_scratch(init)
        self._check_terminals(init)
        if low_disk:
            self._kill_all(init, f"stopped: the disk has less than {human(self._dog.floor)} free")
        elif time.monotonic() >= self._next_scan:
            self._check_disk(init)
        return True

    def _memory_note(self) -> str:
        return f"memory limit of {self._spec.memory_limit} exceeded: processes were killed"

    def _check_memory(self, init: int, pids: list[int]) -> None:
        limit = self._spec.memory_bytes
        if sum(map(proc.memory, pids)) <= limit:
            return
        sizes = {pid: proc.proportional_memory(pid) for pid in pids}
        total = sum(sizes.values())
        doomed = []
        for pid, size in sorted(sizes.items(), key=lambda pair: -pair[1]):
            if total <= limit:
                break
            doomed.append(pid)
            total -= size
        if doomed:
            self._note = self._memory_note()
            proc.kill_below(init, self._started, doomed)

    def _check_scratch(self, init: int) -> None:
        files = 0
        for place in SCRATCH:
            with contextlib.suppress(OSError):  # not every kernel lets us look inside
                info = os.statvfs(f"/proc/{init}/root/{place}")
                files += info.f_files - info.f_ffree
        if files > MAX_FILES:
            self._note = f"stopped: more than {MAX_FILES} files in /tmp and /dev/shm"
            proc.kill(init, self._started)

    def _check_terminals(self, init: int) -> None:
        with contextlib.suppress(OSError):
            if len(os.listdir(f"/proc/{init}/root/dev/pts")) > TERMINALS:
                self._kill_all(init, f"stopped: more than {TERMINALS} terminals")

    def stop(self, note: str) -> None:
        """Kills every process of the running call, and what else runs in the container."""
        if self._init is not None:
            self._kill_all(self._init, note)

    def _check_disk(self, init: int) -> None:
        started = time.monotonic()
        used, files = artifacts.usage(self._data_dir, MAX_FILES)
        more_used, more_files = artifacts.usage(bwrap.home_of(self._data_dir), MAX_FILES)
        used, files = used + more_used, files + more_files
        took = time.monotonic() - started
        self._used = used
        self._next_scan = time.monotonic() + max(SCAN_EVERY_S, SCAN_SHARE * took)
        if self._allowed is None:
            self._allowed = max(self._dog.quota, used + GROWTH)
        if used > self._allowed:
            self._kill_all(init, f"stopped: the container's files exceed {human(self._dog.quota)}")
        elif files > MAX_FILES:
            self._kill_all(init, f"stopped: the container has more than {MAX_FILES} files")

    def _kill_all(self, init: int, note: str) -> None:
        self._note = note  # first: the call may end, and ask, while the last processes are still dying
        call = self.since
        for _ in range(20):
            pids = proc.descendants(init)
            if not pids or self.since != call:  # the next call may have begun: its processes are not meant
                break
            proc.kill_below(init, self._started, pids)

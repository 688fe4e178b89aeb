"""Memory and process limits by cgroup v2, where this daemon may set them.

Three modes, best first: `delegated` (the daemon's own cgroup may be divided: a systemd service with Delegate=yes,
or a container runtime that hands its subtree over), `scope` (the user's systemd starts each sandbox in a transient
scope), and `none` (rlimits and the watchdog only; reported as best effort).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path("/sys/fs/cgroup")
TASKS_MAX = 256
Mode = Literal["delegated", "scope", "none"]


@dataclass(frozen=True)
class Group:
    """The cgroup of one sandbox."""

    path: Path

    def oom_kills(self) -> int:
        """How many processes the kernel has killed here for memory."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in (self.path / "memory.events").read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0

    def adopt(self, pids: Sequence[int]) -> None:
        """Moves processes in. Before any command runs: what is charged elsewhere stays there."""
        for pid in pids:
            (self.path / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Kills what is left and removes the group; nothing happens when it is gone already."""
        with contextlib.suppress(OSError):
            kill = os.open(self.path / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
            with open(kill, "wb", 0) as file:
                file.write(b"1")
        for _ in range(50):
            try:
                self.path.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno != errno.EBUSY:
                    return


def own_group(root: Path = ROOT, own: Path = Path("/proc/self/cgroup")) -> Path | None:
    """The directory of this process's cgroup v2, None on a v1 or hybrid system."""
    if not (root / "cgroup.controllers").exists():
        return None
    for line in own.read_text().splitlines():
        if line.startswith("0::"):
            return root / line[3:].lstrip("/")
    return None


class Cgroups:
    """Finds the mode once, then makes and finds the groups of sandboxes."""

    def __init__(self, base: Path | None, mode: Mode) -> None:
        self.base = base
        self.mode = mode

    @classmethod
    def detect(cls) -> Cgroups:
        """Looks what is possible here. May move this process into a leaf of its own group (the kernel allows
        dividing a group only when no process is in it directly)."""
        own = own_group()
        if own is not None and _divide(own):
            found = cls(own, "delegated")
            found.sweep()
            return found
        if _scope_works():
            return cls(None, "scope")
        return cls(None, "none")

    def sweep(self) -> None:
        """Removes the groups that a killed daemon left; its sandboxes have died with it."""
        if self.base is None:
            return
        for path in self.base.glob("skilldeck-*"):
            pid = path.name.split("-")[1]
            if pid == str(os.getpid()) or not Path("/proc", pid).exists():
                Group(path).remove()

    def limit(self, name: str, memory: int, pids: Sequence[int]) -> Group | None:
        """Put the first processes of a sandbox, which has not run anything yet, under its limits.

        None where there are none: without cgroups, and in `scope` mode while the sandbox has no process outside.
        """
        if self.mode == "scope" and pids:
            return self._group_of(pids[0])
        group = self._create(name, memory)
        if group is not None:
            group.adopt(pids)
        return group

    def _create(self, name: str, memory: int) -> Group | None:
        if self.mode != "delegated" or self.base is None:
            return None
        group = Group(self.base / f"skilldeck-{name}")
        group.remove()
        group.path.mkdir()
        (group.path / "memory.max").write_text(str(memory))
        with contextlib.suppress(OSError):
            (group.path / "memory.swap.max").write_text("0")
        with contextlib.suppress(OSError):
            (group.path / "memory.oom.group").write_text("0")
        (group.path / "pids.max").write_text(str(TASKS_MAX))
        return group

    def wrap(self, name: str, memory: int) -> list[str]:
        """What goes in front of the sandbox's command line in `scope` mode."""
        if self.mode != "scope":
            return []
        return [
            "systemd-run",
            *([] if os.geteuid() == 0 else ["--user"]),
            "--scope",
            "--quiet",
            "--collect",
            f"--unit=skilldeck-{name}-{os.urandom(4).hex()}",
            "-p",
            f"MemoryMax={memory}",
            "-p",
            "MemorySwapMax=0",
            "-p",
            f"TasksMax={TASKS_MAX}",
            "-p",
            "OOMPolicy=continue",
            "--",
        ]

    def _group_of(self, pid: int) -> Group | None:
        with contextlib.suppress(OSError):
            path = own_group(own=Path(f"/proc/{pid}/cgroup"))
            if path is not None and (path / "memory.max").exists():
                return Group(path)
        return None


def _divide(own: Path) -> bool:
    """Whether memory and pids limits can be set for sub-groups of `own`; prepares it."""
    try:
        if not {"memory", "pids"} <= set((own / "cgroup.controllers").read_text().split()):
            return False
        if not os.access(own, os.W_OK) or not os.access(own / "cgroup.procs", os.W_OK):
            return False
        enabled = set((own / "cgroup.subtree_control").read_text().split())
        if {"memory", "pids"} <= enabled:
            return True
        if {int(pid) for pid in (own / "cgroup.procs").read_text().split()} - {os.getpid()}:
            return False  # others live here (a login session): not ours to move
        leaf = own / "skilldeckd"
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
        (own / "cgroup.subtree_control").write_text("+memory +pids")
    except (OSError, ValueError):
        return False
    return True


def _scope_works() -> bool:
    """Whether the service manager starts a limited scope for us: asked once, by doing it."""
    if shutil.which("systemd-run") is None or not Path("/run/systemd/system").is_dir():
        return False
    if own_group() is None:
        return False
    probe = Cgroups(None, "scope").wrap("probe", 256 * 1024 * 1024)
    try:
        return subprocess.run([*probe, "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False

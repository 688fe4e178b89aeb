"""`--sandbox none`: commands as plain processes of the daemon's user. **No isolation.**

The same interface over nothing. `/mnt/data` and `/mnt/skills/<name>` do not exist on the host, so where a command
names them literally they are replaced by the real folders; a script that builds such a path itself will not find
it, and `pwd` shows the real one. The environment is reduced as in a sandbox, HOME is a folder beside the data. No
memory, process or disk limits are enforced and every network is open, whatever the policy says. Children that start
a session of their own are found by their parentage or by a marker in their environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from skilldeck_daemon.containers.packages.layers import Base
from skilldeck_daemon.containers.sandbox import bwrap, proc
from skilldeck_daemon.containers.sandbox.runtime import Job
from skilldeck_daemon.containers.spec import SKILLS, WORKDIR

MARKER = "SKILLDECK_JOB"


class PlainRuntime:
    """Runs commands without isolation. See the module for what that means."""

    def __init__(self, data_dir: Path, mounts: Sequence[tuple[str, Path]], base: Base | None = None) -> None:
        self.init_pid: int | None = None
        self.reason = ""
        self._data_dir = data_dir
        self._path = os.environ.get("PATH", bwrap.INNER_PATH)
        if base is not None:
            self._path = f"{base.folder}/bin:{base.folder}/node_modules/.bin:{self._path}"
        self._base = base
        self._loop = asyncio.get_running_loop()
        self._token = os.urandom(8).hex()
        self._next = 0
        self._alive = False
        self._running: dict[int, tuple[subprocess.Popen[bytes], Job, int]] = {}
        self._shell = shutil.which("bash") or "/bin/sh"
        places = {WORKDIR: str(data_dir), **{f"{SKILLS}/{name}": str(path) for name, path in mounts}}
        self._places = places
        longest = sorted(places, key=len, reverse=True)
        self._pattern = re.compile("(" + "|".join(map(re.escape, longest)) + r")(?![\w.-])")

    @property
    def alive(self) -> bool:
        return self._alive

    async def start(self) -> None:
        bwrap.home_of(self._data_dir).mkdir(mode=0o700, exist_ok=True)
        self._alive = True

    @property
    def interpreter_command(self) -> str:
        python = shutil.which("python3", path=self._path) or sys.executable
        return f"exec {shlex.quote(python)} -B {shlex.quote(str(bwrap.INTERPRETER_SOURCE))}"

    def localized(self, text: str) -> str:
        return self._pattern.sub(lambda match: self._places[match[1]], text)

    def run(self, command: str, out: int, err: int, lasting: bool = False) -> Job:
        self._next += 1
        job = Job(self._next, self._loop, lasting)
        env = {
            **bwrap.ENVIRONMENT,
            "PATH": self._path,
            "HOME": str(bwrap.home_of(self._data_dir)),
            MARKER: f"{self._token}-{job.number}",
        }
        if self._base is not None:
            env["NODE_PATH"] = f"{self._base.folder}/node_modules"
        program = self.localized(command).encode("utf-8", "surrogateescape")
        script = bwrap.memory_file("command", program)
        try:
            process = subprocess.Popen(
                [self._shell, f"/proc/self/fd/{script}"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self._data_dir,
                env=env,
                start_new_session=True,
                pass_fds=[script],
            )
        finally:
            os.close(script)
        handle = os.pidfd_open(process.pid)
        self._running[job.number] = (process, job, handle)
        self._loop.add_reader(handle, self._exited, job.number)
        return job

    def _exited(self, number: int) -> None:
        process, job, handle = self._running.pop(number)
        code = process.wait()
        self._loop.remove_reader(handle)
        os.close(handle)
        if not job.exited.done():
            job.exited.set_result(code if code >= 0 else 128 - code)

    def _members(self, job: Job | None) -> list[int]:
        """The living processes of a job (or of all): descendants, and whoever still carries the marker."""
        found: set[int] = set()
        for number, (process, _, _) in self._running.items():
            if job is None or number == job.number:
                found.add(process.pid)
                found.update(proc.descendants(process.pid))
        mark = f"{MARKER}={self._token}-{job.number}\0" if job else f"{MARKER}={self._token}-"
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    with open(f"/proc/{name}/environ", "rb", 0) as file:
                        if mark.encode() in file.read():
                            found.add(int(name))
        return [pid for pid in found if pid != os.getpid()]

    def _signal(self, job: Job | None, number: int, spared: int = 0) -> bool:
        members = [pid for pid in self._members(job) if pid != spared]
        for pid in members:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        return bool(members)

    def terminate(self, job: Job) -> None:
        self._signal(job, signal.SIGTERM)
        self._signal(job, signal.SIGCONT)

    async def mark(self, job: Job) -> bool:
        return True  # all descendants of the job count as the call's, those of earlier calls as well

    def interrupt(self, job: Job) -> None:
        self._signal(job, signal.SIGINT)

    async def sweep(self, job: Job) -> bool:
        own = self._running.get(job.number)
        for _ in range(100):
            if not self._signal(job, signal.SIGKILL, own[0].pid if own else 0):
                break
            await asyncio.sleep(0.005)
        return True

    def kill_now(self, job: Job) -> None:
        self._signal(job, signal.SIGKILL)

    async def kill(self, job: Job) -> bool:
        for _ in range(100):
            if not self._signal(job, signal.SIGKILL):
                break
            await asyncio.sleep(0.005)
        return True

    async def stop(self) -> None:
        self._alive = False
        self.reason = "stopped"
        for _ in range(100):
            if not self._signal(None, signal.SIGKILL) and not self._running:
                break
            await asyncio.sleep(0.005)

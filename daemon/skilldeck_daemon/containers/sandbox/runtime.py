"""One running sandbox as the daemon sees it: start, run, terminate, kill, stop.

`BwrapRuntime` owns the bwrap process, the control socket to the supervisor inside and two pidfds. It may die at any
moment (the kernel's OOM killer, a crash inside): `dead` then resolves with the reason, and every job that was running
is `lost`. Nothing it reads from inside is trusted: a malformed message ends the sandbox.

All methods must be called on the event loop's thread: the kernel ties --die-with-parent to the thread that spawned.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from skilldeck_daemon.containers.errors import ContainerError, SandboxUnavailable
from skilldeck_daemon.containers.sandbox import bwrap, proc
from skilldeck_daemon.containers.sandbox.inotify import Share
from skilldeck_daemon.containers.spec import ContainerSpec

START_TIMEOUT_S = 15.0
KILL_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0
INLINE_MAX = 65_536
_MESSAGE_MAX = 512
_UNASKED = 2
"""Messages the supervisor sends of itself: the proxy's listening socket and `ready`. Any other answers one of ours."""


class Job:
    """One command. `exited` resolves with the exit code, or None when the sandbox was lost with it."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop, lasting: bool = False) -> None:
        self.number = number
        self.lasting = lasting
        self.exited: asyncio.Future[int | None] = loop.create_future()
        self.killed: asyncio.Future[None] = loop.create_future()
        self.marked: asyncio.Future[None] = loop.create_future()
        self.error = ""
        """Why it could not be started."""


class Runtime(Protocol):
    """What a container runs its commands on."""

    init_pid: int | None
    """PID of the sandbox's first process as the host sees it; the root of the process tree to watch."""

    @property
    def alive(self) -> bool: ...

    @property
    def reason(self) -> str:
        """Why it is not alive any more."""
        ...

    async def start(self) -> None: ...

    def run(self, command: str, out: int, err: int, lasting: bool = False) -> Job:
        """Start a command. A `lasting` one is still known after later ones were started."""
        ...

    @property
    def interpreter_command(self) -> str:
        """The command that starts `interpreter_program.py`."""
        ...

    def localized(self, text: str) -> str:
        """A program with the paths it names as they are inside."""
        ...

    async def mark(self, job: Job) -> bool:
        """A call of a lasting job begins: from here on its processes are those started since, and the job's own."""
        ...

    def interrupt(self, job: Job) -> None:
        """SIGINT to all of a job's processes."""
        ...

    async def sweep(self, job: Job) -> bool:
        """As `kill`, but the job's own process is spared."""
        ...

    def terminate(self, job: Job) -> None:
        """SIGTERM to all processes the job started."""
        ...

    async def kill(self, job: Job) -> bool:
        """SIGKILL to all of them; True when they are gone, False when only `stop` helps."""
        ...

    def kill_now(self, job: Job) -> None:
        """The same without waiting."""
        ...

    async def stop(self) -> None: ...


class BwrapRuntime:
    """A bubblewrap sandbox with the supervisor as its PID 1."""

    def __init__(
        self,
        tools: bwrap.Tools,
        spec: ContainerSpec,
        data_dir: Path,
        mounts: Sequence[tuple[str, Path]],
        *,
        hide_memory: bool,
        wrap: Sequence[str] = (),
        trusted: bytes = b"",
        watching: Share = Share(),
        on_listener: Callable[[socket.socket], None] | None = None,
    ) -> None:
        """`wrap` is put in front of the whole command line (a systemd scope); the others see `bwrap.build`."""
        self._tools = tools
        self._spec = spec
        self._data_dir = data_dir
        self._mounts = mounts
        self._hide_memory = hide_memory
        self._wrap = list(wrap)
        self._trusted = trusted
        self._watching = watching
        self._on_listener = on_listener
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[int, Job] = {}
        self._next = 0
        self._owed = _UNASKED
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._outer: int | None = None
        self._init: int | None = None
        self._errors = -1
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.reason = ""
        self.init_pid: int | None = None

    @property
    def alive(self) -> bool:
        return self._sock is not None and self._ready.done()

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left."""
        return self._ended.done()

    @property
    def first_pids(self) -> list[int]:
        """PIDs of the bwrap process itself and of its init."""
        outer = self._process.pid if self._process else None
        return [pid for pid in (outer, self.init_pid) if pid is not None]

    # -- life --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts bwrap and waits for the supervisor. Raises `SandboxUnavailable` with bwrap's own words."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        status_read, status_write = os.pipe()
        self._errors = os.memfd_create("stderr", os.MFD_CLOEXEC)
        self._sock = ours
        ours.setblocking(False)
        fds: list[int] = []
        try:
            argv, fds = bwrap.build(
                self._tools,
                self._spec,
                self._data_dir,
                self._mounts,
                socket_fd=theirs.fileno(),
                status_fd=status_write,
                hide_memory=self._hide_memory,
                trusted=self._trusted,
                watching=self._watching,
            )
            # No preexec_fn and no user=: either would make a real fork of a process that may hold gigabytes.
            self._process = subprocess.Popen(  # noqa: ASYNC220 (1-2 ms, and it must be this thread)
                self._wrap + argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno(), status_write, *fds],
                env=bwrap.launch_environment(bool(self._wrap)),
                start_new_session=True,
                cwd="/",
            )
            self._outer = os.pidfd_open(self._process.pid)
            self._loop.add_reader(self._outer, self._on_exit)
            self._loop.add_reader(ours.fileno(), self._on_message)
        except OSError as error:
            self._die(f"could not start bwrap: {error}")
            os.close(status_read)
            raise SandboxUnavailable(f"The sandbox could not be started: {error}.") from error
        finally:
            theirs.close()
            os.close(status_write)
            for fd in fds:
                os.close(fd)
        try:
            await asyncio.wait({self._ready, self._ended}, timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if self._ready.done() and self._sock is not None:
                self._open_init(status_read)
                return
            reason = self.errors() or self.reason or f"no answer within {START_TIMEOUT_S:.0f} s"
        except BaseException:
            self._die("start was cancelled")
            raise
        finally:
            os.close(status_read)
        await self.stop()
        raise SandboxUnavailable(f"The sandbox did not start: {reason}")

    def _open_init(self, status_read: int) -> None:
        os.set_blocking(status_read, False)
        text = b""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(status_read, 4096):
                text += piece
        for line in text.splitlines():
            with contextlib.suppress(ValueError):
                pid = json.loads(line).get("child-pid")
                if isinstance(pid, int):
                    self.init_pid = pid
                    self._init = os.pidfd_open(pid)
                    return
        raise ContainerError("bwrap did not report the sandbox's first process.")

    def errors(self) -> str:
        """What bwrap or the supervisor wrote to stderr, at most 4 KB."""
        if self._errors < 0:
            return ""
        return os.pread(self._errors, 4096, 0).decode("utf-8", "replace").strip()

    def _on_exit(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            return
        self._die(self.errors() or f"the sandbox ended ({self._process.returncode})")
        if self._outer is not None:
            self._loop.remove_reader(self._outer)
            os.close(self._outer)
            self._outer = None
        if self._init is not None:
            os.close(self._init)
            self._init = None
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1
        if not self._ended.done():
            self._ended.set_result(None)

    def _die(self, reason: str) -> None:
        """The sandbox is of no use any more: end its processes, resolve what waits. Idempotent."""
        if self._sock is None:
            return
        self.reason = reason
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        self._sock = None
        self._signal_all()
        self._fail_jobs()
        self._jobs.clear()
        if self._process is None and not self._ended.done():
            os.close(self._errors)
            self._errors = -1
            self._ended.set_result(None)

    def _signal_all(self) -> None:
        """SIGKILL to PID 1 of the namespace, which takes everything with it; bwrap then ends by itself."""
        with contextlib.suppress(ProcessLookupError):
            if self._init is not None:
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
            elif self._outer is not None and self._process is not None:
                # In the middle of a start. Its child waits for bwrap and would do so for ever: see `orphans`.
                signal.pidfd_send_signal(self._outer, signal.SIGSTOP)
                proc.kill_all(proc.descendants(self._process.pid))
                signal.pidfd_send_signal(self._outer, signal.SIGKILL)

    async def stop(self) -> None:
        """Ends the sandbox; returns when its pid namespace is empty."""
        self._die("stopped")
        done, _ = await asyncio.wait({self._ended}, timeout=STOP_TIMEOUT_S)
        if not done and self._outer is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._outer, signal.SIGKILL)
            await asyncio.wait({self._ended}, timeout=STOP_TIMEOUT_S)

    # -- commands ----------------------------------------------------------------------------------------

    def run(self, command: str, out: int, err: int, lasting: bool = False) -> Job:
        """Starts `command` with the given pipe ends (which stay the caller's to close)."""
        self._next += 1
        job = Job(self._next, self._loop, lasting)
        data = command.encode("utf-8", "surrogateescape")
        fds = [out, err]
        head = f"{'start' if lasting else 'run'} {job.number} {len(data)}\n".encode()
        script = -1
        try:
            if len(data) > INLINE_MAX:
                script = bwrap.memory_file("command", data)
                fds.append(script)
                data = b""
            self._jobs = {number: old for number, old in self._jobs.items() if old.lasting and not old.exited.done()}
            self._jobs[job.number] = job
            self._send(head + data, fds)
        finally:
            if script >= 0:
                os.close(script)
        return job

    def terminate(self, job: Job) -> None:
        self._send(f"term {job.number}".encode())

    def kill_now(self, job: Job) -> None:
        self._send(f"kill {job.number}".encode())

    async def kill(self, job: Job) -> bool:
        self.kill_now(job)
        done, _ = await asyncio.wait({job.killed}, timeout=KILL_TIMEOUT_S)
        return bool(done) and self.alive

    @property
    def interpreter_command(self) -> str:
        return f"exec python3 -B {bwrap.INTERPRETER_PATH}"

    def localized(self, text: str) -> str:
        return text

    async def mark(self, job: Job) -> bool:
        if not self.alive:
            return False
        job.marked = self._loop.create_future()
        self._send(f"mark {job.number}".encode())
        done, _ = await asyncio.wait({job.marked}, timeout=KILL_TIMEOUT_S)
        return bool(done) and self.alive

    def interrupt(self, job: Job) -> None:
        self._send(f"int {job.number}".encode())

    async def sweep(self, job: Job) -> bool:
        if not self.alive:
            return False
        job.killed = self._loop.create_future()
        self._send(f"sweep {job.number}".encode())
        done, _ = await asyncio.wait({job.killed}, timeout=KILL_TIMEOUT_S)
        return bool(done) and self.alive

    def _send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if self._sock is None:
            self._fail_jobs()
            return
        try:
            if fds:
                socket.send_fds(self._sock, [data], fds)
            else:
                self._sock.send(data)
            self._owed += 1
        except OSError as error:
            # The supervisor has stopped reading (EAGAIN) or is gone: either way only a new one helps.
            self._die(f"the supervisor inside does not answer ({error.strerror})")

    def _fail_jobs(self) -> None:
        for job in self._jobs.values():
            if not job.exited.done():
                job.exited.set_result(None)
            for answer in (job.killed, job.marked):
                if not answer.done():
                    answer.set_result(None)

    # -- messages from inside ----------------------------------------------------------------------------

    def _on_message(self) -> None:
        assert self._sock is not None
        try:
            data, fds, _, _ = socket.recv_fds(self._sock, _MESSAGE_MAX, 4)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, fds = b"", []
        try:
            if not data:
                self._die(self.errors() or "the supervisor inside ended")
                return
            self._owed -= 1
            if self._owed < 0:
                raise ValueError("nobody asked")
            self._dispatch(data.decode("ascii").split(), fds)
        except (ValueError, IndexError, OverflowError, OSError):
            self._die("the supervisor inside sent a malformed message")
        finally:
            for fd in fds:
                os.close(fd)

    def _dispatch(self, words: list[str], fds: list[int]) -> None:
        kind = words[0]
        if kind == "ready":
            if not self._ready.done():
                self._ready.set_result(None)
        elif kind == "listener":
            if self._on_listener is None or self._ready.done() or len(fds) != 1:
                raise ValueError(kind)
            listener = _listening(fds[0])
            fds.clear()
            self._on_listener(listener)
            self._on_listener = None
        elif kind == "exit":
            job, code = self._jobs.get(int(words[1])), int(words[2])
            if not 0 <= code <= 255:
                raise ValueError(code)
            if job is not None and not job.exited.done():
                job.exited.set_result(code)
        elif kind == "fail":
            job = self._jobs.get(int(words[1]))
            if job is not None and not job.exited.done():
                job.error = f"the command could not be started: {os.strerror(int(words[2]))}"
                job.exited.set_result(126)
        elif kind == "killed":
            job = self._jobs.get(int(words[1]))
            if job is not None and not job.killed.done():
                job.killed.set_result(None)
        elif kind == "marked":
            job = self._jobs.get(int(words[1]))
            if job is not None and not job.marked.done():
                job.marked.set_result(None)
        else:
            raise ValueError(kind)


def _listening(fd: int) -> socket.socket:
    """The listening TCP socket that `fd` is. Raises `ValueError` or `OSError` for anything else, and leaves it open."""
    sock = socket.socket(fileno=fd)
    try:
        if (sock.family, sock.type) != (socket.AF_INET, socket.SOCK_STREAM):
            raise ValueError("not TCP")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ValueError("not listening")
        sock.set_inheritable(False)
    except BaseException:
        sock.detach()
        raise
    return sock

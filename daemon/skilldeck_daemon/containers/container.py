"""One container: a directory that survives the daemon, and a sandbox over it that may be restarted.

Commands of a call run in order; calls of one container run one after another. A call ends when its command's
shell exits, never on the end of its output; what a background process writes later is read and discarded. When the
sandbox dies (killed by the kernel, or by us because it no longer answered) the command that ran gets exit code 137 and
a note on stderr, and the next one starts a new sandbox on the same directory: files stay, background processes and
/tmp do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from skilldeck_daemon.containers import artifacts
from skilldeck_daemon.containers.errors import ContainerGone, InvalidContainerRequest, SandboxUnavailable
from skilldeck_daemon.containers.interpreter import CellResult, Interpreter
from skilldeck_daemon.containers.listeners import Listeners, OnCommand, OnOutput
from skilldeck_daemon.containers.network.reach import Reach
from skilldeck_daemon.containers.output import Capture, Drain, Pump
from skilldeck_daemon.containers.packages import programs
from skilldeck_daemon.containers.sandbox.runtime import Job, Runtime
from skilldeck_daemon.containers.spec import (
    DEFAULT_TIMEOUT_MS,
    CommandResult,
    ContainerSpec,
    Entry,
    Stream,
)
from skilldeck_shared.output_limits import effective

TERM_GRACE_S = 0.25
REST_BYTES = 4 * 1024 * 1024
LOST_EXIT_CODE = 137


class Watch(Protocol):
    """The limits that the kernel does not enforce for us; see `sandbox/watchdog.py`."""

    def admit(self, size: int) -> None:
        """Raises `DiskFull` when `size` more bytes do not fit."""
        ...

    def began(self, init_pid: int | None) -> None: ...

    def ended(self) -> None: ...

    def take_note(self) -> str:
        """Why processes were killed since the last question, or an empty string."""
        ...

    def close(self) -> None: ...


class Container:
    """A container. Made by `Containers`; see the module for what happens when it dies."""

    def __init__(
        self,
        spec: ContainerSpec,
        home: Path,
        *,
        start: Callable[[], Awaitable[Runtime]],
        watch: Watch,
        owner: int | None,
        reach: Reach,
        on_closed: Callable[[Container, bool], Awaitable[None]],
    ) -> None:
        self.spec = spec
        self.data_dir = home / "data"
        self.last_active = time.time()
        """Unix time of the last operation."""
        self.restarts = 0
        self._home = home
        self._start = start
        self._watch = watch
        self._owner = owner
        self._reach = reach
        self._on_closed = on_closed
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._drain = Drain(self._loop)
        self._interpreter = Interpreter(self._loop, self._hand_over)
        self._runtime: Runtime | None = None
        self._closed = False
        self._busy = 0

    # -- state -------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def busy(self) -> bool:
        """Whether a call runs or waits."""
        return self._busy > 0

    @property
    def running(self) -> bool:
        """Whether its sandbox is up now."""
        return self._runtime is not None and self._runtime.alive

    @property
    def init_pid(self) -> int | None:
        return self._runtime.init_pid if self._runtime is not None else None

    def touch(self) -> None:
        """Notes activity: the idle time begins again."""
        if self._closed:
            raise ContainerGone(
                f"Container {self.spec.id!r} has been deleted or has expired.", "Create a new container."
            )
        self.last_active = time.time()

    async def ensure_running(self) -> Runtime:
        """Starts the sandbox when it is not up. Raises `SandboxUnavailable`."""
        runtime = self._runtime
        if runtime is None or not runtime.alive:
            if runtime is not None:
                await runtime.stop()
                self._drain.close()
                self.restarts += 1
            try:
                self._runtime = runtime = await self._start()
            except SandboxUnavailable:
                self.touch()  # deleted while it started: say that instead
                raise
            if self._closed:
                # Deleted while it started: whoever closed it could not see this sandbox yet.
                await runtime.stop()
                self.touch()
        return runtime

    async def start(self) -> None:
        """Starts the sandbox ahead of a call, when it is not up. Raises as `exec` does."""
        self.touch()
        async with self._lock:
            self.touch()
            self._watch.admit(0)
            await self.ensure_running()

    # -- commands ----------------------------------------------------------------------------------------

    async def exec(
        self,
        commands: Sequence[str],
        *,
        timeout_ms: int | None = None,
        max_output_length: int | None = None,
        on_output: OnOutput | None = None,
        on_command: OnCommand | None = None,
    ) -> list[CommandResult]:
        """Runs the commands of one call in order, each as a fresh `bash -c` in `/mnt/data`.

        Cancelling the awaiting task kills what the call started at once; the container stays usable.

        Args:
            timeout_ms: per command; TERM at the limit, KILL 250 ms later, the partial output is kept.
                After a timeout the remaining commands do not run.
            max_output_length: characters of stdout and stderr together, per command.
            on_output: called with text as it is written. The deltas of a stream, joined, equal the result's
                text. A slow listener slows the command down, it never loses text.
            on_command: called with (index, "started", None) and (index, "done", result).
                Both listeners are called in order from one task; an exception from one ends the call.

        Returns: a result per command that ran.
        Raises: `InvalidContainerRequest` (before anything runs), `ContainerGone`, `SandboxUnavailable`, `DiskFull`.
        """
        limit_s, limit_chars = _limits(commands, timeout_ms, max_output_length)
        self.touch()
        self._busy += 1
        listeners = Listeners(on_output, on_command)
        results: list[CommandResult] = []
        try:
            async with self._lock:
                async with listeners:
                    for index, command in enumerate(commands):
                        listeners.command(index, "started", None)
                        result = await self._run(index, command, limit_s, limit_chars, listeners)
                        results.append(result)
                        listeners.command(index, "done", result)
                        if result.timed_out:
                            break
        finally:
            self._busy -= 1
            self.last_active = time.time()
        return results

    async def _run(
        self, index: int, command: str, limit_s: float, limit_chars: int, listeners: Listeners
    ) -> CommandResult:
        self.touch()
        self._watch.admit(0)
        runtime = await self.ensure_running()
        started = time.monotonic()
        capture = Capture(limit_chars, lambda stream, text: listeners.output(index, stream, text))
        pumps: list[Pump] = []
        job: Job | None = None
        timed_out = False
        settled = False
        self._watch.began(runtime.init_pid)
        try:
            pipes = [os.pipe(), os.pipe()]
            try:
                for name, (reader, _) in zip(("stdout", "stderr"), pipes, strict=True):
                    pumps.append(Pump(reader, _sink(capture, name), self._loop))
                job = runtime.run(command, pipes[0][1], pipes[1][1])
            finally:
                for _, writer in pipes:
                    os.close(writer)
            listeners.throttle(pumps)
            events: set[asyncio.Future[Any]] = {job.exited, listeners.failed}
            await asyncio.wait(events, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if listeners.failed.done():
                listeners.failed.result()
            if not job.exited.done():
                timed_out = True
                runtime.terminate(job)
                await asyncio.wait({job.exited}, timeout=TERM_GRACE_S)
                if not await runtime.kill(job):
                    await runtime.stop()
            settled = True
        finally:
            self._watch.ended()
            if not settled and job is not None:
                await self._abort(runtime, job)
            note = self._watch.take_note()
            for pump in pumps:
                pump.take_rest(REST_BYTES)
                rest = pump.detach()
                if rest is not None:
                    self._hand_over(rest, runtime)
            listeners.throttle([])
        code = job.exited.result() if job.exited.done() else None
        if code is None and not timed_out:
            code = LOST_EXIT_CODE
            note = note or f"the sandbox ended and will be restarted: {runtime.reason}"
        note = note or self._advice(capture.text("stderr"), capture.text("stdout"), failed=code != 0)
        stdout, stderr, omitted = capture.finish(note or job.error)
        return CommandResult(
            stdout=stdout,
            stderr=stderr,
            exit_code=None if timed_out else code,
            timed_out=timed_out,
            duration_s=time.monotonic() - started,
            truncated_bytes=omitted,
        )

    async def interpret(
        self,
        code: str,
        *,
        timeout_ms: int | None = None,
        max_output_length: int | None = None,
        restart: bool = False,
        on_output: Callable[[str], None] | None = None,
    ) -> CellResult:
        """Runs Python in the container's interpreter, whose variables last from call to call; see `interpreter.py`.

        Cancelling interrupts the code and kills what it started.

        Args:
            timeout_ms: at the limit the code is interrupted; what it wrote is kept.
            max_output_length: characters kept of all it writes.
            restart: begin with a fresh interpreter.
            on_output: called with text as it is written; must not block or raise.

        Raises: `InvalidContainerRequest`, `ContainerGone`, `SandboxUnavailable`, `DiskFull`, `ContainerError`.
        """
        limit_s, limit_chars = _limits(["python"], timeout_ms, max_output_length)
        capture = Capture(limit_chars, lambda _, text: on_output(text) if on_output else None)
        self.touch()
        self._busy += 1
        try:
            async with self._lock:
                self.touch()
                self._watch.admit(0)
                runtime = await self.ensure_running()
                if restart:
                    await self._interpreter.restart(runtime)
                    runtime = await self.ensure_running()
                self._watch.began(runtime.init_pid)

                def note() -> str:
                    self._watch.ended()
                    return self._watch.take_note() or self._advice(capture.text("stderr"))

                try:
                    return await self._interpreter.run(runtime, code, limit_s, capture, note)
                finally:
                    self._watch.ended()
        finally:
            self._busy -= 1
            self.last_active = time.time()

    def _advice(self, stderr: str, stdout: str = "", *, failed: bool = True) -> str:
        """What a failed command lacked here, and what brings it."""
        return self._reach.note(stderr, stdout, failed=failed) or (
            programs.missing(f"{stdout}\n{stderr}") if failed else ""
        )

    def _hand_over(self, fd: int, runtime: Runtime) -> None:
        """Gives a pipe that a background process still holds to the drain."""
        if runtime.alive and not self._closed:
            self._drain.add(fd)
        else:
            os.close(fd)

    async def _abort(self, runtime: Runtime, job: Job) -> None:
        """Kills what the call started, on the way out of a cancellation: nothing may outlive it."""
        runtime.kill_now(job)
        kill = asyncio.ensure_future(self._kill(runtime, job))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(kill)

    async def _kill(self, runtime: Runtime, job: Job) -> None:
        if not await runtime.kill(job):
            await runtime.stop()

    # -- files -------------------------------------------------------------------------------------------

    async def put(self, name: str, source: Path | bytes) -> str:
        """Copies a file in under its own name (`name-2.ext` when taken). Returns its path under /mnt/data."""
        self.touch()
        size = len(source) if isinstance(source, bytes) else await asyncio.to_thread(_size, source)
        self._watch.admit(size)
        return await asyncio.to_thread(artifacts.put, self.data_dir, self._home / "staging", name, source, self._owner)

    async def entries(self) -> list[Entry]:
        """The regular files under /mnt/data, by path; at most 10,000, links and odd things left out."""
        self.touch()
        return await asyncio.to_thread(artifacts.entries, self.data_dir)

    async def read(self, path: str, max_bytes: int) -> bytes:
        """A regular file's content. Raises `ArtifactNotFound`, `ArtifactTooLarge`."""
        self.touch()
        return await asyncio.to_thread(artifacts.read, self.data_dir, path, max_bytes)

    async def open_file(self, path: str) -> tuple[BinaryIO, int]:
        """A regular file opened for (blocking) reading, and its size. The caller closes it."""
        self.touch()
        return await asyncio.to_thread(artifacts.open_file, self.data_dir, path)

    async def edit(self, path: str, change: Callable[[bytes | None], bytes | None], max_bytes: int) -> None:
        """Replaces one file's content by what `change` makes of it, whole or not at all, between two calls.

        Args:
            change: gets the content, None when there is no file, and returns the new one, None to remove it. Runs in
                a thread; what it raises ends the edit.

        Raises: `ArtifactTooLarge`, `InvalidContainerRequest` (a link or a directory in the way), `DiskFull`.
        """
        self.touch()
        self._busy += 1
        try:
            async with self._lock:
                self.touch()
                old = await asyncio.to_thread(artifacts.content, self.data_dir, path, max_bytes)
                new = await asyncio.to_thread(change, old)
                if new is None:
                    await asyncio.to_thread(artifacts.remove, self.data_dir, path)
                    return
                self._watch.admit(max(0, len(new) - len(old or b"")))
                staging = self._home / "staging"
                await asyncio.to_thread(artifacts.write, self.data_dir, staging, path, new, self._owner)
        finally:
            self._busy -= 1
            self.last_active = time.time()

    async def remove(self, path: str) -> None:
        """Removes one file. Raises `ArtifactNotFound`."""
        self.touch()
        await asyncio.to_thread(artifacts.remove, self.data_dir, path)

    # -- end ---------------------------------------------------------------------------------------------

    async def close(self, delete: bool = True) -> None:
        """Ends every process; with `delete` the data is gone when this returns. A running call ends with 137."""
        if self._closed:
            return
        self._closed = True
        if self._runtime is not None:
            await self._runtime.stop()
        self._drain.close()
        self._interpreter.close()
        self._watch.close()
        await self._on_closed(self, delete)


def _sink(capture: Capture, name: str) -> Callable[[bytes], None]:
    stream: Stream = "stdout" if name == "stdout" else "stderr"
    return lambda data: capture.feed(stream, data)


def _size(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError as error:
        raise InvalidContainerRequest(f"The file {source.name!r} cannot be read: {error.strerror}.") from error


def _limits(commands: Sequence[str], timeout_ms: int | None, max_output_length: int | None) -> tuple[float, int]:
    """Checks a call's arguments. Returns: seconds per command, characters per command."""
    if isinstance(commands, str) or not commands:
        raise InvalidContainerRequest("commands must be a list of at least one command.", param="commands")
    for index, command in enumerate(commands):
        if not isinstance(command, str):
            raise InvalidContainerRequest(f"commands[{index}] is not a string.", param=f"commands[{index}]")
        if "\0" in command:
            raise InvalidContainerRequest(
                f"commands[{index}] contains a NUL character.", "Remove it.", param=f"commands[{index}]"
            )
    if timeout_ms is not None and timeout_ms <= 0:
        raise InvalidContainerRequest("timeout_ms must be greater than 0.", param="timeout_ms")
    if max_output_length is not None and max_output_length < 0:
        raise InvalidContainerRequest("max_output_length must not be negative.", param="max_output_length")
    timeout = DEFAULT_TIMEOUT_MS if timeout_ms is None else timeout_ms
    length = effective(max_output_length)
    return timeout / 1000, length

"""The daemon's side of a container's Python (`sandbox/interpreter_program.py`): starts and replaces it, gives it cells.

One interpreter a container, started with the first cell. It lives as long as the sandbox does; when it dies, by its own
code or by a limit, the cell that ran says so and the next one starts a fresh one. A cell that a dying interpreter had
not begun runs on the fresh one at once. A cell that reaches its time limit is interrupted: its variables stay, its
partial output is kept, and what it started is killed. Only an interpreter that does not react is killed with it.
Nothing that comes from inside is trusted: an answer that is wrong, or that nobody waits for, ends the interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skilldeck_daemon.containers.errors import ContainerError
from skilldeck_daemon.containers.output import Capture, Pump
from skilldeck_daemon.containers.sandbox import bwrap
from skilldeck_daemon.containers.sandbox.runtime import Job, Runtime
from skilldeck_daemon.containers.spec import WORKDIR
from skilldeck_shared.json_types import JsonObject

START_TIMEOUT_S = 20.0
INTERRUPT_GRACE_S = 1.0
"""How long an interrupted cell may take to end before its interpreter is killed."""
EXIT_GRACE_S = 0.5
REST_BYTES = 4 * 1024 * 1024
MESSAGE_MAX = 16 * 1024
_FIGURE = re.compile(r"figure-\d{1,9}\.png")


@dataclass(frozen=True)
class CellResult:
    """How one cell ended.

    `text` is all it wrote, at most the call's `max_output_length` characters (head, omission marker, tail), with notes
    in brackets as its last lines. `ok` is false after an exception. `figures` are absolute paths inside. `lost` says
    that the interpreter ended with the cell.
    """

    text: str
    ok: bool
    timed_out: bool
    lost: bool
    figures: tuple[str, ...]
    duration_s: float
    truncated_bytes: int


class Interpreter:
    """The interpreter of one container. One cell at a time; on the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, hand_over: Callable[[int, Runtime], None]) -> None:
        """`hand_over` takes the pipe of a cell that background processes still hold."""
        self._loop = loop
        self._hand_over = hand_over
        self._runtime: Runtime | None = None
        self._sock: socket.socket | None = None
        self._job: Job | None = None
        self._answer: asyncio.Future[Any] = loop.create_future()
        self._cells = 0
        self._begun = False
        """Whether the cell that was sent last runs, or has run."""
        self._died_unseen = False  # died between two cells: the next one must say so

    async def run(
        self,
        runtime: Runtime,
        code: str,
        limit_s: float,
        capture: Capture,
        take_note: Callable[[], str],
    ) -> CellResult:
        """Runs one cell. Cancelling interrupts it and kills what it started; the interpreter stays when it can.

        Args:
            capture: where the output goes, all of it as one stream (stderr, as notes are added to that one).
            take_note: asks why a limit killed processes, after the cell.
        Raises: `ContainerError` when no interpreter can be started.
        """
        started = time.monotonic()
        fresh = False
        reader, writer = os.pipe()
        pump = Pump(reader, lambda data: capture.feed("stderr", data), self._loop)
        try:
            try:
                for may_repeat in (True, False):
                    job, renewed = await self._ensure(runtime)
                    fresh = fresh or renewed
                    answer, timed_out = await self._attempt(runtime, job, code, limit_s, writer)
                    lost = answer is None
                    if not lost or timed_out or self._begun or not (may_repeat and runtime.alive):
                        break
                    # It died before it began: no line of the cell has run, so a fresh one can take it.
                    self._died_unseen = True
            finally:
                os.close(writer)
        finally:
            note = take_note()
            pump.take_rest(REST_BYTES)
            rest = pump.detach()
            if rest is not None:
                self._hand_over(rest, runtime)
        notes = [note] if note else []
        if timed_out:
            notes.append(f"timed out after {limit_s * 1000:.0f} ms")
        if lost:
            notes.append(f"the interpreter ended{_why(job)}: its variables are gone, the next call starts a fresh one")
        if fresh:
            notes.append("this was a fresh interpreter: earlier variables and imports are gone")
        _, text, omitted = capture.finish("]\n[".join(notes))
        figures = tuple(f"{WORKDIR}/{name}" for name in (answer or {}).get("figures", ()))
        return CellResult(
            text=text,
            ok=bool(answer and answer["ok"]) and not timed_out,
            timed_out=timed_out,
            lost=lost,
            figures=figures,
            duration_s=time.monotonic() - started,
            truncated_bytes=omitted,
        )

    async def _attempt(
        self, runtime: Runtime, job: Job, code: str, limit_s: float, pipe: int
    ) -> tuple[JsonObject | None, bool]:
        """Gives the cell to the interpreter. Returns its answer, None when it died, and whether the time was over."""
        answer = None
        self._send(runtime.localized(code), pipe)
        try:
            answer = await self._wait(job, limit_s)
            timed_out = answer is None and self._alive(job)
        finally:
            if answer is None:
                # Timed out, died, or cancelled: nothing this cell started may outlive it.
                answer = await asyncio.shield(asyncio.ensure_future(self._end(runtime, job)))
        return answer, timed_out

    async def restart(self, runtime: Runtime) -> None:
        """Ends the process: the next cell starts a fresh one. What it left in the background ends with it."""
        job = self._job
        if job is not None and self._runtime is runtime and self._alive(job):
            if not await runtime.kill(job):
                await runtime.stop()
            await asyncio.wait({job.exited}, timeout=EXIT_GRACE_S)
        self.close()

    def close(self) -> None:
        """Lets go of the process; it ends with the sandbox, or of itself when its socket closes."""
        self._died_unseen = False
        self._forget()

    # -- life

    def _alive(self, job: Job) -> bool:
        return self._sock is not None and not job.exited.done()

    async def _ensure(self, runtime: Runtime) -> tuple[Job, bool]:
        """Its process, started when it is not there; and whether an earlier one was lost without a cell saying so."""
        job = self._job
        # Marked: what runs in the container now is not the next cell's, and survives its end.
        if job is None or self._runtime is not runtime or not await runtime.mark(job) or not self._alive(job):
            if job is not None:
                self._died_unseen = True
                if self._runtime is runtime:
                    runtime.kill_now(job)  # it may live on though it is of no use
            self._forget()
            job = await self._start(runtime)
        fresh, self._died_unseen = self._died_unseen, False
        return job, fresh

    async def _start(self, runtime: Runtime) -> Job:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        errors = os.memfd_create("stderr", os.MFD_CLOEXEC)
        try:
            ours.setblocking(False)
            self._sock = ours
            self._runtime = runtime
            self._answer = self._loop.create_future()
            self._loop.add_reader(ours.fileno(), self._read)
            self._job = job = runtime.run(runtime.interpreter_command, theirs.fileno(), errors, lasting=True)
            theirs.close()
            try:
                await self._wait(job, START_TIMEOUT_S)
            except BaseException:
                runtime.kill_now(job)
                self._forget()
                raise
            if not self._alive(job) or not self._answer.done():
                said = os.pread(errors, 2000, 0).decode("utf-8", "replace").strip()
                runtime.kill_now(job)
                self._forget()
                reason = said or job.error or "it did not answer"
                raise ContainerError(f"Python could not be started in the container: {reason}")
            return job
        finally:
            theirs.close()
            os.close(errors)

    def _forget(self) -> None:
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None
        self._job = None
        self._runtime = None
        if not self._answer.done():
            self._answer.set_result(None)

    # -- messages

    def _send(self, code: str, pipe: int) -> None:
        self._cells += 1
        self._begun = False
        self._answer = self._loop.create_future()
        source = bwrap.memory_file("cell", code.encode("utf-8", "replace"))
        try:
            if self._sock is None:
                raise BrokenPipeError
            socket.send_fds(self._sock, [b"cell %d" % self._cells], [source, pipe])
        except OSError:
            self._answer.set_result(None)  # it is gone: reported like any other death
        finally:
            os.close(source)

    def _read(self) -> bool:
        """Takes one message; whether there was one. Descriptors that come along are closed: `recv` takes none."""
        assert self._sock is not None
        try:
            data = self._sock.recv(MESSAGE_MAX)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        value = None
        if not self._answer.done():
            if data == b"begun %d" % self._cells and not self._begun:
                self._begun = True
                return True
            value = _parsed(data, self._cells)
        if value is None:
            # End of file, nonsense, or a word out of turn: it is of no use any more.
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None
        if not self._answer.done():
            self._answer.set_result(value)
        return True

    async def _wait(self, job: Job, limit_s: float) -> JsonObject | None:
        """The answer, or None when the time is over or it died."""
        await asyncio.wait({self._answer, job.exited}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        # It may have answered just before it ended.
        while not self._answer.done() and job.exited.done() and self._sock is not None and self._read():
            pass
        return self._answer.result() if self._answer.done() else None

    # -- ends

    async def _end(self, runtime: Runtime, job: Job) -> JsonObject | None:
        """Ends the running cell: by interrupt when it reacts, else with its interpreter, or with the sandbox."""
        answer = None
        if self._alive(job):
            runtime.interrupt(job)
            answer = await self._wait(job, INTERRUPT_GRACE_S)
        if answer is not None and self._alive(job):
            if not await runtime.sweep(job):
                await runtime.stop()
            if self._alive(job):
                return answer
        if not await runtime.kill(job):
            await runtime.stop()
        await asyncio.wait({job.exited}, timeout=EXIT_GRACE_S)
        self._forget()
        return None


def _parsed(data: bytes, cell: int) -> JsonObject | None:
    """A valid answer; None for anything else."""
    if data == b"ready":
        return {}
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        word, number, text = data.split(b" ", 2)
        value = json.loads(text)
        figures = value["figures"]
        if word == b"done" and int(number) == cell and isinstance(figures, list):
            names = [name for name in figures if isinstance(name, str) and _FIGURE.fullmatch(name)]
            return {"ok": value["ok"] is True, "figures": names}
    return None


def _why(job: Job) -> str:
    code = job.exited.result() if job.exited.done() else None
    if code is None or code == 137:
        return " (it was killed)" if code == 137 else ""
    return f" (killed by signal {code - 128})" if code > 128 else f" (exit code {code})"

"""The two listeners of a call: called in order from one task, so that a slow one never holds up a time limit.

A slow listener slows the command down: above a backlog its pipes are not read. Nothing it is given is ever lost.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Literal

from skilldeck_daemon.containers.output import Pump
from skilldeck_daemon.containers.spec import CommandResult, OutputPiece, Stream

OnOutput = Callable[[OutputPiece], Awaitable[None] | None]
OnCommand = Callable[[int, Literal["started", "done"], CommandResult | None], Awaitable[None] | None]

BACKLOG_BYTES = 8 * 1024 * 1024
"""Live text that may wait for a slow listener; above it the command's pipe is not read."""


class Listeners:
    """Delivers while it is entered; see the module."""

    def __init__(self, on_output: OnOutput | None, on_command: OnCommand | None) -> None:
        self._on_output = on_output
        self._on_command = on_command
        self._queue: asyncio.Queue[tuple[Callable[[], Awaitable[None] | None], int] | None] = asyncio.Queue()
        self._waiting = 0
        self._pumps: list[Pump] = []
        self._task: asyncio.Task[None] | None = None
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Resolves with the exception of a listener; never otherwise."""

    async def __aenter__(self) -> None:
        if self._on_output or self._on_command:
            self._task = asyncio.create_task(self._deliver())

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if self._task is None:
            return
        if kind is not None:
            self._task.cancel()
        else:
            self._queue.put_nowait(None)
        try:
            await self._task
        except asyncio.CancelledError:
            if kind is None:
                self._task.cancel()
                raise
        finally:
            if self.failed.done():
                self.failed.exception()  # seen
        if kind is None and self.failed.done():
            self.failed.result()

    def throttle(self, pumps: list[Pump]) -> None:
        """The pumps to hold while too much text waits."""
        self._pumps = pumps

    def output(self, index: int, stream: Stream, text: str) -> None:
        if self._on_output is None or self._task is None:
            return
        delta = OutputPiece(index, stream, text)
        listener = self._on_output
        self._waiting += len(text)
        self._queue.put_nowait((lambda: listener(delta), len(text)))
        if self._waiting > BACKLOG_BYTES:
            for pump in self._pumps:
                pump.pause()

    def command(self, index: int, what: Literal["started", "done"], result: CommandResult | None) -> None:
        if self._on_command is None or self._task is None:
            return
        listener = self._on_command
        self._queue.put_nowait((lambda: listener(index, what, result), 0))

    async def _deliver(self) -> None:
        while (item := await self._queue.get()) is not None:
            call, size = item
            try:
                answer = call()
                if inspect.isawaitable(answer):
                    await answer
            except Exception as error:
                self.failed.set_exception(error)
                return
            self._waiting -= size
            if size and self._waiting <= BACKLOG_BYTES:
                for pump in self._pumps:
                    pump.resume()

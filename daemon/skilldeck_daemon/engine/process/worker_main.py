"""The engine's process: `python -m skilldeck_daemon.engine.process.worker_main FD [MODULE…]`.

Runs one Engine behind the socket FD, which its first message names, and ends when that closes: the daemon died, or
unloaded it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from dataclasses import replace
from importlib import import_module
from typing import Any

from skilldeck_daemon.engine.base import Engine, Event, Finished, GenRequest, ModelInfo, Tokens
from skilldeck_daemon.engine.hub import make_engine
from skilldeck_daemon.engine.process import worker_messages as wire

_PULSE_S = 1.0
GAP_S = 0.002
"""Between two messages with tokens. What comes sooner goes with the next one: at 2,900 tokens a second each by itself
cost the daemon, on the other core, a sixth of the model's speed. Below 500 a second every token leaves at once."""
GAP_EACH_S = 0.0005
"""The same for each request that is written, where that is more. Tokens of one that come together are one event to the
daemon and one write to its client's socket, the half of what a token of 32 costs; a stream of 60 events a second, which
it still is, reads like one of 125."""


class Worker:
    """Serves the messages of one parent."""

    def __init__(self, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._engine, self._reader, self._writer = engine, reader, writer
        self._info: ModelInfo | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._outbox: list[tuple[str, Event]] = []
        self._flushed = 0.0
        self._writing = 0  # requests whose tokens come
        self._flushing: asyncio.Handle | None = None
        self._early: set[str] = set()  # cancelled while their grammar compiles
        self._submitting: set[str] = set()
        self._loop = asyncio.get_running_loop()

    async def run(self, first: wire.Load) -> None:
        """Until the parent unloads or is gone."""
        self._spawn(self._pulse())
        self._spawn(self._load(first))
        while True:
            message = await wire.read(self._reader)
            if message is None or isinstance(message, wire.Unload):
                return
            if isinstance(message, wire.Submit):
                self._submitting.add(message.request.id)
                self._spawn(self._serve(message))
            elif isinstance(message, wire.Cancel):
                if message.id in self._submitting:
                    self._early.add(message.id)
                self._engine.cancel(message.id)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, message: wire.Load) -> None:
        def report(fraction: float, stage: str) -> None:
            self._loop.call_soon_threadsafe(wire.write, self._writer, wire.Loading(fraction, stage))

        try:
            self._info = await self._engine.load(message.spec, report)
        except Exception as error:
            wire.write(self._writer, wire.LoadFailed(wire.portable(error)))
        else:
            gc.freeze()  # what is there now stays: a full pass over it would stop every request for 0.1 s
            wire.write(self._writer, wire.LoadDone(self._info, self._engine.caps))

    async def _serve(self, message: wire.Submit) -> None:
        name = message.request.id
        try:
            handle = await self._engine.submit(await self._request(message))
        except Exception as error:
            wire.write(self._writer, wire.Refused(name, wire.portable(error)))
            return
        finally:
            self._submitting.discard(name)
        wire.write(self._writer, wire.Accepted(name))
        if name in self._early:
            self._early.discard(name)
            self._engine.cancel(name)
        writes = False
        try:
            async for event in handle:
                if isinstance(event, Tokens) and not writes:
                    writes = True
                    self._writing += 1
                if isinstance(event, Finished) and event.error is not None:
                    event = replace(event, error=wire.portable(event.error))
                self._put(name, event)
        finally:
            self._writing -= writes

    def _put(self, name: str, event: Event) -> None:
        """Have an event leave, soon."""
        self._outbox.append((name, event))
        if len(self._outbox) == 1:
            wait = self._flushed + max(GAP_S, GAP_EACH_S * self._writing) - self._loop.time()
            later = self._loop.call_later(wait, self._flush) if wait > 0 else self._loop.call_soon(self._flush)
            self._flushing = later
        if isinstance(event, Finished) and self._flushing is not None:
            self._flushing.cancel()
            self._flush()

    async def _request(self, message: wire.Submit) -> GenRequest:
        if message.mask is None:
            return message.request
        from skilldeck_daemon.engine.grammar.compiled import rebuild

        info = self._info
        assert info is not None
        # Compiling a schema may take a second; tokens of others must flow meanwhile.
        mask = await asyncio.to_thread(rebuild, message.mask, info.path, info.vocab)
        return replace(message.request, mask=mask)

    def _flush(self) -> None:
        self._flushed = self._loop.time()
        events, self._outbox = self._outbox, []
        wire.write(self._writer, wire.Events(events))

    async def _pulse(self) -> None:
        """Send the sign of life; end when the engine cannot go on, so that the parent starts a new process."""
        while True:
            wire.write(self._writer, wire.Stats(self._engine.stats()))
            await asyncio.sleep(_PULSE_S)
            if getattr(self._engine, "fatal", None) is not None:
                await self._writer.drain()
                os._exit(os.EX_SOFTWARE)


async def _main(fd: int) -> None:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    first = await wire.read(reader)
    if isinstance(first, wire.Load):
        await Worker(make_engine(first.kind, worker=False), reader, writer).run(first)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the daemon decides
    for module in sys.argv[2:]:  # most of the time it takes to start: it is there by when the load is asked for
        with contextlib.suppress(ImportError):  # which then says so
            import_module(module)
    asyncio.run(_main(int(sys.argv[1])))
    # The engine's thread may be inside a long step, and there is nothing left to save.
    os._exit(0)

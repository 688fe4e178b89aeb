"""Calls over the control socket: what grpclib leaves to its users.

Every call and every stream runs in a task of its own. grpclib wakes a waiting call by cancelling its task, which would
otherwise leave the caller's task marked as cancelled (TaskGroup and timeout then misbehave); and leaving a live stream
early hangs unless it is left through an exception, which cancelling the task does.

Nothing is lost or reordered between the socket and the reader of a `Stream`: it buffers at most `AHEAD` messages, then
HTTP/2 flow control stops the daemon. A connection that breaks ends every call with `ConnectionLost`; the next call
connects again by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from grpclib.client import Channel, Handler
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from h2.exceptions import H2Error

from skilldeck_shared.control import LimitedProtocol, from_grpc
from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.client.types import ConnectionLost, DaemonUnreachable

AHEAD = 1024
CALL_SECONDS = 60.0

T = TypeVar("T")


class SocketChannel(Channel):
    """A channel to a Unix socket whose messages are limited in size."""

    def __init__(self, path: Path) -> None:
        super().__init__(path=str(path))

    def _protocol_factory(self) -> H2Protocol:
        protocol: H2Protocol = LimitedProtocol(Handler(), self._config, self._h2_config)
        return protocol


def translate(error: Exception, path: Path | None) -> Exception:
    """What a person is shown of a failed call; errors that are bugs come back unchanged."""
    where = f" at {path}" if path else ""
    if isinstance(error, SkilldeckError):
        return error
    if isinstance(error, GRPCError):
        return from_grpc(error)
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return DaemonUnreachable(f"No daemon listens{where}.", "Start it with `skilldeckd serve`.")
    if isinstance(error, PermissionError):
        return DaemonUnreachable(f"The control socket{where} belongs to another user.")
    if isinstance(error, TimeoutError):
        return DaemonUnreachable(f"The daemon{where} did not answer in time.", "`skilldeck logs` may say why.")
    if isinstance(error, (StreamTerminatedError, H2Error, OSError)):
        return ConnectionLost(f"The connection to the daemon{where} was lost.")
    return error


class _Pipe(Generic[T]):
    def __init__(self) -> None:
        self.items: deque[T] = deque()
        self.ready = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self.closed = False
        self.error: Exception | None = None

    def close(self, error: Exception | None = None) -> None:
        if not self.closed:
            self.closed = True
            self.error = error
        self.ready.set()


class Stream(AsyncIterator[T], Generic[T]):
    """Messages of one server stream, as they come.

    Iterate it, and `aclose()` it when leaving early (or use `async with`); a stream that is forgotten is closed when it
    is collected. `drain()` takes what is there without waiting, for readers that work in frames.
    """

    def __init__(self, method: Any, request: Any, convert: Callable[[Any], T], path: Path | None) -> None:
        self._pipe: _Pipe[T] = _Pipe()
        self._task = asyncio.create_task(_pump(self._pipe, method, request, convert, path))

    async def __anext__(self) -> T:
        pipe = self._pipe
        while not pipe.items:
            if pipe.closed:
                # An error is raised once; a reader that goes on sees the end.
                error, pipe.error = pipe.error, None
                if error is not None:
                    raise error
                raise StopAsyncIteration
            pipe.ready.clear()
            await pipe.ready.wait()
        item = pipe.items.popleft()
        if len(pipe.items) < AHEAD:
            pipe.room.set()
        return item

    def drain(self) -> list[T]:
        items = list(self._pipe.items)
        self._pipe.items.clear()
        self._pipe.room.set()
        return items

    async def aclose(self) -> None:
        """Cancel the call at the daemon and end the iteration. Idempotent."""
        self._pipe.items.clear()
        self._pipe.close()
        self._task.cancel()
        await asyncio.wait({self._task})

    async def __aenter__(self) -> Stream[T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        with suppress(AttributeError, RuntimeError):  # the loop may be closed by now
            self._task.cancel()


async def _pump(pipe: _Pipe[T], method: Any, request: Any, convert: Callable[[Any], T], path: Path | None) -> None:
    try:
        async with method.open() as stream:
            await stream.send_message(request, end=True)
            async for message in stream:
                pipe.items.append(convert(message))
                pipe.ready.set()
                if len(pipe.items) >= AHEAD:
                    pipe.room.clear()
                    await pipe.room.wait()
    except asyncio.CancelledError:
        pipe.close()
        raise
    except Exception as error:
        pipe.close(translate(error, path))
    else:
        pipe.close()


async def call(method: Any, request: Any, path: Path | None, timeout: float | None = CALL_SECONDS) -> Any:
    """One request, one reply. Raises `SkilldeckError`s; cancelling it cancels the call at the daemon."""

    async def run() -> Any:
        try:
            return await method(request, timeout=timeout)
        except Exception as error:
            raise translate(error, path) from error

    return await asyncio.create_task(run())


class _SourceFailed(Exception):
    """What is being uploaded could not be read; `reason` is for the caller as it is."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


async def upload(method: Any, messages: AsyncIterable[Any], path: Path | None) -> Any:
    """Send `messages` as they are made, then return the reply.

    An error of the daemon ends the sending at once. An error of `messages` itself cancels the call and comes out
    unchanged: the daemon has then seen no end and keeps nothing.
    """

    async def run() -> Any:
        try:
            async with method.open() as stream:
                await stream.send_request()
                try:
                    async for message in _marked(messages):
                        await stream.send_message(message)
                    await stream.end()
                except H2Error as error:
                    # The daemon has answered and closed already; grpclib looks for its status only after this error.
                    raise StreamTerminatedError("closed by the daemon") from error
                return await stream.recv_message()
        except _SourceFailed as failure:
            raise failure.reason from None
        except Exception as error:
            raise translate(error, path) from error

    return await asyncio.create_task(run())


async def _marked(messages: AsyncIterable[Any]) -> AsyncIterator[Any]:
    iterator = aiter(messages)
    while True:
        try:
            message = await anext(iterator)
        except StopAsyncIteration:
            return
        except Exception as error:
            raise _SourceFailed(error) from error
        yield message

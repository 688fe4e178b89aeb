"""What every call of the control service has around it: errors as statuses, requests parsed, calls counted.

A `SkilldeckError` becomes the status that carries it. Anything else is a bug: logged here with its traceback, and shown
to the client without its innards. A client that goes away ends its call silently.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import H2Error

from skilldeck_daemon.wire.json_text import parse_json
from skilldeck_shared.control import CHUNK, to_grpc
from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.json_types import JsonObject
from skilldeck_shared.proto import control_pb2 as pb

log = logging.getLogger(__name__)

MAX_PAGE = 1000

Handler = Callable[[Any, Any], Coroutine[Any, Any, None]]


class Calls:
    """The calls that a shutdown waits for: those that end by themselves."""

    def __init__(self) -> None:
        self.count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __enter__(self) -> None:
        self.count += 1
        self._none.clear()

    def __exit__(self, *_: object) -> None:
        self.count -= 1
        if self.count == 0:
            self._none.set()

    async def drained(self, seconds: float) -> bool:
        """Whether all ended within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._none.wait()
        except TimeoutError:
            return False
        return True


def reply(method: Callable[[Any, Any], Awaitable[Any]]) -> Handler:
    """One request, one reply. `method` takes the request message and returns the reply message."""

    @functools.wraps(method)
    async def handle(self: Any, stream: Any) -> None:
        with self.calls:
            async with _errors(method.__name__):
                request = await stream.recv_message()
                await stream.send_message(await method(self, request))

    return handle


def upload(method: Callable[[Any, Any], Awaitable[Any]]) -> Handler:
    """A stream of requests, one reply. `method` takes the stream and returns the reply message."""

    @functools.wraps(method)
    async def handle(self: Any, stream: Any) -> None:
        with self.calls:
            async with _errors(method.__name__):
                await stream.send_message(await method(self, stream))

    return handle


def streaming(method: Callable[[Any, Any, Any], Awaitable[None]]) -> Handler:
    """One request, a stream of replies. `method` takes the request and the stream; a shutdown cuts it off."""

    @functools.wraps(method)
    async def handle(self: Any, stream: Any) -> None:
        async with _errors(method.__name__):
            request = await stream.recv_message()
            await method(self, request, stream)

    return handle


class _errors:
    def __init__(self, name: str) -> None:
        self._name = name

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if error is None or not isinstance(error, Exception) or isinstance(error, GRPCError):
            return False
        if isinstance(error, SkilldeckError):
            if error.status >= 500:
                log.error("%s: %s", self._name, error)
            raise to_grpc(error) from error
        if isinstance(error, (StreamTerminatedError, H2Error, ConnectionError)):
            log.debug("%s: the client went away: %s", self._name, error)
            return False
        log.exception("%s failed", self._name)
        hint = "This is a bug of skilldeck; its log has the details: `skilldeck logs`."
        raise to_grpc(SkilldeckError("The daemon failed inside.", hint)) from error


def parse(text: str, param: str) -> JsonObject:
    """A JSON object of a request, read as an HTTP body is. Raises BadRequest or TooLarge naming the field."""
    value = parse_json(text.encode("utf-8", "replace") or b"{}", param, param)
    if not isinstance(value, dict):
        raise BadRequest(f"{param} must be a JSON object.", param=param)
    return value


class PageOf(TypedDict):
    """The arguments of a library's `list`."""

    limit: int
    order: str
    after: str


def page_of(request: pb.ListRequest) -> PageOf:
    """The arguments of a library's `list`."""
    limit = request.limit or 20
    if not 1 <= limit <= MAX_PAGE:
        raise BadRequest(f"limit is {limit}; it must be 1 to {MAX_PAGE}.", param="limit")
    order = request.order or "desc"
    if order not in ("asc", "desc"):
        raise BadRequest(f"order is {order!r}; it must be asc or desc.", param="order")
    return {"limit": limit, "order": order, "after": request.after}


def dump(value: Any) -> str:
    """Compact JSON. Text stays as it is: a message is UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def one(value: Mapping[str, Any]) -> pb.Json:
    return pb.Json(json=dump(value))


def many(values: Sequence[Mapping[str, Any]], has_more: bool = False) -> pb.JsonList:
    return pb.JsonList(json=[dump(value) for value in values], has_more=has_more)


async def send_file(stream: Any, source: Path | BinaryIO) -> None:
    """Stream a file's bytes; an empty file is one empty message. An opened `source` is closed."""
    file = await asyncio.to_thread(source.open, "rb") if isinstance(source, Path) else source
    try:
        sent = False
        while (chunk := await asyncio.to_thread(file.read, CHUNK)) or not sent:
            await stream.send_message(pb.Data(data=chunk))
            sent = True
    finally:
        file.close()


async def received(stream: Any, size: int) -> AsyncIterator[bytes]:
    """The data messages of an upload, which must make up exactly `size` bytes. Raises BadRequest when they do not: a
    client that gave up half-way ends its stream early."""
    count = 0
    async for message in stream:
        count += len(message.data)
        if count > size:
            break
        yield message.data
    if count != size:
        raise BadRequest(
            f"The upload announced {size} bytes and held {'more' if count > size else count}.", param="size"
        )

"""What routes share beside bodies and lists: query parameters, and clients that leave before their answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from skilldeck_daemon.engine.base import ChatModel
from skilldeck_daemon.engine.errors import NotLoaded
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_daemon.wire.included import check_includes
from skilldeck_shared.errors import BadRequest, Unavailable

T = TypeVar("T")


def query_integer(request: Request, name: str, default: int, minimum: int) -> int:
    """An integer of the query; absent or empty ones take the default."""
    text = request.query_params.get(name) or str(default)
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 16 and int(text) >= minimum):
        raise BadRequest(f"'{name}' is {text[:32]!r}.", f"It must be a whole number of at least {minimum}.", param=name)
    return int(text)


def query_boolean(request: Request, name: str) -> bool:
    """true or false; absent is false."""
    text = (request.query_params.get(name) or "false").lower()
    if text not in ("true", "false"):
        raise BadRequest(f"'{name}' is {text[:32]!r}.", "Use true or false.", param=name)
    return text == "true"


def query_includes(request: Request) -> frozenset[str]:
    """`include`, as SDKs repeat it."""
    query = request.query_params
    return check_includes([*query.getlist("include[]"), *query.getlist("include")])


async def unless_gone(request: Request, work: Coroutine[Any, Any, T], gone: Callable[[], None] | None = None) -> T:
    """Await `work`; when the client leaves first, call `gone` (which ends the work soon) and go on waiting.

    The request's body must have been read.

    Args:
        gone: without it the work is cancelled.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(disconnected(request.receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and gone is None:
            task.cancel()
            await asyncio.wait({task})
            raise Unavailable("The client has left.")
        if not task.done() and gone is not None:
            gone()
        return await task
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


async def served(request: Request, models: ModelHub, name: str) -> ChatModel:
    """The model of that name, once it is loaded; a client that leaves meanwhile waits no longer. See `ModelHub.ready`.

    The request's body must have been read.
    """
    try:
        return models.get(name)
    except NotLoaded:
        return await unless_gone(request, models.ready(name))


async def disconnected(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass

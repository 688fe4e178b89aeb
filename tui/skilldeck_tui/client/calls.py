"""How one call is made: requests out, objects in, errors as `SkilldeckError`s. What every group of calls builds on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from skilldeck_shared.proto import control_pb2 as pb
from skilldeck_tui.client.transport import Stream, call
from skilldeck_tui.client.types import Object, Page, objects, parse


class Calls:
    """`path` is the socket, for messages; None when there is none."""

    def __init__(self, stub: Any, path: Path | None) -> None:
        self._stub = stub
        self.path = path

    async def _call(self, method: Any, request: Any, timeout: float = 60.0) -> Any:
        return await call(method, request, self.path, timeout)

    async def _json(self, method: Any, request: Any, timeout: float = 60.0) -> Object:
        return parse((await self._call(method, request, timeout)).json)

    async def _page(self, method: Any, limit: int, after: str, order: str, parent: str = "") -> Page:
        reply = await self._call(method, pb.ListRequest(limit=limit, after=after, order=order, parent=parent))
        return Page(objects(reply), reply.has_more)

    def _stream(self, method: Any, request: Any, convert: Callable[[Any], Any]) -> Stream[Any]:
        return Stream(method, request, convert, self.path)


async def read_all(chunks: Stream[bytes], limit: int = 0) -> bytes:
    """The bytes of a `read_…` stream, at most `limit` of them when it is not 0."""
    content = bytearray()
    async with chunks:
        async for chunk in chunks:
            content += chunk
            if limit and len(content) >= limit:
                return bytes(content[:limit])
    return bytes(content)

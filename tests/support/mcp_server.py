"""An MCP server of the official package: as a program over stdio (`python mcp_server.py`), or here over HTTP.

async with serving() as server:
    server.url, server.headers      # where it listens, and the headers of each request
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field


@dataclass
class Serving:
    """A server over HTTP."""

    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    slow_ended: asyncio.Event = field(default_factory=asyncio.Event)


def make(serving: Serving | None = None) -> MCPServer:
    server = MCPServer("test")
    called = serving.called if serving is not None else []

    @server.tool(description="Adds two numbers.")
    def add(a: int, b: int) -> str:
        called.append("add")
        return f"{a + b} ✓"

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def look() -> str:
        called.append("look")
        return f"seen by {os.environ.get('VIEWER', 'nobody')}"

    @server.tool(name="files.read")
    def read(path: str) -> str:
        return f"content of {path}"

    @server.tool()
    def odd(text: Annotated[str, Field(json_schema_extra={"pattern": "(?<=a)b"})]) -> str:
        return text

    @server.tool()
    def say(text: str) -> str:
        called.append("say")
        return text

    @server.tool()
    def fail() -> str:
        raise ToolError("it does not work")

    @server.tool()
    async def slow() -> str:
        try:
            await asyncio.sleep(600)
        finally:
            if serving is not None:
                serving.slow_ended.set()
        return "late"

    @server.tool()
    def die() -> str:
        print("dying", file=sys.stderr, flush=True)
        os._exit(3)

    return server


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Serving]:
    import uvicorn

    state = Serving()
    app = make(state).streamable_http_app()

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            state.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await app(scope, receive, send)

    class Quiet(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Any:
            yield

    server = Quiet(uvicorn.Config(noted, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.01)
    state.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/mcp"
    try:
        yield state
    finally:
        server.should_exit = True
        await task


if __name__ == "__main__":
    make().run("stdio")

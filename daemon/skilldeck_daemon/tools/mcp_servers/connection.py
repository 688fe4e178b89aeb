"""One connection to an MCP server: a task of its own holds it, any other task may use it.

The `mcp` package's connection belongs to the task that opened it, and its failure cancels that task; so it lives in
one here, and what fails is raised as `McpFailed`, whose fields are those of an mcp_call's error.
Nothing is kept; a dead connection stays dead, and a new one is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from skilldeck_daemon.settings import McpServer
from skilldeck_daemon.tools.mcp_servers.mcp_items import McpError, McpListed
from skilldeck_daemon.tools.mcp_servers.messages import ENCODING, MESSAGE_BYTES
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.json_types import JsonObject
from skilldeck_shared.version import __version__

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import Tool as McpToolType

log = logging.getLogger(__name__)

T = TypeVar("T")
MAX_PAGES = 50
MAX_OUTPUT = 200_000
"""Characters of a call's output; more is cut, and said to be."""
MAX_LIST = 4 * 1024 * 1024
MAX_MESSAGE = 1000
MAX_LINE = 2000
LIST_SECONDS = 60.0
CLOSING_S = 1.0


class McpFailed(SkilldeckError):
    """A server did not do what it was asked. `error` is what an mcp_call item shows."""

    status = 424
    type = "external_connector_error"
    code = "mcp_server_failed"

    def __init__(self, title: str, error: McpError | None = None) -> None:
        super().__init__(title)
        self.error: McpError = error or {"type": "http_error", "code": 502, "message": title}


class McpConnection:
    """A connection to the server `label`. `open` first, `stop` last.

    Args:
        server: a command to run, or a URL with headers.
        exceptions: private hosts that a URL may lead to.
    """

    def __init__(self, label: str, server: McpServer, exceptions: Collection[str]) -> None:
        self.label = label
        self._server = server
        self._exceptions = exceptions
        self._status = 0  # of the last HTTP answer that was an error
        self._client: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._stopping = asyncio.Event()
        self._errors: TextIO | None = None
        self._end: BaseException | None = None  # why it ended by itself
        self.task: asyncio.Task[None] = asyncio.create_task(self._live(), name=f"mcp {label}")

    @property
    def alive(self) -> bool:
        return not self.task.done() and not self._stopping.is_set()

    def stop(self) -> None:
        """Begin to close it; `task` ends when it is closed."""
        self._stopping.set()

    async def open(self) -> None:
        """Wait until it can be used. Raises McpFailed; then it is closing."""
        try:
            await self._within(asyncio.shield(self._client), min(self._server.timeout, LIST_SECONDS), "connect")
        except BaseException:
            self.stop()
            if not self._client.done():
                self.task.cancel()  # it may hang in the handshake
            raise

    async def tools(self) -> list[McpListed]:
        """All its tools as entries of an mcp_list_tools item. Raises McpFailed."""

        async def walk() -> list[McpListed]:
            client, cursor = self._client.result(), None
            found: list[McpListed] = []
            size = 0
            for _ in range(MAX_PAGES):
                page = await client.list_tools(cursor=cursor, cache_mode="refresh")
                listed = [_listed(tool) for tool in page.tools]
                found += listed
                size += len(json.dumps(listed))
                if size > MAX_LIST:
                    raise McpFailed(f"The list of tools of the MCP server '{self.label}' is larger than 4 MiB.")
                cursor = page.next_cursor
                if cursor is None:
                    return found
            raise McpFailed(f"The MCP server '{self.label}' lists its tools without end.")

        return await self._within(walk(), min(self._server.timeout, LIST_SECONDS), "list its tools")

    async def call(self, name: str, arguments: JsonObject) -> str:
        """What the tool gave, as text. Raises McpFailed; cancelling has the server stop."""
        result = await self._within(
            self._client.result().call_tool(name, arguments), self._server.timeout, f"carry out {name!r}"
        )
        content = [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content]
        text = _text(content, result.structured_content)
        if result.is_error:
            shown = [{"type": "text", "text": text}]
            raise McpFailed(text or "The tool failed.", {"type": "mcp_tool_execution_error", "content": shown})
        return text

    # -- inside

    async def _within(self, work: Coroutine[Any, Any, T] | asyncio.Future[T], seconds: float, what: str) -> T:
        """The work's result; McpFailed when it fails, takes too long, or the connection dies meanwhile."""
        asked = asyncio.ensure_future(work)
        self._status = 0
        try:
            await asyncio.wait({asked, self.task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if asked.done() and not asked.cancelled():
                return asked.result()
            if asked.done() or self.task.done():
                raise self._failed(what, self._end)
            title = f"The MCP server '{self.label}' did not {what} within {seconds:g} s."
            raise McpFailed(title, {"type": "http_error", "code": 504, "message": title})
        except (McpFailed, asyncio.CancelledError):
            raise
        except Exception as error:
            if _closed(error):  # why is known when it has ended, unless the server just hung up
                await asyncio.wait({self.task}, timeout=CLOSING_S)
            raise self._failed(what, self._end if _closed(error) and self._end is not None else error) from error
        finally:
            # Not waited for: a second cancellation of the caller must not be lost here.
            asked.add_done_callback(_forget)
            asked.cancel()

    def _failed(self, what: str, error: BaseException | None) -> McpFailed:
        from mcp import MCPError

        cause = _innermost(error)
        reason = (cause.title if isinstance(cause, SkilldeckError) else str(cause)) if cause is not None else "it ended"
        reason = reason[:MAX_MESSAGE] or type(cause).__name__
        title = f"The MCP server '{self.label}' could not {what}: {reason}"
        if self._status >= 400:
            title = f"The MCP server '{self.label}' could not {what}: it answered HTTP {self._status} ({reason})."
            return McpFailed(title, {"type": "http_error", "code": self._status, "message": title})
        if isinstance(cause, MCPError):
            if _closed(cause):
                self.stop()  # its next call needs a new one
            return McpFailed(title, {"type": "mcp_protocol_error", "code": cause.code, "message": reason})
        return McpFailed(title)

    def _note(self, status: int) -> None:
        if status >= 400:
            self._status = status

    async def _live(self) -> None:
        """Hold the connection until `stop`."""
        try:
            # It takes a second, which the event loop does not have.
            await asyncio.to_thread(importlib.import_module, "mcp")
            from mcp import Client
            from mcp.types import Implementation

            async with self._transport() as transport:
                about = Implementation(name="skilldeck", version=__version__)
                async with Client(transport, client_info=about, cache=None) as client:
                    if not self._client.done():
                        self._client.set_result(client)
                    if self._errors is not None:
                        self._errors.close()  # the program has it now; when it ends, so does the log
                    await self._stopping.wait()
        except BaseException as error:
            self._end = _innermost(error)
            if not self._client.done():
                self._client.set_exception(self._end or error)
                self._client.exception()  # it may be that nobody waits for it
            if not self._stopping.is_set():
                log.warning("the connection to MCP server %s ended: %s", self.label, self._end)
            if not isinstance(error, Exception):
                raise

    @contextlib.asynccontextmanager
    async def _transport(self) -> AsyncIterator[Any]:
        """What the package's client speaks through."""
        if self._server.url:
            from mcp.client.streamable_http import streamable_http_client

            from skilldeck_daemon.tools.mcp_servers import guarded

            headers = {name: value.get_secret_value() for name, value in self._server.headers.items()}
            async with guarded.client(headers, self._exceptions, self._server.timeout, self._note) as http:
                yield streamable_http_client(self._server.url, http_client=http, max_sse_event_size=MESSAGE_BYTES)
            return
        from mcp.client.stdio import StdioServerParameters, stdio_client

        async with self._logged() as self._errors:
            yield stdio_client(
                StdioServerParameters(
                    command=self._server.command,
                    args=self._server.args,
                    env={name: value.get_secret_value() for name, value in self._server.env.items()},
                    cwd=self._server.cwd,
                    encoding=ENCODING,
                ),
                errlog=self._errors,
            )

    @contextlib.asynccontextmanager
    async def _logged(self) -> AsyncIterator[TextIO]:
        """A file for a program's standard error, whose lines go to the daemon's log; its end is the program's."""
        read_end, write_end = os.pipe()
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
        )

        async def follow() -> None:
            while some := await reader.read(MAX_LINE):
                for line in some.decode(errors="replace").splitlines():
                    log.info("mcp server %s: %s", self.label, line)
            self.stop()

        following = asyncio.create_task(follow(), name=f"mcp {self.label} log")
        try:
            with os.fdopen(write_end, "w") as errors:
                yield errors
        finally:
            transport.close()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def _closed(error: BaseException) -> bool:
    from mcp import MCPError
    from mcp.types import CONNECTION_CLOSED

    return isinstance(error, MCPError) and error.code == CONNECTION_CLOSED


def _forget(asked: asyncio.Future[Any]) -> None:
    """What came of a request that nobody waits for any more."""
    if not asked.cancelled():
        asked.exception()


def _innermost(error: BaseException | None) -> BaseException | None:
    """The first real error in a group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _listed(tool: McpToolType) -> McpListed:
    notes = tool.annotations
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.input_schema,
        "annotations": None if notes is None else notes.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def _text(content: list[JsonObject], structured: Any) -> str:
    """A result as one text; what is no text stands as its type."""
    parts = [_block(block) for block in content]
    text = "\n".join(parts) if parts else ("" if structured is None else json.dumps(structured, ensure_ascii=False))
    if len(text) > MAX_OUTPUT:
        text = f"{text[:MAX_OUTPUT]}\n[cut: {len(text)} characters in all]"
    return text.encode("utf-8", "replace").decode()


def _block(block: Mapping[str, Any]) -> str:
    kind = block.get("type")
    if kind == "text":
        return str(block["text"])
    if kind == "resource" and isinstance(block["resource"].get("text"), str):
        return f"[{block['resource'].get('uri')}]\n{block['resource']['text']}"
    if kind == "resource_link":
        return f"[{block.get('name')}: {block.get('uri')}]"
    media = block.get("mimeType") or (block.get("resource") or {}).get("mimeType") or "unknown type"
    return f"[{kind}, {media}; only text is shown]"

"""A small web on loopback: a search server that speaks SearXNG's JSON, and pages, the hostile ones included.

async with Web() as web:
    web.results = [web.result("/page", "A page", "what it says")]
    web.pages["/page"] = Page(b"<p>text</p>")
web.searches                    # the queries that arrived; web.hits: the paths
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Page:
    """One answer. `send` takes the connection over instead."""

    body: bytes = b""
    type: str = "text/html; charset=utf-8"
    status: str = "200 OK"
    headers: tuple[str, ...] = ()
    send: Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]] | None = None


def redirect(to: str) -> Page:
    return Page(status="302 Found", headers=(f"Location: {to}",))


class Web:
    """The server. `answer` replaces the search server's answer as a whole."""

    def __init__(self) -> None:
        self.results: list[dict[str, Any]] = []
        self.pages: dict[str, Page] = {}
        self.answer: Page | None = None
        self.searches: list[str] = []
        self.hits: list[str] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, Any]:
        """What a daemon needs to use it."""
        return {"web_search": "searxng", "searxng_url": self.url, "private_hosts": [f"127.0.0.1:{self.port}"]}

    def result(self, path: str, title: str, text: str = "") -> dict[str, Any]:
        """A result of the search server that leads here."""
        return {"url": self.url + path, "title": title, "content": text}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            await self._answer(urlsplit(head.split(" ")[1]), writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, target: Any, writer: asyncio.StreamWriter) -> None:
        self.hits.append(target.path)
        if target.path == "/search":
            asked = parse_qs(target.query)
            assert asked["format"] == ["json"]
            self.searches.append(asked["q"][0])
            page = self.answer or Page(json.dumps({"results": self.results}).encode(), "application/json")
        else:
            page = self.pages.get(target.path) or Page(b"no such page", status="404 Not Found")
        if page.send is not None:
            return await page.send(writer)
        lines = [f"HTTP/1.1 {page.status}", "Connection: close", f"Content-Length: {len(page.body)}", *page.headers]
        lines += [f"Content-Type: {page.type}"] if page.type else []
        writer.write("\r\n".join([*lines, "", ""]).encode() + page.body)

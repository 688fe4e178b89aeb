"""Web search behind one interface: public engines through the `ddgs` library, or a SearXNG server of the operator's.

A provider turns a query into results, each a URL with a title and a few sentences, and raises `SearchFailed` with a
sentence that the model and the client can read. Blocks nothing: SearXNG is asked on the event loop, `ddgs` runs in a
process of its own that is killed with its run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from skilldeck_daemon.attachments.fetch import FetchRefused, check_url, fetch
from skilldeck_daemon.containers.network.proxy import Proxy
from skilldeck_daemon.tools.web import ddgs_program
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.json_types import JsonObject

log = logging.getLogger(__name__)

MAX_URL = 2048
MAX_TITLE = 300
MAX_TEXT = 2000
ANSWER_BYTES = 4 * 1024 * 1024
ENGINES = ("duckduckgo", "brave", "mojeek", "startpage", "yahoo", "wikipedia")
"""The engines of `ddgs` that are asked, as many of them as the results need."""
ENGINE_HOSTS = ("*.duckduckgo.com", "search.brave.com", "www.mojeek.com", "www.startpage.com", "*.yahoo.com")
WIKI_HOSTS = ("*.wikipedia.org",)
ENGINE_SECONDS = 8
TOTAL_SECONDS = 40.0


class SearchFailed(SkilldeckError):
    """The search has no results to give, and why."""

    code = "web_search_failed"


@dataclass(frozen=True)
class Result:
    """One result: an http(s) URL, a title, and the text the engine shows with it."""

    url: str
    title: str
    text: str


class SearchProvider(Protocol):
    """A way to search the web."""

    async def search(self, query: str, count: int, country: str) -> list[Result]:
        """At most `count` results, the best first; none when there are none.

        Args:
            country: two letters in lower case, or empty: where the user is.
        Raises:
            SearchFailed: the engine could not be asked.
        """


class SearXNG:
    """A SearXNG server, through its JSON answers.

    Args:
        url: its base URL. It may be private, as the operator named it; where it redirects to may not.
        exceptions: further private hosts.
    """

    def __init__(self, url: str, exceptions: Collection[str] = ()) -> None:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._url = url.rstrip("/")
        self._exceptions = {*exceptions, f"{(parts.hostname or '').lower()}:{port}"}

    async def search(self, query: str, count: int, country: str) -> list[Result]:
        url = f"{self._url}/search?" + urlencode({"q": query, "format": "json"})
        try:
            answer = await fetch(url, max_bytes=ANSWER_BYTES, exceptions=self._exceptions)
            answered = await asyncio.to_thread(json.loads, answer.content)
        except FetchRefused as error:
            # SearXNG answers 403 while its settings do not list the format.
            hint = "Add 'json' to search.formats in its settings.yml." if "answered 403" in error.title else ""
            raise SearchFailed(f"The SearXNG server could not be asked: {error.title}", hint) from error
        except (ValueError, RecursionError):
            raise SearchFailed("The SearXNG server answered something that is not JSON.") from None
        found = answered.get("results") if isinstance(answered, dict) else None
        if not isinstance(found, list):
            raise SearchFailed("The SearXNG server's answer has no results field.")
        named = ((entry.get("url"), entry.get("title"), entry.get("content")) for entry in found if _is_object(entry))
        return _usable(named, count)


class Ddgs:
    """Public search engines without a key, by reading their result pages as the `ddgs` library does.

    Each search is one process (`ddgs_program.py`): the library blocks, and parses pages of others. It reaches the
    engines' hosts alone, through the same proxy that containers have: names are resolved there and must be public.
    """

    def __init__(
        self, program: Path = Path(ddgs_program.__file__), hosts: Sequence[str] = (), private: Collection[str] = ()
    ) -> None:
        self._program = program
        self._hosts = tuple(hosts) or (*ENGINE_HOSTS, *WIKI_HOSTS)
        self._private = private

    async def search(self, query: str, count: int, country: str) -> list[Result]:
        listener = socket.create_server(("127.0.0.1", 0))
        proxy = Proxy(self._hosts, private=self._private)
        proxy.serve(listener)
        asked = {
            "query": query,
            "count": count,
            "region": f"{country or 'us'}-en",
            "engines": ",".join(ENGINES),
            "proxy": f"http://127.0.0.1:{listener.getsockname()[1]}",
            "timeout": ENGINE_SECONDS,
        }
        try:
            answered = await self._run(json.dumps(asked).encode())
        finally:
            await proxy.close()
        if answered.get("error"):
            raise SearchFailed(f"No search engine answered: {str(answered['error'])[:300]}")
        found = answered.get("results")
        named = found if isinstance(found, list) else []
        return _usable(
            ((entry.get("url"), entry.get("title"), entry.get("text")) for entry in named if _is_object(entry)), count
        )

    async def _run(self, asked: bytes) -> JsonObject:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(self._program),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
        )
        try:
            out, errors = await asyncio.wait_for(process.communicate(asked), TOTAL_SECONDS)
        except TimeoutError:
            raise SearchFailed(f"No search engine answered within {TOTAL_SECONDS:g} s.") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        try:
            answered = json.loads(out)
        except ValueError:
            answered = None
        if not isinstance(answered, dict):
            log.warning(
                "a search ended with exit code %s: %s", process.returncode, errors[-500:].decode(errors="replace")
            )
            raise SearchFailed("The search ended without an answer.", "The daemon's log says more.")
        return answered


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _usable(found: Iterable[tuple[Any, Any, Any]], count: int) -> list[Result]:
    """The entries that lead somewhere, cut to size, each URL once."""
    results: dict[str, Result] = {}
    for url, title, text in found:
        if len(results) >= count:
            break
        if not isinstance(url, str) or len(url) > MAX_URL or any(char.isspace() for char in url):
            continue
        try:
            check_url(url)
        except (FetchRefused, ValueError):
            continue
        words = [" ".join(part.split()) if isinstance(part, str) else "" for part in (title, text)]
        results.setdefault(url, Result(url, words[0][:MAX_TITLE] or url, words[1][:MAX_TEXT]))
    return list(results.values())

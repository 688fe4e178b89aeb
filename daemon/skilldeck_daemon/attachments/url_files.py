"""What URLs of a request led to, fetched once and kept, so that a history means the same tomorrow.

A request's URLs are fetched when it comes, a few at a time. The answers are stored with the response, as file records
of a purpose of their own that no surface lists; the turns that follow read them instead of the network. They go 90
days later; a history that is older goes on without them. Nothing is stored of a request with `store: false`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from skilldeck_daemon.attachments.fetch import FetchRefused, fetch
from skilldeck_daemon.store import Store, now
from skilldeck_daemon.store.records import FileRow
from skilldeck_daemon.store.tables.files import FETCHED

SECONDS = 90 * 24 * 3600
AT_ONCE = 4
TOTAL_BYTES = 128 * 1024 * 1024
"""Of all answers of one request: they are held in memory until it is stored."""


@dataclass(frozen=True)
class Page:
    """What a URL led to."""

    content: bytes | Path
    size: int
    media_type: str
    filename: str


def key_of(item_id: str, part: str, url: str) -> str:
    """The id its record has: the same URL may mean something else in another item."""
    return "fetched-" + hashlib.sha256("\0".join((item_id, part, url)).encode("utf-8", "replace")).hexdigest()


class Fetcher:
    """The URLs of one request.

    Args:
        exceptions: private hosts that may be reached all the same.
        earlier: pages of a response that is not stored, by key.
    """

    def __init__(self, store: Store, exceptions: Collection[str], earlier: Mapping[str, Page]) -> None:
        self.pages: dict[str, Page] = {}
        self._store = store
        self._exceptions = exceptions
        self._earlier = earlier
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[str, asyncio.Task[Page]] = {}
        self._bytes = 0

    def begin(self, url: str, max_bytes: int, param: str) -> None:
        """Start fetching a URL of the new input; `get` waits for it."""
        if url not in self._tasks:
            self._tasks[url] = asyncio.create_task(self._fetch(url, max_bytes, param))

    async def get(self, key: str, url: str, max_bytes: int, param: str, *, new: bool) -> Page:
        """The page. Raises FetchRefused naming `param`.

        Args:
            new: the item is the request's own; else a stored page is taken first.
        """
        page = None if new else self._earlier.get(key) or await self._stored(key)
        if page is None:
            self.begin(url, max_bytes, param)
            page = await self._tasks[url]
        if isinstance(page.content, bytes):
            self.pages[key] = page
        return page

    async def _fetch(self, url: str, max_bytes: int, param: str) -> Page:
        async with self._slots:
            room = min(max_bytes, TOTAL_BYTES - self._bytes)
            if room <= 0:
                raise FetchRefused(
                    f"The URLs of the request lead to more than {TOTAL_BYTES // 1024 // 1024} MiB.",
                    "Send fewer, or upload the files.",
                    param=param,
                )
            got = await fetch(url, max_bytes=room, param=param, exceptions=self._exceptions)
            self._bytes += len(got.content)
            return Page(got.content, len(got.content), got.media_type, got.filename)

    async def _stored(self, key: str) -> Page | None:
        record = await self._store.files.get(key)
        if record is None:
            return None
        path = await self._store.blobs.fetch(record["sha256"])
        return Page(path, record["bytes"], record["mime_type"], record["filename"])

    async def close(self) -> None:
        """End what nobody waits for any more."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def keep(store: Store, pages: Mapping[str, Page]) -> None:
    """Store the pages, for the turns that follow. A page under the same id is replaced."""
    for key, page in pages.items():
        blob = await store.blobs.put(page.content)
        at = now()
        row: FileRow = {
            "id": key,
            "created_at": at,
            "filename": page.filename,
            "purpose": FETCHED,
            "bytes": blob.size,
            "sha256": blob.sha256,
            "status": "processed",
            "mime_type": page.media_type,
            "expires_at": at + SECONDS,
        }
        await store.files.replace(row)

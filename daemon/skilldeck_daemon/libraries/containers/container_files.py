"""Files inside containers, as clients see them: a record for each, made when the container is looked at.

What commands make has no record until then, and its first one says that the model made it. A file keeps its id while it
is changed, and loses it when it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

from skilldeck_daemon.containers import Container
from skilldeck_daemon.containers.errors import ArtifactNotFound
from skilldeck_daemon.libraries.files import FileLibrary
from skilldeck_daemon.store import Page, Store
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.store.records import ContainerFileObject, Deleted, StoredContainerFile, public_file
from skilldeck_daemon.wire.fields import Fields
from skilldeck_shared.errors import NotFound
from skilldeck_shared.json_types import JsonObject

FileRecords = list[StoredContainerFile]
MOST = 20_000
"""Files of one container that have records."""


class ContainerFiles:
    """The files inside all containers of a daemon. `open` gives the live container of an id."""

    def __init__(self, store: Store, uploads: FileLibrary, open: Callable[[str], Awaitable[Container]]) -> None:
        self._store = store
        self._uploads = uploads
        self._open = open
        # A lock lives while somebody holds it or waits for it: containers come and go without end.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def source(self, file_id: str, param: str) -> tuple[str, Path]:
        """(name, content) of an uploaded file that is to be put in; raises NotFound naming the field."""
        try:
            file = await self._uploads.get(file_id)
        except NotFound as error:
            raise NotFound(error.title, error.hint, param=param, code=error.code) from None
        row = await self._store.files.get(file_id)
        assert row is not None
        return file["filename"], await self._store.blobs.fetch(row["sha256"])

    async def add(
        self, id: str, name: str, source: Path | bytes, origin: str = "user", key: str = ""
    ) -> ContainerFileObject:
        """Copy a file in; returns its container.file object. `key` names the content: it is copied once."""
        container = await self._open(id)
        path = await container.put(name, source)
        for file in await self.sync(id, container):
            if file["path"] == path:
                file = {**file, "source": origin, "key": key}
                await self._store.container_files.put(file)
                return public_file(file)
        raise ArtifactNotFound(f"The file {name!r} was removed while it was being added.")

    async def add_from(self, id: str, body: JsonObject) -> ContainerFileObject:
        """POST /containers/{id}/files with JSON {file_id}."""
        file_id = Fields(body).needed("file_id", maximum=256)
        name, path = await self.source(file_id, "file_id")
        return await self.add(id, name, path)

    async def sync(self, id: str, container: Container | None = None) -> FileRecords:
        """Give every file inside a record; returns all records."""
        container = container or await self._open(id)
        async with self._locks.setdefault(id, asyncio.Lock()):
            entries = await container.entries()
            kept = await self._store.container_files.list(id, MOST, "asc")
            known = {file["path"]: file for file in kept.data}
            current: FileRecords = []
            for entry in entries:
                old = known.pop(entry.path, None)
                if old is not None and (old["mtime_ns"], old["bytes"]) == (entry.mtime_ns, entry.bytes):
                    current.append(old)
                    continue
                file: StoredContainerFile = {
                    "id": old["id"] if old else new_id("cfile"),
                    "object": "container.file",
                    "created_at": old["created_at"] if old else int(time.time()),
                    "bytes": entry.bytes,
                    "container_id": id,
                    "path": entry.path,
                    "source": old["source"] if old else "assistant",
                    "mtime_ns": entry.mtime_ns,
                }
                await self._store.container_files.put(file)
                current.append(file)
            for gone in known.values():
                await self._store.container_files.delete(id, gone["id"])
        return current

    async def list(self, id: str, limit: int = 20, order: str = "desc", after: str = "") -> Page[ContainerFileObject]:
        await self.sync(id)
        page = await self._store.container_files.list(id, limit, order, after)
        return page.map(public_file)

    async def get(self, id: str, file_id: str) -> ContainerFileObject:
        await self._open(id)
        return public_file(await self._file(id, file_id))

    async def find(self, file_id: str) -> ContainerFileObject:
        """The file, in whichever container it is."""
        file = await self._store.container_files.find(file_id)
        if file is None:
            raise NotFound(f"There is no file {file_id[:100]!r}.", param="file_id")
        return public_file(file)

    async def _file(self, id: str, file_id: str) -> StoredContainerFile:
        file = await self._store.container_files.get(id, file_id)
        if file is None:
            raise NotFound(f"No file {file_id[:100]!r} in container {id!r}.", param="file_id")
        return file

    async def open(self, id: str, file_id: str) -> tuple[BinaryIO, int, str]:
        """(file opened for blocking reads, size in bytes, file name); the caller closes it."""
        container = await self._open(id)
        record = await self._file(id, file_id)
        file, size = await container.open_file(record["path"])
        return file, size, record["path"].rsplit("/", 1)[-1]

    async def delete(self, id: str, file_id: str) -> Deleted:
        container = await self._open(id)
        file = await self._file(id, file_id)
        with contextlib.suppress(ArtifactNotFound):
            await container.remove(file["path"])
        await self._store.container_files.delete(id, file_id)
        return {"id": file_id, "object": "container.file.deleted", "deleted": True}

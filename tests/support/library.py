"""A store with the libraries over it, and the HTTP routes of skills, files, uploads and conversations in process."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
from fastapi import FastAPI
from openai import AsyncOpenAI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from skilldeck_daemon.http.objects import conversations, files, skills, uploads
from skilldeck_daemon.libraries.bus import Bus
from skilldeck_daemon.libraries.conversations import Conversations
from skilldeck_daemon.libraries.files import FileLibrary
from skilldeck_daemon.libraries.skills import SkillLibrary
from skilldeck_daemon.skills.mounts import MountCache
from skilldeck_daemon.store import Store, sqlite_url
from skilldeck_shared.errors import SkilldeckError


class Library(SimpleNamespace):
    """What a daemon holds of stored things."""

    store: Store
    bus: Bus
    skills: SkillLibrary
    files: FileLibrary
    conversations: Conversations


_migrated: list[bytes] = []


async def open_store(root: Path) -> Store:
    """An open store below `root`. Migrating takes 0.2 s, so all but the first begin with a copy of a migrated file."""
    path = root / "store.db"
    if not _migrated:
        with tempfile.TemporaryDirectory() as folder:
            first = Store(sqlite_url(Path(folder) / "store.db"), Path(folder) / "blobs")
            await first.open()
            await first.close()
            _migrated.append((Path(folder) / "store.db").read_bytes())
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_migrated[0])
    store = Store(sqlite_url(path), root / "blobs")
    await store.open()
    return store


@contextlib.asynccontextmanager
async def open_library(root: Path) -> AsyncIterator[Library]:
    store = await open_store(root)
    try:
        bus = Bus()
        mounts = MountCache(root / "mounts", store.blobs.require)
        yield Library(
            store=store,
            bus=bus,
            skills=SkillLibrary(store, bus, mounts),
            files=FileLibrary(store, bus),
            conversations=Conversations(store, bus),
        )
    finally:
        await store.close()


def application(library: Library) -> FastAPI:
    """The routes with the errors of the wire."""

    async def refused(_request: Request, error: Any) -> Response:
        return JSONResponse(error.body(), error.status)

    modules = (skills, files, uploads, conversations)
    routes = [route for module in modules for route in module.router(cast(Any, library)).below("/v1")]
    return FastAPI(routes=routes, exception_handlers={SkilldeckError: refused})


@contextlib.asynccontextmanager
async def open_http(library: Library) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(library), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://test/v1") as client:
        yield client


def sdk(client: httpx.AsyncClient) -> AsyncOpenAI:
    """The official client over the same routes; raises on any answer that is not to the schema."""
    return AsyncOpenAI(
        base_url="http://test/v1", api_key="x", http_client=client, max_retries=0, _strict_response_validation=True
    )

"""A whole daemon inside the test's process, its model played by a script."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from skilldeck_daemon.app import Daemon
from skilldeck_daemon.settings import Settings
from skilldeck_daemon.store import Store, room
from skilldeck_daemon.store.database import sqlite_url
from support.ordering import check_stream
from support.scripted_model import Scripted, ScriptedModel
from support.wait import until

# Thousands of these daemons leave their folders behind.
room.RESERVE_BYTES = 4096
STORE = "skilldeck.db"
SHELL: dict[str, Any] = {"type": "shell", "environment": {"type": "container_auto"}}


@dataclass
class Running:
    """A daemon and its clients: `client` is the official SDK in strict mode, `http` talks JSON."""

    daemon: Daemon
    model: ScriptedModel
    client: openai.AsyncOpenAI
    http: httpx.AsyncClient

    @property
    def url(self) -> str:
        return self.daemon.services.http_url

    async def respond(self, input: Any = "go", **body: Any) -> dict[str, Any]:
        """POST /responses, not streamed."""
        answer = await self.http.post("/responses", json={"model": "default", "input": input, **body})
        assert answer.status_code == 200, answer.text
        response: dict[str, Any] = answer.json()
        return response

    async def stream(self, input: Any = "go", **body: Any) -> list[dict[str, Any]]:
        """The events of a streamed response, checked by the ordering validator."""
        request = {"model": "default", "input": input, "stream": True, **body}
        async with self.http.stream("POST", "/responses", json=request) as answer:
            events = await sse(answer)
        check_stream(events)
        return events


async def sse(answer: httpx.Response) -> list[dict[str, Any]]:
    """The events of an SSE answer; its form is checked."""
    assert answer.status_code == 200, await answer.aread()
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = []
    name, ended = "", False
    async for line in answer.aiter_lines():
        assert not ended or not line, "something after [DONE]"
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line == "data: [DONE]":
            ended = True
        elif line.startswith("data: "):
            events.append(json.loads(line.removeprefix("data: ")))
            assert events[-1]["type"] == name
    assert ended, "the stream has no [DONE]"
    return events


@functools.cache
def _empty_store() -> bytes:
    """The file of a store that holds nothing, as the migrations make it: a third of a daemon's start, made once."""
    with tempfile.TemporaryDirectory(prefix="skilldeck-store-") as folder:

        async def make() -> bytes:
            store = Store(sqlite_url(Path(folder) / STORE), Path(folder) / "blobs")
            await store.open()
            await store.close()
            return (Path(folder) / STORE).read_bytes()

        with ThreadPoolExecutor(1) as pool:  # a loop of its own: this one is running
            return pool.submit(asyncio.run, make()).result()


@contextlib.asynccontextmanager
async def running(
    *turns: Scripted, strict: bool = True, data_dir: Path | None = None, load: bool = True, **settings: Any
) -> AsyncIterator[Running]:
    """Start a daemon whose model plays the turns.

    Args:
        strict: a request beyond the script fails the test.
        data_dir: keep the data here (for a restart); else it goes with the test.
        load: whether a model is served.
    """
    with (
        tempfile.TemporaryDirectory(prefix="skilldeck-test-") as temporary,
        ScriptedModel(*turns, strict=strict) as model,
    ):
        home = Path(temporary)
        values: dict[str, Any] = {
            "model": "",
            "engine": "remote",
            "remote_url": model.url,
            "model_name": "scripted",
            "port": 0,
            "socket": home / "daemon.sock",
            "data_dir": data_dir or home / "data",
            **settings,
        }
        if not load:
            values |= {"engine": "auto", "remote_url": ""}
        store = Path(values["data_dir"]) / STORE
        if not store.parent.exists() and "database_url" not in settings:
            store.parent.mkdir(mode=0o700, parents=True)
            store.write_bytes(await asyncio.to_thread(_empty_store))
            store.chmod(0o600)
        daemon = Daemon(Settings(**values))
        await daemon.start()
        base = daemon.services.environments.containers.base
        try:
            if load:
                await until(lambda: daemon.services.models.status().state == "ready")
            key = (values.get("api_key") or ["none"])[0]
            headers = {"authorization": f"Bearer {key}"}
            async with (
                httpx.AsyncClient(base_url=daemon.services.http_url, timeout=99, headers=headers, verify=False) as http,
                openai.AsyncOpenAI(
                    base_url=daemon.services.http_url,
                    api_key=key,
                    max_retries=0,
                    _strict_response_validation=True,
                    http_client=httpx.AsyncClient(timeout=99, verify=False),
                ) as client,
            ):
                yield Running(daemon, model, client, http)
        finally:
            await daemon.stop()
            if data_dir is None:
                # A root daemon keeps containers where their user can reach them, outside the data directory.
                shutil.rmtree(base, ignore_errors=True)

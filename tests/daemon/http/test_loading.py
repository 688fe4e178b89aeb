"""A request that comes while its model loads waits for it, on every surface; the model is played by a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets

from skilldeck_daemon.engine import hub as hubs
from skilldeck_daemon.engine.errors import NotLoaded
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_tui.client.client import Client
from support.daemon import Running, running
from support.scripted_model import Turn
from support.wait import until

SAY = [{"role": "user", "content": "go"}]
Answers = list[Coroutine[Any, Any, httpx.Response]]


@asynccontextmanager
async def loading(hub: ModelHub, url: str) -> AsyncIterator[asyncio.Task[Any]]:
    """The model of a server is being loaded as `slow` until this is left."""
    async with hub._lock:
        task = asyncio.create_task(hub.load("slow", engine="remote", options={"remote_url": url}))
        await until(lambda: "slow" in hub.states())
        yield task


def asked(daemon: Running, model: str) -> Answers:
    """A request to each HTTP surface."""
    post = daemon.http.post
    return [
        post("/responses", json={"model": model, "input": "go"}),
        post("/responses", json={"model": model, "input": "go", "background": True}),
        post("/responses/input_tokens", json={"model": model, "input": "go"}),
        post("/chat/completions", json={"model": model, "messages": SAY}),
        post("/messages", json={"model": model, "messages": SAY, "max_tokens": 9}),
        post("/completions", json={"model": model, "prompt": "go"}),
    ]


async def test_every_surface_waits_for_the_model_and_the_waiting_is_seen() -> None:
    async with running(*[Turn("done")] * 9, load=False, strict=False) as daemon:
        hub = daemon.daemon.services.models
        async with await Client.connect(daemon.daemon.settings.socket) as client:
            async with loading(hub, daemon.model.url):
                by_name = daemon.http.post("/responses", json={"model": "slow", "input": "go"})
                answers = [asyncio.create_task(one) for one in [by_name, *asked(daemon, "default")]]
                run = asyncio.create_task(client.start_run({"model": "default", "input": "go"}))
                url = daemon.url.replace("http", "ws") + "/responses"
                async with websockets.connect(url, proxy=None) as socket:
                    await socket.send(json.dumps({"type": "response.create", "model": "default", "input": "go"}))
                    await until(lambda: hub.stats()["slow"].queued == len(answers) + 2)
                    assert not any(task.done() for task in [*answers, run])
                    # Another name is no reason to wait.
                    unknown = await daemon.http.post("/responses", json={"model": "other", "input": "go"})
                    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
                    health = (await daemon.http.get(daemon.url.removesuffix("/v1") + "/health")).json()
                    assert health["engines"]["slow"]["queued"] == len(answers) + 2
                    (shown,) = (await status(client))["models"]
                    assert (shown["name"], shown["state"], shown["queued"]) == ("slow", "loading", len(answers) + 2)
                    # One that leaves waits no longer.
                    leaving = asyncio.create_task(
                        daemon.http.post("/completions", json={"model": "slow", "prompt": ""})
                    )
                    await until(lambda: hub.stats()["slow"].queued == len(answers) + 3)
                    leaving.cancel()
                    await until(lambda: hub.stats()["slow"].queued == len(answers) + 2)
                    hub._lock.release()
                    first = json.loads(await socket.recv())
                    await hub._lock.acquire()
                    assert first["type"] == "response.created"
            *found, completion = await asyncio.gather(*answers)
            for answer in found:
                assert answer.status_code == 200, answer.text
            # The scripted server knows chats only: what matters is that the request came to it.
            assert completion.json()["error"]["code"] != "model_not_loaded"
            assert (await run)["status"] == "in_progress"


async def status(client: Client) -> Any:
    async with client.subscribe() as updates:
        return (await anext(updates)).status  # type: ignore[union-attr]


async def test_when_loading_fails_those_who_waited_are_told_why_and_when_to_come_back() -> None:
    async with running(load=False) as daemon:
        hub = daemon.daemon.services.models
        async with loading(hub, "http://127.0.0.1:9/v1") as task:
            answers = [asyncio.create_task(one) for name in ("default", "slow") for one in asked(daemon, name)]
            await until(lambda: hub.stats()["slow"].queued == len(answers))
        with pytest.raises(NotLoaded):
            await task
        for answer in await asyncio.gather(*answers):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "10"), answer.text
            error = answer.json()["error"]
            assert error["code"] == "model_not_loaded"
            assert "slow could not be loaded" in error["message"]
            assert "127.0.0.1:9" in error["message"]


async def test_nobody_waits_for_ever_and_the_next_model_is_waited_for() -> None:
    async with running(Turn("done"), load=False) as daemon:
        hub = daemon.daemon.services.models
        async with loading(hub, "http://127.0.0.1:9/v1") as task:
            with pytest.raises(NotLoaded, match="slow is loading"):
                await hub.ready("slow", limit=0.01)
            assert hub.stats()["slow"].queued == 0
            # Somebody asks for it once more, with the right URL: the request waits for that.
            again = asyncio.create_task(
                hub.load("slow", engine=hubs.engines.REMOTE, options={"remote_url": daemon.model.url})
            )
            await until(lambda: len(hub._coming) == 2)
            answer = asyncio.create_task(daemon.respond())
            await until(lambda: hub.stats()["slow"].queued == 1 or hub._coming[0].waiting == 1)
        with pytest.raises(NotLoaded):
            await task
        await again
        assert (await answer)["status"] == "completed"

"""Requests that are still being served when the daemon stops."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from skilldeck_daemon.http.auth import Gate
from skilldeck_daemon.settings import Settings

SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "POST",
    "path": "/v1/responses",
    "headers": [(b"host", b"127.0.0.1")],
}


async def cancelled(begins: bool) -> list[dict[str, Any]]:
    """What a client is sent by an application that is cancelled as uvicorn does it; `begins`: it has answered."""
    sent: list[dict[str, Any]] = []
    serving = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begins:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        serving.set()
        await asyncio.Event().wait()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    task = asyncio.ensure_future(Gate(app, Settings(model=""))(SCOPE, receive, send))  # type: ignore[arg-type]
    await serving.wait()
    task.cancel()
    await task
    return sent


async def test_one_without_an_answer_is_told_to_try_again() -> None:
    start, body = await cancelled(begins=False)
    assert start["status"] == 503
    assert "shutting down" in json.loads(body["body"])["error"]["message"]


async def test_one_whose_answer_has_begun_is_cut_off() -> None:
    assert [message["type"] for message in await cancelled(begins=True)] == ["http.response.start"]

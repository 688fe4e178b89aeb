"""Of several API keys none takes the daemon from another: its share of requests, memory and tokens, and 429 beyond."""

from __future__ import annotations

import asyncio
import threading

import httpx

from skilldeck_daemon.agent.admission import Admission
from skilldeck_daemon.settings import Settings
from support.daemon import running
from support.scripted_model import Hold, Turn
from support.wait import until

KEYS = ["one-key", "another-key"]


def asks(key: str, words: str = "go", **more: object) -> dict[str, object]:
    return {"headers": {"authorization": f"Bearer {key}"}, "json": {"model": "default", "input": words, **more}}


async def test_a_key_has_its_share_of_runs_and_the_other_goes_on() -> None:
    gate = threading.Event()
    held = [Turn(Hold(gate), "held")] * 2
    async with running(*held, Turn("free"), Turn("again"), api_key=KEYS, key_requests=2, strict=False) as daemon:
        async with httpx.AsyncClient(base_url=daemon.url, timeout=60) as http:
            begun = [await http.post("/responses", **asks("one-key", background=True)) for _ in range(2)]
            assert [answer.status_code for answer in begun] == [200, 200]
            await until(lambda: len(daemon.model.requests) == 2)
            refused = await http.post("/responses", **asks("one-key"))
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert int(refused.headers["retry-after"]) >= 1
            assert "2 runs under way" in refused.json()["error"]["message"]
            other = await http.post("/responses", **asks("another-key"))
            assert other.status_code == 200
            (shown,) = [entry for entry in daemon.daemon.services.admission.shown() if entry["runs"]]
            assert (shown["runs"], shown["refused"]) == (2, 1)
            gate.set()
            await until(lambda: not daemon.daemon.services.runs.active)
            assert (await http.post("/responses", **asks("one-key"))).status_code == 200
            assert not any(entry["runs"] or entry["tokens"] for entry in daemon.daemon.services.admission.shown())
            text = (await http.get(daemon.url.removesuffix("/v1") + "/metrics", **head("one-key"))).text
            assert "skilldeck_requests_refused_total 1.0" in text


def head(key: str) -> dict[str, dict[str, str]]:
    return {"headers": {"authorization": f"Bearer {key}"}}


async def test_a_key_has_its_share_of_requests() -> None:
    gate = threading.Event()
    async with running(Turn(Hold(gate), "x"), api_key=KEYS, key_requests=1, strict=False) as daemon:
        async with httpx.AsyncClient(base_url=daemon.url, timeout=60) as http:
            first = asyncio.create_task(http.post("/responses", **asks("one-key")))
            await until(lambda: len(daemon.model.requests) == 1)
            assert (await http.get("/models", **head("one-key"))).status_code == 429
            assert (await http.get("/models", **head("another-key"))).status_code == 200
            assert (await http.get(daemon.url.removesuffix("/v1") + "/health")).status_code == 200
            gate.set()
            assert (await first).status_code == 200
            assert (await http.get("/models", **head("one-key"))).status_code == 200


async def test_a_key_has_its_share_of_memory_and_of_tokens() -> None:
    gate = threading.Event()
    async with running(Turn(Hold(gate), "x"), api_key=KEYS, key_memory_mb=1, key_tokens=1000, strict=False) as daemon:
        async with httpx.AsyncClient(base_url=daemon.url, timeout=60) as http:
            large = await http.post("/responses", **asks("one-key", "y" * (2 << 20)))
            assert (large.status_code, "1 MiB at once" in large.json()["error"]["message"]) == (429, True)
            # One prompt is never too much: else it could not be sent at all.
            first = asyncio.create_task(http.post("/responses", **asks("one-key", "word " * 2000)))
            await until(lambda: len(daemon.model.requests) == 1)
            assert (await http.post("/responses", **asks("one-key"))).status_code == 429
            gate.set()
            assert (await first).status_code == 200
            assert all(share.bytes == 0 for share in daemon.daemon.services.admission._shares.values())


def test_a_single_key_has_all_of_it() -> None:
    for keys in ([], ["one-key"]):
        admission = Admission(Settings(api_key=keys, key_requests=1, key_tokens=1))  # type: ignore[arg-type]
        for _ in range(3):
            admission.run("caller", [{"content": "many words " * 100}])

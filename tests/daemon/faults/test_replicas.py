"""Three daemons before one PostgreSQL, one object store and one remote engine: one dies, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from skilldeck_daemon.containers.homes import base_for
from support.postgres import create, needs_postgres, object_store, postgres
from support.scripted_model import Answer, Hold, ScriptedModel, Turn

pytestmark = [needs_postgres, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[str, dict[str, str]]]:
    with postgres() as url, object_store() as variables:
        yield url, variables


class Replica:
    """A daemon process with a data directory of its own."""

    def __init__(self, process: asyncio.subprocess.Process, http: httpx.AsyncClient) -> None:
        self.process = process
        self.http = http

    async def ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        answer = await self.http.request(method, path, **more)
        assert answer.status_code == 200, f"{method} {path}: {answer.text}"
        body: dict[str, Any] = answer.json()
        return body

    async def ended(self, path: str) -> dict[str, Any]:
        """The response once it has ended."""
        for _ in range(3000):
            response = await self.ask("GET", path)
            if response["status"] not in ("queued", "in_progress"):
                return response
            await asyncio.sleep(0.05)
        raise AssertionError(f"{path} never ended")

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@contextlib.asynccontextmanager
async def replicas(
    count: int, home: Path, shared: tuple[str, dict[str, str]], model: ScriptedModel, name: str
) -> AsyncIterator[list[Replica]]:
    """`count` daemons that are ready, on a database and a prefix of their own."""
    url = await create(shared[0], name)
    started: list[Replica] = []
    async with contextlib.AsyncExitStack() as stack:
        processes = []
        for number in range(count):
            data = home / f"r{number}"
            flags = ["--port", "0", "--data-dir", str(data), "--socket", str(home / f"s{number}"), "--sandbox", "none"]
            flags += ["--database-url", url, "--blobs-url", f"s3://blobs/{name}", "--log-level", "warning"]
            flags += ["--engine", "remote", "--remote-url", model.url]
            with (home / f"log{number}").open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    *[sys.executable, "-m", "skilldeck_daemon", "serve", *flags],
                    env={**os.environ, **shared[1]},
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                )
            stack.push_async_callback(_end, process, home / f"log{number}")
            stack.callback(shutil.rmtree, base_for(data / "containers"), True)
            processes.append(process)
        for number, process in enumerate(processes):
            assert process.stdout is not None
            line = (await asyncio.wait_for(process.stdout.readline(), 180)).decode()
            found = re.search(r"http://\S+/v1", line)
            assert found is not None, (home / f"log{number}").read_text()
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=found.group(), timeout=180))
            started.append(Replica(process, http))
        for replica in started:
            for _ in range(3000):
                health = await replica.http.get(str(replica.http.base_url).removesuffix("/v1/") + "/health")
                if health.status_code == 200:
                    break
                await asyncio.sleep(0.02)
        yield started


async def _end(process: asyncio.subprocess.Process, log: Path) -> None:
    if process.returncode is None:
        process.terminate()
    await asyncio.wait_for(process.communicate(), 60)
    sys.stderr.write(log.read_text()[-3000:])


async def test_runs_of_a_daemon_that_dies_go_on_elsewhere_each_exactly_once(
    tmp_path: Path, shared: tuple[str, dict[str, str]]
) -> None:
    gate = threading.Event()
    asked: Counter[str] = Counter()

    def answer(body: dict[str, Any]) -> Answer:
        word = body["messages"][-1]["content"]
        asked[word] += 1
        return Turn(f"{word} ", Hold(gate), "done") if word.startswith("held") else Turn(f"{word} done")

    with ScriptedModel(*[answer] * 1000, strict=False) as model:
        async with replicas(3, tmp_path, shared, model, "dies") as (one, two, three):
            # Everything is everybody's.
            file = await one.ask("POST", "/files", data={"purpose": "user_data"}, files={"file": ("a", b"shared")})
            assert (await two.http.get(f"/files/{file['id']}/content")).content == b"shared"
            manifest = b"---\nname: a\ndescription: d\n---\n"
            skill = await two.ask("POST", "/skills", files=[("files", ("a/SKILL.md", manifest))])
            assert (await three.ask("GET", f"/skills/{skill['id']}"))["name"] == "a"
            conversation = await one.ask("POST", "/conversations", json={})

            async def background(replica: Replica, word: str, **more: Any) -> str:
                body = {"model": "default", "input": word, "background": True, **more}
                return f"/responses/{(await replica.ask('POST', '/responses', json=body))['id']}"

            quick = [await background(replica, f"quick{n}") for n, replica in enumerate((one, two, three) * 4)]
            held = {
                f"held{n}": await background(replica, f"held{n}")
                for n, replica in enumerate((one, one, one, two, three))
            }
            told = await background(one, "held-told", conversation=conversation["id"])
            locked = {"model": "default", "input": "x", "conversation": conversation["id"]}
            refused = await two.http.post("/responses", json=locked)
            assert refused.json()["error"]["code"] == "conversation_locked"
            foreground = asyncio.create_task(
                one.http.post("/responses", json={"model": "default", "input": "held-front"})
            )
            await model.until(lambda _: sum(word.startswith("held") for word in asked) == 7, 60)
            # Cancelled through another daemon than its own.
            cancelled = await two.ask("POST", f"{held.pop('held4')}/cancel")
            assert cancelled["status"] == "cancelled"

            await one.kill()
            with contextlib.suppress(httpx.HTTPError):
                await foreground
            # Their leases run out, and the two others take them over.
            await model.until(lambda _: all(asked[word] == 2 for word in ("held0", "held1", "held2", "held-told")), 180)
            follower = asyncio.create_task(_follow(two, held["held0"]))
            gate.set()
            for word, path in held.items():
                response = await two.ended(path)
                assert response["status"] == "completed", response
                assert response["output"][-1]["content"][0]["text"] == f"{word} done"
                assert await three.ask("GET", path) == response
            assert (await follower)[-1]["type"] == "response.completed"
            for path in quick:
                assert (await three.ended(path))["status"] == "completed"
            assert (await two.ended(told))["status"] == "completed"
            items = await three.ask("GET", f"/conversations/{conversation['id']}/items", params={"order": "asc"})
            assert [item["role"] for item in items["data"]] == ["user", "assistant"]
            # Exactly once: twice only what had lost its daemon.
            assert {word for word, count in asked.items() if count != 1} == {"held0", "held1", "held2", "held-told"}
            assert set(asked.values()) == {1, 2}


async def _follow(replica: Replica, path: str) -> list[dict[str, Any]]:
    events = []
    async with replica.http.stream("GET", path, params={"stream": "true"}) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                events.append(json.loads(line[6:]))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


async def test_a_daemon_that_is_stopped_hands_its_background_runs_over(
    tmp_path: Path, shared: tuple[str, dict[str, str]]
) -> None:
    gate = threading.Event()
    with ScriptedModel(Turn("on ", Hold(gate), "done"), Turn("on ", Hold(gate), "done")) as model:
        async with replicas(2, tmp_path, shared, model, "stops") as (one, two):
            body = {"model": "default", "input": "go", "background": True}
            path = f"/responses/{(await one.ask('POST', '/responses', json=body))['id']}"
            await model.until(lambda model: len(model.requests) == 1, 60)
            one.process.terminate()
            await model.until(lambda model: len(model.requests) == 2, 60)
            gate.set()
            assert (await two.ended(path))["status"] == "completed"
            assert await one.process.wait() == 0

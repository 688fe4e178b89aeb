"""What the clients of the soak do, one action after the other, and how the scripted model answers them.

Every action checks its own result. One that the daemon's death interrupts ends in `Interrupted`; anything else that
is not as it should be is a fault, and so is an action that does not end within STUCK_SECONDS.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx

from soak.ledger import ENDED, Entry, Ledger
from support.bundles import skill_files
from support.scripted_model import Endless, Text, Turn, shell

STUCK_SECONDS = 180.0
SCRIPT = b"#!/bin/sh\nprintf 'bytes: '\nwc -c < \"$1\"\n"
AUTO = {"type": "container_auto"}
ACTIONS = ("skill_run", "skill_run", "text", "chained", "background", "cancelled", "left", "file", "skill", "reads")


class Interrupted(Exception):
    """The daemon went away in the middle."""


class Fault(Exception):
    """The daemon answered what it must not."""


def answer(body: dict[str, Any]) -> Turn:
    """The model: what to do stands in the last user message, what was done in the tool messages after it."""
    told = body["messages"]
    last = max(place for place, message in enumerate(told) if message["role"] == "user")
    # The instructions of a skill that the run has alone stand in front of the words.
    said = str(told[last]["content"]).rpartition("</skill>\n\n")[2]
    words = said.split("\n", 1)[0].split(" ")
    results = [message["content"] for message in told[last:] if message["role"] == "tool"]
    if words[0] == "skill":
        commands = [f"cat /mnt/skills/{words[1]}/SKILL.md", f"sh /mnt/skills/{words[1]}/scripts/run.sh {words[2]}"]
        if len(results) < len(commands):
            return Turn(shell(commands[len(results)]))
        return Turn(Text(f"The script says {results[-1]}", 8))
    if words[0] == "forever":
        return Turn(Text("on "), Endless())
    return Turn(Text("one word after the other, " * 4, 6))


class Clients:
    """The actions. `tally` counts what was done, by name."""

    def __init__(self, http: httpx.AsyncClient, ledger: Ledger, source: random.Random) -> None:
        self.http, self.ledger, self.random = http, ledger, source
        self.tally: dict[str, int] = {}
        self._made = 0

    async def act(self) -> None:
        """One action of any kind. Raises Interrupted, or Fault."""
        name = self.random.choice(ACTIONS)
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                await getattr(self, name)()
        except TimeoutError:
            raise Fault(f"{name} did not end within {STUCK_SECONDS:g} s") from None
        except httpx.TransportError as error:
            raise Interrupted(f"{name}: {error!r}") from error
        self.tally[name] = self.tally.get(name, 0) + 1

    # -- runs

    async def skill_run(self) -> None:
        """A stream in which the model reads a skill and runs its script on a file."""
        skill, file = await self._skill(), await self._file()
        content = [{"type": "input_text", "text": f"skill {skill['name']} {file['filename']}"}]
        content.append({"type": "input_file", "file_id": file["id"]})
        environment = {**AUTO, "skills": [{"type": "skill_reference", "skill_id": skill["id"]}]}
        tools = [{"type": "shell", "environment": environment}]
        response = await self._stream({"input": [{"role": "user", "content": content}], "tools": tools})
        said = response["output"][-1]["content"][0]["text"] if response["output"] else ""
        if said != f"The script says bytes: {file['bytes']}":
            raise Fault(f"{response['id']} ({response['status']}) said {said!r}: {response['output']}")

    async def text(self) -> None:
        response = await self._post("/v1/responses", {"model": "default", "input": "text"})
        self._ended(response, "completed")

    async def chained(self) -> None:
        """An answer to an earlier response."""
        before = self.ledger.some("response", self.random)
        if before is None or before.final is None or before.final["status"] != "completed":
            return await self.text()
        self._ended(await self._stream({"input": "text", "previous_response_id": before.id}), "completed")

    async def background(self) -> None:
        response = await self._background("text")
        while response["status"] not in ENDED:
            await asyncio.sleep(0.05)
            response = await self._get(f"/v1/responses/{response['id']}")
        self._ended(response, "completed")

    async def cancelled(self) -> None:
        response = await self._background("forever")
        await asyncio.sleep(self.random.random() * 0.3)
        ended = await self._post(f"/v1/responses/{response['id']}/cancel", {})
        self._ended(ended, "cancelled")

    async def left(self) -> None:
        """A client that goes away in the middle of a stream."""
        async with contextlib.aclosing(self._events({"input": "forever"})) as events:
            count = 0
            async for event in events:
                if event["type"] == "response.created":
                    self.ledger.add(Entry("response", event["response"]["id"]))
                count += 1
                if count > 8:
                    return
        raise Interrupted("the stream ended by itself")

    # -- objects

    async def file(self) -> None:
        """One more file, which now and then is deleted before anybody else uses it."""
        entry = self.ledger.entries[(await self._file(fresh=True))["id"]]
        if self.random.random() < 0.3:
            entry.state = "leaving"
            await self._sent(await self.http.delete(f"/v1/files/{entry.id}"))
            entry.state = "gone"

    async def skill(self) -> None:
        """A new skill, or a new version of one."""
        known = self.ledger.some("skill", self.random)
        if known is None or self.random.random() < 0.3:
            await self._skill(fresh=True)
            return
        parts = self._bundle((await self._get(f"/v1/skills/{known.id}"))["name"])
        version = await self._sent(await self.http.post(f"/v1/skills/{known.id}/versions", files=parts))
        known.versions = max(known.versions, int(version["version"]))

    async def reads(self) -> None:
        """Lists, and a replay of a stored run."""
        for path in ("/v1/skills", "/v1/files", "/v1/containers"):
            await self._get(path)
        known = self.ledger.some("response", self.random)
        if known is not None and known.final is not None:
            async with self.http.stream("GET", f"/v1/responses/{known.id}", params={"stream": "true"}) as answered:
                events = [event async for event in _sse(answered)]
            if [event["sequence_number"] for event in events] != list(range(len(events))):
                raise Fault(f"the log of {known.id} has gaps")

    # -- inside

    async def _file(self, fresh: bool = False) -> dict[str, Any]:
        known = None if fresh else self.ledger.some("file", self.random)
        if known is not None:
            return await self._get(f"/v1/files/{known.id}")
        content = self.random.randbytes(self.random.randrange(1, 20_000))
        self._made += 1
        parts = {"file": (f"data{self._made}.bin", content)}
        made = await self._sent(await self.http.post("/v1/files", files=parts, data={"purpose": "user_data"}))
        self.ledger.add(Entry("file", made["id"], content=content))
        return made

    def _bundle(self, name: str) -> list[tuple[str, tuple[str, bytes]]]:
        self._made += 1
        files = {**skill_files(name), "scripts/run.sh": SCRIPT, "references/notes.txt": str(self._made).encode()}
        return [("files", (f"{name}/{path}", content)) for path, content in files.items()]

    async def _skill(self, fresh: bool = False) -> dict[str, Any]:
        known = None if fresh else self.ledger.some("skill", self.random)
        if known is not None:
            return await self._get(f"/v1/skills/{known.id}")
        made = await self._sent(await self.http.post("/v1/skills", files=self._bundle(f"soak-{self._made}")))
        self.ledger.add(Entry("skill", made["id"], versions=1))
        return made

    async def _background(self, text: str) -> dict[str, Any]:
        response = await self._post("/v1/responses", {"model": "default", "input": text, "background": True})
        self.ledger.add(Entry("response", response["id"]))
        return response

    def _ended(self, response: dict[str, Any], status: str) -> None:
        self.ledger.add(Entry("response", response["id"])).final = response
        stopped = (response["error"] or {}).get("message", "").startswith("The daemon stopped")
        if response["status"] != status and (response["status"] == "cancelled" or stopped):
            raise Interrupted(f"{response['id']} is {response['status']}: the daemon was stopped, and says so")
        if response["status"] != status:
            raise Fault(f"{response['id']} ended as {response['status']}, not {status}: {response['error']}")

    async def _stream(self, body: dict[str, Any]) -> dict[str, Any]:
        async for event in self._events(body):
            if event["type"] == "response.created":
                self.ledger.add(Entry("response", event["response"]["id"]))
            if event["type"] in ("response.completed", "response.failed", "response.incomplete"):
                response: dict[str, Any] = event["response"]
                self._ended(response, "completed")
                return response
        raise Interrupted("the stream ended without its end")

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        request = {"model": "default", "stream": True, **body}
        async with self.http.stream("POST", "/v1/responses", json=request) as answered:
            if answered.status_code != 200:
                await answered.aread()
                await self._sent(answered)
            async for event in _sse(answered):
                yield event

    async def _get(self, path: str) -> dict[str, Any]:
        return await self._sent(await self.http.get(path))

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._sent(await self.http.post(path, json=body))

    async def _sent(self, answered: httpx.Response) -> dict[str, Any]:
        if answered.status_code in (502, 503):  # stopping, or the model is being connected
            raise Interrupted(answered.text)
        if answered.status_code != 200:
            raise Fault(f"{answered.request.method} {answered.request.url.path}: {answered.text}")
        found: dict[str, Any] = answered.json()
        return found


async def _sse(answered: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answered.aiter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))

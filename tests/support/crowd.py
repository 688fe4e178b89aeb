"""Clients that write to a daemon all at once and remember what it acknowledged, for tests that kill it.

    crowd = Crowd(seed)
    await crowd.write(url, until)     # every kind of object, until `until` is set or the daemon is gone
    await crowd.check(url)            # everything acknowledged is there as it was answered; runs have ended

An object is remembered only after its answer has been read to the end. What was sent and not answered may be there or
not, but whole if it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
import zipfile
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

SHELL = {"type": "shell", "environment": {"type": "container_auto"}}
ENDED = {"completed", "failed", "cancelled", "incomplete"}
MANIFEST = "---\nname: {name}\ndescription: Number {number}.\n---\n\n{body}\n"


class Crowd:
    """See the module."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.files: dict[str, str] = {}  # id → SHA-256 of its content
        self.skills: dict[str, dict[str, str]] = {}  # id → version → SHA-256 of its SKILL.md
        self.responses: dict[str, dict[str, Any]] = {}  # ended ones, as answered
        self.background: set[str] = set()  # acknowledged, their end is not known
        self.conversations: dict[str, list[str]] = {}  # id → texts of its items
        self.chats: dict[str, dict[str, Any]] = {}
        self.deleted: set[str] = set()
        self.interrupted = 0
        self._checked: set[str] = set()

    @property
    def acknowledged(self) -> int:
        kinds = (self.files, self.skills, self.responses, self.background, self.conversations, self.chats, self.deleted)
        return sum(len(kind) for kind in kinds)

    async def write(self, url: str, until: asyncio.Event) -> None:
        """Act as seven clients at once until the event is set or the connection breaks."""
        actions: list[Callable[[httpx.AsyncClient], Awaitable[None]]] = [
            self._file,
            self._skill,
            self._version,
            self._respond,
            self._stream,
            self._background,
            self._converse,
            self._chat,
            self._delete,
        ]

        async def client(seed: int) -> None:
            turns = random.Random(seed)
            async with httpx.AsyncClient(base_url=url, timeout=60) as http:
                while not until.is_set():
                    try:
                        await turns.choice(actions)(http)
                    except (httpx.TransportError, json.JSONDecodeError):
                        return

        await asyncio.gather(*(client(self._random.random().__hash__()) for _ in range(7)))

    # -- what a client does

    async def _file(self, http: httpx.AsyncClient) -> None:
        content = self._random.randbytes(self._random.choice((10, 3_000, 150_000)))
        made = await _ok(http.post("/files", data={"purpose": "user_data"}, files={"file": ("f.bin", content)}))
        self.files[made["id"]] = hashlib.sha256(content).hexdigest()

    async def _skill(self, http: httpx.AsyncClient) -> None:
        manifest = self._manifest()
        made = await _ok(http.post("/skills", files=[("files", ("s/SKILL.md", manifest))]))
        self.skills[made["id"]] = {"1": hashlib.sha256(manifest).hexdigest()}

    async def _version(self, http: httpx.AsyncClient) -> None:
        if not self.skills:
            return
        skill = self._random.choice(sorted(self.skills))
        manifest = self._manifest()
        made = await _ok(http.post(f"/skills/{skill}/versions", files=[("files", ("s/SKILL.md", manifest))]))
        self.skills[skill][made["version"]] = hashlib.sha256(manifest).hexdigest()

    def _manifest(self) -> bytes:
        number = self._random.getrandbits(60)
        return MANIFEST.format(name="s", number=number, body="x" * self._random.choice((1, 9_000))).encode()

    async def _respond(self, http: httpx.AsyncClient) -> None:
        tools = [SHELL] if self._random.random() < 0.2 else []
        made = await _ok(http.post("/responses", json={"model": "default", "input": "go", "tools": tools}))
        self.responses[made["id"]] = made

    async def _stream(self, http: httpx.AsyncClient) -> None:
        last: dict[str, Any] = {}
        body = {"model": "default", "input": "go", "stream": True}
        async with http.stream("POST", "/responses", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    last = json.loads(line[6:])
                    if last["type"] == "response.created":
                        self.background.add(last["response"]["id"])  # acknowledged by its first event
        if last.get("response", {}).get("status") in ENDED:
            self.background.discard(last["response"]["id"])
            self.responses[last["response"]["id"]] = last["response"]

    async def _background(self, http: httpx.AsyncClient) -> None:
        made = await _ok(http.post("/responses", json={"model": "default", "input": "go", "background": True}))
        self.background.add(made["id"])

    async def _converse(self, http: httpx.AsyncClient) -> None:
        text = str(self._random.getrandbits(60))
        item = {"type": "message", "role": "user", "content": text}
        if not self.conversations or self._random.random() < 0.3:
            made = await _ok(http.post("/conversations", json={"items": [item]}))
            self.conversations[made["id"]] = [text]
            return
        conversation = self._random.choice(sorted(self.conversations))
        await _ok(http.post(f"/conversations/{conversation}/items", json={"items": [item]}))
        self.conversations[conversation].append(text)

    async def _chat(self, http: httpx.AsyncClient) -> None:
        body = {"model": "default", "messages": [{"role": "user", "content": "go"}], "store": True}
        made = await _ok(http.post("/chat/completions", json=body))
        self.chats[made["id"]] = made

    async def _delete(self, http: httpx.AsyncClient) -> None:
        if len(self.files) < 5:
            return
        file = self._random.choice(sorted(self.files))
        del self.files[file]  # asked for: it may be gone or not, until it is acknowledged
        await _ok(http.delete(f"/files/{file}"))
        self.deleted.add(file)

    # -- what must be there

    async def check(self, url: str, everything: bool = False) -> None:
        """Raises AssertionError naming the object. Objects that were there once are asked for again at the end only."""
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            await self._check_runs(http)
            for file, sha in self._new(self.files, everything):
                answer = await http.get(f"/files/{file}/content")
                assert answer.status_code == 200, f"file {file}: {answer.text}"
                assert hashlib.sha256(answer.content).hexdigest() == sha, f"file {file} has another content"
            for file, _ in self._new(dict.fromkeys(self.deleted), everything):
                assert (await http.get(f"/files/{file}")).status_code == 404, f"deleted file {file} is back"
            for skill, versions in self.skills.items():
                for version, sha in self._new({f"{skill} {v}": sha for v, sha in versions.items()}, everything):
                    number = version.split()[1]
                    answer = await http.get(f"/skills/{skill}/versions/{number}")
                    assert answer.status_code == 200, f"skill {skill} version {number}: {answer.text}"
                    content = await http.get(f"/skills/{skill}/versions/{number}/content")
                    assert content.status_code == 200, f"content of {skill} version {number}: {content.text}"
                    with zipfile.ZipFile(io.BytesIO(content.content)) as archive:
                        manifest = archive.read("s/SKILL.md")
                    assert hashlib.sha256(manifest).hexdigest() == sha, f"{skill} version {number} is another"
            for response, told in self._new(self.responses, everything):
                now = await _ok(http.get(f"/responses/{response}"))
                assert now == told, f"response {response} was acknowledged as {told}, and is {now}"
            for chat, told in self._new(self.chats, everything):
                now = await _ok(http.get(f"/chat/completions/{chat}"))
                assert now["choices"] == told["choices"], f"chat completion {chat}"
            for conversation, texts in self.conversations.items():
                items: list[dict[str, Any]] = []
                while True:
                    after = {"after": items[-1]["id"]} if items else {}
                    parameters: dict[str, Any] = {"limit": 100, "order": "asc", **after}
                    page = await _ok(http.get(f"/conversations/{conversation}/items", params=parameters))
                    items += page["data"]
                    if not page["has_more"]:
                        break
                there = [item["content"][0]["text"] for item in items]
                assert set(texts) <= set(there), f"conversation {conversation} lost {set(texts) - set(there)}"
                assert len(there) == len(set(there)), f"conversation {conversation} holds an item twice"

    def _new(self, objects: dict[str, Any], everything: bool) -> list[tuple[str, Any]]:
        found = [(key, value) for key, value in objects.items() if everything or key not in self._checked]
        self._checked.update(objects)
        return found

    async def _check_runs(self, http: httpx.AsyncClient) -> None:
        """What was acknowledged and not seen to its end has ended, with a log from its first to its last event."""
        for response in sorted(self.background):
            now = await _ok(http.get(f"/responses/{response}"))
            assert now["status"] in ENDED, f"response {response} is {now['status']} for ever"
            events = []
            async with http.stream("GET", f"/responses/{response}", params={"stream": "true"}) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        events.append(json.loads(line[6:]))
            assert [event["sequence_number"] for event in events] == list(range(len(events))), f"log of {response}"
            assert events[0]["type"] == "response.created", f"log of {response}"
            assert events[-1]["response"]["status"] == now["status"], f"log of {response}"
            assert all(item.get("status") != "in_progress" for item in now["output"]), f"half an item in {response}"
            self.interrupted += now["status"] == "failed"
            self.responses[response] = now
        self.background.clear()


async def _ok(request: Awaitable[httpx.Response]) -> dict[str, Any]:
    answer = await request
    assert answer.status_code == 200, f"{answer.request.method} {answer.request.url}: {answer.text}"
    body: dict[str, Any] = answer.json()
    return body

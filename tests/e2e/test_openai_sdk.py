"""The official Python SDK in strict mode over every operation of the published specification, sync and async.

Strict mode raises on any field that differs from the schema. Each walk notes the operations it used; together they
must be all that the specification has for what is served here.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import threading
import zipfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from support import contract
from support.bundles import SCRIPT, manifest, skill_zip
from support.daemon import SHELL, Running, running
from support.ordering import check_stream
from support.scripted_model import Call, Endless, Hold, Reasoning, Scripted, Text, Turn, shell

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
# Fine-tuned models are OpenAI's; completions without a chat need an engine of tokens (test_completions.py has one).
NOT_USED = {("DELETE", "/models/{model}"), ("POST", "/completions")}
Walk = Callable[["Sdk"], Awaitable[None]]
used: set[tuple[str, str]] = set()


class Sdk:
    """One client of either kind, used in one way: `await sdk(client.x.create(…))`, `await sdk.all(client.x.list())`."""

    def __init__(self, client: Any, daemon: Running) -> None:
        self.client = client
        self.daemon = daemon

    async def __call__(self, value: Any) -> Any:
        return await value if inspect.isawaitable(value) else value

    async def all(self, page: Any) -> list[Any]:
        """Every object of every page."""
        if hasattr(page, "__aiter__"):
            return [entry async for entry in page]
        return list(await self(page))

    async def events(self, made: Any) -> list[Any]:
        """The events of a stream, put through the ordering validator when it is whole."""
        stream = await self(made)
        events = await self.all(stream)
        return events

    async def helper(self, manager: Any) -> tuple[list[Any], Any]:
        """`.stream(…)`: its events and the final response."""
        async with AsyncExitStack() as stack:
            if hasattr(manager, "__aenter__"):
                stream = await stack.enter_async_context(manager)
            else:
                stream = stack.enter_context(manager)
            events = await self.all(stream)
            getter = getattr(stream, "get_final_response", None) or stream.get_final_completion
            return events, await self(getter())

    async def bytes(self, made: Any) -> bytes:
        content = await self(made)
        return bytes(content.content)

    async def refused(self, made: Callable[[], Any], kind: type[openai.APIStatusError], param: str | None) -> None:
        with pytest.raises(kind) as caught:
            await self(made())
        body: Any = caught.value.body
        assert (caught.value.param, bool(body["message"])) == (param, True)


def note(response: httpx.Response) -> None:
    for pattern, template in contract.operations():
        if pattern.match(response.request.url.raw_path.decode().partition("?")[0].removeprefix(contract.BASE)):
            method = response.request.method
            if method.lower() in contract.spec()["paths"][template]:
                used.add((method, template))
                return


async def anote(response: httpx.Response) -> None:
    note(response)


async def walk(flavour: str, steps: Walk, *turns: Scripted, **settings: Any) -> None:
    async with running(*turns, **settings) as daemon:
        options: dict[str, Any] = {"base_url": daemon.url, "api_key": "none", "max_retries": 0}
        options["_strict_response_validation"] = True
        if flavour == "async":
            hooks: Any = {"response": [anote]}
            async with openai.AsyncOpenAI(
                **options, http_client=httpx.AsyncClient(timeout=60, event_hooks=hooks)
            ) as client:
                await steps(Sdk(client, daemon))
            return

        def in_a_thread() -> None:
            with openai.OpenAI(
                **options, http_client=httpx.Client(timeout=60, event_hooks={"response": [note]})
            ) as client:
                asyncio.run(steps(Sdk(client, daemon)))  # type: ignore[arg-type]

        await asyncio.to_thread(in_a_thread)


both = pytest.mark.parametrize("flavour", ["async", "sync"])


# ------------------------------------------------------------------ skills


async def skills(sdk: Sdk) -> None:
    api = sdk.client.skills
    first = await sdk(api.create(files=[("csv/SKILL.md", manifest("csv")), ("csv/scripts/run.sh", SCRIPT)]))
    assert (first.name, first.default_version, first.latest_version) == ("csv", "1", "1")
    assert await sdk(api.retrieve(first.id)) == first
    version = await sdk(api.versions.create(first.id, files=skill_zip("csv"), default=True))
    assert (version.version, version.skill_id, version.object) == ("2", first.id, "skill.version")
    assert (await sdk(api.retrieve(first.id))).default_version == "2"
    assert (await sdk(api.update(first.id, default_version="1"))).default_version == "1"
    assert await sdk(api.versions.retrieve("2", skill_id=first.id)) == version
    assert [entry.version for entry in await sdk.all(api.versions.list(first.id, limit=1))] == ["2", "1"]
    one = await sdk.bytes(api.content.retrieve(first.id))
    assert one == await sdk.bytes(api.versions.content.retrieve("1", skill_id=first.id))
    two = await sdk.bytes(api.versions.content.retrieve("2", skill_id=first.id))
    assert two == await sdk.bytes(api.versions.content.retrieve("latest", skill_id=first.id)) != one
    modes = {info.filename: info.external_attr >> 16 & 0o777 for info in zipfile.ZipFile(io.BytesIO(two)).infolist()}
    assert modes["csv/scripts/run.sh"] & 0o111
    second = await sdk(api.create(files=("upload", skill_zip("other"))))
    third = await sdk(api.create(files=skill_zip("third")))
    assert [entry.id for entry in await sdk.all(api.list(order="asc", limit=2))] == [first.id, second.id, third.id]
    await sdk.refused(lambda: api.versions.delete("1", skill_id=first.id), openai.ConflictError, "version")
    deleted = await sdk(api.versions.delete("2", skill_id=first.id))
    assert (deleted.version, deleted.deleted, deleted.object) == ("2", True, "skill.version.deleted")
    await sdk(api.versions.delete("1", skill_id=first.id))
    await sdk.refused(lambda: api.retrieve(first.id), openai.NotFoundError, "skill_id")
    assert (await sdk(api.delete(second.id))).object == "skill.deleted"


@both
async def test_skills(flavour: str) -> None:
    await walk(flavour, skills)


async def test_uploads_as_clients_really_send_them(tmp_path: Path) -> None:
    """Paths (base names only), a generator of a body without Content-Length, raw bytes, open files."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "SKILL.md").write_bytes(manifest("flat"))
    (tmp_path / "scripts/run.sh").write_bytes(SCRIPT)

    async def steps(sdk: Sdk) -> None:
        flat = await sdk(sdk.client.skills.create(files=[tmp_path / "SKILL.md", tmp_path / "scripts/run.sh"]))
        assert flat.name == "flat"
        with (tmp_path / "SKILL.md").open("rb") as opened:
            assert (await sdk(sdk.client.skills.create(files=[opened]))).name == "flat"
        made = await sdk(sdk.client.files.create(file=tmp_path / "SKILL.md", purpose="assistants"))
        assert made.filename == "SKILL.md"

    await walk("async", steps)
    await walk("sync", steps)


async def test_a_streamed_upload_without_a_length_is_taken() -> None:
    async def form(field: str, filename: str, content: bytes, **fields: str) -> Any:
        for name, value in fields.items():
            yield f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        yield f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="{filename}"\r\n\r\n'.encode()
        for start in range(0, len(content), 50):
            yield content[start : start + 50]
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    async with running() as daemon:
        for name in ("files", "files[]", "file"):
            answer = await daemon.http.post(
                "/skills", content=form(name, "a.zip", skill_zip("streamed")), headers=headers
            )
            assert (answer.status_code, "content-length" in answer.request.headers) == (200, False), answer.text
        body = form("file", "a.txt", b"x" * 999, purpose="user_data")
        file = (await daemon.http.post("/files", content=body, headers=headers)).json()
        assert file["bytes"] == 999


# ------------------------------------------------------------------ files, uploads, models


async def files(sdk: Sdk) -> None:
    api = sdk.client.files
    made = await sdk(
        api.create(
            file=("a.txt", b"alpha"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
        )
    )
    assert (made.bytes, made.filename, made.expires_at) == (5, "a.txt", made.created_at + 3600)
    raw = await sdk(api.create(file=b"bytes", purpose="vision"))
    assert await sdk(api.retrieve(made.id)) == made
    assert await sdk.bytes(api.content(made.id)) == b"alpha"
    assert [entry.id for entry in await sdk.all(api.list(limit=1))] == [raw.id, made.id]
    assert [entry.id for entry in await sdk.all(api.list(purpose="vision"))] == [raw.id]
    assert (await sdk(api.delete(made.id))).deleted
    await sdk.refused(lambda: api.retrieve(made.id), openai.NotFoundError, "file_id")

    uploads = sdk.client.uploads
    upload = await sdk(uploads.create(filename="b.bin", purpose="user_data", bytes=6, mime_type="application/x"))
    assert upload.status == "pending"
    parts = [await sdk(uploads.parts.create(upload.id, data=data)) for data in (b"abc", b"def")]
    done = await sdk(uploads.complete(upload.id, part_ids=[part.id for part in parts]))
    assert (done.status, await sdk.bytes(api.content(done.file.id))) == ("completed", b"abcdef")
    other = await sdk(uploads.create(filename="c", purpose="vision", bytes=1, mime_type="text/plain"))
    assert (await sdk(uploads.cancel(other.id))).status == "cancelled"
    chunked = await sdk(
        uploads.upload_file_chunked(
            file=b"0123456789", filename="d.txt", bytes=10, mime_type="text/plain", purpose="user_data", part_size=4
        )
    )
    assert await sdk.bytes(api.content(chunked.file.id)) == b"0123456789"

    models = await sdk.all(sdk.client.models.list())
    assert [entry.id for entry in models] == ["org/scripted"]
    assert await sdk(sdk.client.models.retrieve("org/scripted")) == models[0]
    await sdk.refused(lambda: sdk.client.models.retrieve("org/none"), openai.NotFoundError, "model")


@both
async def test_files_uploads_and_models(flavour: str) -> None:
    await walk(flavour, files, model_name="org/scripted")


# ------------------------------------------------------------------ containers


async def containers(sdk: Sdk) -> None:
    api = sdk.client.containers
    given = await sdk(sdk.client.files.create(file=("in.txt", b"given"), purpose="user_data"))
    skill = await sdk(sdk.client.skills.create(files=skill_zip("mounted")))
    made = await sdk(
        api.create(
            name="mine",
            file_ids=[given.id],
            expires_after={"anchor": "last_active_at", "minutes": 5},
            skills=[{"type": "skill_reference", "skill_id": skill.id, "version": "latest"}],
            memory_limit="1g",
        )
    )
    assert (made.name, made.status, made.expires_after.minutes) == ("mine", "running", 5)
    assert (await sdk(api.retrieve(made.id))).id == made.id
    assert [entry.id for entry in await sdk.all(api.list())] == [made.id]
    assert await sdk.all(api.list(name="nobody's")) == []
    sent = await sdk(api.files.create(made.id, file=("up.txt", b"up")))
    copied = await sdk(api.files.create(made.id, file_id=given.id))
    assert (sent.path, sent.source, copied.bytes) == ("/mnt/data/up.txt", "user", 5)
    listed = await sdk.all(api.files.list(made.id, order="asc", limit=2))
    assert len(listed) == 3
    assert len({entry.path for entry in listed}) == 3
    assert (await sdk(api.files.retrieve(sent.id, container_id=made.id))).to_dict() == sent.to_dict()
    assert await sdk.bytes(api.files.content.retrieve(sent.id, container_id=made.id)) == b"up"
    await sdk(api.files.delete(sent.id, container_id=made.id))
    await sdk.refused(lambda: api.files.retrieve(sent.id, container_id=made.id), openai.NotFoundError, "file_id")

    tool = {"type": "shell", "environment": {"type": "container_reference", "container_id": made.id}}
    response = await sdk(sdk.client.responses.create(model="default", input="go", tools=[tool]))
    note = response.output[-1].content[0].annotations[0]
    assert response.output_text[note.start_index : note.end_index] == "made.txt"
    content = await sdk.bytes(api.files.content.retrieve(note.file_id, container_id=note.container_id))
    assert content == b"given\n"
    await sdk(api.delete(made.id))
    await sdk.refused(lambda: api.retrieve(made.id), openai.NotFoundError, "container_id")


@both
async def test_containers_and_their_files(flavour: str) -> None:
    call = shell("cat in.txt > made.txt; echo >> made.txt; ls /mnt/skills/mounted/SKILL.md")
    await walk(flavour, containers, Turn(call), Turn("It is in made.txt now."))


# ------------------------------------------------------------------ responses


class City(BaseModel):
    name: str
    inhabitants: int


CITY = '{"name": "Graz", "inhabitants": 300000}'
GATE = threading.Event()
ANSWERS: dict[str, Turn] = {
    "hi": Turn("plain"),
    "look around": Turn(
        Reasoning("thinking", chunk=3),
        Text("streamed text", chunk=4),
        shell("echo out; echo err >&2"),
        Call("weather", {"city": "Graz"}),
    ),
    "sun": Turn("after the weather"),
    "Which?": Turn(Text(CITY, chunk=6)),
    "wait": Turn("in ", Hold(GATE), "background"),
    "for ever": Turn("so far ", Endless()),
    "on": Turn("continued"),
}


def scripted(body: dict[str, Any]) -> Turn:
    """By what was said last: a run that is cancelled at once never asks, counting tokens asks too."""
    return ANSWERS.get(body["messages"][-1]["content"], Turn("summary"))


async def responses(sdk: Sdk) -> None:
    api = sdk.client.responses
    GATE.clear()
    plain = await sdk(api.create(model="default", input="hi", instructions="Be brief.", metadata={"k": "v"}))
    assert plain.output_text == "plain"
    assert await sdk(api.retrieve(plain.id, include=["reasoning.encrypted_content"])) == plain

    tools = [SHELL, WEATHER]
    events = await sdk.events(
        api.create(
            model="default",
            input=[{"role": "user", "content": [{"type": "input_text", "text": "look around"}]}],
            previous_response_id=plain.id,
            tools=tools,
            stream=True,
            include=["reasoning.encrypted_content"],
        )
    )
    final = check_stream([event.to_dict() for event in events])
    kinds = ["reasoning", "message", "shell_call", "function_call", "shell_call_output"]
    assert [item["type"] for item in final["output"]] == kinds
    again = await sdk.events(api.retrieve(final["id"], stream=True, starting_after=3))
    assert again == events[4:]
    seen, resumed = await sdk.helper(api.stream(response_id=final["id"]))
    assert (len(seen), resumed.id, len(resumed.output)) == (len(events), final["id"], len(final["output"]))
    call = final["output"][3]
    answer = {"type": "function_call_output", "call_id": call["call_id"], "output": "sun"}
    told = [{"role": "user", "content": "look around"}, *final["output"], answer]
    for item in told:
        item.pop("status", None)  # as applications build them
    assert (await sdk(api.create(model="default", input=told, tools=tools))).output_text == "after the weather"

    seen, response = await sdk.helper(api.stream(model="default", input="Which?", text_format=City))
    assert response.output_parsed == City(name="Graz", inhabitants=300000)
    assert seen[-1].type == "response.completed"
    assert (await sdk(api.parse(model="default", input="Which?", text_format=City))).output_parsed.name == "Graz"

    background = await sdk(api.create(model="default", input="wait", background=True))
    assert background.status in ("queued", "in_progress")
    GATE.set()
    ended = await sdk.events(api.retrieve(background.id, stream=True))
    check_stream([event.to_dict() for event in ended])
    assert (await sdk(api.retrieve(background.id))).output_text == "in background"
    endless = await sdk(api.create(model="default", input="for ever", background=True))
    cancelled = await sdk(api.cancel(endless.id))
    assert cancelled.status == "cancelled"
    await sdk.refused(lambda: api.cancel(plain.id), openai.BadRequestError, None)

    items = await sdk.all(api.input_items.list(final["id"], order="asc", limit=1))
    assert [item.role for item in items] == ["user"]
    assert (await sdk(api.input_tokens.count(model="default", input="how many?"))).input_tokens > 0
    compacted = await sdk(api.compact(model="default", previous_response_id=plain.id))
    assert compacted.output[-1].type == "compaction"
    kept = [item.to_dict() for item in compacted.output]
    more = await sdk(api.create(model="default", input=[*kept, {"role": "user", "content": "on"}]))
    assert more.output_text == "continued"
    await sdk(api.delete(plain.id))
    await sdk.refused(lambda: api.retrieve(plain.id), openai.NotFoundError, "response_id")


@both
async def test_responses(flavour: str) -> None:
    await walk(flavour, responses, *[scripted] * 20, strict=False)


# ------------------------------------------------------------------ conversations


async def conversations(sdk: Sdk) -> None:
    api = sdk.client.conversations
    made = await sdk(api.create(items=[{"role": "user", "content": "first"}], metadata={"topic": "demo"}))
    assert (await sdk(api.retrieve(made.id))).metadata == {"topic": "demo"}
    assert (await sdk(api.update(made.id, metadata={"topic": "new"}))).metadata == {"topic": "new"}
    added = await sdk(api.items.create(made.id, items=[{"type": "message", "role": "user", "content": "second"}]))
    response = await sdk(
        sdk.client.responses.create(model="default", input="third", conversation=made.id, tools=[SHELL])
    )
    assert response.conversation.id == made.id
    items = await sdk.all(api.items.list(made.id, order="asc", limit=2))
    expected = ["message", "message", "message", "shell_call", "shell_call_output", "message"]
    assert [item.type for item in items] == expected
    assert await sdk(api.items.retrieve(added.data[0].id, conversation_id=made.id)) == added.data[0]
    assert (await sdk(api.items.delete(added.data[0].id, conversation_id=made.id))).id == made.id
    assert (await sdk(api.delete(made.id))).deleted
    await sdk.refused(lambda: api.retrieve(made.id), openai.NotFoundError, "conversation_id")


@both
async def test_conversations(flavour: str) -> None:
    await walk(flavour, conversations, Turn(shell("echo 1")), Turn("ok"))


# ------------------------------------------------------------------ chat


async def chat(sdk: Sdk) -> None:
    api = sdk.client.chat.completions
    # The published schema calls every stored message the assistant's.
    said = [{"role": "assistant", "content": "hi"}]
    kept = await sdk(api.create(model="default", messages=said, store=True))
    assert [entry.content for entry in await sdk.all(api.messages.list(kept.id))] == ["hi"]
    messages = [{"role": "user", "content": "hi"}]
    plain = await sdk(api.create(model="default", messages=messages, store=True, metadata={"a": "b"}))
    assert plain.choices[0].message.content == "plain"
    assert (await sdk(api.retrieve(plain.id))).choices == plain.choices
    assert (await sdk(api.update(plain.id, metadata={"a": "c"}))).metadata == {"a": "c"}
    assert [entry.id for entry in await sdk.all(api.list(metadata={"a": "c"}))] == [plain.id]
    assert (await sdk(api.delete(plain.id))).deleted
    chunks = await sdk.events(
        api.create(model="default", messages=messages, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == "streamed"
    assert chunks[-1].usage.total_tokens > 0
    _, final = await sdk.helper(api.stream(model="default", messages=messages, response_format=City))
    assert final.choices[0].message.parsed.name == "Graz"


@both
async def test_chat(flavour: str) -> None:
    turns = [Turn("kept"), Turn("plain"), Turn(Text("streamed", chunk=3)), Turn(Text(CITY, chunk=6))]
    await walk(flavour, chat, *turns)


def test_the_walks_used_every_operation_of_the_specification(request: pytest.FixtureRequest) -> None:
    """Runs last in this module; needs the walks before it, so a selection of tests skips it."""
    ran = {item.name for item in request.session.items if item.path == request.path}
    if not ran >= {
        f"test_{name}[{flavour}]" for name in ("skills", "responses", "chat") for flavour in ("async", "sync")
    }:
        pytest.skip("only part of this module was run")
    methods = ("get", "post", "delete")
    paths = contract.spec()["paths"].items()
    there = {(method.upper(), path) for path, operations in paths for method in operations if method in methods}
    assert there - used == NOT_USED

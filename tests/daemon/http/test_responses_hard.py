"""What breaks servers of this API: many streams at once, sealed items, long conversations, odd histories."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from skilldeck_daemon.libraries.containers import environments
from skilldeck_shared.errors import Unavailable
from support.bundles import manifest, skill_zip, zip_bytes
from support.daemon import SHELL, running, sse
from support.ordering import check_stream
from support.scripted_model import Call, Hold, Reasoning, Text, Turn, shell
from support.stored import rewritten

STREAMS = int(os.environ.get("SKILLDECK_TEST_STREAMS", "48"))
WEATHER: dict[str, Any] = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}


async def test_many_streams_at_once_are_each_whole_and_in_order() -> None:
    """SKILLDECK_TEST_STREAMS=256 asks for more; each has reasoning, text, two calls, and an answer of its own.

    No answer ends before every one has begun, so that all of them are really under way at once.
    """
    gate = threading.Event()

    def turn(body: dict[str, Any]) -> Turn:
        said = body["messages"][-1]["content"]
        parts = [Reasoning("let me see", chunk=4), Hold(gate), Text(f"answer to {said}", chunk=6)]
        return Turn(*parts, Call("weather", {"city": said}), Call("weather", {"city": "Graz"}))

    unlimited = httpx.Limits(max_connections=None)
    async with running(*[turn] * STREAMS) as daemon:
        async with httpx.AsyncClient(base_url=daemon.url, timeout=300, limits=unlimited) as http:

            async def one(number: int) -> list[dict[str, Any]]:
                body = {"model": "default", "input": f"question {number}", "stream": True, "tools": [WEATHER]}
                async with http.stream("POST", "/responses", json=body) as answer:
                    return await sse(answer)

            asked = [asyncio.create_task(one(number)) for number in range(STREAMS)]
            await daemon.model.until(lambda model: len(model.requests) == STREAMS, timeout=240)
            gate.set()
            streams = await asyncio.gather(*asked)
        for number, events in enumerate(streams):
            final = check_stream(events)
            kinds = [item["type"] for item in final["output"]]
            assert kinds == ["reasoning", "message", "function_call", "function_call"]
            assert final["output"][1]["content"][0]["text"] == f"answer to question {number}"
        assert len({events[0]["response"]["id"] for events in streams}) == STREAMS
        assert daemon.daemon.services.runs.active == 0


async def test_encrypted_reasoning_opens_for_this_daemon_only_and_after_a_restart(tmp_path: Path) -> None:
    async with running(Turn(Reasoning("my secret plan"), "one"), data_dir=tmp_path / "data") as daemon:
        first = await daemon.respond(include=["reasoning.encrypted_content"], store=False)
        item = first["output"][0]
        sealed = item["encrypted_content"]
        assert b"secret" not in base64.b64decode(sealed.partition(".")[2])
    assert (tmp_path / "data/seal.key").stat().st_mode & 0o777 == 0o600
    changed = sealed[:-8] + ("A" if sealed[-8] != "A" else "B") + sealed[-7:]
    async with running(Turn("two"), Turn("three"), data_dir=tmp_path / "data") as daemon:
        for content, told in ((sealed, "my secret plan"), (changed, None)):
            back = {"type": "reasoning", "id": item["id"], "summary": [], "encrypted_content": content}
            await daemon.respond([{"role": "user", "content": "go"}, back, {"role": "user", "content": "on"}])
            messages = daemon.model.requests[-1]["messages"]
            said = [message.get("reasoning_content") or message.get("reasoning") for message in messages]
            assert [text for text in said if text] == ([told] if told else [])


async def test_what_is_included_may_be_asked_for_when_items_are_read_back() -> None:
    """Live, stored, from the conversation and as the next request's input; unasked it is not there."""
    python = {"type": "code_interpreter", "container": {"type": "auto"}}
    turns = [Turn(Reasoning("my plan"), Call("python", {"code": "print(6 * 7)"})), Turn("It is 42."), Turn("again")]
    query = {"include[]": ["reasoning.encrypted_content", "code_interpreter_call.outputs"]}
    async with running(*turns) as daemon:
        conversation = (await daemon.http.post("/conversations", json={})).json()["id"]
        made = await daemon.respond(tools=[python], conversation=conversation)

        def shown(items: list[dict[str, Any]]) -> tuple[bool, Any]:
            reasoning, call = items[0], items[1]
            return bool(reasoning.get("encrypted_content")), call["outputs"]

        path = f"/responses/{made['id']}"
        outputs = [{"type": "logs", "logs": "42\n"}]
        assert shown(made["output"]) == (False, None)
        assert (await daemon.http.get(path)).json() == made
        asked = (await daemon.http.get(path, params=query)).json()
        assert shown(asked["output"]) == (True, outputs)
        kept = await daemon.http.get(f"/conversations/{conversation}/items", params={**query, "order": "asc"})
        assert shown(kept.json()["data"][1:]) == (True, outputs)
        one = f"/conversations/{conversation}/items/{made['output'][0]['id']}"
        assert "encrypted_content" not in (await daemon.http.get(one)).json()
        assert (await daemon.http.get(one, params=query)).json()["encrypted_content"]

        sealed = {**asked["output"][0], "content": []}
        last = await daemon.respond([{"role": "user", "content": "go"}, sealed, {"role": "user", "content": "on"}])
        items = await daemon.http.get(f"/responses/{last['id']}/input_items", params={**query, "order": "asc"})
        assert items.json()["data"][1]["encrypted_content"]
        assert "my plan" in str(daemon.model.requests[-1]["messages"])

        for place in (path, f"{path}/input_items", f"/conversations/{conversation}/items", one):
            refused = await daemon.http.get(place, params={"include[]": ["reasoning.encrypted_content", "all"]})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "include[1]"), place


async def test_a_compaction_item_that_was_changed_is_refused() -> None:
    async with running(Turn("the summary"), strict=False) as daemon:
        made = await daemon.http.post("/responses/compact", json={"model": "default", "input": "long talk"})
        item = made.json()["output"][0]
        item["encrypted_content"] = item["encrypted_content"][:-6] + "AAAAA="
        answer = await daemon.http.post("/responses", json={"model": "default", "input": [item]})
        assert answer.json()["error"]["param"] == "input[0].encrypted_content"


async def test_a_conversation_beyond_the_threshold_is_compacted_within_the_response() -> None:
    long = "word " * 1500

    def turn(body: dict[str, Any]) -> Turn:
        said = body["messages"][-1]["content"]
        if said.startswith("Summarise"):
            return Turn("They talked about words.")
        return Turn("ok") if body.get("stream") else Turn("x")

    management = [{"type": "compaction", "compact_threshold": 1000}]
    async with running(*[turn] * 20, strict=False) as daemon:
        daemon.daemon.services.models.get("default").count_tokens = _by_words  # type: ignore[method-assign]
        first = await daemon.respond(long, context_management=management, instructions="Be brief.")
        # One message beyond the threshold is compacted too; what the user said stays word for word.
        assert [item["type"] for item in first["output"]] == ["compaction", "message"]
        sent = daemon.model.requests[-1]["messages"]
        assert [message["role"] for message in sent] == ["system", "user", "user"]
        assert sent[2]["content"] == "Summary of what was said before:\nThey talked about words."
        events = await daemon.stream("and now?", previous_response_id=first["id"], tools=[WEATHER])
        assert [item["type"] for item in events[-1]["response"]["output"]] == ["message"]
        sent = daemon.model.requests[-1]["messages"]
        assert [message["content"] for message in sent[1:]] == [
            "Summary of what was said before:\nThey talked about words.",
            "ok",
            "and now?",
        ]


async def _by_words(request: Any) -> int:
    return sum(len(str(message.get("content")).split()) for message in request.messages)


async def test_a_compaction_in_a_stream_keeps_the_order() -> None:
    def turn(body: dict[str, Any]) -> Turn:
        return Turn("summary") if str(body["messages"][-1]["content"]).startswith("Summarise") else Turn("ok")

    async with running(*[turn] * 10, strict=False) as daemon:
        daemon.daemon.services.models.get("default").count_tokens = _by_words  # type: ignore[method-assign]
        events = await daemon.stream(
            "word " * 1100, context_management=[{"type": "compaction", "compact_threshold": 1000}]
        )
        assert [item["type"] for item in events[-1]["response"]["output"]] == ["compaction", "message"]


async def test_references_in_a_conversation_become_the_items_they_mean() -> None:
    async with running(Turn("one"), Turn("two")) as daemon:
        first = await daemon.respond("first")
        conversation = (await daemon.http.post("/conversations", json={})).json()["id"]
        reference = {"type": "item_reference", "id": first["output"][0]["id"]}
        await daemon.respond([{"role": "user", "content": "a"}, reference], conversation=conversation)
        items = (await daemon.http.get(f"/conversations/{conversation}/items?order=asc")).json()["data"]
        assert [(item["type"], item["role"]) for item in items] == [
            ("message", "user"),
            ("message", "assistant"),
            ("message", "assistant"),
        ]


async def test_an_old_version_is_mounted_with_its_own_name_and_description_beside_the_new_one() -> None:
    command = shell(
        "cat /mnt/skills/older/SKILL.md /mnt/skills/newer/SKILL.md /mnt/skills/newer-2/SKILL.md | grep name:"
    )
    async with running(Turn(command), Turn("ok")) as daemon:
        old = zip_bytes({"SKILL.md": manifest("older", "The old way.")}, top="older")
        skill = (await daemon.http.post("/skills", files={"files": old})).json()["id"]
        new = zip_bytes({"SKILL.md": manifest("newer", "The new way.")}, top="newer")
        await daemon.http.post(f"/skills/{skill}/versions", files={"files": new}, data={"default": "true"})
        assert (await daemon.http.get(f"/skills/{skill}")).json()["name"] == "newer"
        skills: list[dict[str, Any]] = [
            {"type": "skill_reference", "skill_id": skill, "version": v} for v in (1, "latest")
        ]
        skills.append({"type": "skill_reference", "skill_id": skill})
        tool = {"type": "shell", "environment": {"type": "container_auto", "skills": skills}}
        response = await daemon.respond(tools=[tool])
        system = daemon.model.requests[0]["messages"][0]["content"]
        assert "- older: The old way.\n- newer: The new way.\n- newer-2: The new way." in system
        assert response["output"][1]["output"][0]["stdout"] == "name: older\nname: newer\nname: newer\n"


async def test_a_citation_points_at_the_name_in_characters_also_after_emoji() -> None:
    text = "\U0001f600\U0001f600 é: I wrote result.csv and old-result.csv."
    async with running(Turn(shell("echo 1 > result.csv")), Turn(text)) as daemon:
        response = await daemon.respond(tools=[SHELL])
        part = response["output"][-1]["content"][0]
        (note,) = part["annotations"]
        assert part["text"][note["start_index"] : note["end_index"]] == "result.csv"
        assert note["start_index"] == text.index("result.csv")
        file = await daemon.http.get(f"/containers/{note['container_id']}/files/{note['file_id']}/content")
        assert file.content == b"1\n"


async def test_a_deleted_container_is_404_and_an_expired_one_keeps_its_record() -> None:
    async with running(Turn(shell("echo 1"))) as daemon:
        made = (await daemon.http.post("/containers", json={"name": "n"})).json()
        services = daemon.daemon.services
        record = await services.environments.record(made["id"])
        await services.store.containers.put({**record, "last_active_at": 0})
        services.environments.containers.get(made["id"]).last_active = 0.0  # type: ignore[union-attr]
        assert await services.environments.expire() == [made["id"]]
        assert (await daemon.http.get(f"/containers/{made['id']}")).json()["status"] == "expired"
        upload = await daemon.http.post(f"/containers/{made['id']}/files", files={"file": ("a", b"x")})
        assert upload.status_code in (404, 410)
        assert (await daemon.http.delete(f"/containers/{made['id']}")).status_code == 200
        assert (await daemon.http.get(f"/containers/{made['id']}")).status_code == 404


async def test_all_that_were_idle_too_long_expire_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "PAGE", 2)
    async with running() as daemon:
        services = daemon.daemon.services
        made = (await daemon.http.post("/containers", json={"name": "n"})).json()
        record = await services.environments.record(made["id"])
        for number in range(5):
            old = {**record, "id": f"cntr_{number}", "last_active_at": record["last_active_at"] if number == 2 else 0}
            await services.store.containers.put(old)
        assert await services.environments.expire() == ["cntr_0", "cntr_1", "cntr_3", "cntr_4"]
        assert await services.environments.expire() == []


async def test_an_interrupted_response_is_replayed_without_what_stays_inside(tmp_path: Path) -> None:
    async with running(Turn("x"), data_dir=tmp_path / "data") as daemon:
        response = await daemon.respond("hello")
        store = daemon.daemon.services.store
        stored = await store.responses.get(response["id"])
        assert stored is not None
        await rewritten(store.responses, {**stored, "status": "in_progress", "output": [], "completed_at": None})
    async with running(data_dir=tmp_path / "data") as daemon:
        async with daemon.http.stream("GET", f"/responses/{response['id']}?stream=true") as answer:
            events = await sse(answer)
        final = check_stream(events)
        assert final["status"] == "failed"
        assert not [name for event in events for name in event["response"] if name.startswith("_")]
        assert (await daemon.http.get(f"/responses/{response['id']}")).json() == final


async def test_a_schema_that_cannot_be_compiled_is_refused_before_anything_is_made() -> None:
    async with running(strict=False) as daemon:
        schemas: list[dict[str, Any]] = [
            {"$ref": "#/nowhere"},
            {"type": "banana"},
            {"type": "object", "properties": {"a": {"items": {"type": ["string", "text"]}}}},
            {"anyOf": []},
            {"$ref": "https://example.org/schema.json"},
            {"properties": []},
        ]
        for schema in schemas:
            shape = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
            answer = await daemon.http.post(
                "/responses", json={"model": "default", "input": "x", "text": {"format": shape}}
            )
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["param"].startswith("text.format.schema")
        assert (await daemon.daemon.services.runs.list()).data == []


@pytest.mark.parametrize("kind", ["head", "body"])
async def test_a_client_that_sends_nothing_more_holds_up_nobody(kind: str) -> None:
    async with running(Turn("ok")) as daemon:
        host, port = daemon.url.removeprefix("http://").removesuffix("/v1").split(":")
        slow = [await asyncio.open_connection(host, int(port)) for _ in range(50)]
        head = f"POST /v1/responses HTTP/1.1\r\nhost: {host}\r\n"
        for _, writer in slow:
            writer.write(head.encode() if kind == "head" else f"{head}content-length: 500\r\n\r\n{{".encode())
            await writer.drain()
        assert (await daemon.respond())["status"] == "completed"
        for _, writer in slow:
            writer.close()
        assert daemon.daemon.services.runs.active == 0


async def test_an_uploaded_zip_comes_back_the_same_bytes_after_a_restart(tmp_path: Path) -> None:
    async with running(data_dir=tmp_path / "data") as daemon:
        skill = (await daemon.http.post("/skills", files={"files": skill_zip()})).json()["id"]
        one = (await daemon.http.get(f"/skills/{skill}/content")).content
    async with running(data_dir=tmp_path / "data") as daemon:
        assert (await daemon.http.get(f"/skills/{skill}/content")).content == one


async def test_a_run_is_completed_for_nobody_before_its_end_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Turn("first"), Turn("second")) as daemon:
        responses = daemon.daemon.services.store.responses
        stored, storing, finish = asyncio.Event(), asyncio.Event(), responses.finish

        async def slowly(*arguments: Any) -> bool:
            storing.set()
            await stored.wait()
            return await finish(*arguments)

        monkeypatch.setattr(responses, "finish", slowly)
        begun = await daemon.respond(background=True)
        await storing.wait()
        # Had it said "completed", a crash now would take that back, and an answer to it would be refused as too early.
        assert (await daemon.http.get(f"/responses/{begun['id']}")).json()["status"] == "in_progress"
        stored.set()
        live = daemon.daemon.services.runs.live(begun["id"])
        if live is not None:
            assert (await live.finished())["status"] == "completed"
        assert (await daemon.respond(previous_response_id=begun["id"]))["status"] == "completed"


async def test_what_a_refused_end_adds_to_its_conversation_is_stored_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Turn("first")) as daemon:
        runs, responses = daemon.daemon.services.runs, daemon.daemon.services.store.responses
        conversation = (await daemon.http.post("/conversations", json={})).json()["id"]

        async def refused(*arguments: Any) -> bool:
            raise Unavailable("The disk is full.")

        with monkeypatch.context() as full:
            full.setattr(responses, "finish", refused)
            ended = await daemon.respond(conversation=conversation)
        assert ended["status"] == "failed"
        items = f"/conversations/{conversation}/items"
        assert (await daemon.http.get(items)).json()["data"] == []
        await runs.settle()
        assert [item["role"] for item in (await daemon.http.get(items)).json()["data"]] == ["assistant", "user"]

"""Stored responses: what was acknowledged is there, in any order of events, also after the daemon was killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.event import listen

from skilldeck_daemon.store import Store, sqlite_url
from support.library import open_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await open_store(tmp_path)
    yield store
    await store.close()


def response(id: str, status: str = "in_progress", **more: Any) -> dict[str, Any]:
    return {"id": id, "object": "response", "created_at": 1, "status": status, "model": "m", "output": [], **more}


async def test_a_chain_is_read_by_one_query_however_long_it_is(store: Store) -> None:
    for number in range(40):
        previous = f"resp_{number - 1}" if number else None
        made = response(f"resp_{number}", previous_response_id=previous)
        if number == 5:
            made["conversation"] = {"id": "conv_1"}
        await store.responses.create(made, [{"id": f"msg_{number}"}])
        if number % 2:
            await store.responses.finish({**made, "status": "completed"}, [], {"raw": {"c": str(number)}})
    statements: list[str] = []
    engine = store.responses._db._opened().sync_engine
    listen(engine, "before_cursor_execute", lambda c, cursor, statement, *rest: statements.append(statement))
    chain = await store.responses.chain("resp_39", 100)
    assert len([statement for statement in statements if "SELECT" in statement]) == 1
    # A conversation holds all before it.
    assert [link.response["id"] for link in chain] == [f"resp_{number}" for number in range(39, 4, -1)]
    assert chain[0].input == [{"id": "msg_39"}]
    assert (chain[0].extra, chain[1].extra) == ({"raw": {"c": "39"}}, {})
    assert chain[0].response == await store.responses.get("resp_39")
    assert [link.response["id"] for link in await store.responses.chain("resp_39", 2)] == ["resp_39", "resp_38"]
    await store.responses.delete("resp_20")
    assert [link.response["id"] for link in await store.responses.chain("resp_22", 100)] == ["resp_22", "resp_21"]
    assert await store.responses.chain("resp_20", 100) == []
    assert await store.responses.chain("\ud800", 100) == []


async def test_a_response_keeps_everything_about_its_run(store: Store) -> None:
    items = [{"id": "msg_1", "type": "message", "text": "half a pair \ud800 and a NUL \0"}]
    await store.responses.create(response("resp_1"), items, background=True, instance="one")
    assert await store.responses.events("resp_1") == []
    done = response("resp_1", "completed", output=[{"id": "msg_2"}])
    events = [{"type": "response.output_text.delta", "sequence_number": n, "delta": "word "} for n in range(3000)]
    assert await store.responses.finish(done, events, {"times": [1.5, 2.5]})
    assert await store.responses.get("resp_1") == done
    # What was stored before halves were mended comes back as text that can be sent.
    assert await store.responses.input_items("resp_1") == [{**items[0], "text": "half a pair \ufffd and a NUL \0"}]
    assert await store.responses.events("resp_1") == events
    assert await store.responses.extra("resp_1") == {"times": [1.5, 2.5]}
    assert await store.responses.background("resp_1")


async def test_a_deleted_response_is_gone_and_stays_gone(store: Store) -> None:
    await store.responses.create(response("resp_1"), [{"id": "i"}])
    assert await store.responses.delete("resp_1")
    assert not await store.responses.delete("resp_1")
    # The run may still be on its way to its end.
    assert not await store.responses.update(response("resp_1", "in_progress"))
    assert not await store.responses.finish(response("resp_1", "completed"), [{"n": 1}])
    assert await store.responses.get("resp_1") is None
    assert await store.responses.input_items("resp_1") == []
    assert await store.responses.events("resp_1") == []


async def test_an_end_and_its_turn_of_the_conversation_are_stored_together_or_not_at_all(store: Store) -> None:
    await store.conversations.create({"id": "conv_1", "created_at": 1}, [])
    begun = response("resp_1", conversation={"id": "conv_1"})
    await store.responses.create(begun, [], instance="one")
    done = {**begun, "status": "completed"}
    with pytest.raises(KeyError):
        await store.responses.finish(done, [{"n": 1}], None, "one", [{"id": "msg_1"}, {"no": "id"}])
    assert await store.responses.get("resp_1") == begun
    assert not await store.responses.finish(done, [{"n": 1}], None, "two", [{"id": "msg_1"}])
    assert await store.conversations.all_items("conv_1") == []
    assert await store.responses.finish(done, [{"n": 1}], None, "one", [{"id": "msg_1"}])
    assert await store.conversations.all_items("conv_1") == [{"id": "msg_1"}]


async def test_lists_page_by_order_of_creation_and_conversation(store: Store) -> None:
    for index in range(7):
        conversation = {"conversation": {"id": "conv_1"}} if index % 2 else {}
        await store.responses.create(response(f"resp_{index}", **conversation), [])
    page = await store.responses.list(3)
    assert ([r["id"] for r in page.data], page.has_more) == (["resp_6", "resp_5", "resp_4"], True)
    page = await store.responses.list(10, "desc", "resp_4")
    assert ([r["id"] for r in page.data], page.has_more) == (["resp_3", "resp_2", "resp_1", "resp_0"], False)
    page = await store.responses.list(10, "asc", conversation="conv_1")
    assert [r["id"] for r in page.data] == ["resp_1", "resp_3", "resp_5"]


@pytest.mark.parametrize("id", ["", "resp_nope", "\0", "\ud800", "é", "x" * 300])
async def test_any_id_may_be_asked_for(store: Store, id: str) -> None:
    assert await store.responses.get(id) is None
    assert await store.responses.events(id) == []
    assert not await store.responses.delete(id)


async def test_what_another_start_left_unfinished_has_failed_with_a_log_that_ends(store: Store) -> None:
    half = [{"id": "msg_1", "type": "message", "status": "in_progress", "content": []}]
    await store.responses.create(response("resp_old", "queued"), [], instance="old")
    await store.responses.create(response("resp_half", output=half), [], instance="old")
    await store.responses.create(response("resp_now"), [], instance="new")
    await store.responses.create(response("resp_done"), [], instance="old")
    await store.responses.finish(response("resp_done", "completed"), [{"type": "x"}])
    assert await store.responses.fail_interrupted("new") == ["resp_old", "resp_half"]
    assert await store.responses.fail_interrupted("new") == []
    for id, status in (
        ("resp_old", "failed"),
        ("resp_half", "failed"),
        ("resp_now", "in_progress"),
        ("resp_done", "completed"),
    ):
        found = await store.responses.get(id)
        assert found is not None
        assert found["status"] == status
    failed = await store.responses.get("resp_half")
    assert failed is not None
    assert failed["error"]["code"] == "server_error"
    assert failed["output"][0]["status"] == "incomplete"
    events = await store.responses.events("resp_half")
    assert [event["type"] for event in events] == [
        "response.created",
        "response.output_item.added",
        "response.output_item.done",
        "response.failed",
    ]
    assert [event["sequence_number"] for event in events] == [0, 1, 2, 3]
    assert events[-1]["response"] == failed
    assert await store.responses.events("resp_done") == [{"type": "x"}]


async def test_many_writers_and_readers_at_once_lose_nothing(store: Store) -> None:
    async def one(index: int) -> None:
        await store.responses.create(response(f"resp_{index}"), [{"n": index}])
        await store.responses.list(5)
        await store.responses.finish(response(f"resp_{index}", "completed"), [{"n": index}])

    await asyncio.gather(*(one(index) for index in range(60)))
    page = await store.responses.list(100)
    assert len(page.data) == 60
    assert {r["status"] for r in page.data} == {"completed"}


WRITER = """
import asyncio, sys
from pathlib import Path
from skilldeck_daemon.store import Store, sqlite_url

async def main(root):
    store = Store(sqlite_url(root / "store.db"), root / "blobs")
    await store.open()
    for index in range(10_000):
        blob = await store.blobs.put(b"content %d" % index)
        response = {"id": f"resp_{index}", "created_at": 1, "status": "in_progress", "model": "m", "sha": blob.sha256}
        await store.responses.create(response, [{"n": index}])
        print(index, flush=True)

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    for _ in range(20):
        acknowledged = int(await writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    for line in (await writer.stdout.read()).decode().splitlines(keepends=True):
        if line.endswith("\n"):
            acknowledged = int(line)
    await writer.wait()
    store = Store(sqlite_url(tmp_path / "store.db"), tmp_path / "blobs")
    await store.open()
    try:
        for index in range(acknowledged + 1):
            found = await store.responses.get(f"resp_{index}")
            assert found is not None
            assert await store.blobs.verify(found["sha"])
            assert await store.responses.input_items(f"resp_{index}") == [{"n": index}]
        assert len(await store.responses.fail_interrupted("next")) >= acknowledged + 1
        assert json.dumps((await store.responses.get("resp_0") or {})["error"])
    finally:
        await store.close()

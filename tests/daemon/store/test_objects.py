"""The smaller repositories: containers, their files, chat completions, rules, conversations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.store import Store
from skilldeck_daemon.store.records import public_container
from skilldeck_daemon.store.run_records import public_response
from support.library import open_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await open_store(tmp_path)
    yield store
    await store.close()


def container(index: int, **more: Any) -> dict[str, Any]:
    return {"id": f"cntr_{index}", "object": "container", "created_at": index, "status": "running", "name": "n", **more}


async def test_containers_are_replaced_listed_and_deleted_with_their_files(store: Store) -> None:
    for index in range(5):
        await store.containers.put(container(index, name="odd" if index % 2 else "even"))
    await store.containers.put(container(1, status="expired", name="odd"))
    assert await store.containers.get("cntr_1") == container(1, status="expired", name="odd")
    page = await store.containers.list(2, "asc")
    assert ([c["id"] for c in page.data], page.has_more) == (["cntr_0", "cntr_1"], True)
    assert [c["id"] for c in (await store.containers.list(9, status="running")).data] == [
        "cntr_4",
        "cntr_3",
        "cntr_2",
        "cntr_0",
    ]
    page = await store.containers.list(2, "asc", name="even")
    assert ([c["id"] for c in page.data], page.has_more) == (["cntr_0", "cntr_2"], True)
    page = await store.containers.list(2, "asc", "cntr_2", name="even")
    assert ([c["id"] for c in page.data], page.has_more) == (["cntr_4"], False)
    await store.container_files.put({"id": "cfile_1", "container_id": "cntr_0", "path": "/mnt/data/a"})
    assert await store.containers.delete("cntr_0")
    assert await store.container_files.get("cntr_0", "cfile_1") is None
    assert not await store.containers.delete("cntr_0")


async def test_a_path_is_one_file_of_a_container(store: Store) -> None:
    for index in (0, 1):
        await store.containers.put(container(index))
    first = {"id": "cfile_1", "container_id": "cntr_0", "path": "/mnt/data/a", "bytes": 1}
    await store.container_files.put(first)
    await store.container_files.put({**first, "bytes": 2})
    assert (await store.container_files.list("cntr_0", 9)).data == [{**first, "bytes": 2}]
    await store.container_files.put({**first, "id": "cfile_2"})
    assert [f["id"] for f in (await store.container_files.list("cntr_0", 9)).data] == ["cfile_2"]
    assert await store.container_files.get("cntr_1", "cfile_2") is None
    assert not await store.container_files.delete("cntr_1", "cfile_2")
    assert await store.container_files.delete("cntr_0", "cfile_2")


async def test_chat_completions_keep_their_messages_and_filter_by_metadata(store: Store) -> None:
    for index in range(4):
        completion = {
            "id": f"chatcmpl_{index}",
            "created": index,
            "model": f"m{index % 2}",
            "metadata": {"n": str(index // 2)},
        }
        await store.chat.create(completion, [{"role": "user", "content": str(index)}])
    assert await store.chat.messages("chatcmpl_2") == [{"role": "user", "content": "2"}]
    assert [c["id"] for c in (await store.chat.list(9, model="m1")).data] == ["chatcmpl_1", "chatcmpl_3"]
    page = await store.chat.list(1, metadata={"n": "1"})
    assert ([c["id"] for c in page.data], page.has_more) == (["chatcmpl_2"], True)
    assert await store.chat.update({"id": "chatcmpl_0", "created": 0, "model": "m0", "metadata": {"n": "9"}})
    assert (await store.chat.get("chatcmpl_0") or {})["metadata"] == {"n": "9"}
    assert await store.chat.delete("chatcmpl_0")
    assert await store.chat.get("chatcmpl_0") is None
    assert not await store.chat.update({"id": "chatcmpl_0"})


async def test_rules_stay_until_they_are_revoked(store: Store) -> None:
    first = await store.rules.add({"kind": "shell", "prefix": "ls"})
    await store.rules.add({"id": "rule_2", "prefix": "cat"})
    assert [rule["prefix"] for rule in await store.rules.list()] == ["ls", "cat"]
    assert await store.rules.delete(first["id"])
    assert not await store.rules.delete(first["id"])
    assert [rule["id"] for rule in await store.rules.list()] == ["rule_2"]


async def test_conversation_items_append_in_order_and_replace_by_id(store: Store) -> None:
    conversation = {"id": "conv_1", "created_at": 1, "metadata": {}}
    await store.conversations.create(conversation, [{"id": "a"}, {"id": "b"}])
    assert await store.conversations.add_items("conv_1", [{"id": str(index)} for index in range(1200)])
    assert await store.conversations.add_items("conv_1", [{"id": "a", "text": "new"}])
    items = await store.conversations.all_items("conv_1")
    assert [item["id"] for item in items] == ["b", *(str(index) for index in range(1200)), "a"]
    assert not await store.conversations.add_items("conv_2", [{"id": "x"}])
    await store.conversations.delete("conv_1")
    assert await store.conversations.all_items("conv_1") == []


async def test_what_older_versions_kept_inside_is_read_under_its_names_of_today(store: Store) -> None:
    """They put an underscore before them."""
    old = container(0, _mounts=[{"name": "x"}], _secrets=[["a.org", "KEY"]], _home="h")
    await store.containers.put(old)
    now = container(0, mounts=[{"name": "x"}], secrets=[["a.org", "KEY"]], home="h")
    assert await store.containers.get("cntr_0") == (await store.containers.list(1)).data[0] == now
    file = {"id": "cfile_1", "container_id": "cntr_0", "path": "/mnt/data/a"}
    await store.container_files.put({**file, "_mtime_ns": 7, "_key": "k"})
    assert await store.container_files.find("cfile_1") == {**file, "mtime_ns": 7, "key": "k"}
    response = {"id": "resp_1", "status": "completed", "output": []}
    await store.responses.create({**response, "_session": "resp_0", "_title": "t"}, [])
    kept = {**response, "session": "resp_0", "title": "t"}
    (link,) = await store.responses.chain("resp_1", 9)
    assert await store.responses.get("resp_1") == (await store.responses.list(1)).data[0] == link.response == kept
    assert public_response(kept) == response
    assert public_container(now) == container(0)

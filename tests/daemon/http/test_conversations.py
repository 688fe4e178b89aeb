"""/conversations over HTTP, through the official client and by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from support.library import Library, open_http, open_library, sdk
from support.published import check, check_error


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[Library]:
    async with open_library(tmp_path / "data") as library:
        yield library


@pytest.fixture
async def http(library: Library) -> AsyncIterator[httpx.AsyncClient]:
    async with open_http(library) as client:
        yield client


@pytest.fixture
def client(http: httpx.AsyncClient) -> AsyncOpenAI:
    return sdk(http)


ITEMS: list[Any] = [
    {"type": "message", "role": "user", "content": "hello"},
    {"role": "assistant", "content": [{"type": "output_text", "text": "hi", "annotations": []}]},
    {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "3"},
    {"type": "shell_call", "call_id": "c2", "action": {"commands": ["ls"]}},
    {
        "type": "shell_call_output",
        "call_id": "c2",
        "output": [{"stdout": "a\n", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
    },
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
]


async def test_a_conversation_is_made_read_changed_and_deleted(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    made = await client.conversations.create(metadata={"title": "first"})
    check("ConversationResource", made.to_dict())
    assert made.id.startswith("conv_")
    changed = await client.conversations.update(made.id, metadata={"title": "second"})
    assert changed.metadata == {"title": "second"}
    assert await client.conversations.retrieve(made.id) == changed
    deleted = await client.conversations.delete(made.id)
    check("DeletedConversationResource", deleted.to_dict())
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/items"), ("GET", "/items/x")):
        answer = await http.request(method, f"/conversations/{made.id}{path}")
        assert answer.status_code == 404
        assert check_error(answer.json())["param"] == "conversation_id"


async def test_items_of_every_kind_are_kept_in_order_with_ids(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    made = await client.conversations.create(items=ITEMS[:2])
    added = await client.conversations.items.create(made.id, items=ITEMS[2:])
    assert [item.type for item in added.data] == [item["type"] for item in ITEMS[2:]]
    listed = [item.to_dict() async for item in client.conversations.items.list(made.id, order="asc", limit=2)]
    assert [item["type"] for item in listed] == [item.get("type", "message") for item in ITEMS]
    for item in listed:
        check("ConversationItem", item)
        assert (await http.get(f"/conversations/{made.id}/items/{item['id']}")).json() == item
    page = (await http.get(f"/conversations/{made.id}/items")).json()
    check("ConversationItemList", page)
    assert [item["id"] for item in page["data"]] == [item["id"] for item in listed[::-1]]


async def test_a_deleted_item_is_gone_and_the_rest_stays(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    made = await client.conversations.create(items=ITEMS[:3])
    items = [item async for item in client.conversations.items.list(made.id, order="asc")]
    answer = await client.conversations.items.delete(items[1].id or "", conversation_id=made.id)
    check("ConversationResource", answer.to_dict())
    assert [item.id async for item in client.conversations.items.list(made.id, order="asc", limit=1)] == [
        items[0].id,
        items[2].id,
    ]
    again = await http.delete(f"/conversations/{made.id}/items/{items[1].id}")
    assert again.status_code == 404
    assert check_error(again.json())["param"] == "item_id"


async def test_an_empty_conversation_lists_to_the_schema(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    made = await client.conversations.create()
    check("ConversationItemList", (await http.get(f"/conversations/{made.id}/items")).json())


async def test_an_item_id_belongs_to_one_conversation(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    first = await client.conversations.create(items=[{**ITEMS[0], "id": "msg_same"}])
    second = await client.conversations.create(items=[{**ITEMS[0], "id": "msg_same"}])
    await client.conversations.items.delete("msg_same", conversation_id=first.id)
    assert (await http.get(f"/conversations/{second.id}/items/msg_same")).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": [{"role": "user", "content": "x"}] * 21}, "items"),
        ({"items": "x"}, "items"),
        ({"items": [1]}, "items[0]"),
        ({"items": [{"type": "nonsense"}]}, "items[0].type"),
        ({"items": [{"role": "user", "content": "x"}, {"role": "king", "content": "x"}]}, "items[1].role"),
        ({"items": [{"type": "item_reference", "id": "msg_1"}]}, "items[0].type"),
        ({"items": [{"role": "user", "content": "x", "id": "\x00"}]}, "items[0].id"),
        ({"items": [{"role": "user", "content": "x", "id": "a"}] * 2}, "items[1].id"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: ""}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"metadata": []}, "metadata"),
    ],
)
async def test_a_bad_body_names_the_field_and_stores_nothing(
    http: httpx.AsyncClient, library: Library, body: dict[str, Any], param: str
) -> None:
    answer = await http.post("/conversations", content=json.dumps(body).encode())
    assert answer.status_code == 400
    assert check_error(answer.json())["param"] == param
    assert (await library.conversations.list()).data == []


async def test_adding_is_all_or_nothing(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    made = await client.conversations.create()
    for body in ({}, {"items": [ITEMS[0], {"type": "nonsense"}]}):
        answer = await http.post(f"/conversations/{made.id}/items", json=body)
        assert answer.status_code == 400
        check_error(answer.json())
    assert (await http.get(f"/conversations/{made.id}/items")).json()["data"] == []
    answer = await http.post(f"/conversations/{made.id}", json={})
    assert check_error(answer.json())["param"] == "metadata"


async def test_half_a_surrogate_pair_is_stored_as_text(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    body = rb'{"items": [{"role": "user", "content": "a\ud800b\u0000"}], "metadata": {"k": "\udfff"}}'
    made = (await http.post("/conversations", content=body)).json()
    item = (await http.get(f"/conversations/{made['id']}/items")).json()["data"][0]
    assert item["content"][0]["text"] == "a\ufffdb\x00"

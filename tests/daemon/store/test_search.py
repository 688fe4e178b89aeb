"""Text is found in what was said, and in nothing else that the store keeps of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.store import Store
from skilldeck_daemon.store.tables import search as searching
from support.library import open_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await open_store(tmp_path)
    yield store
    await store.close()


def message(id: str, text: str) -> dict[str, Any]:
    return {"id": id, "type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


async def session(store: Store, id: str, title: str, *texts: str) -> None:
    conversation = {"id": id, "object": "conversation", "created_at": 1, "metadata": {"title": title}}
    await store.conversations.create(conversation, [message(f"msg_{n}", text) for n, text in enumerate(texts)])


async def run(
    store: Store, id: str, asked: str, answer: str, conversation: str = "", status: str = "completed"
) -> None:
    response = {
        "id": id, "object": "response", "created_at": 1, "status": "in_progress", "model": "m", "output": [],
        "conversation": {"id": conversation} if conversation else None, "_title": asked[:20],
        "instructions": "Answer in verse.",
    }  # fmt: skip
    await store.responses.create(response, [message("msg_1", asked)])
    output = [{"type": "shell_call_output", "output": [{"stdout": answer, "stderr": ""}]}]
    await store.responses.finish({**response, "status": status, "output": output}, [])


async def test_text_is_found_in_sessions_and_runs_the_latest_first(store: Store) -> None:
    await session(store, "conv_1", "Orders", "How many orders came from the NORTH?", "12")
    await session(store, "conv_2", "North and south", "something else")
    await session(store, "conv_3", "Others", "the north again", "and the north once more")
    await run(store, "resp_1", "x" * 100 + " in the far north " + "y" * 100, "none")
    await run(store, "resp_2", "where?", "line one\nnorth by west")
    await run(store, "resp_3", "what failed", "heading north", conversation="conv_4", status="failed")
    hits = await store.search.find("north", 50)
    assert [(hit.conversation, hit.response) for hit in hits] == [
        ("conv_3", ""), ("conv_1", ""), ("conv_2", ""), ("conv_4", ""), ("", "resp_2"), ("", "resp_1"),
    ]  # fmt: skip
    assert hits[0].excerpt == "and the north once more"
    assert hits[4].excerpt == "line one north by west"
    assert " far north " in hits[5].excerpt
    assert hits[5].excerpt[:2] + hits[5].excerpt[-2:] == "…xy…"
    assert [hit.conversation for hit in await store.search.find("NORTH", 2)] == ["conv_3", "conv_1"]


@pytest.mark.parametrize("text", ["Größe", "größe der", 'say "hi"', "100 %", "a_b", "C:\\x", "日本", "🙂", "it's!"])
async def test_any_characters_are_found_as_they_were_written(store: Store, text: str) -> None:
    said = 'Die Größe der 100 % sind a_b, say "hi" on C:\\x, 日本 🙂 it\'s!'
    await session(store, "conv_1", "t", said)
    await session(store, "conv_2", "t", "1000 percent of axb, nothing of the others")
    assert [hit.conversation for hit in await store.search.find(text, 9)] == ["conv_1"]


async def test_what_nobody_said_is_not_found(store: Store) -> None:
    await session(store, "conv_1", "t", "hello")
    await run(store, "resp_1", "hello", "there")
    for word in ("input_text", "msg_0", "shell_call_output", "Answer in verse", "in_progress", "conversation"):
        assert await store.search.find(word, 9) == [], word


async def test_only_the_newest_are_looked_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "ITEMS", 3)
    monkeypatch.setattr(searching, "PAGE", 2)
    await session(store, "conv_1", "t", "needle")
    await session(store, "conv_2", "t", "a needle, to everyone's content", "a", "b")
    assert [hit.conversation for hit in await store.search.find("needle", 9)] == ["conv_2"]
    # Beyond a page of what holds the word only as a key.
    assert [hit.conversation for hit in await store.search.find("content", 9)] == ["conv_2"]

"""Prompts that are too long: counted without a generation, and refused in the words at which clients shorten them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from skilldeck_daemon.engine.base import ChatRequest, ModelInfo
from skilldeck_daemon.engine.errors import TooLong
from skilldeck_daemon.engine.remote.model import RemoteChatModel
from support.daemon import Running, running
from support.scripted_model import Fail, ScriptedModel, Turn, usage

LONG = "word and word " * 2_000
TOLD = ChatRequest(({"role": "user", "content": LONG},))
LLAMA_CPP: dict[str, Any] = {
    "/apply-template": lambda body: {"prompt": " ".join(message["content"] for message in body["messages"])},
    "/tokenize": lambda body: {"tokens": body.get("content", "").split()},
}
VLLM: dict[str, Any] = {"/tokenize": lambda body: {"count": len(str(body["messages"]).split())}}


@asynccontextmanager
async def remote(server: ScriptedModel) -> AsyncIterator[RemoteChatModel]:
    model = RemoteChatModel(server.url, "scripted", context=server.context, retries=0)
    try:
        yield model
    finally:
        await model.close()


@pytest.mark.parametrize("paths", [LLAMA_CPP, VLLM], ids=["llama.cpp", "vllm"])
async def test_a_server_that_counts_is_asked_and_generates_nothing(paths: dict[str, Any]) -> None:
    with ScriptedModel(paths=paths) as server:
        async with remote(server) as model:
            tokens, counted = await model.measure(TOLD)
            assert counted
            assert abs(tokens - len(LONG.split())) < 10
            assert await model.count_tokens(TOLD) == tokens
    assert server.requests == []


async def test_a_server_that_does_not_count_is_guessed_by_what_it_told_of_earlier_prompts() -> None:
    with ScriptedModel(Turn("ok", usage=usage(len(LONG) // 2, 1))) as server:
        async with remote(server) as model:
            guess, counted = await model.measure(TOLD)
            assert not counted
            assert abs(guess - len(LONG) / 4) < 100
            assert [event async for event in model.stream(TOLD)]
            assert abs((await model.measure(TOLD))[0] - len(LONG) / 2) < 100
    assert len(server.requests) == 1


@pytest.mark.parametrize("surface", ["responses", "chat", "messages"])
async def test_a_long_prompt_is_sent_once_to_a_server_that_does_not_count(surface: str) -> None:
    async with running(Turn("ok")) as daemon:  # whose context of 32,768 tokens the bytes alone could exceed
        text = LONG * 2
        assert len(text) > 32768
        assert (await ask(daemon, surface, text)).status_code == 200
        assert len(daemon.model.requests) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        Fail(
            400, "This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens."
        ),
        Fail(400, "You requested 5000 tokens; the maximum context length is 4096 tokens", "context_length_exceeded"),
        Fail(
            400,
            "the request exceeds the available context size, try increasing it",
            more=(("type", "exceed_context_size_error"), ("n_prompt_tokens", 5000), ("n_ctx", 4096)),
        ),
    ],
)
async def test_the_refusals_of_servers_become_the_words_of_each_api(refusal: Fail) -> None:
    async with running(refusal, refusal, refusal) as daemon:
        chat = (await ask(daemon, "chat", "hi")).json()["error"]
        assert chat["code"] == "context_length_exceeded"
        assert "maximum context length is 4096 tokens" in chat["message"]
        assert "--max-model-len" in chat["message"]
        assert "truncation" not in chat["message"]
        told = (await ask(daemon, "messages", "hi")).json()["error"]
        assert told["type"] == "invalid_request_error"
        assert told["message"].startswith("prompt is too long: 5000 tokens > 4096 maximum")
        response = (await ask(daemon, "responses", "hi")).json()
        assert response["error"]["code"] == "context_length_exceeded"
        assert "maximum context length is 4096 tokens" in response["error"]["message"]


async def test_what_is_counted_too_long_is_refused_before_it_begins_in_the_words_of_each_api() -> None:
    with ScriptedModel(paths=LLAMA_CPP, context=4000) as server:
        async with running(load=False, engine="remote", remote_url=server.url) as daemon:
            await daemon.daemon.services.models.load(
                "", name="scripted", engine="remote", options={"remote_url": server.url}
            )
            words = len(LONG.split())
            answers = {name: await ask(daemon, name, LONG) for name in ("responses", "chat", "messages")}
            streamed = await daemon.stream(LONG)
            kept = (await daemon.http.get(f"/responses/{streamed[-1]['response']['id']}")).json()
        assert server.requests == []
    assert {answer.status_code for answer in answers.values()} == {400}
    errors = {name: answer.json()["error"] for name, answer in answers.items()}
    assert {error["code"] for error in errors.values()} == {"context_length_exceeded"}
    for name in ("responses", "chat"):
        assert re.search(r"maximum context length is 4000 tokens.* has 6\d\d\d tokens", errors[name]["message"])
    assert re.match(rf"prompt is too long: {words}\d* tokens > 4000 maximum", errors["messages"]["message"])
    assert ["truncation" in error["message"] for error in errors.values()] == [True, False, False]
    assert [error["param"] for error in errors.values()] == ["input", "messages", "messages"]
    # A stream says it as the service that Codex was written for does, which then compacts.
    assert [event["type"] for event in streamed] == ["response.created", "response.in_progress", "response.failed"]
    assert streamed[-1]["response"]["error"]["code"] == kept["error"]["code"] == "context_length_exceeded"
    assert "maximum context length is 4000 tokens" in kept["error"]["message"]


async def test_with_truncation_auto_the_history_gives_way_before_the_answer_has_no_room() -> None:
    with ScriptedModel(Turn("ok"), Turn("ok"), paths=LLAMA_CPP, context=4000) as server:
        async with running(load=False, engine="remote", remote_url=server.url) as daemon:
            await daemon.daemon.services.models.load(
                "", name="scripted", engine="remote", options={"remote_url": server.url}
            )
            said = [{"role": "user", "content": f"{number} " + "word " * 900} for number in range(4)]
            responses = [await daemon.respond(items, truncation="auto") for items in (said, said[:3])]
    assert [len(request["messages"]) for request in server.requests] == [3, 3]  # 4 fit, with 400 tokens to answer
    assert [response.get("skilldeck") for response in responses] == [{"shortened": True}, None]


def test_the_option_that_gives_more_context_is_named_where_the_model_has_more() -> None:
    assert '{"context": 32768}' in ModelInfo("m", "llamacpp", context=4096, longest=32768).lengthening
    assert ModelInfo("m", "llamacpp", context=4096, longest=4096).lengthening == ""
    assert TooLong("x").code == "context_length_exceeded"


async def ask(daemon: Running, surface: str, text: str) -> Any:
    said = [{"role": "user", "content": text}]
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "responses": ("/responses", {"input": text}),
        "chat": ("/chat/completions", {"messages": said}),
        "messages": ("/messages", {"messages": said, "max_tokens": 16}),
    }
    path, body = bodies[surface]
    return await daemon.http.post(path, json={"model": "default", **body})

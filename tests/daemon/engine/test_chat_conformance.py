"""What the agent relies on, asked of every model it may be given: local ones on each engine, and a remote one.

All of them are the same random model and must say, greedily, what transformers generates. The remote one's server is
the scripted one; its script computes each answer with transformers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio

from daemon.engine.conftest import EXACT, make_chat_folder
from daemon.engine.exl_stub import exllamav2_missing, install_exllamav2
from skilldeck_daemon.engine.base import (
    ChatEvent,
    ChatFinished,
    ChatModel,
    ChatRequest,
    ModelSpec,
    Sampling,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStart,
)
from skilldeck_daemon.engine.chat.model import TokenChatModel
from skilldeck_daemon.engine.errors import TooLong
from skilldeck_daemon.engine.hub import make_engine
from skilldeck_daemon.engine.remote.model import RemoteChatModel
from skilldeck_daemon.engine.remote.replicas import ReplicatedChatModel
from skilldeck_daemon.engine.vocabularies import load_vocabulary
from skilldeck_shared.errors import BadRequest
from support.make_gguf import make_gguf
from support.scripted_model import Call, Endless, Fail, ScriptedModel, Text, Turn, usage
from support.wait import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

GREEDY = Sampling(temperature=0)
CONTEXT = 1024
ENDLESS = "tell me everything"
PICK = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "pick", "parameters": PICK, "strict": True}}


@pytest.fixture(scope="module")
def folder(make: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = make("Llama", max_position_embeddings=CONTEXT)
    return make_chat_folder(weights, tmp_path_factory.mktemp("chat") / "chatty")


@pytest.fixture(scope="module")
def expected(folder: Path, greedy: Any) -> Callable[[list[dict[str, Any]], int], tuple[str, int]]:
    """What transformers says to messages in so many tokens, and the length of their prompt."""
    vocabulary = load_vocabulary(folder)

    def say(messages: list[dict[str, Any]], count: int) -> tuple[str, int]:
        text = "".join(f"{message['role']}: {message['content']}\n" for message in messages)
        ids = vocabulary.encode(f"{text}assistant:")
        return vocabulary.decode(greedy(folder, ids, count)), len(ids)

    return say


def script(expected: Any) -> Callable[[dict[str, Any]], Turn | Fail]:
    """The upstream server's side of the conformance: it obeys max_tokens, stop and tool_choice."""

    def answer(body: dict[str, Any]) -> Turn | Fail:
        messages = body["messages"]
        if messages[-1]["content"] == ENDLESS:
            return Turn(Endless())
        if body.get("tool_choice", "auto") not in ("auto", "none"):
            return Turn(Call("pick", {"colour": "red", "count": 3}, chunk=4))
        count = body.get("max_tokens", 1)
        text, prompt = expected(messages, count if prompt_fits(messages) else 1)
        if not prompt_fits(messages):
            return Fail(400, "maximum context length is 1024 tokens", "context_length_exceeded")
        stop = next((word for word in body.get("stop", []) if word in text), None)
        finish = "stop" if stop else "length"
        return Turn(Text(text.partition(stop)[0] if stop else text, 3), finish=finish, usage=usage(prompt, count))

    return answer


def prompt_fits(messages: list[dict[str, Any]]) -> bool:
    return sum(len(message["content"]) for message in messages) < CONTEXT


KINDS = ["llamacpp", "llamacpp worker", "exllamav2", "remote", "replicas"]


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=KINDS)
async def model(
    request: pytest.FixtureRequest, folder: Path, expected: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ChatModel]:
    if request.param in ("remote", "replicas"):
        with contextlib.ExitStack() as stack:
            count = 2 if request.param == "replicas" else 1
            turns = [script(expected)] * 100
            servers = [stack.enter_context(ScriptedModel(*turns, context=CONTEXT)) for _ in range(count)]
            remotes = [RemoteChatModel(server.url, "scripted", retries=0) for server in servers]
            for remote in remotes:
                await remote.connect()
            built: ChatModel = remotes[0] if count == 1 else ReplicatedChatModel(remotes)
            yield built
            await built.close()
        return
    with pytest.MonkeyPatch.context() as patch:
        path, options = folder, {"max_batch": 4, "context": CONTEXT}
        if request.param == "exllamav2":
            if reason := exllamav2_missing():
                pytest.skip(reason)
            engine: Any = install_exllamav2(patch, folder)
        else:
            engine = make_engine("llamacpp", worker=request.param.endswith("worker"))
            path = make_gguf(folder, tmp_path_factory.mktemp("gguf") / "chatty.gguf")
            options |= EXACT
        info = await engine.load(ModelSpec(str(path), "small", options))
        built = TokenChatModel(engine, path, info)
        yield built
        await built.close()


def ask(text: str, count: int = 12, **more: Any) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": text}], sampling=GREEDY, max_tokens=count, **more)


async def play(model: ChatModel, request: ChatRequest) -> tuple[str, list[ChatEvent], ChatFinished]:
    events = [event async for event in model.stream(request)]
    finished = [event for event in events if isinstance(event, ChatFinished)]
    assert finished == events[-1:], "exactly one ChatFinished, and it comes last"
    return "".join(event.text for event in events if isinstance(event, TextDelta)), events, finished[0]


async def test_the_text_is_what_transformers_generates_and_its_usage_is_exact(model: ChatModel, expected: Any) -> None:
    request = ask("hello there")
    text, _, ended = await play(model, request)
    wanted, prompt = expected(request.messages, 12)
    assert text == wanted
    assert (ended.reason, ended.usage.input_tokens, ended.usage.output_tokens) == ("length", prompt, 12)
    assert ended.error is None
    assert await model.count_tokens(request) == prompt
    assert model.info.context == CONTEXT


async def test_requests_at_once_each_get_their_own(model: ChatModel, expected: Any) -> None:
    requests = [ask(f"number {n} " + "x" * n * 7, 10) for n in range(6)]
    answers = await asyncio.gather(*(play(model, request) for request in requests))
    for request, (text, _, _) in zip(requests, answers, strict=True):
        assert text == expected(request.messages, 10)[0]
    assert model.stats().active == 0


async def test_a_stop_string_ends_the_text_before_it(model: ChatModel, expected: Any) -> None:
    request = ask("stop here", 20)
    whole, _ = expected(request.messages, 20)
    stop = whole[8:11]
    text, _, ended = await play(model, ask("stop here", 20, stop=(stop,)))
    assert text == whole.partition(stop)[0]
    assert ended.reason == "stop"


async def test_closing_the_stream_cancels_the_request(model: ChatModel) -> None:
    stream: Any = model.stream(ask(ENDLESS, 900))
    async for event in stream:
        if isinstance(event, TextDelta):
            break
    await stream.aclose()
    await until(lambda: model.stats().active == 0)
    assert (await play(model, ask("next", 3)))[2].reason == "length"


async def test_a_required_call_streams_its_arguments_and_is_whole(model: ChatModel) -> None:
    request = ask("pick", 400, tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
    _, events, ended = await play(model, request)
    assert ended.reason == "tool_calls"
    (start,) = [event for event in events if isinstance(event, ToolCallStart)]
    (call,) = [event for event in events if isinstance(event, ToolCallDone)]
    deltas = [event.delta for event in events if isinstance(event, ToolCallDelta)]
    assert start.index == call.index == 0
    assert "".join(deltas) == call.arguments
    # llama.cpp writes this small model's call faster than the loop reads it, and what comes together is one event.
    assert len(deltas) > 1 or model.info.engine == "llamacpp"
    assert (call.name, call.problem) == ("pick", None)
    jsonschema.validate(json.loads(call.arguments), PICK)


async def test_what_a_request_does_wrong_is_told_before_the_first_event(model: ChatModel) -> None:
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]
    for request, param in (
        (ask("x", tools=[TOOL, TOOL]), "tools[1].name"),
        (ask("x", tools=[TOOL], tool_choice="maybe"), "tool_choice"),
        (ask("x", tools=[TOOL], tool_choice={"type": "function", "name": "no"}), "tool_choice.name"),
        (ChatRequest([{"role": "user", "content": picture}]), "input"),
    ):
        with pytest.raises(BadRequest) as caught:
            await play(model, request)
        assert caught.value.param == param
    with pytest.raises(TooLong) as caught:
        await play(model, ask("y" * 1100))
    assert caught.value.code == "context_length_exceeded"
    assert (await play(model, ask("still here", 3)))[2].reason == "length"

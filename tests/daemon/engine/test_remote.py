"""The remote model against a server that plays a script: what is sent, what comes back, and every way it can fail."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldeck_daemon.engine.base import (
    ChatEvent,
    ChatFinished,
    ChatModel,
    ChatRequest,
    ReasoningDelta,
    Sampling,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from skilldeck_daemon.engine.checks import InputField
from skilldeck_daemon.engine.errors import EngineBusy, EngineDead, NotLoaded, TooLong
from skilldeck_daemon.engine.remote import bounds
from skilldeck_daemon.engine.remote.model import RemoteChatModel, UpstreamRefused
from skilldeck_shared.errors import BadRequest
from support.scripted_model import (
    NUMBERS,
    Call,
    Drop,
    Endless,
    Fail,
    Hold,
    Raw,
    Reasoning,
    ScriptedModel,
    Text,
    Turn,
    shell,
    usage,
)

SHELL = {
    "type": "function",
    "function": {
        "name": "shell",
        "description": "Run commands.",
        "parameters": {"type": "object", "properties": {"commands": {"type": "array", "items": {"type": "string"}}}},
        "strict": True,
    },
}
PATCH = {"type": "custom", "custom": {"name": "patch", "description": "Apply a patch.", "format": {"type": "text"}}}
HELLO = [{"role": "user", "content": "hello"}]


@asynccontextmanager
async def remote(server: ScriptedModel, **options: Any) -> AsyncIterator[RemoteChatModel]:
    model = RemoteChatModel(server.url, server.name, **{"retries": 0, **options})
    try:
        yield model
    finally:
        await model.close()


async def play(server: ScriptedModel, request: ChatRequest | None = None, **options: Any) -> list[ChatEvent]:
    async with remote(server, **options) as model:
        return [event async for event in model.stream(request or ChatRequest(HELLO, tools=[SHELL, PATCH]))]


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def end_of(events: list[ChatEvent]) -> ChatFinished:
    """The one terminal event, which must come last."""
    ends = [event for event in events if isinstance(event, ChatFinished)]
    assert len(ends) == 1
    assert events[-1] is ends[0]
    return ends[0]


async def test_an_answer_beyond_the_limit_that_was_asked_for_ends_there_and_the_server_is_left() -> None:
    with ScriptedModel(Turn(Endless(NUMBERS))) as server:
        events = await play(server, ChatRequest(HELLO, max_tokens=16))
        await server.until(lambda server: server.disconnects == 1)
    assert end_of(events).reason == "length"
    assert 64 << 10 <= len(text_of(events)) <= (64 << 10) + 2 * len(NUMBERS)


@pytest.mark.parametrize("line", [":\n" * 30_000, "\n" * 30_000, 'data: {"choices":[]}\n' * 30_000])
async def test_a_stream_that_says_nothing_without_end_ends(line: str) -> None:
    with ScriptedModel(Turn(Raw(line), Hold(threading.Event()))) as server:
        assert end_of(await play(server, ChatRequest(HELLO, max_tokens=1))).reason == "length"


async def test_a_line_without_end_is_an_error_of_the_server() -> None:
    with ScriptedModel(Turn("so ", Raw("data: " + "x" * (5 << 20)), Hold(threading.Event()))) as server:
        end = end_of(await play(server))
    assert end.reason == "error"
    assert "line of more than 4 MiB" in str(end.error)


async def test_a_fast_servers_pieces_come_joined_and_whole() -> None:
    many = "\n\n".join(
        "data: " + json.dumps({"choices": [{"delta": {kind: f"{number} "}}]})
        for kind in ("reasoning", "content")
        for number in range(2000)
    )
    with ScriptedModel(Turn(Raw(many))) as server:
        events = await play(server)
    assert text_of(events) == "".join(f"{number} " for number in range(2000))
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == text_of(events)
    assert len(events) < 400


async def test_an_error_of_any_length_is_passed_on_short() -> None:
    with ScriptedModel(Fail(400, "no, " * 300_000)) as server:
        with pytest.raises(BadRequest) as caught:
            await play(server)
    assert "no, no" in str(caught.value)
    assert len(str(caught.value)) < 3000


async def test_what_is_read_whole_of_a_server_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "BODY_BYTES", 1000)
    with ScriptedModel(paths={"/tokenize": lambda body: {"count": 1, "more": "x" * 2000}}) as server:
        async with remote(server) as model:
            with pytest.raises(EngineDead, match="sent more than"):
                await model.count_tokens(ChatRequest(HELLO))


async def test_text_reasoning_and_usage_come_back_as_they_were_sent() -> None:
    turn = Turn(Reasoning("let me see", 3), Text("grüße 👋 to you", 2), usage=usage(11, 7, cached=5, reasoning=3))
    with ScriptedModel(turn) as server:
        events = await play(server)
    assert text_of(events) == "grüße 👋 to you"
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "let me see"
    assert end_of(events).reason == "stop"
    assert end_of(events).usage == Usage(11, 5, 7, 3)


async def test_reasoning_is_read_under_its_other_name() -> None:
    with ScriptedModel(Turn(Reasoning("hm", field="reasoning"), "yes")) as server:
        events = await play(server)
    assert [event for event in events if isinstance(event, ReasoningDelta)] == [ReasoningDelta("hm")]


async def test_calls_stream_their_arguments_and_end_complete() -> None:
    with ScriptedModel(Turn("I look.", shell("ls", "cat a"), shell("pwd"))) as server:
        events = await play(server)
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    dones = [event for event in events if isinstance(event, ToolCallDone)]
    assert [(start.index, start.name, start.kind) for start in starts] == [
        (0, "shell", "function"),
        (1, "shell", "function"),
    ]
    assert [json.loads(done.arguments) for done in dones] == [{"commands": ["ls", "cat a"]}, {"commands": ["pwd"]}]
    assert all(done.problem is None for done in dones)
    for done in dones:
        pieces = [event.delta for event in events if isinstance(event, ToolCallDelta) and event.index == done.index]
        assert len(pieces) > 1
        assert "".join(pieces) == done.arguments
    assert end_of(events).reason == "tool_calls"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (Call("shell", '{"commands": ["ls"'), "not valid JSON"),
        (Call("shell", "[1]"), "must be a JSON object"),
        (Call("shel", "{}"), "no tool named 'shel'"),
    ],
)
async def test_a_malformed_call_is_surfaced_with_its_problem(call: Call, said: str) -> None:
    with ScriptedModel(Turn(call)) as server:
        done = next(event for event in await play(server) if isinstance(event, ToolCallDone))
    assert done.arguments == call.text
    assert said in (done.problem or "")


async def test_a_custom_tool_travels_as_a_function_and_is_unwrapped_again() -> None:
    patch = '*** Begin\n+"quoted" \\ 😀\n'
    history = [
        *HELLO,
        {
            "role": "assistant",
            "tool_calls": [{"id": "c1", "type": "custom", "custom": {"name": "patch", "input": "old"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]
    with ScriptedModel(Turn(Call("patch", json.dumps({"input": patch}), chunk=1))) as server:
        events = await play(server, ChatRequest(history, tools=[SHELL, PATCH]))
    sent = server.requests[0]
    assert sent["tools"][1]["function"]["parameters"]["required"] == ["input"]
    assert sent["messages"][1]["tool_calls"][0]["function"] == {"name": "patch", "arguments": '{"input": "old"}'}
    start = next(event for event in events if isinstance(event, ToolCallStart))
    done = next(event for event in events if isinstance(event, ToolCallDone))
    assert (start.kind, done.arguments, done.problem) == ("custom", patch, None)
    assert "".join(event.delta for event in events if isinstance(event, ToolCallDelta)) == patch


@given(st.text(), st.booleans(), st.lists(st.integers(1, 9), max_size=12))
@settings(max_examples=150, deadline=None)
def test_an_input_field_unwraps_the_same_at_every_split(text: str, ascii_only: bool, cuts: list[int]) -> None:
    raw = json.dumps({"input": text}, ensure_ascii=ascii_only)
    field, out, at = InputField(), "", 0
    for cut in [*cuts, len(raw)]:
        out += field.feed(raw[at : at + cut])
        at += cut
    whole, rest = field.whole()
    assert out + rest == whole == text


def test_free_text_where_an_object_was_expected_is_kept_whole() -> None:
    field = InputField()
    assert field.feed("just ") + field.feed("text") == ""
    assert field.whole() == ("just text", "just text")


async def test_what_the_request_asks_for_is_what_is_sent() -> None:
    request = ChatRequest(
        HELLO,
        tools=[SHELL, PATCH],
        tool_choice={"type": "allowed_tools", "mode": "required", "names": ["shell"]},
        parallel_tool_calls=False,
        response_format={"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True},
        sampling=Sampling(temperature=0.5, top_k=40, seed=7, logit_bias={5: -100.0}),
        max_tokens=64,
        stop=("END",),
        logprobs=2,
        reasoning_effort="low",
    )
    with ScriptedModel(Turn("x")) as server:
        await play(server, request, api_key="secret")
    sent = server.requests[0]
    assert server.headers[0]["authorization"] == "Bearer secret"
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["shell"]
    assert sent["tools"][0]["function"]["strict"] is True
    assert sent["tool_choice"] == "required"
    assert sent["parallel_tool_calls"] is False
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True},
    }
    expected = {
        "temperature": 0.5,
        "top_k": 40,
        "seed": 7,
        "logit_bias": {"5": -100.0},
        "max_tokens": 64,
        "stop": ["END"],
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "stream_options": {"include_usage": True},
    }
    assert {name: sent[name] for name in expected} == expected
    assert "min_p" not in sent


async def test_a_named_tool_is_forced_and_none_offers_no_tools() -> None:
    with ScriptedModel(Turn("a"), Turn("b")) as server:
        await play(server, ChatRequest(HELLO, tools=[SHELL], tool_choice={"type": "function", "name": "shell"}))
        await play(server, ChatRequest(HELLO, tools=[SHELL], tool_choice="none"))
    assert server.requests[0]["tool_choice"] == {"type": "function", "function": {"name": "shell"}}
    assert "tools" not in server.requests[1]


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ("sometimes", "tool_choice"),
        ({"type": "function", "name": "gone"}, "tool_choice.name"),
        ({"type": "allowed_tools", "mode": "auto", "names": ["gone"]}, "tool_choice"),
        ({"type": "mcp"}, "tool_choice.type"),
    ],
)
async def test_a_tool_choice_that_names_no_tool_is_refused_before_anything_is_sent(choice: Any, param: str) -> None:
    with ScriptedModel() as server:
        with pytest.raises(BadRequest) as caught:
            await play(server, ChatRequest(HELLO, tools=[SHELL], tool_choice=choice))
    assert caught.value.param == param
    assert server.requests == []


async def test_images_are_refused_by_a_model_that_reads_none() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    with ScriptedModel() as server:
        with pytest.raises(BadRequest, match="images"):
            await play(server, ChatRequest([{"role": "user", "content": [image]}]))


# ------------------------------------------------------------------ faults


async def test_a_failure_before_the_first_token_is_tried_again() -> None:
    with ScriptedModel(Fail(500), Fail(429, headers=(("retry-after", "0"),)), Turn(Drop()), Turn("there")) as server:
        events = await play(server, retries=3)
    assert text_of(events) == "there"
    assert len(server.requests) == 4
    assert end_of(events).reason == "stop"


async def test_a_stream_cut_after_its_first_token_is_an_error_and_not_tried_again() -> None:
    with ScriptedModel(Turn("half ", shell("ls"), Drop()), Turn("never asked")) as server:
        events = await play(server, retries=3)
    assert text_of(events) == "half "
    assert len([event for event in events if isinstance(event, ToolCallDone)]) == 1
    assert end_of(events).reason == "error"
    assert isinstance(end_of(events).error, EngineDead)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fail", "kind"),
    [(Fail(429), EngineBusy), (Fail(503), EngineDead), (Fail(401), UpstreamRefused), (Fail(404), UpstreamRefused)],
)
async def test_an_upstream_that_keeps_failing_ends_in_one_clear_error(fail: Fail, kind: type[Exception]) -> None:
    with ScriptedModel(fail) as server:
        events = await play(server)
    assert isinstance(end_of(events).error, kind)
    assert server.url in str(end_of(events).error)


async def test_a_request_the_upstream_refuses_is_a_bad_request() -> None:
    refusals = [Fail(400, "no such option"), Fail(400, "maximum context length is 8192", "context_length_exceeded")]
    with ScriptedModel(*refusals) as server:
        with pytest.raises(BadRequest, match="no such option"):
            await play(server)
        with pytest.raises(TooLong):
            await play(server)


async def test_an_upstream_that_is_gone_is_an_error_that_says_where() -> None:
    with ScriptedModel() as server:
        pass
    events = await play(server)
    assert "does not" in str(end_of(events).error) or "failed" in str(end_of(events).error)
    assert server.url in str(end_of(events).error)
    async with remote(server) as model:
        with pytest.raises(NotLoaded, match="does not answer"):
            await model.connect()


@pytest.mark.parametrize("line", ["data: {broken", "data: [1]", 'data: {"error": {"message": "out of memory"}}'])
async def test_garbage_and_errors_inside_the_stream_end_it(line: str) -> None:
    with ScriptedModel(Turn("some", Raw(line), "more")) as server:
        events = await play(server)
    assert text_of(events) == "some"
    assert end_of(events).reason == "error"


async def test_comments_and_a_missing_done_do_no_harm() -> None:
    with ScriptedModel(Turn("fine", Raw(": ping"), no_done=True, no_usage=True)) as server:
        events = await play(server)
    assert end_of(events).reason == "stop"
    assert end_of(events).usage == Usage()


async def test_length_and_content_filter_are_passed_on() -> None:
    with ScriptedModel(Turn("a", finish="length"), Turn("a", finish="content_filter")) as server:
        assert end_of(await play(server)).reason == "length"
        assert end_of(await play(server)).reason == "content_filter"


async def test_calls_without_index_and_a_stop_after_calls_are_understood() -> None:
    def raw(function: dict[str, Any]) -> Raw:
        return Raw("data: " + json.dumps({"choices": [{"delta": {"tool_calls": [{"function": function}]}}]}))

    calls = [raw({"name": "shell", "arguments": {"commands": [name]}}) for name in ("ls", "pwd")]
    with ScriptedModel(Turn(*calls, raw({"name": "shell"}), finish="stop")) as server:
        events = await play(server)
    dones = [event.arguments for event in events if isinstance(event, ToolCallDone)]
    assert dones == ['{"commands": ["ls"]}', '{"commands": ["pwd"]}', "{}"]
    assert end_of(events).reason == "tool_calls"


IN_TEXT = '```json\n{"name": "shell", "arguments": {"commands": ["ls"]}}\n```'


@pytest.mark.parametrize("chunk", [0, 1, 7])
async def test_a_call_that_the_server_left_in_the_text_is_a_call(chunk: int) -> None:
    with ScriptedModel(Turn("I look.\n\n", Text(IN_TEXT, chunk=chunk)), Turn(Text(IN_TEXT, chunk=chunk))) as server:
        for said in ("I look.", ""):
            events = await play(server)
            assert text_of(events) == said
            done = next(event for event in events if isinstance(event, ToolCallDone))
            assert (done.index, done.name, json.loads(done.arguments)) == (0, "shell", {"commands": ["ls"]})
            assert done.problem is None
            assert isinstance(events[-1], ChatFinished)
            assert events[-1].reason == "tool_calls"


async def test_calls_in_the_text_can_be_left_alone_and_are_where_the_answer_is_json() -> None:
    with ScriptedModel(Turn(IN_TEXT), Turn(IN_TEXT), Turn(IN_TEXT)) as server:
        shape = {"type": "json_object"}
        for request, options in (
            (ChatRequest(HELLO, tools=[SHELL]), {"tool_text": False}),
            (ChatRequest(HELLO, tools=[SHELL], response_format=shape), {}),
            (ChatRequest(HELLO, tools=[SHELL], tool_choice="none"), {}),
        ):
            events = await play(server, request, **options)
            assert text_of(events) == IN_TEXT
            assert isinstance(events[-1], ChatFinished)
            assert events[-1].reason == "stop"


async def test_a_servers_own_calls_and_those_in_its_text_are_numbered_together() -> None:
    with ScriptedModel(Turn(IN_TEXT, shell("pwd")), Turn(shell("pwd"), IN_TEXT)) as server:
        for order in (["ls", "pwd"], ["pwd", "ls"]):
            events = await play(server)
            done = {event.index: event for event in events if isinstance(event, ToolCallDone)}
            assert [json.loads(done[index].arguments)["commands"][0] for index in (0, 1)] == order
            assert text_of(events) == ""


async def test_closing_the_stream_closes_the_connection() -> None:
    with ScriptedModel(Turn(Endless())) as server:
        async with remote(server) as model:
            stream = model.stream(ChatRequest(HELLO))
            assert isinstance(await anext(stream), TextDelta)
            assert model.stats().active == 1
            await stream.aclose()
            assert model.stats().active == 0
            await server.until(lambda played: played.disconnects == 1)


async def test_nothing_of_one_stream_reaches_another() -> None:
    gate = threading.Event()
    with ScriptedModel(Turn("one ", Hold(gate), "two"), Turn("three")) as server:
        async with remote(server) as model:
            first = model.stream(ChatRequest(HELLO))
            events: list[ChatEvent] = [await anext(first)]
            others = [event async for event in model.stream(ChatRequest(HELLO))]
            assert text_of(others) == "three"
            gate.set()
            events += [event async for event in first]
    assert text_of(events) == "one two"


async def test_the_upstream_tells_its_context_and_counts_tokens() -> None:
    with ScriptedModel(Turn("x", usage=usage(42, 1)), context=4096) as server:
        async with remote(server) as model:
            assert isinstance(model, ChatModel)
            assert (await model.connect()).context == 4096
            assert model.caps.context == 4096
            assert await model.count_tokens(ChatRequest(HELLO, tools=[SHELL])) == 42
    assert server.requests[0]["max_tokens"] == 1


async def test_logprobs_are_read_with_their_bytes() -> None:
    entry = {"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": [{"token": "e", "logprob": -1.0}]}
    chunk = {"choices": [{"delta": {"content": "é"}, "logprobs": {"content": [entry]}}]}
    with ScriptedModel(Turn(Raw("data: " + json.dumps(chunk)))) as server:
        events = await play(server, ChatRequest(HELLO, logprobs=1))
    first = events[0]
    assert isinstance(first, TextDelta)
    assert first.logprobs[0].bytes == (195, 169)
    assert first.logprobs[0].top == (("e", -1.0, (101,)),)


@pytest.mark.parametrize("told", [False, True])
async def test_what_a_stopped_answer_used_is_estimated_where_the_server_has_not_told_it(told: bool) -> None:
    chunk = {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}}
    more = [Raw(f"data: {json.dumps(chunk)}")] if told else []
    with ScriptedModel(Turn(Text("one two three"), *more, Text(" four"), Hold(threading.Event()))) as server:
        async with remote(server) as model:
            request = ChatRequest(HELLO)
            async with aclosing(model.stream(request)) as events:
                async for event in events:
                    if "four" in text_of([event]):
                        break
    spent = request.spent
    assert 0 < spent.prompt_known <= spent.first_token
    if told:
        assert (spent.input_tokens, spent.output_tokens >= 2) == (11, True)
    else:
        assert (spent.input_tokens > 0, spent.output_tokens > 0) == (True, True)

"""POST /v1/messages (Anthropic Messages), through the official SDK in strict mode."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import pytest

from support.bundles import skill_zip
from support.daemon import Running, running
from support.scripted_model import Call, Drop, Endless, Fail, Raw, Reasoning, Scripted, Text, Turn, shell, usage
from support.wait import until

WEATHER: Any = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CODE: Any = {"type": "code_execution_20250825", "name": "code_execution"}
HI: Any = [{"role": "user", "content": "hi"}]


@contextlib.asynccontextmanager
async def client(daemon: Running, key: str = "none") -> AsyncIterator[anthropic.AsyncAnthropic]:
    base = daemon.url.removesuffix("/v1")
    async with anthropic.AsyncAnthropic(
        base_url=base, api_key=key, max_retries=0, _strict_response_validation=True
    ) as found:
        yield found


async def ask(daemon: Running, messages: Any = HI, **body: Any) -> anthropic.types.Message:
    async with client(daemon) as api:
        message: anthropic.types.Message = await api.messages.create(
            model="default", max_tokens=body.pop("max_tokens", 4096), messages=messages, **body
        )
        return message


async def post(daemon: Running, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=daemon.url, timeout=60) as http:
        return await http.post("/messages", json={"model": "default", "max_tokens": 64, "messages": HI, **body})


async def events(daemon: Running, messages: Any = HI, **body: Any) -> list[dict[str, Any]]:
    """The events of a streamed answer; their order is checked."""
    request = {"model": "default", "max_tokens": 4096, "messages": messages, "stream": True, **body}
    found: list[dict[str, Any]] = []
    async with (
        httpx.AsyncClient(base_url=daemon.url, timeout=60) as http,
        http.stream("POST", "/messages", json=request) as answer,
    ):
        assert answer.headers["request-id"].startswith("req_")
        name = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line:
                found.append(json.loads(line.removeprefix("data: ")))
                assert found[-1]["type"] == name
    assert [event["type"] for event in found[:2]] == ["message_start", "ping"]
    open_blocks: set[int] = set()
    begun = 0
    for event in found[2:]:
        if event["type"] == "content_block_start":
            assert event["index"] == begun
            begun += 1
            open_blocks.add(event["index"])
        elif event["type"].startswith("content_block"):
            assert event["index"] in open_blocks
            if event["type"] == "content_block_stop":
                open_blocks.discard(event["index"])
    assert not open_blocks
    return found


async def test_a_plain_message_is_complete() -> None:
    async with running(Turn("Hello there.", usage=usage(12, 5, cached=4))) as daemon:
        message = await ask(
            daemon, system=[{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]
        )
        assert [(block.type, block.text) for block in message.content if block.type == "text"] == [
            ("text", "Hello there.")
        ]
        assert (message.stop_reason, message.stop_sequence, message.role, message.model) == (
            "end_turn",
            None,
            "assistant",
            "scripted",
        )
        assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (
            8,
            4,
            5,
        )
        assert daemon.model.requests[0]["messages"] == [
            {"role": "system", "content": "Be brief.\n\nBe kind."},
            {"role": "user", "content": "hi"},
        ]
        assert daemon.model.requests[0]["max_tokens"] == 4096


async def test_the_sdks_stream_helper_builds_the_plain_message_sync_and_async() -> None:
    turn = Turn(Text("one two ", chunk=3), Call("weather", {"city": "Köln"}), Call("weather", {"city": "Bonn"}))
    async with running(turn, turn, turn) as daemon:
        plain = await ask(daemon, tools=[WEATHER])
        async with (
            client(daemon) as api,
            api.messages.stream(model="default", max_tokens=4096, messages=HI, tools=[WEATHER]) as stream,
        ):
            text = "".join([piece async for piece in stream.text_stream])
            streamed = await stream.get_final_message()

        def with_the_sync_client() -> anthropic.types.Message:
            base = daemon.url.removesuffix("/v1")
            api = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0, _strict_response_validation=True)
            with (
                api,
                api.messages.stream(model="default", max_tokens=4096, messages=HI, tools=[WEATHER]) as stream,
            ):
                return stream.get_final_message()

        assert text == "one two "
        for message in (plain, streamed, await asyncio.to_thread(with_the_sync_client)):
            assert message.stop_reason == "tool_use"
            assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]
            inputs = [block.input for block in message.content if block.type == "tool_use"]
            assert inputs == [{"city": "Köln"}, {"city": "Bonn"}]
            assert message.usage.input_tokens == 100


async def test_events_come_in_anthropics_order() -> None:
    async with running(Turn(Text("abc", chunk=1), usage=usage(9, 3))) as daemon:
        found = await events(daemon)
        assert [event["type"] for event in found] == [
            "message_start",
            "ping",
            "content_block_start",
            *["content_block_delta"] * 3,
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
        assert found[-2]["delta"]["stop_reason"] == "end_turn"
        assert (found[-2]["usage"]["input_tokens"], found[-2]["usage"]["output_tokens"]) == (9, 3)


async def test_tool_results_are_the_models_history() -> None:
    image = base64.b64encode(b"not really").decode()
    async with running(Turn(Call("weather", {"city": "Rome"}), Call("weather", {})), *[Turn("Sunny.")] * 2) as daemon:
        first = await ask(daemon, tools=[WEATHER])
        calls = [block for block in first.content if block.type == "tool_use"]
        results: list[dict[str, Any]] = [
            {"type": "tool_result", "tool_use_id": calls[0].id, "content": [{"type": "text", "text": "20 degrees"}]},
            {"type": "tool_result", "tool_use_id": calls[1].id, "content": "no city", "is_error": True},
            {"type": "text", "text": "So?"},
        ]
        returned = [block.model_dump() for block in first.content]
        history = [*HI, {"role": "assistant", "content": returned}, {"role": "user", "content": results}]
        second = await ask(daemon, history, tools=[WEATHER])
        assert second.content[0].type == "text"
        told = daemon.model.requests[1]["messages"]
        assert [entry["role"] for entry in told] == ["user", "assistant", "tool", "tool", "user"]
        assert json.loads(told[1]["tool_calls"][0]["function"]["arguments"]) == {"city": "Rome"}
        assert [entry["content"] for entry in told[2:]] == ["20 degrees", "Error:\nno city", "So?"]
        # An image in a result is a note to a model that reads text only.
        results[0]["content"] = [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": image}}
        ]
        assert (await post(daemon, messages=history, tools=[WEATHER])).status_code == 200
        assert "image not shown" in daemon.model.requests[2]["messages"][2]["content"]


async def test_every_option_reaches_the_engine() -> None:
    options: dict[str, Any] = {"temperature": 0.3, "top_p": 0.9, "top_k": 40}
    async with running(Turn("ok"), Turn("ok"), Turn('{"a": 1}')) as daemon:
        await ask(
            daemon,
            extra_body=options,
            max_tokens=33,
            stop_sequences=["END"],
            tools=[WEATHER, {**WEATHER, "name": "other"}],
            tool_choice={"type": "tool", "name": "other", "disable_parallel_tool_use": True},
        )
        sent = daemon.model.requests[0]
        assert {name: sent[name] for name in options} == options
        assert (sent["max_tokens"], sent["parallel_tool_calls"]) == (33, False)
        assert "stop" not in sent  # looked for here, since this server does not tell which one it was
        assert sent["tool_choice"] == {"type": "function", "function": {"name": "other"}}
        await ask(
            daemon, tools=[WEATHER], tool_choice={"type": "any"}, thinking={"type": "enabled", "budget_tokens": 2000}
        )
        assert (daemon.model.requests[1]["tool_choice"], daemon.model.requests[1]["reasoning_effort"]) == (
            "required",
            "low",
        )
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
        await ask(daemon, output_config={"format": {"type": "json_schema", "schema": schema}, "effort": "high"})
        assert daemon.model.requests[2]["response_format"]["json_schema"]["schema"] == schema
        assert daemon.model.requests[2]["reasoning_effort"] == "high"


@pytest.mark.parametrize("stream", [True, False])
async def test_why_it_stopped_is_told(stream: bool) -> None:
    matched = json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "END"}]})
    turns: list[Scripted] = [
        Turn("cut", finish="length"),
        Turn("no", finish="content_filter"),
        Turn("so", Raw(f"data: {matched}"), Raw("data: [DONE]")),
    ]
    async with running(*turns) as daemon:
        found = []
        for _ in turns:
            if stream:
                delta = (await events(daemon, stop_sequences=["END"]))[-2]["delta"]
                found.append((delta["stop_reason"], delta["stop_sequence"]))
            else:
                message = await ask(daemon, stop_sequences=["END"])
                found.append((message.stop_reason, message.stop_sequence))
        assert found == [("max_tokens", None), ("refusal", None), ("stop_sequence", "END")]


@pytest.mark.parametrize("stream", [True, False])
async def test_which_stop_string_ended_it_is_told_whatever_the_models_server_tells(stream: bool) -> None:
    """llama.cpp, Ollama and OpenAI end with a bare "stop"; so the strings are looked for here, and nothing is shown
    of what follows. A server that tells it (vLLM, SGLang) is sent them from its second answer on."""

    def telling(reason: str | None) -> tuple[Raw, Raw]:
        choice = {"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": reason}
        return Raw(f"data: {json.dumps({'choices': [choice]})}"), Raw("data: [DONE]")

    turns: list[Scripted] = [
        Turn(Text("one EN two END three", chunk=2)),
        Turn("nothing E"),
        Turn(Text("one S", chunk=1), Call("weather", {"city": "Rome"})),
        Turn(Endless("and STOP on ")),
        Turn("none", *telling(None)),
        Turn("so", *telling("END")),
    ]
    async with running(*turns) as daemon:
        found = []
        for _ in turns:
            more: Any = {"stop_sequences": ["END", "STOP"], "tools": [WEATHER]}
            if stream:
                async with (
                    client(daemon) as api,
                    api.messages.stream(model="default", max_tokens=64, messages=HI, **more) as answer,
                ):
                    message = await answer.get_final_message()
            else:
                message = await ask(daemon, **more)
            text = "".join(block.text for block in message.content if block.type == "text")
            found.append((text, message.stop_reason, message.stop_sequence))
        assert found == [
            ("one EN two ", "stop_sequence", "END"),
            ("nothing E", "end_turn", None),
            ("one S", "tool_use", None),
            ("and ", "stop_sequence", "STOP"),
            ("none", "end_turn", None),
            ("so", "stop_sequence", "END"),
        ]
        assert ["stop" in request for request in daemon.model.requests] == [False] * 5 + [True]


async def test_thinking_is_shown_when_it_is_asked_for_and_taken_back() -> None:
    turn = Turn(Reasoning("hmm, well", chunk=4), "Yes.")
    thinking = {"type": "adaptive"}
    async with running(turn, turn, turn, Turn("ok")) as daemon:
        assert [block.type for block in (await ask(daemon)).content] == ["text"]
        message = await ask(daemon, thinking=thinking)
        assert [block.type for block in message.content] == ["thinking", "text"]
        async with (
            client(daemon) as api,
            api.messages.stream(model="default", max_tokens=64, messages=HI, thinking=thinking) as stream,
        ):
            streamed = (await stream.get_final_message()).content
            assert [(block.type, getattr(block, "thinking", "")) for block in streamed] == [
                ("thinking", "hmm, well"),
                ("text", ""),
            ]
            assert streamed[0].type == "thinking"
            assert streamed[0].signature
        await ask(daemon, [*HI, {"role": "assistant", "content": message.content}, *HI])
        assert daemon.model.requests[3]["messages"][1]["reasoning_content"] == "hmm, well"


async def test_code_execution_runs_in_a_container_with_the_skills_that_are_named() -> None:
    call = shell("cat /mnt/skills/greeter/references/notes.txt", "echo oops >&2; exit 3")
    script: list[Scripted] = [Turn("Let me look.", call), Turn(Text("It greets.", chunk=4))]
    async with running(*script, *script, Turn(shell("ls")), Turn("Same place.")) as daemon:
        skill = await daemon.client.skills.create(files=[("greeter.zip", skill_zip("greeter"), "application/zip")])
        container: Any = {"skills": [{"type": "custom", "skill_id": skill.id, "version": "latest"}]}
        message = await ask(daemon, tools=[CODE], container=container)
        assert [block.type for block in message.content] == [
            "text",
            "server_tool_use",
            "bash_code_execution_tool_result",
            "text",
        ]
        use, result = message.content[1:3]
        assert use.type == "server_tool_use"
        assert use.input == {"command": "\n".join(json.loads(call.text)["commands"])}
        assert result.type == "bash_code_execution_tool_result"
        assert result.content.type == "bash_code_execution_result"
        assert (result.content.stdout, result.content.stderr, result.content.return_code) == (
            "notes\n",
            "oops\n",
            3,
        )
        assert message.container is not None
        assert message.container.skills is not None
        assert [entry.skill_id for entry in message.container.skills] == [skill.id]
        async with (
            client(daemon) as api,
            api.messages.stream(
                model="default", max_tokens=999, messages=HI, tools=[CODE], container=container
            ) as stream,
        ):
            streamed: Any = await stream.get_final_message()
        assert [block.type for block in streamed.content] == [block.type for block in message.content]
        assert streamed.content[1].input == use.input

        # The next turn goes on in the same container, named together with its skills.
        history = [*HI, {"role": "assistant", "content": message.content}, {"role": "user", "content": "again"}]
        again = await ask(daemon, history, tools=[CODE], container={"id": message.container.id, **container})
        assert again.container is not None
        assert again.container.id == message.container.id
        told = daemon.model.requests[-1]["messages"]
        assert [entry["role"] for entry in told[:6]] == ["system", "user", "assistant", "tool", "assistant", "user"]
        other = {"id": message.container.id, "skills": [{"type": "custom", "skill_id": "skill_other"}]}
        answer = await post(daemon, tools=[CODE], container=other)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "container.skills[0].skill_id")


async def test_the_beta_client_is_answered_as_well() -> None:
    script: list[Scripted] = [Turn(shell("echo hi")), Turn("Done.")]
    async with running(*script, *script) as daemon, client(daemon) as api:
        wanted: dict[str, Any] = {
            "model": "default",
            "max_tokens": 999,
            "messages": HI,
            "tools": [CODE],
            "betas": ["code-execution-2025-08-25", "skills-2025-10-02"],
        }
        plain = await api.beta.messages.create(**wanted)
        async with api.beta.messages.stream(**wanted) as stream:
            streamed = await stream.get_final_message()
        for message in (plain, streamed):
            kinds = [block.type for block in message.content]
            assert kinds == ["server_tool_use", "bash_code_execution_tool_result", "text"]


async def test_documents_and_images_are_read() -> None:
    content = [
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "the plan"},
            "title": "p.txt",
        },
        {"type": "search_result", "title": "T", "source": "s", "content": [{"type": "text", "text": "found"}]},
        {"type": "text", "text": "Read."},
    ]
    async with running(Turn("I see.")) as daemon:
        await ask(daemon, [{"role": "user", "content": content}])
        told = daemon.model.requests[0]["messages"][0]["content"]
        assert "the plan" in told
        assert '<file name="p.txt"' in told
        assert "T (s):\nfound" in told


async def test_tokens_are_counted() -> None:
    async with running(Turn("x", usage=usage(77, 1))) as daemon, client(daemon) as api:
        counted = await api.messages.count_tokens(model="default", messages=HI, tools=[WEATHER])
        assert counted.input_tokens == 77


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages[0].content[0].type"),
    (
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]},
        "messages[0].content[0].tool_use_id",
    ),
    (
        {
            "messages": [
                {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
                *HI,
            ]
        },
        "messages",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "x"}, {"type": "container_upload", "file_id": "f"}],
                }
            ]
        },
        "messages[0].content[1].file_id",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "%"}},
                    ],
                }
            ]
        },
        "messages[0].content[0].source.data",
    ),
    ({"system": [{"type": "image"}]}, "system[0].type"),
    ({"temperature": 1.5}, "temperature"),
    ({"stop_sequences": [" "]}, "stop_sequences[0]"),
    ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
    ({"tools": [{"name": "x y", "input_schema": {"type": "object"}}]}, "tools[0].name"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1]"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tool_choice": {"type": "tool", "name": "x"}, "tools": [WEATHER]}, "tool_choice"),
    ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 5000}}, "thinking.budget_tokens"),
    ({"container": "cntr_x"}, "container"),
    ({"container": "cntr_x", "tools": [CODE]}, "container"),
    (
        {"container": {"skills": [{"type": "anthropic", "skill_id": "pptx"}]}, "tools": [CODE]},
        "container.skills[0].type",
    ),
    (
        {"container": {"skills": [{"type": "custom", "skill_id": "skill_none"}]}, "tools": [CODE]},
        "container.skills[0].skill_id",
    ),
    ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
]


async def test_what_is_wrong_is_refused_by_the_name_it_was_sent_under() -> None:
    async with running() as daemon:
        for body, param in WRONG:
            answer = await post(daemon, **body)
            error = answer.json()
            assert answer.status_code in (400, 404), body
            assert error["type"] == "error"
            assert error["error"]["type"] in ("invalid_request_error", "not_found_error")
            assert error["error"]["param"] == param, body
            assert "input[" not in error["error"]["message"]


async def test_errors_are_the_sdks_own() -> None:
    async with running(Fail(400, "bad words"), Turn("so", Drop()), api_key=["secret"]) as daemon:
        async with client(daemon, "wrong") as api:
            with pytest.raises(anthropic.AuthenticationError) as refused:
                await api.messages.create(model="default", max_tokens=9, messages=HI)
            assert refused.value.body == {
                "type": "error",
                "error": {
                    "type": "authentication_error",
                    "message": "Incorrect API key provided. Use one of the keys the daemon was started with.",
                    "param": None,
                    "code": "invalid_api_key",
                },
            }
        async with client(daemon, "secret") as api:
            with pytest.raises(anthropic.NotFoundError):
                await api.messages.create(model="clod-none", max_tokens=9, messages=HI)
            with pytest.raises(anthropic.BadRequestError):
                await api.messages.create(model="default", max_tokens=9, messages=HI)
            with pytest.raises(anthropic.APIStatusError):
                async for _ in await api.messages.create(model="default", max_tokens=9, messages=HI, stream=True):
                    pass


async def test_a_call_that_is_no_json_is_handed_over_as_it_is() -> None:
    async with running(Turn(Call("weather", '{"city": '))) as daemon:
        message = await ask(daemon, tools=[WEATHER])
        assert [block.input for block in message.content if block.type == "tool_use"] == [{"INVALID_JSON": '{"city": '}]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_cancels_its_run(stream: bool) -> None:
    async with running(Turn("so far ", Endless())) as daemon:
        request = asyncio.create_task(post(daemon, stream=stream))
        await daemon.model.until(lambda model: len(model.requests) == 1)
        request.cancel()
        await daemon.model.until(lambda model: model.disconnects == 1)
        await until(lambda: not daemon.daemon.services.runs.active)

"""POST /v1/chat/completions, plain and streamed, and what is kept of it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from support import contract
from support.daemon import SHELL, Running, running
from support.scripted_model import Call, Drop, Endless, Fail, Raw, Reasoning, Scripted, Text, Turn, shell, usage
from support.wait import until

WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
SQL: Any = {"type": "custom", "custom": {"name": "sql", "description": "Runs SQL."}}
HI: Any = [{"role": "user", "content": "hi"}]


async def ask(daemon: Running, messages: Any = HI, **body: Any) -> dict[str, Any]:
    answer = await daemon.http.post("/chat/completions", json={"model": "default", "messages": messages, **body})
    assert answer.status_code == 200, answer.text
    completion: dict[str, Any] = answer.json()
    return completion


async def chunks(daemon: Running, messages: Any = HI, **body: Any) -> list[dict[str, Any]]:
    """The chunks of a streamed answer, each held against the published schema."""
    found = []
    request = {"model": "default", "messages": messages, "stream": True, **body}
    async with daemon.http.stream("POST", "/chat/completions", json=request) as answer:
        assert answer.status_code == 200, await answer.aread()
        lines = [line async for line in answer.aiter_lines() if line]
    assert lines.pop() == "data: [DONE]"
    for line in lines:
        found.append(json.loads(line.removeprefix("data: ")))
        if "error" not in found[-1]:
            contract.conforms("CreateChatCompletionStreamResponse", found[-1])
    assert len({(chunk["id"], chunk["created"]) for chunk in found if "error" not in chunk}) == 1
    return found


async def refused(daemon: Running, messages: Any = HI, **body: Any) -> dict[str, Any]:
    answer = await daemon.http.post("/chat/completions", json={"model": "default", "messages": messages, **body})
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


def joined(found: list[dict[str, Any]], index: int = 0, field: str = "content") -> str:
    choices = [choice for chunk in found for choice in chunk.get("choices", []) if choice["index"] == index]
    return "".join(choice["delta"].get(field) or "" for choice in choices)


# ------------------------------------------------------------------ plain and streamed


async def test_a_plain_completion_is_complete() -> None:
    async with running(Turn("Hello there.", usage=usage(12, 5, cached=4, reasoning=2))) as daemon:
        completion = await daemon.client.chat.completions.create(
            model="default", messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
        )
        choice = completion.choices[0]
        assert (choice.message.content, choice.finish_reason, choice.message.role) == (
            "Hello there.",
            "stop",
            "assistant",
        )
        assert completion.model == "scripted"
        assert completion.usage is not None
        assert (completion.usage.prompt_tokens, completion.usage.completion_tokens, completion.usage.total_tokens) == (
            12,
            5,
            17,
        )
        assert completion.usage.prompt_tokens_details is not None
        assert completion.usage.prompt_tokens_details.cached_tokens == 4
        assert daemon.model.requests[0]["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
        ]


async def test_a_stream_begins_with_the_role_and_ends_with_reason_usage_and_done() -> None:
    async with running(Turn(Text("one two three", chunk=4), usage=usage(9, 3))) as daemon:
        found = await chunks(daemon, stream_options={"include_usage": True})
        assert found[0]["choices"][0]["delta"]["role"] == "assistant"
        assert joined(found) == "one two three"
        assert found[-2]["choices"][0]["finish_reason"] == "stop"
        assert [chunk["usage"] for chunk in found[:-1]] == [None] * (len(found) - 1)
        assert found[-1]["choices"] == []
        assert found[-1]["usage"]["total_tokens"] == 12


async def test_the_strict_sdks_stream_helper_builds_the_plain_answer() -> None:
    def answer(body: dict[str, Any]) -> Turn:
        return Turn(Text("one two ", chunk=3), Call("weather", {"city": "Köln"}), Call("weather", {"city": "Bonn"}))

    async with running(answer, answer, answer) as daemon:
        plain = await daemon.client.chat.completions.create(model="default", messages=HI, tools=[WEATHER])
        async with daemon.client.chat.completions.stream(model="default", messages=HI, tools=[WEATHER]) as stream:
            kinds = [event.type async for event in stream]
            streamed = await stream.get_final_completion()
        assert "content.delta" in kinds

        def with_the_sync_client() -> ChatCompletion:
            client = openai.OpenAI(base_url=daemon.url, api_key="none", _strict_response_validation=True, max_retries=0)
            with (
                client,
                client.chat.completions.stream(model="default", messages=HI, tools=[WEATHER]) as stream,
            ):
                return stream.get_final_completion()

        for other in (streamed, await asyncio.to_thread(with_the_sync_client)):
            one, two = plain.choices[0], other.choices[0]
            assert (one.finish_reason, one.message.content) == (two.finish_reason, two.message.content)
            assert one.finish_reason == "tool_calls"
            calls = [[json.loads(call.function.arguments) for call in c.message.tool_calls or []] for c in (one, two)]
            assert calls == [[{"city": "Köln"}, {"city": "Bonn"}]] * 2


async def test_tool_call_deltas_carry_their_index_and_one_id_each() -> None:
    async with running(Turn(Call("weather", {"city": "Paris"}), Call("sql", {"input": "SELECT 1"}))) as daemon:
        found = await chunks(daemon, tools=[WEATHER, SQL])
        deltas = [call for chunk in found for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
        first, second = ([call for call in deltas if call["index"] == index] for index in (0, 1))
        assert len(first) + len(second) == len(deltas)
        assert [call for call in deltas if "id" in call] == [first[0], second[0]]
        assert "".join(call["function"]["arguments"] for call in first) == '{"city": "Paris"}'
        assert "".join(call["custom"]["input"] for call in second) == "SELECT 1"
        assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_calls_and_their_answers_are_the_models_history() -> None:
    async with running(Turn(Call("weather", {"city": "Rome"}), Call("sql", {"input": "x"})), Turn("Sunny.")) as daemon:
        first = await ask(daemon, tools=[WEATHER, SQL])
        message = first["choices"][0]["message"]
        assert message["content"] is None
        assert [call["type"] for call in message["tool_calls"]] == ["function", "custom"]
        answers = [
            {"role": "tool", "tool_call_id": call["id"], "content": text}
            for call, text in zip(
                message["tool_calls"], ("20 degrees", [{"type": "text", "text": "1 row"}]), strict=True
            )
        ]
        second = await ask(daemon, [*HI, message, *answers], tools=[WEATHER, SQL])
        assert second["choices"][0]["message"]["content"] == "Sunny."
        told = daemon.model.requests[1]["messages"]
        assert [entry["role"] for entry in told] == ["user", "assistant", "tool", "tool"]
        assert told[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Rome"}'}
        assert [entry["content"] for entry in told[2:]] == ["20 degrees", "1 row"]


async def test_length_and_content_filter_are_finish_reasons() -> None:
    async with running(Turn("cut", finish="length"), Turn("no", finish="content_filter")) as daemon:
        cut = await ask(daemon, max_completion_tokens=1)
        assert cut["choices"][0]["finish_reason"] == "length"
        assert daemon.model.requests[0]["max_tokens"] == 1
        assert (await chunks(daemon))[-1]["choices"][0]["finish_reason"] == "content_filter"


async def test_reasoning_is_told_beside_the_answer_and_taken_back() -> None:
    async with running(
        Turn(Reasoning("hmm, well", chunk=4), "Yes."), Turn(Reasoning("hm"), "Yes."), Turn("Ok"), Turn("Ok")
    ) as daemon:
        message = (await ask(daemon))["choices"][0]["message"]
        assert (message["content"], message["reasoning_content"]) == ("Yes.", "hmm, well")
        found = await chunks(daemon)
        assert joined(found, field="reasoning_content") == "hm"
        await ask(daemon, [*HI, message, *HI])
        theirs = {"role": "assistant", "content": "Yes.", "reasoning": "hmm, well"}  # of vLLM and Ollama
        await ask(daemon, [*HI, theirs, *HI])
        for request in daemon.model.requests[2:]:
            assert request["messages"][1]["reasoning_content"] == "hmm, well"


async def test_log_probabilities_come_with_bytes() -> None:
    entry = {"token": "Hé", "logprob": -0.1, "bytes": [72, 195, 169], "top_logprobs": []}
    entry["top_logprobs"] = [{"token": "Hé", "logprob": -0.1, "bytes": [72, 195, 169]}]
    choice = {"index": 0, "delta": {"content": "Hé"}, "logprobs": {"content": [entry]}, "finish_reason": None}
    line = "data: " + json.dumps({"choices": [choice]})
    async with running(Turn(Raw(line)), Turn(Raw(line))) as daemon:
        plain = await ask(daemon, logprobs=True, top_logprobs=1)
        assert plain["choices"][0]["logprobs"]["content"] == [entry]
        found = await chunks(daemon, logprobs=True, top_logprobs=1)
        assert [e for c in found for e in (c["choices"][0]["logprobs"] or {}).get("content", [])] == [entry]
        assert (daemon.model.requests[0]["logprobs"], daemon.model.requests[0]["top_logprobs"]) == (True, 1)


async def test_n_makes_that_many_choices() -> None:
    async with running(*[Turn(Text("yes yes", chunk=2))] * 6) as daemon:
        plain = await ask(daemon, n=3, seed=7)
        assert [choice["index"] for choice in plain["choices"]] == [0, 1, 2]
        assert {choice["message"]["content"] for choice in plain["choices"]} == {"yes yes"}
        assert sorted(request["seed"] for request in daemon.model.requests) == [7, 8, 9]
        assert plain["usage"]["prompt_tokens"] == 300
        async with daemon.client.chat.completions.stream(model="default", messages=HI, n=3) as stream:
            async for _ in stream:
                pass
            final = await stream.get_final_completion()
        assert [choice.message.content for choice in final.choices] == ["yes yes"] * 3


async def test_every_option_reaches_the_engine() -> None:
    options: dict[str, Any] = {
        "temperature": 0.3,
        "top_p": 0.9,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "seed": 11,
        "stop": ["END", "\n\n"],
        "logit_bias": {"42": -100},
        "reasoning_effort": "low",
        "top_k": 40,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "max_tokens": 33,
        "parallel_tool_calls": False,
        "tools": [WEATHER, SQL],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
    }
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    shape = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    async with running(Turn("ok"), Turn('{"a": "b"}')) as daemon:
        await ask(daemon, **options)
        sent = daemon.model.requests[0]
        for name in set(options) - {"tools", "tool_choice"}:
            assert sent[name] == options[name], name
        assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
        await ask(daemon, response_format=shape)
        assert daemon.model.requests[1]["response_format"] == shape


async def test_files_and_names_reach_the_model() -> None:
    data = base64.b64encode(b"a,b\n1,2\n").decode()
    content = [
        {"type": "text", "text": "Look:"},
        {"type": "file", "file": {"filename": "x.csv", "file_data": f"data:text/csv;base64,{data}"}},
    ]
    async with running(Turn("I see.")) as daemon:
        await ask(daemon, [{"role": "user", "name": "ada", "content": content}])
        told = daemon.model.requests[0]["messages"][0]["content"]
        assert told.startswith('ada: Look:\n\n<file name="x.csv"')
        assert "1,2" in told


# ------------------------------------------------------------------ the shell


async def test_hosted_commands_are_run_inside_and_told_beside_the_answer() -> None:
    script: list[Scripted] = [
        Turn("Let me look.", shell("echo 41 > n.txt; echo found")),
        Turn(Text("It is 41.", chunk=4)),
    ]
    async with running(*script, *script, Turn("Still 41.")) as daemon:
        completion = await ask(daemon, tools=[SHELL])
        choice = completion["choices"][0]
        message = choice["message"]
        assert (message["content"], choice["finish_reason"]) == ("Let me look.\n\nIt is 41.", "stop")
        assert "tool_calls" not in message
        assert [item["type"] for item in message["skilldeck"]["output"]] == ["shell_call", "shell_call_output"]
        assert message["skilldeck"]["output"][1]["output"][0]["stdout"] == "found\n"
        async with daemon.client.chat.completions.stream(model="default", messages=HI, tools=[SHELL]) as stream:
            live = [event.chunk async for event in stream if event.type == "chunk"]
            final = (await stream.get_final_completion()).choices[0].message
        assert final.content == message["content"]
        extra: dict[str, Any] = (final.model_extra or {})["skilldeck"]
        assert [item["type"] for item in extra["output"]] == ["shell_call", "shell_call_output"]
        shown = [(chunk.choices[0].model_extra or {}).get("skilldeck") for chunk in live]
        assert [entry["item"]["type"] for entry in shown if entry] == ["shell_call", "shell_call_output"]

        # Returned as it came, the message brings back the work and its container.
        again = await ask(daemon, [*HI, message, {"role": "user", "content": "sure?"}], tools=[SHELL])
        assert again["choices"][0]["message"]["content"] == "Still 41."
        told = daemon.model.requests[-1]["messages"]
        assert [entry["role"] for entry in told] == ["system", "user", "assistant", "tool", "assistant", "user"]
        assert told[3]["content"] == "found"
        assert "\nFiles:\n- n.txt" in told[0]["content"]


async def test_a_local_shell_is_the_clients_function() -> None:
    async with running(Turn(shell("ls")), Turn(shell("ls")), Turn("done")) as daemon:
        message = (await ask(daemon, tools=[{"type": "shell"}]))["choices"][0]["message"]
        assert message["tool_calls"][0]["function"] == {"name": "shell", "arguments": '{"commands": ["ls"]}'}
        found = await chunks(daemon, tools=[{"type": "shell"}])
        deltas = [call for chunk in found for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
        assert [call["function"]["arguments"] for call in deltas] == ['{"commands": ["ls"]}']
        answer = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "a.txt"}
        await ask(daemon, [*HI, message, answer], tools=[{"type": "shell"}])
        assert daemon.model.requests[2]["messages"][-1]["content"] == "a.txt"


async def test_a_patch_of_the_clients_files_is_the_clients_function() -> None:
    arguments = {"operation": {"type": "delete_file", "path": "a.txt"}}
    async with running(Turn(Call("apply_patch", arguments))) as daemon:
        message = (await ask(daemon, tools=[{"type": "apply_patch"}]))["choices"][0]["message"]
        assert [call["function"]["name"] for call in message["tool_calls"]] == ["apply_patch"]
        assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == arguments


async def test_with_a_format_only_the_last_text_is_the_answer() -> None:
    script: list[Scripted] = [Turn("Looking.", shell("true")), Turn('{"a": 1}')]
    async with running(*script, *script) as daemon:
        shape = {"type": "json_object"}
        plain = await ask(daemon, tools=[SHELL], response_format=shape)
        assert plain["choices"][0]["message"]["content"] == '{"a": 1}'
        assert joined(await chunks(daemon, tools=[SHELL], response_format=shape)) == '{"a": 1}'


async def test_a_call_of_no_tool_is_answered_here_and_not_told_to_the_client() -> None:
    async with running(Turn(Call("nonsense", {})), Turn("Sorry.")) as daemon:
        found = await chunks(daemon, tools=[WEATHER])
        assert joined(found) == "Sorry."
        assert found[-1]["choices"][0]["finish_reason"] == "stop"
        assert not any("tool_calls" in chunk["choices"][0]["delta"] for chunk in found)


# ------------------------------------------------------------------ what is kept


async def test_stored_completions_are_listed_updated_and_deleted() -> None:
    async with running(*[Turn(str(number)) for number in range(4)]) as daemon:
        api = daemon.client.chat.completions
        made = [
            await api.create(model="default", messages=HI, store=True, metadata={"n": str(n % 2)}) for n in range(3)
        ]
        await ask(daemon)  # not stored
        assert [entry.id async for entry in api.list(limit=1)] == [entry.id for entry in made]
        assert [entry.id async for entry in api.list(order="desc", metadata={"n": "0"})] == [made[2].id, made[0].id]
        assert [entry.id async for entry in api.list(model="other")] == []
        assert await api.retrieve(made[0].id) == made[0]
        updated = await api.update(made[0].id, metadata={"new": "yes"})
        assert updated.model_extra == {"metadata": {"new": "yes"}} or updated.metadata == {"new": "yes"}
        assert (await api.delete(made[0].id)).deleted
        with pytest.raises(openai.NotFoundError):
            await api.retrieve(made[0].id)


async def test_the_messages_of_a_stored_completion_are_listed_as_they_were_sent() -> None:
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "there"}]},
    ]
    async with running(Turn("x")) as daemon:
        made = (await ask(daemon, messages, store=True))["id"]
        # Without the contract: the published schema calls every message the assistant's.
        async with httpx.AsyncClient(base_url=daemon.url) as http:
            page = (await http.get(f"/chat/completions/{made}/messages", params={"limit": 1})).json()
            assert page["has_more"]
            after = page["last_id"]
            rest = (await http.get(f"/chat/completions/{made}/messages", params={"after": after})).json()
        assert [(entry["role"], entry["content"]) for entry in page["data"] + rest["data"]] == [
            ("system", "Be brief."),
            ("user", "hi\nthere"),
        ]
        assert rest["data"][0]["content_parts"] == messages[1]["content"]


async def test_a_streamed_completion_is_stored_before_its_end_is_told() -> None:
    async with running(Turn(Text("abc", chunk=1))) as daemon:
        found = await chunks(daemon, store=True, metadata={"a": "b"})
        kept = await daemon.client.chat.completions.retrieve(found[0]["id"])
        assert kept.choices[0].message.content == "abc"


# ------------------------------------------------------------------ what goes wrong


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, "messages[0].tool_call_id"),
    (
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                *HI,
            ]
        },
        "messages",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "%%"}}]}]},
        "messages[0].content[0].file.file_data",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]},
        "messages[0].content[0].image_url.url",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x"}}]}]},
        "messages[0].content[0].type",
    ),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}
            ]
        },
        "messages",
    ),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "banana"}]}, "tools[0].type"),
    ({"tools": [{"type": "shell", "environment": {"type": "moon"}}]}, "tools[0].environment.type"),
    (
        {
            "tools": [
                {
                    "type": "custom",
                    "custom": {"name": "x", "format": {"type": "grammar", "grammar": {"syntax": "x"}}},
                }
            ]
        },
        "tools[0].custom.format.grammar.syntax",
    ),
    ({"tools": [WEATHER, WEATHER]}, "tools[1]"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}, "tools": [WEATHER]}, "tool_choice"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"temperature": 3}, "temperature"),
    ({"top_p": "x"}, "top_p"),
    ({"stop": ["a"] * 65}, "stop"),
    ({"stop": [""]}, "stop"),
    ({"stop": 4}, "stop"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1"),
    ({"logit_bias": {"1": None}}, "logit_bias.1"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
    ({"modalities": ["audio"]}, "modalities[0]"),
    ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"metadata": {"a": 1}, "store": True}, "metadata.a"),
    ({"min_p": 2}, "min_p"),
    ({"reasoning_effort": "huge"}, "reasoning_effort"),
]


async def test_what_is_wrong_is_refused_by_the_name_it_was_sent_under() -> None:
    async with running() as daemon:
        for body, param in WRONG:
            error = await refused(daemon, **{"messages": HI, **body})
            assert error["param"] == param, body
            assert "input[" not in error["message"], body


async def test_as_many_tools_as_several_mcp_servers_have_are_taken() -> None:
    tools = [{"type": "function", "function": {"name": f"t{number}"}} for number in range(200)]
    async with running(Turn("ok")) as daemon:
        await ask(daemon, tools=tools)
        assert len(daemon.model.requests[0]["tools"]) == 200


async def test_an_unknown_model_file_or_skill_is_not_found() -> None:
    async with running() as daemon:
        post = daemon.http.post
        answer = await post("/chat/completions", json={"model": "gpt-9", "messages": HI})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        content = [{"type": "file", "file": {"file_id": "file-none"}}]
        answer = await post(
            "/chat/completions", json={"model": "default", "messages": [{"role": "user", "content": content}]}
        )
        assert answer.status_code == 404
        assert answer.json()["error"]["param"] == "messages[0].content[0].file.file_id"


async def test_a_model_that_fails_is_an_error_and_not_an_answer() -> None:
    async with running(Fail(400, "bad words"), Turn("so", Drop())) as daemon:
        with pytest.raises(openai.BadRequestError):
            await daemon.client.chat.completions.create(model="default", messages=HI)
        with pytest.raises(openai.APIError):
            async for _ in await daemon.client.chat.completions.create(model="default", messages=HI, stream=True):
                pass


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_cancels_all_choices(stream: bool) -> None:
    async with running(*[Turn("so far ", Endless())] * 2) as daemon:
        body = {"model": "default", "messages": HI, "stream": stream, "n": 2, "store": True}
        request = asyncio.create_task(daemon.http.post("/chat/completions", json=body))
        await daemon.model.until(lambda model: len(model.requests) == 2)
        request.cancel()
        await daemon.model.until(lambda model: model.disconnects == 2)
        await until(lambda: not daemon.daemon.services.runs.active)
        assert (await daemon.http.get("/chat/completions")).json()["data"] == []


async def test_a_call_that_the_limit_cut_off_ends_as_length() -> None:
    cut = Turn(Call("weather", '{"city": "Ro'), finish="length")
    async with running(cut, cut) as daemon:
        choice = (await ask(daemon, tools=[WEATHER]))["choices"][0]
        assert choice["finish_reason"] == "length"
        assert choice["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Ro'}
        assert (await chunks(daemon, tools=[WEATHER]))[-1]["choices"][0]["finish_reason"] == "length"

"""Function and custom tools: the client's own, alone and mixed with the hosted shell."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from pydantic import BaseModel

from support.daemon import SHELL, running
from support.scripted_model import Call, Text, Turn, shell

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "Weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
NOTE: dict[str, Any] = {"type": "custom", "name": "note", "description": "Writes a note."}


async def test_a_function_call_ends_the_response_and_its_output_continues_it() -> None:
    async with running(Turn("I look.", Call("weather", {"city": "Graz"})), Turn("Sunny.")) as daemon:
        first = (await daemon.stream(tools=[WEATHER]))[-1]["response"]
        call = first["output"][-1]
        assert (call["type"], call["name"], call["arguments"]) == ("function_call", "weather", '{"city": "Graz"}')
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sun"}
        second = await daemon.respond([output], previous_response_id=first["id"], tools=[WEATHER])
        assert second["output"][0]["content"][0]["text"] == "Sunny."
        sent = daemon.model.requests[1]["messages"]
        assert sent[1]["content"] == "I look."
        assert sent[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Graz"}'}
        assert (sent[2]["role"], sent[2]["content"]) == ("tool", "sun")


async def test_parallel_function_calls_are_items_of_their_own() -> None:
    turn = Turn(Call("weather", {"city": "Graz"}), Call("weather", {"city": "Linz"}))
    async with running(turn) as daemon:
        events = await daemon.stream(tools=[WEATHER])
        calls = events[-1]["response"]["output"]
        assert [item["arguments"] for item in calls] == ['{"city": "Graz"}', '{"city": "Linz"}']
        assert calls[0]["call_id"] != calls[1]["call_id"]


async def test_a_custom_tool_gets_free_text() -> None:
    # The remote engine declares a custom tool as a function with one string.
    async with running(Turn(Call("note", {"input": "remember\nthis"})), Turn("ok")) as daemon:
        first = (await daemon.stream(tools=[NOTE]))[-1]["response"]
        call = first["output"][0]
        assert (call["type"], call["input"]) == ("custom_tool_call", "remember\nthis")
        output = {"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "noted"}
        await daemon.respond([output], previous_response_id=first["id"], tools=[NOTE])
        assert daemon.model.requests[1]["messages"][-1]["content"] == "noted"


async def test_hosted_and_client_calls_in_one_turn_run_the_hosted_ones_and_leave_the_rest() -> None:
    turn = Turn(Call("weather", {"city": "Graz"}), shell("echo hosted"), Call("note", {"input": "n"}))
    async with running(turn, Turn("All done.")) as daemon:
        tools = [WEATHER, SHELL, NOTE]
        first = (await daemon.stream(tools=tools))[-1]["response"]
        kinds = [item["type"] for item in first["output"]]
        assert kinds == ["function_call", "shell_call", "custom_tool_call", "shell_call_output"]
        answers = [
            {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": "x"}
            for item in first["output"]
            if item["type"] in ("function_call", "custom_tool_call")
        ]
        second = await daemon.respond(answers, previous_response_id=first["id"], tools=tools)
        assert second["output"][0]["content"][0]["text"] == "All done."
        sent = daemon.model.requests[1]["messages"]
        assert len(sent[2]["tool_calls"]) == 3
        assert [message["role"] for message in sent[3:]] == ["tool", "tool", "tool"]


async def test_arguments_that_are_not_json_reach_the_client_as_they_are() -> None:
    async with running(Turn(Call("weather", '{"city": '))) as daemon:
        response = (await daemon.stream(tools=[WEATHER]))[-1]["response"]
        assert response["output"][0]["arguments"] == '{"city": '


async def test_a_call_of_an_unknown_function_is_answered_here_and_the_model_goes_on() -> None:
    async with running(Turn(Call("wether", {})), Turn("Sorry.")) as daemon:
        response = (await daemon.stream(tools=[WEATHER]))[-1]["response"]
        # No client could carry it out, so no client is shown it; the model reads it here and in what continues this.
        assert [item["type"] for item in response["output"]] == ["message"]
        call, answer = daemon.model.requests[1]["messages"][-2:]
        assert call["tool_calls"][0]["function"]["name"] == "wether"
        assert "There is: weather" in answer["content"]
        daemon.model.then(Turn("Sunny."))
        await daemon.respond("Again", tools=[WEATHER], previous_response_id=response["id"])
        assert "There is: weather" in str(daemon.model.requests[2]["messages"])


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("required", "required"),
        ({"type": "function", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}),
        ({"type": "shell"}, {"type": "function", "function": {"name": "shell"}}),
    ],
)
async def test_a_forced_choice_holds_for_the_first_turn_only(choice: Any, sent: Any) -> None:
    async with running(Turn(shell("echo 1")), Turn("ok")) as daemon:
        response = await daemon.respond(tools=[SHELL, WEATHER], tool_choice=choice)
        assert daemon.model.requests[0]["tool_choice"] == sent
        assert daemon.model.requests[1].get("tool_choice", "auto") == "auto" or "tools" in daemon.model.requests[1]
        assert response["tool_choice"] == choice


async def test_tool_choice_none_withholds_the_tools_and_allowed_tools_narrows_them() -> None:
    async with running(Turn("a"), Turn("b")) as daemon:
        await daemon.respond(tools=[WEATHER], tool_choice="none")
        assert "tools" not in daemon.model.requests[0]
        allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]}
        response = await daemon.respond(tools=[WEATHER, NOTE, SHELL], tool_choice=allowed)
        assert response["tool_choice"] == allowed
        assert [tool["function"]["name"] for tool in daemon.model.requests[1]["tools"]] == ["weather"]


async def test_parallel_tool_calls_is_passed_on() -> None:
    async with running(Turn("a")) as daemon:
        await daemon.respond(tools=[WEATHER], parallel_tool_calls=False)
        assert daemon.model.requests[0]["parallel_tool_calls"] is False


async def test_the_sdk_parses_structured_output_and_function_arguments() -> None:
    class City(BaseModel):
        name: str
        inhabitants: int

    text = '{"name": "Graz", "inhabitants": 300000}'
    async with running(Turn(Text(text, chunk=5)), Turn(Call("City", text))) as daemon:
        parsed = await daemon.client.responses.parse(model="default", input="Which?", text_format=City)
        assert parsed.output_parsed == City(name="Graz", inhabitants=300000)
        tool: Any = {**openai.pydantic_function_tool(City)["function"], "type": "function"}
        called = await daemon.client.responses.parse(model="default", input="Which?", tools=[tool])
        assert called.output[0].parsed_arguments == {"name": "Graz", "inhabitants": 300000}  # type: ignore[union-attr]


@pytest.mark.parametrize("dangling", ["output", "call"])
async def test_calls_and_outputs_must_match(dangling: str) -> None:
    items: dict[str, Any] = {
        "output": {"type": "function_call_output", "call_id": "call_1", "output": "x"},
        "call": {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
    }
    async with running(strict=False) as daemon:
        body = {"model": "default", "input": [{"role": "user", "content": "x"}, items[dangling]]}
        answer = await daemon.http.post("/responses", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "input"
        assert "call_1" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("tool", "written", "kind", "field", "kept"),
    [
        (WEATHER, Call("weather", '{"city": "Gr'), "function_call", "arguments", '{"city": "Gr'),
        (WEATHER, Call("weather", ""), "function_call", "arguments", ""),
        (NOTE, Call("note", '{"input": "remember th'), "custom_tool_call", "input", "remember th"),
    ],
)
async def test_a_call_that_the_limit_cut_off_is_incomplete_and_holds_what_was_written(
    tool: dict[str, Any], written: Call, kind: str, field: str, kept: str
) -> None:
    cut = Turn(Call("weather", {"city": "Linz"}), written, finish="length")
    async with running(cut, cut) as daemon:
        tools = [WEATHER] if tool is WEATHER else [WEATHER, tool]
        events = await daemon.stream(tools=tools, tool_choice="required", max_output_tokens=20)
        whole = await daemon.respond(tools=tools, tool_choice="required", max_output_tokens=20)
        done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
        assert (events[-1]["type"], done) == ("response.incomplete", events[-1]["response"]["output"])
        for response in (events[-1]["response"], whole):
            assert (response["status"], response["incomplete_details"]) == (
                "incomplete",
                {"reason": "max_output_tokens"},
            )
            first, last = response["output"]
            assert (first["status"], first["arguments"]) == ("completed", '{"city": "Linz"}')
            assert (last["type"], last["status"], last[field]) == (kind, "incomplete", kept)

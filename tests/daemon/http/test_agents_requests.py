"""What agent programs send beside what is served: grouped tools, hosted tools that are not here, names of models."""

from __future__ import annotations

from typing import Any

import pytest

from support.daemon import SHELL, running
from support.scripted_model import Call, Turn

FUNCTION: dict[str, Any] = {"type": "function", "name": "look", "parameters": {"type": "object"}}
GROUP: dict[str, Any] = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers.",
    "tools": [
        {**FUNCTION, "defer_loading": True, "allowed_callers": ["direct", "programmatic"]},
        {"type": "custom", "name": "note"},
    ],
}
HOSTED = ["web_search", "image_generation", "file_search", "tool_search", "computer_use_preview", "local_shell"]


def tools_of(request: dict[str, Any]) -> list[str]:
    return [tool[tool["type"]]["name"] for tool in request["tools"]]


async def test_a_member_of_a_namespace_is_called_and_comes_back_with_both_names() -> None:
    async with running(Turn(Call("crm__look", {"id": 1}), Call("crm__note", "n")), Turn("ok")) as daemon:
        tools = [FUNCTION, GROUP]  # one name, once alone and once in the group
        events = await daemon.stream(tools=tools)
        response = events[-1]["response"]
        assert tools_of(daemon.model.requests[0]) == ["look", "crm__look", "crm__note"]
        call = response["output"][0]
        assert (call["type"], call["name"], call["namespace"], call["arguments"]) == (
            "function_call",
            "look",
            "crm",
            '{"id": 1}',
        )
        done = [event for event in events if event["type"] == "response.function_call_arguments.done"]
        assert done[0]["name"] == "look"
        assert [tool["type"] for tool in response["tools"]] == ["function", "namespace"]
        assert [tool["name"] for tool in response["tools"][1]["tools"]] == ["look", "note"]
        answers = [
            {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": "done"}
            for item in response["output"]
        ]
        await daemon.respond([{"role": "user", "content": "go"}, *response["output"], *answers], tools=tools)
        told = daemon.model.requests[1]["messages"][1]["tool_calls"]
        assert [entry[entry["type"]]["name"] for entry in told][:1] == ["crm__look"]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ({"type": "function", "name": "look"}, "crm__look"),
        ({"type": "function", "name": "crm__look"}, "crm__look"),
    ],
)
async def test_a_choice_names_a_member_by_either_name(choice: dict[str, Any], sent: str) -> None:
    async with running(Turn("ok")) as daemon:
        await daemon.respond(tools=[GROUP, SHELL], tool_choice=choice)
        assert daemon.model.requests[0]["tool_choice"] == {"type": "function", "function": {"name": sent}}


async def test_a_namespace_that_ends_with_the_joint_is_joined_once() -> None:
    async with running(Turn("ok")) as daemon:
        await daemon.respond(tools=[{**GROUP, "name": "mcp__crm__"}])
        assert tools_of(daemon.model.requests[0]) == ["mcp__crm__look", "mcp__crm__note"]


@pytest.mark.parametrize("type", HOSTED)
async def test_a_hosted_tool_that_is_not_here_is_left_out_beside_others(type: str) -> None:
    async with running(Turn("ok")) as daemon:
        body = {"model": "default", "input": "go", "tools": [FUNCTION, {"type": type}]}
        answer = await daemon.http.post("/responses", json=body)
        assert (answer.status_code, answer.headers["x-skilldeck-left-out"]) == (200, type)
        assert [tool["type"] for tool in answer.json()["tools"]] == ["function"]
        assert tools_of(daemon.model.requests[0]) == ["look"]


async def test_what_is_left_out_is_refused_where_it_is_demanded_or_alone() -> None:
    async with running(Turn("ok"), Turn("ok")) as daemon:
        absent = {"type": "image_generation"}
        allowed = {"type": "allowed_tools", "mode": "required", "tools": [absent]}
        for tools, choice, param in (
            ([absent], "auto", "tools[0].type"),
            ([FUNCTION, absent], absent, "tools[1].type"),
            ([FUNCTION, absent], allowed, "tools[1].type"),
            ([FUNCTION, {"type": "web_search", "external_web_access": False}], {"type": "web_search"}, None),
        ):
            body = {"model": "default", "input": "go", "tools": tools, "tool_choice": choice}
            answer = await daemon.http.post("/responses", json=body)
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, param or "tools[1].external_web_access")
        cached = {"type": "web_search", "external_web_access": False}
        await daemon.respond(tools=[FUNCTION, cached], tool_choice="required")
        both = {"type": "allowed_tools", "mode": "auto", "tools": [absent, {"type": "function", "name": "look"}]}
        await daemon.respond(tools=[FUNCTION, absent], tool_choice=both)
        assert [tools_of(request) for request in daemon.model.requests] == [["look"], ["look"]]


async def test_calls_of_other_servers_are_read_without_an_id_and_one_token_may_be_asked_for() -> None:
    async with running(Turn("ok")) as daemon:
        items: list[dict[str, Any]] = [
            {"role": "user", "content": "go"},
            {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}},
            {"type": "web_search_call", "id": None, "action": {"type": "search", "query": "y"}},
            {"type": "code_interpreter_call", "id": None, "code": "1", "container_id": "c", "outputs": None},
            {"role": "user", "content": "on"},
        ]
        response = await daemon.respond(items, max_output_tokens=1)
        listed = (await daemon.http.get(f"/responses/{response['id']}/input_items?order=asc")).json()["data"]
        assert [item["id"].split("_")[0] for item in listed[1:4]] == ["ws", "ws", "ci"]
        assert daemon.model.requests[0]["max_tokens"] == 1


# ------------------------------------------------------------------ names of models


async def test_aliases_are_further_names_of_one_model() -> None:
    async with running(Turn("a"), Turn("b"), aliases={"gpt-5": "scripted", "fast": "default", "gone": "x"}) as daemon:
        for name in ("gpt-5", "fast"):
            answer = await daemon.http.post("/responses", json={"model": name, "input": "go"})
            assert (answer.status_code, answer.json()["model"]) == (200, "scripted")
            assert "x-skilldeck-model" not in answer.headers
            assert (await daemon.http.get(f"/models/{name}")).json()["id"] == name
        names = [entry["id"] for entry in (await daemon.http.get("/models")).json()["data"]]
        assert names == ["scripted", "gpt-5", "fast"]
        refused = await daemon.http.post("/responses", json={"model": "gone", "input": "go"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


async def test_any_model_answers_to_every_name_and_says_so() -> None:
    async with running(Turn("a"), Turn("b"), Turn("c"), any_model=True) as daemon:
        said = [{"role": "user", "content": "go"}]
        for path, body in (("/responses", {"input": "go"}), ("/chat/completions", {"messages": said})):
            answer = await daemon.http.post(path, json={"model": "gpt-99 ü", **body})
            assert (answer.status_code, answer.headers["x-skilldeck-model"]) == (200, "scripted")
            assert answer.json()["model"] == "scripted"
        known = await daemon.http.post("/responses", json={"model": "scripted", "input": "go"})
        assert "x-skilldeck-model" not in known.headers
        with pytest.raises(Exception, match="not served"):  # a name that is misspelt unloads nothing
            await daemon.daemon.services.models.unload("scriptde")


async def test_an_unknown_name_is_a_404_that_names_the_cure() -> None:
    async with running() as daemon:
        answer = await daemon.http.post("/responses", json={"model": "gpt-99", "input": "go"})
        assert answer.status_code == 404
        assert "--any-model" in answer.json()["error"]["message"]

"""What agent programs send that is not quite this server's: images for a text model, answers they begin, fields and
items of other servers, schemas that no grammar holds. Each goes on, and what was done otherwise is said."""

from __future__ import annotations

import json
from typing import Any

import pytest
import websockets

from skilldeck_daemon.store.tables.documents import dumps, loads
from support.daemon import Running, running
from support.scripted_model import Call, Turn
from support.stored import rewritten

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
URL = f"data:image/png;base64,{PNG}"
NOTE = "(image not shown: this model reads text only)"
LOOK: dict[str, Any] = {"type": "function", "name": "look", "parameters": {"type": "object"}}
CALLED: dict[str, Any] = {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"}
USER = {"role": "user", "content": "go"}


async def post(daemon: Running, path: str, status: int = 200, **body: Any) -> Any:
    answer = await daemon.http.post(path, json={"model": "default", **body})
    assert answer.status_code == status, answer.text
    return answer


# ------------------------------------------------------------------ images for a model that reads text


async def test_an_image_in_a_result_is_a_note_on_every_surface() -> None:
    chat_call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    chat_image = {"type": "image_url", "image_url": {"url": URL}}
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    block = {"type": "image", "source": source}
    requests: list[tuple[str, dict[str, Any]]] = [
        (
            "/responses",
            {
                "input": [
                    USER,
                    CALLED,
                    {
                        "type": "function_call_output",
                        "call_id": "a",
                        "output": [{"type": "input_image", "image_url": URL}],
                    },
                ]
            },
        ),
        (
            "/chat/completions",
            {
                "messages": [
                    USER,
                    {"role": "assistant", "tool_calls": [chat_call]},
                    {"role": "tool", "tool_call_id": "a", "content": [chat_image]},
                ]
            },
        ),
        (
            "/messages",
            {
                "max_tokens": 16,
                "messages": [
                    USER,
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "look", "input": {}}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [block]}]},
                ],
            },
        ),
    ]
    async with running(*[Turn("ok")] * 3) as daemon:
        for path, body in requests:
            await post(daemon, path, **body)
            told = daemon.model.requests[-1]["messages"][-1]
            assert (told["role"], told["content"]) == ("tool", NOTE)


async def test_an_image_of_the_users_is_refused_while_it_is_new_and_a_note_later() -> None:
    image = {
        "role": "user",
        "content": [{"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {"url": URL}}],
    }
    async with running(Turn("ok")) as daemon:
        refused = (await post(daemon, "/chat/completions", 400, messages=[image])).json()["error"]
        assert "does not read images" in refused["message"]
        await post(daemon, "/chat/completions", messages=[image, {"role": "assistant", "content": "No."}, USER])
        assert daemon.model.requests[0]["messages"][0]["content"] == f"Look.\n{NOTE}"


# ------------------------------------------------------------------ answers that the request begins

BEGUN = [USER, {"role": "assistant", "content": "The answer is"}]


@pytest.mark.parametrize("path", ["/chat/completions", "/messages"])
async def test_the_last_message_of_the_assistants_is_gone_on_with(path: str) -> None:
    more = {"max_tokens": 16} if path == "/messages" else {}
    async with running(Turn(" 42.")) as daemon:
        answer = (await post(daemon, path, messages=BEGUN, **more)).json()
        text = answer["content"][0]["text"] if path == "/messages" else answer["choices"][0]["message"]["content"]
        assert text.strip() == "42."
        sent = daemon.model.requests[0]
        assert sent["messages"][-1] == {"role": "assistant", "content": "The answer is"}
        assert (sent["continue_final_message"], sent["add_generation_prompt"]) == (True, False)


async def test_what_begins_an_answer_is_one_message_with_its_call() -> None:
    async with running(Turn(" that", Call("no_such_tool", {})), Turn("ok")) as daemon:
        tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
        await post(daemon, "/chat/completions", messages=BEGUN, tools=[tool])
        second = daemon.model.requests[1]
        assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool"]
        assert second["messages"][1]["content"] == "The answer is that"
        assert "continue_final_message" not in second


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [USER], "continue_final_message": True}, "continue_final_message"),
        ({"messages": BEGUN, "continue_final_message": True, "add_generation_prompt": True}, "add_generation_prompt"),
        ({"messages": BEGUN, "response_format": {"type": "json_object"}}, "response_format"),
    ],
)
async def test_a_beginning_that_cannot_be_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    async with running() as daemon:
        assert (await post(daemon, "/chat/completions", 400, **body)).json()["error"]["param"] == param


async def test_a_new_answer_after_the_assistants_is_made_where_it_is_asked_for() -> None:
    async with running(Turn("ok"), Turn("ok")) as daemon:
        await post(daemon, "/chat/completions", messages=BEGUN, add_generation_prompt=True)
        await post(daemon, "/chat/completions", messages=BEGUN, continue_final_message=False)
        assert all("continue_final_message" not in request for request in daemon.model.requests)


@pytest.mark.parametrize("path", ["/responses", "/chat/completions", "/messages"])
async def test_variables_of_the_chat_template_reach_the_models_server(path: str) -> None:
    said = {"input": "go"} if path == "/responses" else {"messages": [USER], "max_tokens": 16}
    async with running(Turn("ok")) as daemon:
        await post(daemon, path, **said, chat_template_kwargs={"enable_thinking": False})
        assert daemon.model.requests[0]["chat_template_kwargs"] == {"enable_thinking": False}
        error = (await post(daemon, path, 400, **said, chat_template_kwargs={"messages": []})).json()["error"]
        assert error["param"] == "chat_template_kwargs.messages"


# ------------------------------------------------------------------ fields nobody has


async def test_responses_refuse_a_misspelt_field_with_the_nearest_one() -> None:
    async with running(Turn("ok")) as daemon:
        error = (await post(daemon, "/responses", 400, input="go", max_ouput_tokens=5)).json()["error"]
        assert (error["param"], error["code"]) == ("max_ouput_tokens", "unknown_parameter")
        assert "Did you mean 'max_output_tokens'?" in error["message"]
        await post(daemon, "/responses", input="go", client_metadata={"session": "x"}, flavour=None)


@pytest.mark.parametrize("path", ["/chat/completions", "/messages"])
async def test_chat_and_messages_say_which_fields_they_ignore(path: str) -> None:
    async with running(Turn("ok"), Turn("ok")) as daemon:
        body = {"messages": [USER], "max_tokens": 16}
        answer = await post(daemon, path, **body, max_ouput_tokens=5, flavour="x")
        assert answer.headers["x-skilldeck-ignored"] == "max_ouput_tokens, flavour"
        assert "x-skilldeck-ignored" not in (await post(daemon, path, **body)).headers


@pytest.mark.parametrize(
    ("field", "value", "own"),
    [("input", "go", "messages"), ("instructions", "x", "messages"), ("max_output_tokens", 5, "max_completion_tokens")],
)
async def test_chat_names_its_own_field_for_those_of_responses(field: str, value: Any, own: str) -> None:
    async with running() as daemon:
        error = (await post(daemon, "/chat/completions", 400, messages=[USER], **{field: value})).json()["error"]
        assert error["param"] == field
        assert repr(own) in error["message"]


# ------------------------------------------------------------------ items that other servers made


async def test_calls_of_hosted_tools_that_are_not_here_are_read() -> None:
    action = {"type": "exec", "command": ["ls"], "env": {}}
    items = [
        USER,
        {"type": "local_shell_call", "id": "ls_1", "call_id": "s", "action": action, "status": "completed"},
        {"type": "local_shell_call_output", "id": "s", "output": "a.txt"},
        {"type": "tool_search_call", "call_id": None, "execution": "server", "arguments": {"query": "crm"}},
        {
            "type": "tool_search_output",
            "call_id": None,
            "execution": "server",
            "tools": [{"type": "function", "name": "f"}],
        },
        {"type": "file_search_call", "id": "fs_1", "queries": ["x"], "status": "completed", "results": None},
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PNG},
        USER,
    ]
    async with running(Turn("ok")) as daemon:
        await post(daemon, "/responses", input=items)
        told = daemon.model.requests[0]["messages"]
        assert [message["role"] for message in told] == [
            "user",
            "assistant",
            "tool",
            "assistant",
            "tool",
            "assistant",
            "user",
        ]
        assert told[1]["tool_calls"][0]["function"] == {"name": "local_shell", "arguments": '{"command": ["ls"]}'}
        assert [told[2]["content"], told[4]["content"]] == ["a.txt", "found: f"]
        assert told[5]["content"] == "(files were searched for: x)(an image was made)"


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}, {"content": []}])
async def test_an_empty_turn_of_the_assistants_is_an_empty_turn(content: dict[str, Any]) -> None:
    """What a program keeps of an answer that was stopped before it began must not end its session."""
    history = [USER, {"role": "assistant", **content}, {"role": "user", "content": "and now?"}]
    async with running(Turn("ok"), Turn("ok")) as daemon:
        await post(daemon, "/chat/completions", messages=history)
        await post(daemon, "/responses", input=history)
        for request in daemon.model.requests:
            assert request["messages"][-1]["content"] == "and now?"


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}, {"content": []}])
async def test_a_tool_that_returned_nothing_and_a_call_without_its_type_are_read(content: dict[str, Any]) -> None:
    call = {"id": "a", "function": {"name": "look", "arguments": "{}"}}
    history = [USER, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "a", **content}]
    async with running(Turn("ok")) as daemon:
        await post(daemon, "/chat/completions", messages=history)
        asked, told = daemon.model.requests[0]["messages"][1:]
        assert (asked["tool_calls"][0]["function"]["name"], told["role"], told["content"]) == ("look", "tool", "")


async def test_a_tool_that_a_clients_own_search_found_is_told() -> None:
    found = {"type": "tool_reference", "tool_name": "look"}
    history = [
        USER,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "search", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [found]}]},
    ]
    async with running(Turn("ok")) as daemon:
        await post(daemon, "/messages", messages=history, max_tokens=16)
        assert daemon.model.requests[0]["messages"][-1]["content"] == "found: look"


# ------------------------------------------------------------------ said over a WebSocket, and of schemas


async def test_a_websocket_says_what_is_left_out_with_the_first_event() -> None:
    async with running(Turn("ok"), any_model=True) as daemon:
        url = daemon.url.replace("http", "ws") + "/responses"
        async with websockets.connect(url, proxy=None, open_timeout=60) as ws:
            body = {"model": "gpt-99", "input": "go", "tools": [LOOK, {"type": "image_generation"}]}
            await ws.send(json.dumps({"type": "response.create", **body}))
            first, second = json.loads(await ws.recv()), json.loads(await ws.recv())
    assert first["skilldeck"] == {"left-out": "image_generation", "model": "scripted"}
    assert "skilldeck" not in second


async def test_a_schema_that_no_grammar_holds_is_named_in_a_header() -> None:
    behind = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(?<=x)y$"}}}
    plain = {"type": "object", "properties": {"a": {"type": "string"}}}
    tools = [
        {"type": "function", "name": "behind", "parameters": behind, "strict": False},
        {"type": "function", "name": "plain", "parameters": plain, "strict": False},
    ]
    async with running(load=False, model="tiny") as daemon:
        await daemon.daemon.services.models.load("tiny")
        body = {"input": "hi", "tools": tools, "max_output_tokens": 16}
        assert (await post(daemon, "/responses", **body)).headers["x-skilldeck-loosened"] == "behind"
        answer = await post(daemon, "/responses", **{**body, "tools": tools[1:]})
        assert "x-skilldeck-loosened" not in answer.headers


# ------------------------------------------------------------------ what was stored before halves were replaced


def test_stored_halves_of_surrogate_pairs_are_read_as_what_they_became() -> None:
    assert loads(dumps({"a\ud83d": "x\ude00 \ud83d\ude00"})) == {"a\ufffd": "x\ufffd 😀"}
    assert loads(dumps(["\\ud83d"])) == ["\\ud83d"]


async def test_a_response_stored_with_half_a_pair_is_returned() -> None:
    async with running(Turn("ok")) as daemon:
        response = await daemon.respond()
        stored = daemon.daemon.services.store.responses
        kept = await stored.get(response["id"])
        assert kept is not None
        kept["output"][0]["content"][0]["text"] = "half \ud83d"
        await rewritten(stored, kept)
        answer = await daemon.http.get(f"/responses/{response['id']}")
        assert answer.status_code == 200
        assert answer.json()["output"][0]["content"][0]["text"] == "half \ufffd"

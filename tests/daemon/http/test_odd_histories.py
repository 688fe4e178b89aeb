"""Outputs that do not stand behind their calls: each is told next to its call, on every surface."""

from __future__ import annotations

from typing import Any

import pytest

from skilldeck_daemon.agent.prompt import STOPPED, to_messages
from skilldeck_daemon.attachments.listing import Attachments
from skilldeck_daemon.wire.item_kinds import NOT_SENT
from skilldeck_daemon.wire.items import parse_input
from support.daemon import SHELL, running
from support.scripted_model import Call, Turn, shell

WEATHER: dict[str, Any] = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
USER = {"role": "user", "content": "wait"}
SAID = {"role": "assistant", "content": "I look."}
ORDERED = {"role": "developer", "content": "Be brief."}
THOUGHT = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}


def call(id: str = "a", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": "weather", "arguments": "{}", **more}


def output(id: str = "a", text: str = "sun") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": text}


def told(*items: dict[str, Any]) -> list[tuple[str, Any]]:
    """(role, what is said) of each message; an assistant's calls by their ids after its text."""
    found = []
    for message in to_messages(parse_input(list(items)), {}, Attachments()):
        said = [message["content"]] if message.get("content") else []
        said += [message["reasoning_content"]] if message.get("reasoning_content") else []
        said += [entry["id"] for entry in message.get("tool_calls", [])]
        found.append((message["role"], message.get("tool_call_id", "") + " ".join(said)))
    return found


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        ([USER], [("assistant", "a"), ("tool", "asun"), ("user", "wait")]),
        ([ORDERED], [("assistant", "a"), ("tool", "asun"), ("system", "Be brief.")]),
        ([USER, SAID, USER], [("assistant", "a"), ("tool", "asun"), ("user", "wait"), *[("assistant", "I look.")]]),
        # What the model itself wrote after a call and before its output is of the same turn.
        ([SAID], [("assistant", "I look. a"), ("tool", "asun")]),
        ([THOUGHT], [("assistant", "hm a"), ("tool", "asun")]),
    ],
)
def test_an_output_is_told_behind_its_call_whatever_stands_between(
    between: list[dict[str, Any]], expected: list[tuple[str, Any]]
) -> None:
    assert told(call(), *between, output())[: len(expected)] == expected


def test_parallel_calls_stay_one_turn_when_the_model_wrote_between_them() -> None:
    between = told(THOUGHT, call("a"), SAID, call("b"), output("b", "two"), USER, output("a", "one"))
    assert between == [("assistant", "I look. hm a b"), ("tool", "btwo"), ("tool", "aone"), ("user", "wait")]


def test_calls_that_share_an_id_have_the_outputs_that_follow_them() -> None:
    history = [call(), output(text="one"), USER, call(), USER, output(text="two")]
    assert [said for role, said in told(*history) if role == "tool"] == ["aone", "atwo"]


def test_outputs_without_a_call_are_left_out_and_calls_without_an_output_say_so() -> None:
    assert told(output("gone"), USER, call(), USER) == [
        ("user", "wait"),
        ("assistant", "a"),
        ("tool", f"a{STOPPED}"),
        ("user", "wait"),
    ]
    # An output that came before its call is still its output.
    assert told(output(), call(), USER) == [("assistant", "a"), ("tool", "asun"), ("user", "wait")]


def test_a_call_that_holds_its_own_answer_stays_a_turn_of_its_own() -> None:
    searched = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    searched["action"] = {"type": "search", "query": "x"}  # type: ignore[assignment]
    assert told(searched, SAID, USER) == [
        ("assistant", "ws_1"),
        ("tool", f"ws_1{NOT_SENT}"),
        ("assistant", "I look."),
        ("user", "wait"),
    ]


def test_an_output_item_of_another_kind_of_call_is_told_too() -> None:
    entry = {"stdout": "sun\n", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}
    assert told(call(), {"type": "shell_call_output", "call_id": "a", "output": [entry]})[1] == ("tool", "asun")


async def test_a_responses_history_may_have_a_message_before_the_output() -> None:
    async with running(Turn(Call("weather", {})), Turn("Sunny."), Turn("Sunny.")) as daemon:
        first = await daemon.respond(tools=[WEATHER])
        id = first["output"][0]["call_id"]
        await daemon.respond([USER, output(id)], previous_response_id=first["id"], tools=[WEATHER])
        await daemon.respond([USER, call("x"), THOUGHT, USER, output("x")], tools=[WEATHER])
        for request in daemon.model.requests[1:]:
            roles = [message["role"] for message in request["messages"]]
            assert roles == ["user", "assistant", "tool", "user"]
            assert request["messages"][2]["content"] == "sun"


async def test_text_that_the_model_writes_between_two_commands_does_not_hide_their_outputs() -> None:
    turn = Turn(shell("echo one"), "And now:", shell("echo two"))
    async with running(turn, Turn("Both ran.")) as daemon:
        await daemon.respond(tools=[SHELL])
        messages = [message for message in daemon.model.requests[1]["messages"] if message["role"] != "system"]
        assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
        assert messages[1]["content"] == "And now:"
        assert [message["content"] for message in messages[2:]] == ["one", "two"]


async def test_a_chat_history_may_have_a_message_before_the_answer() -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": WEATHER["parameters"]}}
    called = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    history = [USER, {"role": "assistant", "tool_calls": [called]}, USER]
    answer = {"role": "tool", "tool_call_id": "a", "content": "sun"}
    async with running(Turn("Sunny.")) as daemon:
        body = {"model": "default", "messages": [*history, answer], "tools": [tool]}
        assert (await daemon.http.post("/chat/completions", json=body)).status_code == 200
        sent = daemon.model.requests[0]["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user"]
        assert sent[2]["content"] == "sun"
        refused = await daemon.http.post("/chat/completions", json={**body, "messages": history})
        assert refused.status_code == 400
        assert "'a' has no answer" in refused.json()["error"]["message"]


async def test_a_messages_history_may_have_a_message_before_the_result() -> None:
    history = [
        USER,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "w", "input": {}}]},
        USER,
    ]
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "sun"}]}
    async with running(Turn("Sunny.")) as daemon:
        body = {"model": "default", "max_tokens": 64, "messages": [*history, result]}
        assert (await daemon.http.post("/messages", json=body)).status_code == 200
        sent = daemon.model.requests[0]["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user"]
        assert sent[2]["content"] == "sun"
        refused = await daemon.http.post("/messages", json={**body, "messages": history})
        assert refused.status_code == 400
        assert "'a' has no tool_result" in refused.json()["error"]["message"]


async def test_the_output_of_a_deleted_call_is_left_out() -> None:
    async with running(Turn(shell("echo hello")), Turn("Done."), Turn("Yes.")) as daemon:
        conversation = await daemon.client.conversations.create()
        first = await daemon.respond(conversation=conversation.id, tools=[SHELL])
        deleted = next(item["id"] for item in first["output"] if item["type"] == "shell_call")
        await daemon.client.conversations.items.delete(deleted, conversation_id=conversation.id)
        await daemon.respond("again", conversation=conversation.id)
        sent = daemon.model.requests[2]["messages"]
        assert [(message["role"], message["content"]) for message in sent] == [
            ("user", "go"),
            ("assistant", "Done."),
            ("user", "again"),
        ]


async def test_a_file_that_was_deleted_since_leaves_a_note() -> None:
    async with running(Turn("Read."), Turn("It is gone.")) as daemon:
        upload = await daemon.client.files.create(file=("a.txt", b"hello"), purpose="user_data")
        content = [{"type": "input_text", "text": "Read."}, {"type": "input_file", "file_id": upload.id}]
        first = await daemon.respond([{"role": "user", "content": content}])
        await daemon.client.files.delete(upload.id)
        await daemon.respond("Still there?", previous_response_id=first["id"])
        assert daemon.model.requests[1]["messages"][0]["content"] == "Read.\n(a file that is no longer there)"

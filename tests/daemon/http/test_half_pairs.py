"""Half a surrogate pair, from a model server, a tool or a client: text everywhere, and never the end of a run."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from skilldeck_daemon.tools.mcp_servers.messages import Messages
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.proto import control_pb2 as pb
from skilldeck_tui.client.client import Client
from support.daemon import SHELL, Running, running
from support.scripted_model import Call, Drop, Raw, Text, Turn, shell

HIGH, LOW = "\ud83d", "\ude00"
WEATHER: dict[str, Any] = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
NOTE: dict[str, Any] = {"type": "custom", "name": "note"}
PYTHON: dict[str, Any] = {"type": "code_interpreter", "container": {"type": "auto"}}
PATCH: dict[str, Any] = {"type": "apply_patch"}


def raw(delta: dict[str, Any], finish: str | None = None) -> Raw:
    """A chunk as servers write it, halves of pairs as escapes."""
    return Raw("data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))


def raw_call(name: str, *arguments: str, id: str = "c") -> list[Raw]:
    begin = raw({"tool_calls": [{"index": 0, "id": id, "function": {"name": name, "arguments": ""}}]})
    return [begin, *(raw({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in arguments)]


def text_of(response: dict[str, Any]) -> str:
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


async def both(daemon: Running, **body: Any) -> list[dict[str, Any]]:
    """The response streamed, as one answer, and as it is stored."""
    streamed = (await daemon.stream(**body))[-1]["response"]
    plain = await daemon.respond(**body)
    kept = (await daemon.http.get(f"/responses/{plain['id']}")).json()
    assert kept["output"] == plain["output"]
    return [streamed, plain]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [(["a" + HIGH, LOW + "b"], "a😀b"), (["a" + HIGH, "b"], "a\ufffdb"), ([LOW, "b" + HIGH], "\ufffdb\ufffd")],
)
async def test_halves_in_text_and_reasoning_are_joined_and_lone_ones_replaced(pieces: list[str], expected: str) -> None:
    thoughts = [raw({"reasoning_content": piece}) for piece in pieces]
    turn = Turn(*thoughts, *(raw({"content": piece}) for piece in pieces))
    async with running(turn, turn, turn) as daemon:
        for response in await both(daemon):
            assert response["output"][0]["content"][0]["text"] == expected
            assert text_of(response) == expected
        body = {"model": "default", "messages": [{"role": "user", "content": "x"}]}
        message = (await daemon.http.post("/chat/completions", json=body)).json()["choices"][0]["message"]
        assert (message["content"], message["reasoning_content"]) == (expected, expected)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (['{"city": "a' + HIGH, LOW + '"}'], '{"city": "a😀"}'),
        (['{"city": "a' + HIGH, '"}'], '{"city": "a\ufffd"}'),
        (['{"city": "a\\ud8', '3d\\ude00"}'], '{"city": "a\\ud83d\\ude00"}'),
        (['{"city": "a\\ud83d', '"}'], '{"city": "a\\ufffd"}'),
    ],
)
async def test_halves_in_the_arguments_of_a_clients_function(pieces: list[str], expected: str) -> None:
    turn = Turn(*raw_call("weather", *pieces), finish="tool_calls")
    async with running(turn, turn) as daemon:
        for response in await both(daemon, tools=[WEATHER]):
            assert response["output"][0]["arguments"] == expected
            json.loads(expected)["city"].encode()


async def test_halves_in_free_text_and_in_the_names_and_ids_of_calls() -> None:
    custom = Turn(*raw_call("note", '{"input": "a' + HIGH, '\\ud83d"}', id="c" + HIGH), finish="tool_calls")
    unknown = Turn(*raw_call("weath" + HIGH, "{}", id="c" + LOW), finish="tool_calls")
    async with running(custom, custom, unknown, Turn("So be it.")) as daemon:
        for response in await both(daemon, tools=[NOTE]):
            assert response["output"][0]["input"] == "a\ufffd\ufffd"
        response = await daemon.respond(tools=[WEATHER])
        assert text_of(response) == "So be it."
        (call,) = daemon.model.requests[-1]["messages"][-2]["tool_calls"]
        assert call["function"]["name"] == "weath\ufffd"


@pytest.mark.parametrize("half", [HIGH, "\\ud83d"])
async def test_a_command_with_half_a_pair_runs_and_its_run_ends_well(half: str) -> None:
    turns = [
        Turn(*raw_call("shell", '{"commands": ["echo ' + half + '"]}'), finish="tool_calls"),
        Turn(*raw_call("python", '{"code": "print(\'' + half + "')\"}"), finish="tool_calls"),
        Turn(raw({"content": "Done" + HIGH})),
    ]
    async with running(*turns, *turns) as daemon:
        for response in await both(daemon, tools=[SHELL, PYTHON]):
            assert response["status"] == "completed"
            outputs = [item for item in response["output"] if item["type"] == "shell_call_output"]
            assert outputs[0]["output"][0]["stdout"] == "\ufffd\n"
            assert text_of(response) == "Done\ufffd"
        told = daemon.model.requests[2]["messages"]
        assert [message["content"] for message in told if message["role"] == "tool"] == ["\ufffd", "\ufffd\n"]


async def test_halves_that_a_command_prints_or_names_a_file_with_are_text() -> None:
    printed = shell("printf 'a\\355\\240\\275b\\n'; touch \"$(printf 'x\\355\\240\\275\\377.txt')\"; ls")
    async with running(Turn(printed), Turn("Done."), Turn(printed), Turn("Done.")) as daemon:
        for response in await both(daemon, tools=[SHELL]):
            output = next(item for item in response["output"] if item["type"] == "shell_call_output")["output"][0]
            assert output["stdout"].startswith("a\ufffd")
            container = next(item for item in response["output"] if item["type"] == "shell_call")["environment"]
            listed = await daemon.http.get(f"/containers/{container['container_id']}/files")
            assert listed.status_code == 200, listed.text


SERVER = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    answers = {
        "initialize": {"capabilities": {"tools": {}}, "serverInfo": {"name": "halves", "version": "1"}},
        "tools/list": {"tools": [{"name": "say", "description": "x\\ud83d", "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": "a\\ud83db \\ud83d\\ude00"}]},
    }
    if "id" in asked:
        result = answers.get(asked["method"], {})
        if asked["method"] == "initialize":
            result["protocolVersion"] = asked["params"]["protocolVersion"]
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


async def test_halves_from_an_mcp_server_do_not_lose_its_answer() -> None:
    servers = {"halves": {"command": sys.executable, "args": ["-c", SERVER]}}
    tool = {"type": "mcp", "server_label": "halves", "require_approval": "never"}
    async with running(Turn(Call("halves__say", {})), Turn("Said."), mcp_servers=servers) as daemon:
        response = await daemon.respond(tools=[tool])
        listed, called, _ = response["output"]
        assert listed["tools"][0]["description"] == "x\ufffd"
        assert (called["status"], called["output"]) == ("completed", "a\ufffdb 😀")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_halves_in_the_body_of_an_mcp_answer_are_replaced(size: int) -> None:
    sent = json.dumps({"text": "a\ud83db 😀 \ud83d\ude00"}).encode() + "é \\\\ud83d".encode()
    body, out = Messages("body"), b""
    for at in range(0, len(sent), size):
        out += body.feed(sent[at : at + size])
    out += body.flush()
    assert out == sent.replace(b"\\ud83db", b"\\ufffdb")
    assert len(out) == len(sent)


async def test_halves_over_the_control_socket_are_text() -> None:
    async with running(Turn("ok")) as daemon, await Client.connect(daemon.daemon.settings.socket) as client:
        asked = '{"model": "default", "input": "a\\ud83db", "metadata": {"k": "\\ude00"}, "tools": []}'
        reply = await client._call(client._stub.StartRun, pb.StartRunRequest(request_json=asked))
        events = [event async for event in client.follow_run(reply.run_id)]
        assert events[-1].type == "response.completed"
        assert daemon.model.requests[0]["messages"][-1]["content"] == "a\ufffdb"
        kept = (await daemon.http.get(f"/responses/{reply.run_id}")).json()
        assert kept["metadata"] == {"k": "\ufffd"}
        deep = pb.StartRunRequest(request_json='{"input": ' + "[" * 100_000 + "]" * 100_000 + "}")
        with pytest.raises(BadRequest, match="nested too deeply"):
            await client._call(client._stub.StartRun, deep)


async def test_probabilities_of_half_a_character_are_told() -> None:
    entry = {"token": HIGH, "logprob": -0.5, "top_logprobs": [{"token": LOW, "logprob": -1.0}]}
    chunk = {"choices": [{"delta": {"content": HIGH}, "logprobs": {"content": [entry]}}]}
    turn = Turn(Raw("data: " + json.dumps(chunk)), raw({"content": LOW}))
    async with running(turn) as daemon:
        response = await daemon.respond(top_logprobs=1, include=["message.output_text.logprobs"])
        assert text_of(response) == "😀"
        (token,) = response["output"][0]["content"][0]["logprobs"]
        assert (token["token"], token["top_logprobs"][0]["token"]) == ("\ufffd", "\ufffd")


async def test_an_upstreams_error_with_half_a_pair_is_told() -> None:
    turn = Turn("some", Raw("data: " + json.dumps({"error": {"message": "bad " + HIGH}})))
    async with running(turn) as daemon:
        response = (await daemon.stream())[-1]["response"]
        assert response["status"] == "failed"
        assert "bad \ufffd" in response["error"]["message"]


# ------------------------------------------------------------------ what else servers send


async def test_content_as_a_list_of_parts_is_read() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "let me "}, {"type": "text", "text": "see"}]}
    plain = {"type": "thinking", "thinking": ", yes"}
    turn = Turn(
        raw({"content": [thinking]}),
        raw({"content": [plain, {"type": "text", "text": "It "}]}),
        raw({"content": "is."}),
    )
    async with running(turn, turn) as daemon:
        for response in await both(daemon):
            assert response["output"][0]["content"][0]["text"] == "let me see, yes"
            assert text_of(response) == "It is."


async def test_a_line_may_hold_any_character_but_a_line_feed() -> None:
    text = "one\u2028two\u0085three\x0cfour\x1dfive"
    async with running(Turn(Text(text))) as daemon:
        assert text_of(await daemon.respond()) == text


async def test_done_without_a_reason_is_a_complete_answer() -> None:
    done = Raw("data: [DONE]")
    async with running(Turn("All of it.", done), Turn(shell("echo hi"), done), Turn("Ran.", done)) as daemon:
        response = await daemon.respond()
        assert (response["status"], text_of(response)) == ("completed", "All of it.")
        response = (await daemon.stream(tools=[SHELL]))[-1]["response"]
        assert (response["status"], text_of(response)) == ("completed", "Ran.")


async def test_a_lost_upstream_ends_the_run_as_failed_and_says_so() -> None:
    cut_call = raw_call("weather", '{"city": "Gr')
    async with running(Turn("half an ", Drop()), Turn(*cut_call, Drop())) as daemon:
        events = await daemon.stream()
        assert events[-1]["type"] == "response.failed"
        error = events[-1]["response"]["error"]
        assert daemon.model.url in error["message"]
        assert events[-1]["response"]["output"][0]["status"] == "incomplete"
        response = (await daemon.stream(tools=[WEATHER]))[-1]["response"]
        assert response["status"] == "failed"
        assert [(item["type"], item["status"]) for item in response["output"]] == [("function_call", "incomplete")]


async def test_a_chunk_that_cannot_be_read_is_the_upstreams_fault() -> None:
    async with running(Turn("a", Raw('data: {"choices": [{"delta": ["x"]}]}'))) as daemon:
        response = (await daemon.stream())[-1]["response"]
        assert response["status"] == "failed"
        assert "cannot be read" in response["error"]["message"]

"""Responses whose model calls tools of MCP servers: the operator's over stdio, a request's over HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from skilldeck_daemon.tools.mcp_servers import guarded
from support import mcp_server
from support.daemon import Running, running
from support.mcp_server import Serving, serving
from support.scripted_model import Call, Turn
from support.wait import until
from support.web import Page, Web, redirect

STDIO = {"command": sys.executable, "args": [str(Path(mcp_server.__file__))], "env": {"VIEWER": "me"}}
LOCAL = {"type": "mcp", "server_label": "calc", "require_approval": "never"}
SERVERS: dict[str, Any] = {"mcp_servers": {"calc": STDIO}}


def add(a: int, b: int, label: str = "calc") -> Call:
    return Call(f"{label}__add", {"a": a, "b": b})


def told(daemon: Running, request: int = -1) -> str:
    """The last message the model was sent."""
    return str(daemon.model.requests[request]["messages"][-1]["content"])


def of_type(response: dict[str, Any], type: str) -> list[dict[str, Any]]:
    return [item for item in response["output"] if item["type"] == type]


def remote(server: Serving, **more: Any) -> dict[str, Any]:
    return {"type": "mcp", "server_label": "far", "server_url": server.url, "require_approval": "never", **more}


def reaching(server: Serving) -> dict[str, Any]:
    """Settings of a daemon that may reach a server on loopback."""
    return {"private_hosts": [urlsplit(server.url).netloc]}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared() -> AsyncIterator[Running]:
    """One daemon with a server over stdio; each test adds its turns."""
    async with running(**SERVERS) as daemon:
        yield daemon


@pytest.fixture
async def server() -> AsyncIterator[Serving]:
    async with serving() as made:
        yield made


# ------------------------------------------------------------------ items and events


@pytest.mark.asyncio(loop_scope="module")
async def test_tools_are_listed_called_and_their_output_reaches_the_model(shared: Running) -> None:
    shared.model.then(Turn(add(2, 3)), Turn("5"))
    events = await shared.stream(tools=[LOCAL])
    kinds = [(event.get("output_index"), event["type"].removeprefix("response.")) for event in events]
    assert [kind for index, kind in kinds if index == 0] == [
        "output_item.added",
        "mcp_list_tools.in_progress",
        "mcp_list_tools.completed",
        "output_item.done",
    ]
    writing = [kind for index, kind in kinds if index == 1]
    assert writing.count("mcp_call_arguments.delta") > 1
    assert [kind for kind in writing if kind != "mcp_call_arguments.delta"] == [
        "output_item.added",
        "mcp_call.in_progress",
        "mcp_call_arguments.done",
        "mcp_call.completed",
        "output_item.done",
    ]
    response = events[-1]["response"]
    (listed,) = of_type(response, "mcp_list_tools")
    tools = {tool["name"]: tool for tool in listed["tools"]}
    assert tools["add"]["description"] == "Adds two numbers."
    assert tools["add"]["input_schema"]["required"] == ["a", "b"]
    assert tools["look"]["annotations"] == {"readOnlyHint": True}
    (call,) = of_type(response, "mcp_call")
    assert (call["server_label"], call["name"], call["output"], call["error"]) == ("calc", "add", "5 ✓", None)
    assert json.loads(call["arguments"]) == {"a": 2, "b": 3}
    assert told(shared) == "5 ✓"
    functions = {tool["function"]["name"]: tool["function"] for tool in shared.model.requests[-2]["tools"]}
    assert functions["calc__add"]["parameters"] == tools["add"]["input_schema"]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_official_client_reads_the_response_and_the_stream(shared: Running) -> None:
    shared.model.then(*[Turn(add(1, 1), Call("calc__fail", {})), Turn("ok")] * 2)
    asked: dict[str, Any] = {"model": "default", "input": "go", "tools": [LOCAL]}
    response = await shared.client.responses.create(**asked)
    listed, call, failed, _ = response.output
    assert (listed.type, call.type, call.output, failed.status) == ("mcp_list_tools", "mcp_call", "2 ✓", "failed")
    assert failed.error.type == "mcp_tool_execution_error"
    assert "it does not work" in failed.error.content[0]["text"]
    stream = await shared.client.responses.create(**asked, stream=True)
    kinds = [event.type async for event in stream]
    assert kinds.count("response.mcp_call.completed") == kinds.count("response.mcp_call.failed") == 1


@pytest.mark.asyncio(loop_scope="module")
async def test_the_next_turn_remembers_the_list_and_the_calls(shared: Running) -> None:
    shared.model.then(Turn(add(1, 2), add(3, 4)), Turn("ok"), Turn("fine"), Turn("fine"))
    first = await shared.respond(tools=[LOCAL])
    second = await shared.respond("and?", tools=[LOCAL], previous_response_id=first["id"])
    assert of_type(second, "mcp_list_tools") == []
    messages = shared.model.requests[-1]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "assistant", "user"]
    assert [message["content"] for message in messages[2:4]] == ["3 ✓", "7 ✓"]
    assert "calc__add" in [tool["function"]["name"] for tool in shared.model.requests[-1]["tools"]]
    failed = {**of_type(first, "mcp_call")[0], "id": "mcp_other", "output": None, "error": "it broke"}
    items = [{"role": "user", "content": "go"}, *first["output"], failed, {"role": "user", "content": "and?"}]
    given = await shared.client.responses.create(model="default", input=items)
    contents = [message["content"] for message in shared.model.requests[-1]["messages"]]
    assert "3 ✓" in contents
    assert "error: it broke" in contents
    kept = await shared.client.responses.input_items.list(given.id, order="asc")
    assert kept.data[-2].error.message == "it broke"  # type: ignore[union-attr]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_conversation_and_chat_keep_the_calls(shared: Running) -> None:
    shared.model.then(Turn(add(1, 2)), Turn("ok"), Turn("again"), Turn(add(5, 5)), Turn("ten"), Turn("yes"))
    conversation = await shared.client.conversations.create()
    await shared.respond(tools=[LOCAL], conversation=conversation.id)
    await shared.respond(tools=[LOCAL], conversation=conversation.id)
    assert "3 ✓" in [message["content"] for message in shared.model.requests[-1]["messages"]]
    messages: list[Any] = [{"role": "user", "content": "go"}]
    answer = await shared.http.post("/chat/completions", json={"messages": messages, "tools": [LOCAL]})
    message = answer.json()["choices"][0]["message"]
    assert message["content"] == "ten"
    messages += [message, {"role": "user", "content": "sure?"}]
    await shared.http.post("/chat/completions", json={"messages": messages, "tools": [LOCAL]})
    assert "10 ✓" in [message["content"] for message in shared.model.requests[-1]["messages"]]


@pytest.mark.asyncio(loop_scope="module")
async def test_names_that_are_no_function_names_and_the_servers_variables(shared: Running) -> None:
    shared.model.then(Turn("hello"))
    response = await shared.respond(tools=[{**LOCAL, "allowed_tools": ["files.read", "look"]}])
    assert [tool["name"] for tool in of_type(response, "mcp_list_tools")[0]["tools"]] == ["look", "files.read"]
    look, read = (tool["function"]["name"] for tool in shared.model.requests[-1]["tools"])
    assert read.startswith("calc__files_read_")
    shared.model.then(Turn(Call(look, {}), Call(read, {"path": "x"})), Turn("ok"))
    response = await shared.respond(tools=[LOCAL])
    assert [call["output"] for call in of_type(response, "mcp_call")] == ["seen by me", "content of x"]
    assert [call["name"] for call in of_type(response, "mcp_call")] == ["look", "files.read"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        ({"read_only": True}, ["calc__look"]),
        ({"tool_names": ["add", "none"]}, ["calc__add"]),
        ({"tool_names": ["add"], "read_only": True}, []),
        ([], []),
    ],
)
async def test_filters_choose_the_tools(shared: Running, allowed: Any, names: list[str]) -> None:
    shared.model.then(Turn("ok"))
    response = await shared.respond(tools=[{**LOCAL, "allowed_tools": allowed}])
    assert [tool["function"]["name"] for tool in shared.model.requests[-1].get("tools") or []] == names
    assert response["tools"][0]["allowed_tools"] == allowed


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("name", "forced"), [("add", "calc__add"), (None, None)])
async def test_a_tool_choice_names_a_server_or_its_tool(shared: Running, name: str | None, forced: str | None) -> None:
    shared.model.then(Turn(add(1, 1)), Turn("ok"))
    choice = {"type": "mcp", "server_label": "calc"} | ({"name": name} if name else {})
    response = await shared.client.responses.create(
        model="default",
        input="go",
        tools=[LOCAL],
        tool_choice=choice,  # type: ignore[call-overload]
    )
    assert response.tool_choice.server_label == "calc"
    asked = shared.model.requests[-2]["tool_choice"]
    assert asked == ({"type": "function", "function": {"name": forced}} if forced else "required")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_malformed_call_fails_and_the_model_can_mend_it(shared: Running) -> None:
    shared.model.then(
        Turn(Call("calc__add", '{"a": ')), Turn(Call("calc__add", {"a": "x"})), Turn(add(1, 1)), Turn("ok")
    )
    response = (await shared.stream(tools=[LOCAL]))[-1]["response"]
    assert [call["status"] for call in of_type(response, "mcp_call")] == ["failed", "failed", "completed"]
    assert "not valid JSON" in told(shared, -3)
    assert "b" in told(shared, -2)


async def test_the_bundled_model_is_given_tools_whose_schemas_its_grammar_cannot_hold() -> None:
    async with running(load=False, model="tiny", model_name="", **SERVERS) as daemon:
        await until(lambda: daemon.daemon.services.models.status().state == "ready", 60)
        response = await daemon.respond(tools=[LOCAL], max_output_tokens=16)
        assert response["error"] is None
        assert len(of_type(response, "mcp_list_tools")[0]["tools"]) == 8
        odd = of_type(response, "mcp_list_tools")[0]["tools"][3]["input_schema"]
        declared = {"type": "function", "name": "odd", "parameters": odd}
        body = {"model": "default", "input": "go", "max_output_tokens": 16}
        answer = await daemon.http.post("/responses", json={**body, "tools": [declared]})
        assert answer.status_code == 200, "what cannot be held is left out for clients' own tools too"
        answer = await daemon.http.post("/responses", json={**body, "tools": [{**declared, "strict": True}]})
        assert answer.status_code == 400, "the schema was to be one that cannot be held"


# ------------------------------------------------------------------ approvals


@pytest.mark.asyncio(loop_scope="module")
async def test_a_call_waits_for_the_clients_approval_and_is_carried_out_with_it(shared: Running) -> None:
    tool = {"type": "mcp", "server_label": "calc"}
    shared.model.then(Turn("Let me add.", add(20, 22)), Turn("42"), Turn("still 42"))
    first = (await shared.stream(tools=[tool]))[-1]["response"]
    (request,) = of_type(first, "mcp_approval_request")
    assert (request["name"], json.loads(request["arguments"])) == ("add", {"a": 20, "b": 22})
    assert (first["status"], of_type(first, "mcp_call")) == ("completed", [])
    decision = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
    events = await shared.stream([decision], tools=[tool], previous_response_id=first["id"])
    second = events[-1]["response"]
    (call,) = of_type(second, "mcp_call")
    assert (call["output"], call["approval_request_id"]) == ("42 ✓", request["id"])
    messages = shared.model.requests[-1]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert (messages[1]["content"], messages[2]["content"]) == ("Let me add.", "42 ✓")
    third = await shared.respond("sure?", tools=[tool], previous_response_id=second["id"])
    assert of_type(third, "mcp_call") == []
    assert shared.model.requests[-1]["messages"][:3] == messages
    items = await shared.client.responses.input_items.list(second["id"])
    assert items.data[0].approve is True  # type: ignore[union-attr]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_denial_reaches_the_model_and_nothing_is_called(shared: Running) -> None:
    tool = {"type": "mcp", "server_label": "calc", "require_approval": {"never": {"tool_names": ["look"]}}}
    shared.model.then(Turn(Call("calc__look", {})), Turn(add(1, 1)), Turn("sorry"), Turn("hm"))
    first = await shared.respond(tools=[tool])
    assert of_type(first, "mcp_call")[0]["output"] == "seen by me"
    (request,) = of_type(first, "mcp_approval_request")
    decision = {
        "type": "mcp_approval_response",
        "approval_request_id": request["id"],
        "approve": False,
        "reason": "No.",
    }
    second = await shared.respond([decision], tools=[tool], previous_response_id=first["id"])
    assert of_type(second, "mcp_call") == []
    assert told(shared) == "The user denied this call: No."
    await shared.respond("something else", tools=[tool], previous_response_id=first["id"])
    assert shared.model.requests[-1]["messages"][-2]["content"] == "(the user has not approved this call)"


@pytest.mark.asyncio(loop_scope="module")
async def test_an_approved_call_of_a_tool_that_is_not_allowed_any_more_fails(shared: Running) -> None:
    tool = {"type": "mcp", "server_label": "calc"}
    shared.model.then(Turn(add(1, 1)), Turn("oh"))
    first = await shared.respond(tools=[tool])
    request = first["output"][-1]
    decision = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
    narrow = {**tool, "allowed_tools": ["look"]}
    second = await shared.respond([decision], tools=[narrow], previous_response_id=first["id"])
    (call,) = of_type(second, "mcp_call")
    assert call["status"] == "failed"
    assert "no tool 'add' that this request allows" in told(shared)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_approval_without_its_request_or_its_server_is_refused(shared: Running) -> None:
    shared.model.then(Turn(add(1, 1)))
    first = await shared.respond(tools=[{"type": "mcp", "server_label": "calc"}])
    id = first["output"][-1]["id"]
    for request_id, tools in (("mcpr_other", [LOCAL]), (id, [])):
        decision = {"type": "mcp_approval_response", "approval_request_id": request_id, "approve": True}
        body = {"model": "default", "input": [decision], "tools": tools, "previous_response_id": first["id"]}
        answer = await shared.http.post("/responses", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input[0].approval_request_id")


@pytest.mark.asyncio(loop_scope="module")
async def test_the_operators_permission_counts_beside_the_clients_approval(shared: Running) -> None:
    tool = {"type": "mcp", "server_label": "calc"}
    body: dict[str, Any] = {"model": "default", "input": "go", "tools": [tool]}
    shared.model.then(Turn(add(1, 1)), Turn("no"), Turn(add(1, 1)), Turn("two"))
    denied = await shared.http.post("/responses", json=body, headers={"x-skilldeck-permission": "deny"})
    (call,) = of_type(denied.json(), "mcp_call")
    assert "Permission denied" in call["error"]["content"][0]["text"]
    first = await shared.respond(tools=[tool])
    request = first["output"][-1]
    decision = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
    body |= {"input": [decision], "previous_response_id": first["id"]}
    asking = asyncio.create_task(shared.http.post("/responses", json=body, headers={"x-skilldeck-permission": "ask"}))
    await until(lambda: shared.daemon.services.approvals.list() or asking.done())
    (pending,) = (await shared.http.get("/approvals")).json()["data"]
    assert pending["commands"] == ['calc: add {"a": 1, "b": 1}']
    await shared.http.post(f"/approvals/{pending['id']}", json={"decision": "approve"})
    (call,) = of_type((await asking).json(), "mcp_call")
    assert call["output"] == "2 ✓"


# ------------------------------------------------------------------ a request's own server


async def test_a_server_at_a_url_is_called_with_its_headers_which_nobody_reads_back(server: Serving) -> None:
    tool = remote(server, headers={"X-Key": "sesame"}, authorization="token", server_description="Sums")
    async with running(Turn(add(1, 2, "far")), Turn("ok"), **reaching(server)) as daemon:
        response = (await daemon.stream(tools=[tool]))[-1]["response"]
        assert of_type(response, "mcp_call")[0]["output"] == "3 ✓"
        assert {headers["x-key"] for headers in server.headers} == {"sesame"}
        assert {headers["authorization"] for headers in server.headers} == {"Bearer token"}
        stored = (await daemon.http.get(f"/responses/{response['id']}")).text
        assert "sesame" not in stored
        assert "token" not in stored.replace("_tokens", "")
        assert response["tools"][0]["headers"] == {"X-Key": "<redacted>", "Authorization": "<redacted>"}
        assert daemon.model.requests[0]["tools"][0]["function"]["description"] == "[Sums] Adds two numbers."


async def test_a_private_address_is_refused_and_nothing_is_sent(server: Serving) -> None:
    async with running() as daemon:
        response = (await daemon.stream(tools=[remote(server)]))[-1]["response"]
        assert response["status"] == "failed"
        assert "not a public address" in response["error"]["message"]
        assert "not a public address" in of_type(response, "mcp_list_tools")[0]["error"]
        assert server.headers == []


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (Page(b"nothing here", "text/plain", "404 Not Found"), "HTTP 404"),
        (Page(b"{}", "application/json", "401 Unauthorized"), "HTTP 401"),
        (Page(b"<html>", "text/html"), ""),
        (Page(b"{", "application/json"), ""),
        (redirect("http://127.0.0.2:1/mcp"), ""),
    ],
)
async def test_what_is_no_mcp_server_is_a_clear_error(page: Page, words: str) -> None:
    async with Web() as web, running(**web.settings) as daemon:
        web.pages["/mcp"] = page
        tool = {"type": "mcp", "server_label": "far", "server_url": f"{web.url}/mcp"}
        response = (await daemon.stream(tools=[tool]))[-1]["response"]
        assert response["status"] == "failed"
        assert response["error"]["message"].startswith("The MCP server 'far' could not connect")
        assert words in response["error"]["message"]


async def test_a_server_that_never_answers_or_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
        while True:
            writer.write(b"1," * 5000)
            await writer.drain()

    monkeypatch.setattr(guarded, "ANSWER_BYTES", 100_000)
    async with Web() as web:
        web.pages |= {"/silent": Page(send=silent), "/endless": Page(send=endless)}
        servers = {name: {"url": f"{web.url}/{name}", "timeout": 1} for name in ("silent", "endless")}
        async with running(mcp_servers={**servers, "endless": {"url": f"{web.url}/endless"}}) as daemon:
            for name, words in (("silent", "did not connect within 1 s"), ("endless", "larger than")):
                response = await daemon.respond(tools=[{"type": "mcp", "server_label": name}])
                assert response["status"] == "failed"
                assert words in response["error"]["message"]


async def test_a_call_that_takes_too_long_fails_and_one_that_is_cancelled_ends_there(server: Serving) -> None:
    slow = Turn(Call("far__slow", {}))
    settings = {"mcp_servers": {"far": {"url": server.url, "timeout": 2}}}
    tool = {"type": "mcp", "server_label": "far", "require_approval": "never"}
    async with running(slow, Turn("ok"), slow, **settings) as daemon:
        response = (await daemon.stream(tools=[tool]))[-1]["response"]
        (call,) = of_type(response, "mcp_call")
        assert (call["status"], call["error"]["code"]) == ("failed", 504)
        assert "within 2 s" in told(daemon)
        await until(server.slow_ended.is_set)
        run = await daemon.respond(background=True, tools=[tool])
        live = daemon.daemon.services.runs.live(run["id"])
        assert live is not None
        await until(lambda: any(event["type"] == "response.mcp_call_arguments.done" for event in live.log.events))
        cancelled = (await daemon.http.post(f"/responses/{run['id']}/cancel")).json()
        assert (cancelled["status"], of_type(cancelled, "mcp_call")[0]["status"]) == ("cancelled", "incomplete")


async def test_a_server_that_goes_away_is_an_error_in_the_item_and_is_started_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "skilldeck_daemon.tools.mcp_servers")
    turns = [Turn(Call("calc__die", {})), Turn(add(1, 1)), Turn("ok")]
    async with running(*turns, **SERVERS) as daemon:
        response = (await daemon.stream(tools=[LOCAL]))[-1]["response"]
        died, added = of_type(response, "mcp_call")
        assert (died["status"], added["output"]) == ("failed", "2 ✓")
        assert died["error"]["type"] in ("mcp_protocol_error", "http_error")
        await until(lambda: "mcp server calc: dying" in caplog.text)


@pytest.mark.parametrize("path", ["/responses", "/chat/completions"])
async def test_a_dead_server_is_a_clear_error_on_every_surface(path: str) -> None:
    gone = {"mcp_servers": {"calc": {"command": "/nowhere/at/all"}}}
    async with running(**gone) as daemon:
        said = {"input": "go"} if path == "/responses" else {"messages": [{"role": "user", "content": "go"}]}
        answer = await daemon.http.post(path, json={"model": "default", **said, "tools": [LOCAL]})
        error = answer.json()["error"]
        assert "The MCP server 'calc' could not connect" in error["message"]
        assert answer.status_code == (200 if path == "/responses" else 424)


async def test_programs_end_with_the_daemon(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    start = f"import os,runpy; open({str(mark)!r},'w').write(str(os.getpid())); "
    start += f"runpy.run_path({STDIO['args'][0]!r}, run_name='__main__')"
    servers = {"mcp_servers": {"calc": {"command": sys.executable, "args": ["-c", start]}}}
    async with running(Turn("ok"), **servers) as daemon:
        await daemon.respond(tools=[LOCAL])
        pid = int(mark.read_text())
        assert Path(f"/proc/{pid}").exists()
    await until(lambda: not Path(f"/proc/{pid}").exists())


# ------------------------------------------------------------------ refusals


URL = "https://mcp.example.com/mcp"


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({}, "tools[0].server_label"),
        ({"server_label": "a b", "server_url": URL}, "tools[0].server_label"),
        ({"server_label": "other"}, "tools[0].server_url"),
        ({"server_label": "calc", "server_url": URL}, "tools[0].server_label"),
        ({"server_label": "far", "server_url": "file:///bin/sh"}, "tools[0].server_url"),
        ({"server_label": "far", "server_url": "https://me:word@a.b/"}, "tools[0].server_url"),
        ({"server_label": "far", "server_url": URL, "headers": {"Host": "x"}}, "tools[0].headers.Host"),
        ({"server_label": "far", "server_url": URL, "headers": {"A": "x\r\nB: y"}}, "tools[0].headers.A"),
        ({"server_label": "far", "server_url": URL, "headers": {"A": 1}}, "tools[0].headers.A"),
        ({"server_label": "far", "server_url": URL, "authorization": "x\n"}, "tools[0].authorization"),
        ({"server_label": "calc", "headers": {"A": "x"}}, "tools[0].headers"),
        ({"server_label": "calc", "allowed_tools": "add"}, "tools[0].allowed_tools"),
        ({"server_label": "calc", "allowed_tools": [1]}, "tools[0].allowed_tools[0]"),
        ({"server_label": "calc", "require_approval": "sometimes"}, "tools[0].require_approval"),
        ({"server_label": "calc", "require_approval": {"never": []}}, "tools[0].require_approval.never"),
        ({"server_label": "far", "connector_id": "connector_gmail"}, "tools[0].connector_id"),
        ({"server_label": "calc", "defer_loading": True}, "tools[0].defer_loading"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_cannot_be_is_refused_by_name(tool: dict[str, Any], param: str, shared: Running) -> None:
    body = {"model": "default", "input": "go", "tools": [{"type": "mcp", **tool}]}
    answer = await shared.http.post("/responses", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.asyncio(loop_scope="module")
async def test_two_servers_of_one_label_and_programs_in_a_request_are_refused(shared: Running) -> None:
    answer = await shared.http.post("/responses", json={"model": "default", "input": "go", "tools": [LOCAL, LOCAL]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools[1].server_label")
    program = {"type": "mcp", "server_label": "mine", "command": "/bin/sh", "args": ["-c", "id"]}
    answer = await shared.http.post("/responses", json={"model": "default", "input": "go", "tools": [program]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools[0].server_url")


@pytest.mark.asyncio(loop_scope="module")
async def test_chat_has_no_way_to_ask_for_approvals(shared: Running) -> None:
    tool = {"type": "mcp", "server_label": "calc"}
    answer = await shared.http.post("/chat/completions", json={"messages": [], "tools": [tool]})
    assert answer.status_code == 400
    body = {"messages": [{"role": "user", "content": "go"}], "tools": [tool]}
    answer = await shared.http.post("/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools[0].require_approval")


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "mcp_list_tools", "server_label": "x"}, "input[0].tools"),
        ({"type": "mcp_list_tools", "server_label": "x", "tools": [{"name": "a"}]}, "input[0].tools[0].input_schema"),
        ({"type": "mcp_call", "server_label": "x", "name": "a"}, "input[0].arguments"),
        ({"type": "mcp_call", "server_label": "x", "name": "a", "arguments": "", "error": 3}, "input[0].error"),
        (
            {"type": "mcp_call", "server_label": "x", "name": "a", "arguments": "", "error": {"type": "bad"}},
            "input[0].error.type",
        ),
        ({"type": "mcp_approval_request", "server_label": "x", "name": "a", "arguments": "no"}, "input[0].arguments"),
        ({"type": "mcp_approval_response", "approve": True}, "input[0].approval_request_id"),
        ({"type": "mcp_approval_response", "approval_request_id": "x", "approve": "yes"}, "input[0].approve"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_an_item_given_back_wrongly_is_refused_by_name(item: dict[str, Any], param: str, shared: Running) -> None:
    answer = await shared.http.post("/responses", json={"model": "default", "input": [item]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

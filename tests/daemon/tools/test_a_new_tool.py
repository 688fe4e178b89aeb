"""A tool owns its items: one that is registered by one line is there on every surface, and gone without it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from skilldeck_daemon.tools import TOOLS
from skilldeck_daemon.wire import item_kinds
from skilldeck_tui.client.client import Client
from skilldeck_tui.widgets.transcript import approval, views
from support.daemon import Running, running, sse
from support.dice import ODDS, DiceTool, DiceView, serving
from support.scripted_model import Call, Text, Turn
from support.tui import deck

DICE: dict[str, Any] = {"type": "dice", "sides": 6}
THROW = Turn(Call("throw_dice", {"count": 3}, chunk=2))
ANSWER = Turn(Text("A one, a six and a five."))
TYPES = ["dice_call", "dice_call_output", "message"]


@pytest.fixture
def dice() -> Iterator[None]:
    with serving():
        yield


def heard(daemon: Running, number: int) -> list[dict[str, Any]]:
    """What the model read in its request `number`, without system messages."""
    return [message for message in daemon.model.requests[number]["messages"] if message["role"] != "system"]


def thrown(messages: list[dict[str, Any]], at: int = 1) -> bool:
    """Whether a call of the tool and its answer stand at `at` of what the model read."""
    call, answer = messages[at : at + 2]
    (made,) = call["tool_calls"]
    assert made["function"] == {"name": "throw_dice", "arguments": '{"count": 3}'}
    assert answer == {"role": "tool", "tool_call_id": made["id"], "content": "thrown: 1 6 5"}
    return True


@pytest.mark.usefixtures("dice")
async def test_responses_run_it_store_it_replay_it_and_go_on_from_it() -> None:
    async with running(THROW, ANSWER, THROW, ANSWER, Turn("Eleven."), Turn("Twelve.")) as daemon:
        whole = await daemon.respond("throw", tools=[DICE])
        assert [item["type"] for item in whole["output"]] == TYPES
        call, output, _ = whole["output"]
        assert (call["arguments"], call["sides"], output["throws"]) == ('{"count": 3}', 6, [1, 6, 5])
        assert output["call_id"] == call["call_id"]
        assert whole["tools"] == [DICE]
        assert thrown(heard(daemon, 1))

        events = await daemon.stream("throw", tools=[DICE])
        response = events[-1]["response"]
        assert [item["type"] for item in response["output"]] == TYPES
        deltas = {event["type"]: "" for event in events if "dice" in event["type"]}
        for event in events:
            if event["type"] in deltas:
                deltas[event["type"]] += event["delta"]
        assert deltas == {
            "response.dice_call_arguments.delta": '{"count": 3}',
            "response.dice_call_output_throws.delta": "1 6 5 ",
        }

        stored = (await daemon.http.get(f"/responses/{response['id']}")).json()
        assert stored["output"] == response["output"]
        async with daemon.http.stream("GET", f"/responses/{response['id']}", params={"stream": "true"}) as answer:
            assert await sse(answer) == events

        await daemon.respond("and their sum?", tools=[DICE], previous_response_id=response["id"])
        assert thrown(heard(daemon, 4))
        returned = [{"role": "user", "content": "throw"}, *response["output"], {"role": "user", "content": "sum?"}]
        await daemon.respond(returned, tools=[DICE], store=False)
        assert thrown(heard(daemon, 5))


@pytest.mark.usefixtures("dice")
async def test_its_items_are_read_by_its_own_rules_and_hold_more_for_those_who_ask() -> None:
    async with running(THROW, ANSWER) as daemon:
        conversation = (await daemon.http.post("/conversations", json={})).json()["id"]
        response = await daemon.respond("throw", tools=[DICE], conversation=conversation)
        for path in (f"/responses/{response['id']}", f"/conversations/{conversation}/items"):
            asked = (await daemon.http.get(path, params={"include": ODDS})).json()
            items = asked.get("output") or asked["data"]
            assert [item["odds"] for item in items if item["type"] == "dice_call"] == ["1 in 6 each"]
        call = {"type": "dice_call", "call_id": "c", "sides": 1, "arguments": "{}"}
        refused = await daemon.http.post("/responses", json={"model": "default", "input": [call]})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input[0].sides")
        output = {"type": "dice_call_output", "call_id": "c", "throws": [1]}
        refused = await daemon.http.post("/responses", json={"model": "default", "input": [output]})
        assert "No tool call found for the dice_call_output" in refused.json()["error"]["message"]
        async with await Client.connect(daemon.daemon.settings.socket) as client:
            timeline = (await client.run(response["id"])).timeline
        (span,) = [span for span in timeline["spans"] if span["kind"] == "call"]
        assert (span["tool"], span["outcome"], span["throws"]) == ("dice", "completed", 3)


@pytest.mark.usefixtures("dice")
async def test_chat_shows_its_items_beside_the_answer_and_takes_them_back() -> None:
    async with running(THROW, ANSWER, THROW, ANSWER, Turn("Twelve.")) as daemon:
        asked = {"role": "user", "content": "throw"}
        body: dict[str, Any] = {"model": "default", "messages": [asked], "tools": [DICE]}
        answer = (await daemon.http.post("/chat/completions", json=body)).json()["choices"][0]
        assert answer["finish_reason"] == "stop"
        assert answer["message"]["content"] == "A one, a six and a five."
        assert [item["type"] for item in answer["message"]["skilldeck"]["output"]] == TYPES[:2]
        async with daemon.http.stream("POST", "/chat/completions", json={**body, "stream": True}) as streamed:
            text = (await streamed.aread()).decode()
        assert '"dice_call_output"' in text
        body["messages"] = [asked, answer["message"], {"role": "user", "content": "their sum?"}]
        await daemon.http.post("/chat/completions", json=body)
        assert thrown(heard(daemon, 4))


@contextlib.asynccontextmanager
async def on_socket(*turns: Turn) -> AsyncIterator[tuple[Running, Client]]:
    async with running(*turns) as daemon, await Client.connect(daemon.daemon.settings.socket) as client:
        yield daemon, client


@pytest.mark.usefixtures("dice")
async def test_the_socket_sends_its_pieces_merged() -> None:
    async with on_socket(Turn(Call("throw_dice", {"count": 100})), ANSWER) as (_, client):
        run = await client.start_run({"model": "default", "input": "throw", "tools": [DICE]})
        [event async for event in client.watch_run(run["id"])]
        replayed = [event async for event in client.watch_run(run["id"])]
        throws = [event.data["delta"] for event in replayed if event.type == "response.dice_call_output_throws.delta"]
        assert len("".join(throws).split()) == 100
        assert len(throws) == 1


class RealDaemon:
    """In place of the scripted one of the TUI's tests: a client on the socket of a daemon."""

    def __init__(self, daemon: Running) -> None:
        self._socket = daemon.daemon.settings.socket

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with await Client.connect(self._socket) as client:
            yield client


@pytest.mark.usefixtures("dice")
async def test_the_terminal_shows_it_and_asks_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approval, "GUARD_SECONDS", 0.0)
    for type_ in TYPES[:2]:
        monkeypatch.setitem(views.VIEWS, type_, lambda item, lines: DiceView(item))
    async with on_socket(THROW, ANSWER) as (daemon, client), deck(RealDaemon(daemon)) as d:  # type: ignore[arg-type]
        run = await client.start_run({"model": "default", "input": "throw", "tools": [DICE]}, "ask")
        d.chat.open(f"run:{run['id']}")
        await d.shows("May this run?", "throw", 'dice of 6 sides {"count": 3} (may they?)')
        await d.press("y")
        await d.shows('dice of 6 sides {"count": 3}', "they show [1, 6, 5]", "A one, a six and a five.")
        await d.hides("(may they?)")


@pytest.mark.usefixtures("dice")
async def test_without_a_view_the_terminal_shows_its_type_and_text() -> None:
    async with on_socket(THROW, ANSWER) as (daemon, client), deck(RealDaemon(daemon)) as d:  # type: ignore[arg-type]
        run = await client.start_run({"model": "default", "input": "throw", "tools": [DICE]})
        d.chat.open(f"run:{run['id']}")
        await d.shows('▸ dice call   {"count": 3}', "▸ dice call output", "A one, a six and a five.")


async def test_a_tool_that_is_taken_out_leaves_nothing() -> None:
    before = (dict(TOOLS), dict(item_kinds.KINDS), dict(item_kinds.CALLS), set(item_kinds.DELTAS))
    with serving():
        assert TOOLS["dice"] is DiceTool
        with pytest.raises(ValueError, match="'dice_call' have a kind already"), serving():
            pass
    assert before == (TOOLS, item_kinds.KINDS, item_kinds.CALLS, item_kinds.DELTAS)
    async with running() as daemon:
        body: dict[str, Any] = {"model": "default", "input": "throw", "tools": [DICE]}
        refused = (await daemon.http.post("/responses", json=body)).json()["error"]
        assert (refused["param"], refused["code"]) == ("tools[0].type", "unsupported_tool")
        call = {"type": "dice_call", "call_id": "c", "sides": 6, "arguments": "{}"}
        refused = (await daemon.http.post("/responses", json={"model": "default", "input": [call]})).json()["error"]
        assert refused["param"] == "input[0].type"

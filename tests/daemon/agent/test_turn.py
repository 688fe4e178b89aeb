"""One turn of a model, event by event, becomes items in the order of the model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.agent.turn import Turn
from skilldeck_daemon.engine.base import (
    ChatEvent,
    ChatFinished,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from skilldeck_daemon.events.log import EventLog
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.tools.context import Offer, Placement, ToolContext

TOOLS = [
    {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}},
    {"type": "custom", "name": "note"},
]
DONE = ChatFinished("stop", Usage(1, 0, 1))
CALLED = ChatFinished("tool_calls", Usage(1, 0, 1))


async def _turn(*events: ChatEvent, **body: Any) -> tuple[Turn, Output]:
    """A turn that was read and closed. Nothing in it asks for approvals or containers."""
    request = ResponseRequest.parse({"model": "m", "input": "go", "tools": TOOLS, **body})
    context = ToolContext("resp_1", "resp_1", None, cast(Any, None), cast(Any, None), Offer(), Placement())
    output = Output(EventLog())
    turn = Turn(output, context, request, request.tools, None)

    async def come() -> AsyncIterator[ChatEvent]:
        for event in events:
            yield event

    await turn.read(come())
    await turn.close()
    return turn, output


def _call(index: int, name: str, arguments: str, problem: str | None = None) -> tuple[ChatEvent, ...]:
    kind: Any = "custom" if name == "note" else "function"
    pieces = [ToolCallDelta(index, arguments[:3]), ToolCallDelta(index, arguments[3:])]
    return ToolCallStart(index, f"c{index}", name, kind), *pieces, ToolCallDone(index, name, arguments, problem)


async def test_reasoning_text_and_calls_are_items_in_the_order_they_came() -> None:
    turn, output = await _turn(
        ReasoningDelta("I "),
        ReasoningDelta("add."),
        TextDelta("\n"),
        TextDelta("Adding"),
        *_call(0, "add", '{"a": 1}'),
        *_call(1, "note", "plain text"),
        CALLED,
    )
    assert [item["type"] for item in output.items] == ["reasoning", "message", "function_call", "custom_tool_call"]
    assert output.items[1]["content"][0]["text"] == "\nAdding"
    assert output.items[2]["arguments"] == '{"a": 1}'
    assert output.items[3]["input"] == "plain text"
    assert [call.hosted for call in turn.calls] == [False, False]
    assert [item["status"] for item in output.items] == ["completed"] * 4
    assert len({item["call_id"] for item in output.items[2:]}) == 2


async def test_an_answer_of_nothing_is_an_empty_message_and_blank_text_before_a_call_is_none() -> None:
    _, output = await _turn(DONE)
    assert [(item["type"], item["content"][0]["text"]) for item in output.items] == [("message", "")]
    _, output = await _turn(TextDelta(" \n"), *_call(0, "add", "{}"), CALLED)
    assert [item["type"] for item in output.items] == ["function_call"]


async def test_halves_of_a_character_in_two_pieces_of_arguments_are_one() -> None:
    whole = '{"a": "\\ud83d\\ude00", "b": "\\ud83d"}'
    events = [ToolCallStart(0, "c", "add"), *(ToolCallDelta(0, char) for char in whole)]
    _, output = await _turn(*events, ToolCallDone(0, "add", whole), CALLED)
    assert output.items[0]["arguments"] == '{"a": "\\ud83d\\ude00", "b": "\\ufffd"}'
    deltas = [event["delta"] for event in output.log.events if event["type"].endswith("arguments.delta")]
    assert "".join(deltas) == output.items[0]["arguments"]


async def test_a_call_that_the_limit_cut_off_is_incomplete_and_no_call() -> None:
    events = (ToolCallStart(0, "c", "add"), ToolCallDelta(0, '{"a'), ToolCallDone(0, "add", '{"a', "cut off", True))
    turn, output = await _turn(*events, ChatFinished("length", Usage()))
    assert turn.calls == []
    assert output.items[0]["status"] == "incomplete"


async def test_a_tool_that_is_not_there_is_answered_here() -> None:
    turn, output = await _turn(*_call(0, "subtract", "{}", "There is no tool named 'subtract'."), CALLED)
    (call,) = turn.calls
    assert call.hosted
    assert call.problem
    assert [item["type"] for item in output.items if item["type"] != "function_call"] == []

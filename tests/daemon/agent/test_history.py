"""What was said before: references to items, calls and their outputs, tools that are left out, each by itself."""

from __future__ import annotations

from typing import Any, cast

import pytest

from skilldeck_daemon.agent.accounts.account import call_entry
from skilldeck_daemon.agent.planning import history
from skilldeck_daemon.agent.planning.left_out import without_absent
from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.agent.so_far import so_far
from skilldeck_daemon.events.log import EventLog
from skilldeck_daemon.events.output import Output, TextWriter
from skilldeck_daemon.store import Store
from skilldeck_daemon.tools.base import Call
from skilldeck_daemon.tools.context import Offer, Verdict
from skilldeck_daemon.wire.items import parse_input
from skilldeck_shared.errors import BadRequest, SkilldeckError

CALL: dict[str, Any] = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT: dict[str, Any] = {"type": "function_call_output", "call_id": "c", "output": "x"}
SHELL: dict[str, Any] = {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}}
HOSTED = {**SHELL, "environment": {"type": "container_reference", "container_id": "k"}}
EXIT = {"type": "exit", "exit_code": 0}
SHELL_OUTPUT = {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "", "stderr": "", "outcome": EXIT}]}
ADD = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}}


class _Nothing:
    """A store in which no response stands."""

    class responses:
        @staticmethod
        async def list(limit: int, order: str, after: str) -> Any:
            return type("Page", (), {"data": [], "has_more": False})


async def test_a_reference_becomes_its_item_once_and_one_of_the_history_is_there_already() -> None:
    store = cast(Store, _Nothing())
    said = parse_input([{"role": "user", "content": "one", "id": "msg_1"}])
    own = {"role": "user", "content": "two", "id": "msg_2"}
    given = parse_input(
        [
            {"type": "item_reference", "id": "msg_1"},
            own,
            {"type": "item_reference", "id": "msg_2"},
        ]
    )
    found = await history.references(given, said, store)
    assert [item["id"] for item in found] == ["msg_2", "msg_2"]
    assert await history.references(said, [], store) == said
    with pytest.raises(SkilldeckError) as raised:
        await history.references(parse_input([{"type": "item_reference", "id": "msg_9"}]), said, store)
    assert raised.value.param == "input[0].id"


@pytest.mark.parametrize("items", [[CALL, OUTPUT], [SHELL, SHELL_OUTPUT], [HOSTED], [CALL, OUTPUT, CALL, OUTPUT]])
def test_calls_and_outputs_that_belong_together_pass(items: list[dict[str, Any]]) -> None:
    history.check_calls(parse_input(items), 0)


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([CALL], "No tool output found for the function_call"),
        ([SHELL], "No tool output found for the shell_call"),
        ([OUTPUT], "No tool call found for the function_call_output"),
        ([CALL, OUTPUT, OUTPUT], "No tool call found for the function_call_output"),
    ],
)
def test_halves_of_calls_are_refused_by_their_type(items: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        history.check_calls(parse_input(items), 0)


def test_an_output_of_the_history_whose_call_was_deleted_is_no_fault_of_the_request() -> None:
    history.check_calls(parse_input([OUTPUT]), 1)


def _request(**body: Any) -> ResponseRequest:
    return ResponseRequest.parse({"model": "m", "input": "go", **body})


def test_a_tool_that_is_not_here_is_left_out_where_another_remains() -> None:
    kept, missing = without_absent(_request(tools=[{"type": "image_generation"}, ADD]), Offer(), "resp_1")
    assert ([tool.type for tool in kept.tools], missing) == (["function"], ("image_generation",))
    request = _request(tools=[ADD])
    assert without_absent(request, Offer(), "resp_1") == (request, ())


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"type": "image_generation"}]},
        {"tools": [{"type": "image_generation"}, ADD], "tool_choice": {"type": "image_generation"}},
    ],
)
def test_a_tool_that_is_not_here_is_refused_where_nothing_remains_or_it_is_demanded(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as raised:
        without_absent(_request(**body), Offer(), "resp_1")
    assert raised.value.param == "tools[0].type"


def test_the_answer_of_a_run_that_goes_on_is_what_was_streamed_of_it() -> None:
    output = Output(EventLog())
    done, going = TextWriter(output, logprobs=False), TextWriter(output, logprobs=False)
    done.write("first", ())
    done.close([])
    going.write("sec", ())
    going.write("ond", ())
    shown = so_far(output.items, output.log.events)
    assert [item["content"][0]["text"] for item in shown] == ["first", "second"]
    assert output.items[1]["content"] == []


@pytest.mark.parametrize(
    ("problem", "verdict", "item", "stopped", "outcome"),
    [
        (None, None, SHELL_OUTPUT, None, "completed"),
        ("no JSON", None, SHELL_OUTPUT, None, "invalid"),
        (None, Verdict(False, 1.5), SHELL_OUTPUT, None, "denied"),
        (None, Verdict(True), {**OUTPUT, "status": "failed"}, None, "failed"),
        (None, None, {}, "cancelled", "cancelled"),
        (None, None, {**SHELL_OUTPUT, "output": [{"outcome": {"type": "timeout"}}]}, None, "timeout"),
    ],
)
def test_the_account_of_a_call_says_how_it_ended(
    problem: str | None, verdict: Verdict | None, item: dict[str, Any], stopped: Any, outcome: str
) -> None:
    (tool,) = _request(tools=[{"type": "shell"}]).tools
    entry = call_entry(Call(tool, "c", "shell", "{}", True, problem), 2, 0.0, verdict, item, stopped)
    assert (entry["outcome"], entry["tool"], entry["output_index"]) == (outcome, "shell", 2)
    assert entry.get("exit_codes") == {"completed": [0], "timeout": [None]}.get(outcome)
    assert entry.get("asked_s") == (verdict.asked_s if verdict else None)

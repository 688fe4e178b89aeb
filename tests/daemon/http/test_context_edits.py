"""`context_management` of Messages, by itself: what is cleared of a history and what is reported."""

from __future__ import annotations

from typing import Any

import pytest

from skilldeck_daemon.http.anthropic.context_edits import CLEARED, apply_edits, parse_edits
from skilldeck_daemon.wire.fields import Fields
from skilldeck_daemon.wire.items import Item, parse_input
from skilldeck_shared.errors import BadRequest

EXIT = {"type": "exit", "exit_code": 0}


def _history(calls: int = 4) -> list[Item]:
    """Calls of a function and of the shell in turn, each with its output."""
    items: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
    for n in range(calls):
        if n % 2:
            entry = {"stdout": f"printed {n}", "stderr": "", "outcome": EXIT}
            items += [
                {"type": "shell_call", "call_id": f"c{n}", "action": {"commands": [f"echo {n}"]}},
                {"type": "shell_call_output", "call_id": f"c{n}", "output": [entry]},
            ]
        else:
            items += [
                {"type": "function_call", "call_id": f"c{n}", "name": "f", "arguments": f'{{"n": {n}}}'},
                {"type": "function_call_output", "call_id": f"c{n}", "output": f"returned {n}"},
            ]
    return parse_input(items)


async def _count(items: list[Item]) -> int:
    return len(str(items))


async def _applied(items: list[Item], **edit: Any) -> tuple[list[Item], list[dict[str, Any]]]:
    edits = parse_edits(Fields({"context_management": {"edits": [edit]}}))
    return await apply_edits(edits, items, _count)


def _outputs(items: list[Item]) -> list[str]:
    found = [item["output"] for item in items if item["type"].endswith("_output")]
    return [output if isinstance(output, str) else output[0]["stdout"] for output in found]


async def test_old_outputs_of_every_kind_of_call_give_way_to_a_note_and_the_newest_stay() -> None:
    items = _history()
    left, (report,) = await _applied(
        items, type="clear_tool_uses_20250919", trigger={"type": "tool_uses", "value": 1},
        keep={"type": "tool_uses", "value": 1},
    )  # fmt: skip
    assert _outputs(left) == [CLEARED, CLEARED, CLEARED, "printed 3"]
    assert report["cleared_tool_uses"] == 3
    assert [item["id"] for item in left] == [item["id"] for item in items]
    assert left[1]["arguments"] == '{"n": 0}'


@pytest.mark.parametrize("inputs", [True, ["f"]])
async def test_arguments_go_where_that_is_asked_for(inputs: Any) -> None:
    left, _ = await _applied(
        _history(), type="clear_tool_uses_20250919", trigger={"type": "tool_uses", "value": 1},
        keep={"type": "tool_uses", "value": 0}, clear_tool_inputs=inputs,
    )  # fmt: skip
    assert [item["arguments"] for item in left if item["type"] == "function_call"] == ["{}", "{}"]
    assert [item["action"]["commands"] for item in left if item["type"] == "shell_call"] == [["echo 1"], ["echo 3"]]


async def test_tools_that_are_excluded_and_histories_below_the_trigger_are_left_alone() -> None:
    items = _history()
    edit: dict[str, Any] = {"type": "clear_tool_uses_20250919", "keep": {"type": "tool_uses", "value": 0}}
    assert await _applied(items, **edit) == (items, [])
    edit["trigger"] = {"type": "tool_uses", "value": 1}
    left, _ = await _applied(items, **edit, exclude_tools=["f"])
    assert _outputs(left) == ["returned 0", CLEARED, "returned 2", CLEARED]
    assert await _applied(items, **edit, clear_at_least={"type": "input_tokens", "value": 10**6}) == (items, [])


async def test_reasoning_of_older_turns_is_cleared() -> None:
    thought = [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": f"thought {n}"}]} for n in range(2)]
    said = {"role": "user", "content": "go"}
    items = parse_input([said, thought[0], said, thought[1]])
    left, (report,) = await _applied(items, type="clear_thinking_20251015")
    assert [bool(item["content"]) for item in left] == [True, False, True, True]
    assert report["cleared_thinking_turns"] == 1


def test_an_edit_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(BadRequest) as raised:
        parse_edits(Fields({"context_management": {"edits": [{"type": "clear_everything"}]}}))
    assert raised.value.param == "context_management.edits[0].type"

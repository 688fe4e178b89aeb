"""`tool_choice`: what is read, echoed and asked of the model, by what each tool says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from skilldeck_daemon.tools import parse_tools
from skilldeck_daemon.tools.choice import parse_choice
from skilldeck_daemon.wire.fields import Fields
from skilldeck_shared.errors import BadRequest

ADD = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}}
SUB = {**ADD, "name": "sub"}
TOOLS: list[dict[str, Any]] = [ADD, SUB, {"type": "custom", "name": "note"}, {"type": "web_search"}, {"type": "shell"}]
CALLED = {"type": "function", "name": "sub"}
PARSED = parse_tools(Fields({"tools": TOOLS}))


@pytest.mark.parametrize(
    ("choice", "echo", "asked"),
    [
        (None, "auto", "auto"),
        ("none", "none", "none"),
        ("required", "required", "required"),
        ({"type": "function", "name": "add"}, None, {"type": "function", "name": "add"}),
        ({"type": "custom", "name": "note"}, None, {"type": "function", "name": "note"}),
        ({"type": "shell"}, None, {"type": "function", "name": "shell"}),
        (
            {"type": "web_search"},
            {"type": "web_search_preview"},
            {"type": "allowed_tools", "mode": "required", "names": ["web_search", "open_page", "find_in_page"]},
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "sub"}, {"type": "shell"}],
            },
            None,
            {"type": "allowed_tools", "mode": "auto", "names": ["sub", "shell"]},
        ),
    ],
)
def test_a_choice_is_echoed_and_handed_to_the_model(choice: Any, echo: Any, asked: Any) -> None:
    found = parse_choice(Fields({"tool_choice": choice}), PARSED)
    assert found.echo == (choice if echo is None else echo)
    assert found.for_model(PARSED, PARSED, called=False) == asked


def test_a_forced_choice_is_satisfied_once_something_was_called_and_void_without_its_tool() -> None:
    found = parse_choice(Fields({"tool_choice": {"type": "function", "name": "add"}}), PARSED)
    assert found.for_model(PARSED, PARSED, called=True) == {"type": "allowed_tools", "mode": "auto", "names": ["add"]}
    assert found.for_model(PARSED, PARSED[1:], called=False) == "none"


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ("sometimes", "tool_choice"),
        ({"type": "function"}, "tool_choice.name"),
        ({"type": "custom"}, "tool_choice.name"),
        ({"type": "mcp"}, "tool_choice.server_label"),
        ({"type": "function", "name": "mul"}, "tool_choice"),
        ({"type": "apply_patch"}, "tool_choice"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}, "tool_choice.tools[0].server_label"),
    ],
)
def test_a_choice_that_means_nothing_is_refused_by_its_field(choice: Any, param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        parse_choice(Fields({"tool_choice": choice}), PARSED)
    assert raised.value.param == param


def test_required_needs_tools() -> None:
    with pytest.raises(BadRequest, match="there are no tools"):
        parse_choice(Fields({"tool_choice": "required"}), [])

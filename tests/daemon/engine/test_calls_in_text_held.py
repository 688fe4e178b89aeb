"""Where a call has begun in the text, nothing but the rest of it can follow: what the grammar of a free turn allows."""

from __future__ import annotations

from typing import Any

import pytest

from skilldeck_daemon.engine.base import ChatRequest
from skilldeck_daemon.engine.checks import plan_tools
from skilldeck_daemon.engine.families import family
from skilldeck_daemon.engine.grammar.text import NAMED_IN_TEXT, turn_grammar
from support.grammars import allows, lasts

CALL = '{"name": "shell", "arguments": {"commands": ["ls"]}}'
WRONG = '{"name": "shell", "arguments": {"command": "ls"}}'


def tool(name: str) -> dict[str, Any]:
    commands = {"type": "array", "items": {"type": "string"}}
    schema = {"type": "object", "properties": {"commands": commands}, "required": ["commands"]}
    return {"type": "function", "function": {"name": name, "parameters": {**schema, "additionalProperties": False}}}


def grammar(name: str, *tools: str, in_text: bool = True) -> str:
    plan = plan_tools(ChatRequest([], tools=[tool(one) for one in tools or ("shell", "weather")]))
    return turn_grammar(family(name), plan, {}, parallel=True, in_reasoning=False, thought=0, in_text=in_text)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        (CALL, True),
        (WRONG, False),
        ('{"name": "shell", "version": "1.0"}', False),
        (f"```json\n{CALL}\n```", True),
        (f"```json\n{WRONG}\n```", False),
        (f"```json\n{CALL}\nand so on", False),
        (f"I look.\n\n```json\n{CALL}\n```", True),
        (f"I look.\n\n```json\n{WRONG}\n```", False),
        (f"<tools>\n{CALL}\n</tools>", True),
        ('{"function": "weather", "args": {"commands": []}}\n' + CALL, True),
        ('{"function": "weather", "args": {"commands": []}}\n' + WRONG, False),
        # no calls
        ('{"name": "my-app", "version": "1.0"}', True),
        ('```json\n{"name": "my-app"}\n```\nThat is all.', True),
        (f"You would write `{WRONG}` for it.", True),
        ('{"arguments": 1, "name": "shell"}', True),
        ("Plain words, and ```python\nprint({})\n```.", True),
    ],
)
def test_from_the_name_of_an_offered_tool_on_a_call_is_held(text: str, allowed: bool) -> None:
    for name in ("hermes", "generic", "llama3"):
        assert allows(grammar(name), text) is allowed, name


def test_other_families_those_that_do_not_read_it_and_too_many_tools_are_left_free() -> None:
    assert allows(grammar("deepseek"), WRONG)
    assert allows(grammar("hermes", in_text=False), WRONG)
    assert allows(grammar("llama3", in_text=False), WRONG)
    many = [f"tool_{number}" for number in range(NAMED_IN_TEXT)]
    assert allows(grammar("hermes", "shell", *many), WRONG)
    assert not allows(grammar("hermes", "shell", *many[1:]), WRONG)


@pytest.mark.parametrize("count", [24, NAMED_IN_TEXT])
def test_the_tools_of_an_agent_program_are_not_too_much_for_the_lexer(count: int) -> None:
    """With each name in a text of its own that is looked for, 24 tools were here, and with the 150,000 tokens of Qwen's
    vocabulary the ten of opencode, whose every turn was empty."""
    names = [f"tool_{number}" for number in range(count)]
    for text in (
        'I look.\n\n```json\n{"name": "tool_7", "arguments": {',
        '{"name": "other"}\n<tool_call>\n{"name": "tool_',
    ):
        assert lasts(grammar("hermes", *names), text) == ""

"""Calls that models write as text: what is one, what stays text, and that no split changes it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldeck_daemon.engine.base import ChatRequest
from skilldeck_daemon.engine.checks import ToolPlan, plan_tools
from skilldeck_daemon.engine.parsing.text_call_candidate import FoundCall
from skilldeck_daemon.engine.parsing.text_calls import TextCalls


def function(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [
    function("shell", commands={"type": "array", "items": {"type": "string"}}),
    function("weather", city={"type": "string"}, days={"type": "integer"}),
    {"type": "custom", "custom": {"name": "patch"}},
]
PLAN = plan_tools(ChatRequest([], tools=TOOLS))
GRAZ = '{"name": "weather", "arguments": {"city": "Graz"}}'
LINZ = '{"name": "weather", "arguments": {"city": "Linz"}}'
NESTED = '{"type": "function", "function": {"name": "weather", "arguments": {"city": "Graz"}}}'


def read(
    pieces: list[str], plan: ToolPlan = PLAN, shell: str = "", cut_off: bool = False
) -> list[str | tuple[str, Any]]:
    """Text, and calls as (name, arguments); neighbouring text joined."""
    reader = TextCalls(plan, shell)
    found: list[str | FoundCall] = [piece for text in pieces for piece in reader.feed(text)]
    out: list[str | tuple[str, Any]] = []
    for piece in found + reader.close(cut_off):
        if isinstance(piece, FoundCall):
            value = piece.arguments if piece.cut_off or piece.name == "patch" else json.loads(piece.arguments)
            out.append((piece.name + ("…" if piece.cut_off else ""), value))
        elif out and isinstance(out[-1], str):
            out[-1] += piece
        else:
            out.append(piece)
    return out


CITY = ("weather", {"city": "Graz"})
CALLS: dict[str, tuple[str, list[Any]]] = {
    "bare": (GRAZ, [CITY]),
    "bare, indented": (json.dumps(json.loads(GRAZ), indent=2), [CITY]),
    "fenced": (f"```json\n{GRAZ}\n```", [CITY]),
    "fenced without a language": (f"```\n{GRAZ}\n```\n", [CITY]),
    "fenced as tool_call": (f"```tool_call\n{GRAZ}\n```", [CITY]),
    "a fence that stays open": (f"```json\n{GRAZ}", [CITY]),
    "tools": (f"<tools>\n{GRAZ}\n</tools>", [CITY]),
    "tool_call": (f"<tool_call>\n{GRAZ}\n</tool_call>", [CITY]),
    "function_call": (f"<function_call>{GRAZ}</function_call>", [CITY]),
    "function=": ('<function=weather>{"city": "Graz"}</function>', [CITY]),
    "function= with parameters": (
        "<function=weather>\n<parameter=city>\nGraz\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>",
        [("weather", {"city": "Graz", "days": 3})],
    ),
    "function= inside tool_call": (
        "<tool_call>\n<function=weather>\n<parameter=city>\nGraz\n</parameter>\n</function>\n</tool_call>",
        [CITY],
    ),
    "between doubled braces": (f"{{{GRAZ}}}", [CITY]),
    "between doubled braces, the last one forgotten": (f"{{{GRAZ}", [CITY]),
    "nested function": (NESTED, [CITY]),
    "under function": (GRAZ.replace("name", "function"), [CITY]),
    "under tool and args": ('{"tool": "weather", "args": {"city": "Graz"}}', [CITY]),
    "under parameters, name last": ('{"parameters": {"city": "Graz"}, "name": "weather"}', [CITY]),
    "under input": ('{"name": "weather", "input": {"city": "Graz"}}', [CITY]),
    "arguments as a string": ('{"name": "weather", "arguments": "{\\"city\\": \\"Graz\\"}"}', [CITY]),
    "arguments beside the name": ('{"name": "weather", "city": "Graz"}', [CITY]),
    "no arguments": ('{"name": "weather"}', [("weather", {})]),
    "a line break in a string": ('{"name": "weather", "arguments": {"city": "a\nb"}}', [("weather", {"city": "a\nb"})]),
    "a fence in a string": (
        '```json\n{"name": "weather", "arguments": {"city": "\\n```\\n"}}\n```',
        [("weather", {"city": "\n```\n"})],
    ),
    "free text": ('{"name": "patch", "arguments": {"input": "a\\nb"}}', [("patch", "a\nb")]),
    "a list": (f"[{GRAZ}, {LINZ}]", [CITY, ("weather", {"city": "Linz"})]),
    "tool_calls": (f'{{"tool_calls": [{NESTED}]}}', [CITY]),
    "several in a fence": (f"```json\n{GRAZ}\n{LINZ}\n```", [CITY, ("weather", {"city": "Linz"})]),
    "several fences": (f"```json\n{GRAZ}\n```\n\n```json\n{LINZ}\n```", [CITY, ("weather", {"city": "Linz"})]),
    "several in a row": (f"{GRAZ}; {LINZ}", [CITY, ("weather", {"city": "Linz"})]),
    "the last brace forgotten": (GRAZ[:-1], [CITY]),
    "as the end after text": (f"I look.\n\n```json\n{GRAZ}\n```\n", ["I look.", CITY]),
    "bare as the end after text": (f"I look.\n{GRAZ}\n", ["I look.", CITY]),
    "two as the end after text": (f"I look.\n{GRAZ}\n{LINZ}", ["I look.", CITY, ("weather", {"city": "Linz"})]),
    "text after a call": (f"```json\n{GRAZ}\n```\n\nThat will do.", [CITY, "That will do."]),
}
TEXTS = {
    "a package.json": '{\n  "name": "weather-app",\n  "version": "1.0.0",\n  "scripts": {"start": "node ."}\n}',
    "a package.json named like a tool": '{\n  "name": "weather",\n  "version": "1.0.0"\n}\n',
    "a package.json in a fence": '```json\n{"name": "weather", "private": true}\n```',
    "the schema of a tool": json.dumps(TOOLS[1]["function"]),
    "a schema alone": '{"name": "weather", "parameters": {"type": "object", "properties": {}}}',
    "no offered tool": '```json\n{"name": "csv-summary", "arguments": {"file": "orders.csv"}}\n```',
    "one of two is none": f'[{GRAZ}, {{"name": "rm", "arguments": {{}}}}]',
    "a sample inside prose": f"A call looks so:\n\n```json\n{GRAZ}\n```\n\nThe name says which tool.",
    "a sample line inside prose": f"You may write\n{GRAZ}\nor nothing.",
    "a sample inside a line": f"You may write {GRAZ}",
    "inside a program": f"```python\nprint(1)\n{GRAZ}\n```",
    "a template between doubled braces": '{{"name": "weather"} is no call',
    "a list of numbers": "[1, 2, 3]",
    "a link": "[here](https://example.com) it is",
    "html": "<div>\n<tools></tools>\n</div>",
    "inline code": "`ls` lists; ``x``",
    "broken": '{"name": "weather", "arguments": {city}}',
    "arguments that are none": '{"name": "weather", "arguments": ["Graz"]}',
    "a fence that ends early": '```json\n{"name": "weather", "arguments": {"city": "Graz"}\n```',
    "a bash block": "```bash\nls -la\n```",
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call_in_the_text_is_a_call(case: str) -> None:
    text, expected = CALLS[case]
    assert read([text]) == expected


@pytest.mark.parametrize("case", TEXTS)
def test_what_is_no_call_stays_text_to_the_byte(case: str) -> None:
    assert read([TEXTS[case]]) == [TEXTS[case]]


@pytest.mark.parametrize("text", [*(text for text, _ in CALLS.values()), *TEXTS.values()])
def test_no_split_changes_what_is_read(text: str) -> None:
    for shell in ("", "shell"):
        whole = read([text], shell=shell)
        assert read(list(text), shell=shell) == whole
        for at in range(len(text)):
            assert read([text[:at], text[at:]], shell=shell) == whole, repr(text[:at][-20:])


PARTS = [
    *(GRAZ, NESTED, f"[{LINZ}]", '{"name": ', '"weather"', '"arguments": ', '{"city": "x"}', "{", "}", "[", "]", ", "),
    *("```json\n", "```\n", "```", "```bash\nls\n", "<tools>", "</tools>", "<function=weather>", "</function>", "`"),
    *("<parameter=city>", "</parameter>", "<tool_call>", "</tool_call>", "so", "\n", "\n\n", " ", ";", "é", '"', "\\"),
]


@given(st.lists(st.sampled_from(PARTS), max_size=20), st.booleans(), st.sampled_from(["", "shell"]), st.data())
@settings(max_examples=500, deadline=None)
def test_any_text_is_read_the_same_at_any_split(parts: list[str], cut_off: bool, shell: str, data: Any) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = read([text], shell=shell, cut_off=cut_off)
    assert read(pieces, shell=shell, cut_off=cut_off) == whole
    if all(isinstance(piece, str) for piece in whole):
        assert "".join(piece for piece in whole if isinstance(piece, str)) == text


def test_text_is_shown_as_soon_as_it_cannot_be_a_call() -> None:
    reader = TextCalls(PLAN)
    assert reader.feed('```json\n{"name": "weath') == []
    assert reader.feed('er-app"') == ['```json\n{"name": "weather-app"']
    assert reader.feed(', "version"') == [', "version"']


def test_a_call_is_given_as_soon_as_it_is_complete() -> None:
    reader = TextCalls(PLAN)
    assert reader.feed(f"```json\n{GRAZ}\n``") == []
    assert reader.feed("`") == [FoundCall("weather", '{"city": "Graz"}')]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('```json\n{"name": "weather", "arguments": {"city": "Gr', [("weather…", '{"city": "Gr')]),
        ('{"name": "weather"', [("weather…", "")]),
        ('{"name": "wea', ['{"name": "wea']),
        ('<function=weather>{"city": "Gr', [("weather…", '{"city": "Gr')]),
        (f"{GRAZ}\n{LINZ[:-6]}", [CITY, ("weather…", '{"city": "L')]),
    ],
)
def test_the_output_limit_inside_a_call_leaves_its_beginning(text: str, expected: list[Any]) -> None:
    assert read([text], cut_off=True) == expected


def test_tools_that_are_not_offered_now_are_none() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "names": ["shell"]}
    assert read([GRAZ], plan_tools(ChatRequest([], tools=TOOLS, tool_choice=choice))) == [GRAZ]
    assert read([GRAZ], plan_tools(ChatRequest([], tools=TOOLS, tool_choice="none"))) == [GRAZ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```bash\nls -la /mnt/data\n```", [("shell", {"commands": ["ls -la /mnt/data"]})]),
        ("```sh\ncat <<EOF\n```x\nEOF\n```\n", [("shell", {"commands": ["cat <<EOF\n```x\nEOF"]})]),
        ("```bash\nls\n```\nThis lists the files.", None),
        ("To list them, use\n```bash\nls\n```", None),
        ("```python\nprint(1)\n```", None),
        ("```bash\n\n```", None),
    ],
)
def test_a_turn_that_is_a_block_of_commands_calls_the_daemons_shell(text: str, expected: list[Any] | None) -> None:
    assert read([text], shell="shell") == (expected or [text])


def test_what_a_limit_leaves_of_a_further_call_is_not_shown() -> None:
    for begun in ('{"', '```json\n{"name": "wea', "<tools>"):
        assert read([f"{GRAZ}\n{begun}"], cut_off=True) == [CITY]
        assert read([f"I look.\n{GRAZ}\n{begun}"], cut_off=True) == ["I look.", CITY]
        assert read([f"I look.\n{begun}"], cut_off=True)[0].startswith("I look.")


def test_a_part_of_the_schema_among_the_arguments_is_left_out() -> None:
    assert read(['{"name": "weather", "arguments": {"city": "Graz", "required": ["city"]}}']) == [CITY]
    other = '{"name": "weather", "arguments": {"city": "Graz", "unit": "celsius"}}'
    assert read([other]) == [("weather", {"city": "Graz", "unit": "celsius"})]

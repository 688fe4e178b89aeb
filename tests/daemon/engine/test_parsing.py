"""Every family's way of writing, read in one piece and at every split, well-formed and not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldeck_daemon.engine.base import (
    ChatEvent,
    ChatRequest,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStart,
)
from skilldeck_daemon.engine.checks import ToolPlan, plan_tools
from skilldeck_daemon.engine.families import detect, family, known
from skilldeck_daemon.engine.parsing.parser import parser_for


def function(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [
    function("shell", commands={"type": "array", "items": {"type": "string"}}, timeout_ms={"type": "integer"}),
    function("say", text={"type": "string"}, loud={"type": "boolean"}),
    {"type": "custom", "custom": {"name": "patch"}},
]
PLAN = plan_tools(ChatRequest([], tools=TOOLS))
NO_TOOLS = plan_tools(ChatRequest([]))

ARGUMENTS = {"commands": ["ls -la", 'echo "é 👋 }</tool_call>"'], "timeout_ms": 5}
WRITTEN = json.dumps(ARGUMENTS, ensure_ascii=False)
SAY = {"text": 'héllo\n  "you" </b> \\', "loud": True}
SAID = json.dumps(SAY, ensure_ascii=False)


def thought(before: str = "\n", after: str = "\n\n") -> str:
    return f"<think>{before}hm, 1 < 2{before}</think>{after}I look."


COMMANDS = json.dumps(ARGUMENTS["commands"], ensure_ascii=False)
WRITTEN_BY = {
    "hermes": thought()
    + f'\n<tool_call>\n{{"name": "shell", "arguments": {WRITTEN}}}\n</tool_call>'
    + f'\n<tool_call>\n{{"arguments": {SAID}, "name": "say"}}\n</tool_call>',
    "generic": thought()
    + f'\n\n<tool_call>{{"name": "shell", "arguments": {WRITTEN}}}</tool_call>'
    + f'\n<tool_call>\n{{"name": "say", "parameters": {json.dumps(SAID)}}}\n</tool_call>\n',
    "qwen_coder": thought("", "")
    + f"\n\n<tool_call>\n<function=shell>\n<parameter=commands>\n{COMMANDS}\n</parameter>\n"
    + "<parameter=timeout_ms>\n5\n</parameter>\n</function>\n</tool_call>"
    + f"\n<tool_call>\n<function=say>\n<parameter=text>\n{SAY['text']}\n</parameter>\n"
    + "<parameter=loud>\ntrue\n</parameter>\n</function>\n</tool_call>",
    "glm": thought("", "\n")
    + f"\n<tool_call>shell\n<arg_key>commands</arg_key>\n<arg_value>{COMMANDS}</arg_value>\n"
    + "<arg_key>timeout_ms</arg_key>\n<arg_value>5</arg_value>\n</tool_call>"
    + f"\n<tool_call>say\n<arg_key>text</arg_key>\n<arg_value>{SAY['text']}</arg_value>\n"
    + "<arg_key>loud</arg_key>\n<arg_value>true</arg_value>\n</tool_call>",
    "llama3": f'{{"name": "shell", "parameters": {WRITTEN}}}; {{"name": "say", "parameters": {SAID}}}',
    "mistral": f'I look.[TOOL_CALLS][{{"name": "shell", "arguments": {WRITTEN}}}, '
    + f'{{"name": "say", "arguments": {SAID}}}]',
    "deepseek": thought()
    + f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>shell\n```json\n{WRITTEN}\n```"
    + f"<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>say<｜tool▁sep｜>{SAID}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "harmony": "<|channel|>analysis<|message|>hm, 1 < 2<|end|><|start|>assistant<|channel|>commentary"
    + "<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.shell <|constrain|>json"
    + f"<|message|>{WRITTEN}<|call|><|start|>assistant to=functions.say<|channel|>commentary json"
    + f"<|message|>{SAID}<|call|>",
}


def two_calls(name: str) -> str:
    """Reasoning (where there is any), text and two calls as this family writes them."""
    return WRITTEN_BY[name]


def read(
    name: str, pieces: list[str], plan: ToolPlan = PLAN, prompt: str = "", cut_off: bool = False
) -> list[ChatEvent]:
    parser = parser_for(family(name), plan, prompt, ChatRequest([]))
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.close(cut_off)


def summary(events: list[ChatEvent]) -> list[tuple[Any, ...]]:
    """The events with neighbouring pieces joined, ids left out, and the order of deltas inside their call checked."""
    out: list[tuple[Any, ...]] = []
    for event in events:
        match event:
            case TextDelta() | ReasoningDelta():
                kind = "text" if isinstance(event, TextDelta) else "reasoning"
                if out and out[-1][0] == kind:
                    out[-1] = (kind, out[-1][1] + event.text)
                else:
                    out.append((kind, event.text))
            case ToolCallStart():
                out.append(("call", event.index, event.name, event.kind, ""))
            case ToolCallDelta():
                assert out[-1][0] == "call"
                out[-1] = (*out[-1][:4], out[-1][4] + event.delta)
            case ToolCallDone():
                assert out[-1][:3] == ("call", event.index, event.name)
                assert out[-1][4] == event.arguments
                out[-1] = (*out[-1], event.problem)
    return out


@pytest.mark.parametrize("name", [*known(), "generic"])
def test_a_family_is_read_whole(name: str) -> None:
    found = summary(read(name, [two_calls(name)]))
    calls = [entry for entry in found if entry[0] == "call"]
    assert [(entry[1], entry[2], json.loads(entry[4])) for entry in calls] == [(0, "shell", ARGUMENTS), (1, "say", SAY)]
    assert all(entry[5] is None for entry in calls)
    if name != "llama3":
        assert ("text", "I look.") in found
    if name not in ("llama3", "mistral"):
        assert found[0] == ("reasoning", "hm, 1 < 2")
    assert len(found) == 2 + (name != "llama3") + (name not in ("llama3", "mistral"))


@pytest.mark.parametrize("name", [*known(), "generic"])
def test_no_split_changes_what_is_read(name: str) -> None:
    text = two_calls(name)
    whole = summary(read(name, [text]))
    assert summary(read(name, list(text))) == whole
    for at in range(len(text)):
        assert summary(read(name, [text[:at], text[at:]])) == whole, repr(text[:at][-20:])


MARKERS = [
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "{", "}", '"name": ', '"shell"', '"arguments": ', "[", "]"),
    *("[TOOL_CALLS]", "[ARGS]", "<function=say>", "<parameter=text>", "</parameter>", "</function>", "<arg_key>"),
    *("</arg_key>", "<arg_value>", "</arg_value>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"),
    *("<|channel|>", "<|message|>", "<|end|>", "to=functions.shell ", "final", "x", "é", "```json", "```", ",", ": "),
    *('<custom_call name="', 'patch">\n', "\n</custom_call>", '"input": "a\\n', '\\"', " "),
]


@given(st.sampled_from([*known(), "generic"]), st.lists(st.sampled_from(MARKERS), max_size=25), st.data())
@settings(max_examples=400, deadline=None)
def test_any_output_is_read_the_same_at_any_split_and_every_call_ends(name: str, parts: list[str], data: Any) -> None:
    text = "".join(parts)
    whole = summary(read(name, [text]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert summary(read(name, pieces)) == whole
    assert all(len(entry) == 6 for entry in whole if entry[0] == "call")


@given(st.text(alphabet='ab <>/\n"{}', max_size=40))
@settings(max_examples=200, deadline=None)
def test_text_without_markers_loses_at_most_white_space_at_its_ends(text: str) -> None:
    found = "".join(entry[1] for entry in summary(read("hermes", [text])) if entry[0] == "text")
    assert found == text


def test_arguments_stream_while_the_call_is_written() -> None:
    parser = parser_for(family("hermes"), PLAN)
    parser.feed('<tool_call>\n{"name": "shell", "arguments": {"commands": ["l')
    assert parser.state == "call"
    events = parser.feed("s -l")
    assert [event.delta for event in events if isinstance(event, ToolCallDelta)] == ["s -l"]


def test_a_prompt_that_opened_the_reasoning_is_continued() -> None:
    found = summary(read("hermes", ["hm</think>\n\nyes"], prompt="…<|im_start|>assistant\n<think>\n"))
    assert found == [("reasoning", "hm"), ("text", "yes")]


def test_a_custom_tools_input_is_unwrapped_and_its_raw_form_understood() -> None:
    wrapped = '<tool_call>\n{"name": "patch", "arguments": {"input": "a\\n\\"b\\""}}\n</tool_call>'
    raw = 'so:\n<custom_call name="patch">\na\n"b"\n</custom_call>\nthat is it'
    assert summary(read("hermes", list(wrapped))) == [("call", 0, "patch", "custom", 'a\n"b"', None)]
    assert summary(read("llama3", list(raw))) == [
        ("text", "so:"),
        ("call", 0, "patch", "custom", 'a\n"b"', None),
        ("text", "that is it"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "hermes",
            '<tool_call>\n{"name": "shell", "arguments": {"commands": ["a\nb"]}}\n</tool_call> then',
            "could not be",
        ),
        ("hermes", '<tool_call>\n{"name": "shell", "arguments": {commands}}\n</tool_call> then', "could not be read"),
        ("hermes", "<tool_call>\nshell ls\n</tool_call> then", "not a JSON object"),
        ("hermes", '<tool_call>{"arguments": {"a": 1}}</tool_call> then', "does not name a tool"),
        ("hermes", '<tool_call>{"name": "rm", "arguments": {}}</tool_call> then', "no tool named 'rm'"),
        ("hermes", '<tool_call>{"name": "shell", "arguments": [1]}</tool_call> then', "must be a JSON object"),
        ("qwen_coder", "<tool_call>\n<function=say>\n<parameter>x</tool_call> then", "a parameter cannot be read"),
        ("glm", "<tool_call>\n</tool_call> then", "does not name a tool"),
        ("deepseek", "<｜tool▁call▁begin｜>say<｜tool▁sep｜>hello<｜tool▁call▁end｜> then", "not a JSON object"),
    ],
)
def test_a_call_that_cannot_be_read_is_surfaced_and_what_follows_is_kept(name: str, text: str, said: str) -> None:
    found = summary(read(name, list(text)))
    assert found[-1] == ("text", "then")
    call = found[0]
    assert said in call[5]
    if "could not be read" in call[5] and name == "hermes":
        body = text.split("<tool_call>")[1].split("</tool_call>")[0].strip()
        assert body.endswith(call[4])
        assert call[4]


@pytest.mark.parametrize("name", [*known(), "generic"])
def test_an_output_cut_anywhere_ends_every_call_and_says_so(name: str) -> None:
    text = two_calls(name)
    problems = set()
    for at in range(len(text)):
        calls = [entry for entry in summary(read(name, [text[:at]], cut_off=True)) if entry[0] == "call"]
        assert all(len(entry) == 6 for entry in calls)
        problems |= {entry[5] for entry in calls}
    assert any(problem and "cut off" in problem for problem in problems)


def test_without_tools_a_call_is_only_text() -> None:
    text = two_calls("hermes").partition("</think>\n\n")[2]
    assert summary(read("hermes", list(text), NO_TOOLS)) == [("text", text)]


def test_a_calls_closing_marker_inside_a_string_does_not_end_it() -> None:
    found = summary(read("hermes", list('<tool_call>{"name":"say","arguments":{"text":"</tool_call>"}}</tool_call>')))
    assert json.loads(found[0][4]) == {"text": "</tool_call>"}


@pytest.mark.parametrize(
    ("template", "model_type", "name"),
    [
        ("{{ '<tool_call>' }}", "qwen2", "hermes"),
        ("<tool_call> <function= <parameter=", "", "qwen_coder"),
        ("<tool_call><arg_key><arg_value>", "", "glm"),
        ("[TOOL_CALLS] [ARGS]", "mistral", "mistral"),
        ("<|start_header_id|> <|eot_id|> {{ tools }}", "llama", "llama3"),
        ("<|start_header_id|> <|eot_id|>", "llama", "generic"),
        ("<｜tool▁calls▁begin｜> <｜tool▁sep｜>", "", "deepseek"),
        ("<|channel|> <|message|>", "gpt_oss", "harmony"),
        ("{{ messages }}", "phi", "generic"),
        ("{{ m.tool_calls }} <|a_form_of_its_own|>", "", "generic"),
    ],
)
def test_a_family_is_recognised_by_its_template(template: str, model_type: str, name: str) -> None:
    assert detect(template, model_type).name == name


CITY = {"text": "hi", "loud": True}
SAYS = json.dumps(CITY)


@pytest.mark.parametrize("name", ["hermes", "generic", "qwen_coder", "llama3"])
@pytest.mark.parametrize(
    "written",
    [
        f'{{"name": "say", "arguments": {SAYS}}}',
        f'{{"function": "say", "arguments": {SAYS}}}',
        f'{{"tool": "say", "args": {SAYS}}}',
        f'{{"name": "say", "input": {SAYS}}}',
        f'{{"type": "function", "function": {{"name": "say", "arguments": {SAYS}}}}}',
        f'[{{"name": "say", "arguments": {SAYS}}}]',
        f'{{{{"name": "say", "arguments": {SAYS}}}}}',
        "<function=say>\n<parameter=text>\nhi\n</parameter>\n<parameter=loud>\ntrue\n</parameter>\n</function>",
    ],
)
def test_inside_the_familys_own_tag_every_form_is_read(name: str, written: str) -> None:
    begin = family(name).calls["open"]
    text = f"{begin}\n{written}\n{family(name).calls['close']}"
    if not family(name).calls["close"] and "<function" in written:
        return
    for pieces in ([text], list(text)):
        calls = summary(read(name, pieces))
        assert [(entry[0], entry[2], json.loads(entry[4]), entry[5]) for entry in calls] == [
            ("call", "say", CITY, None)
        ]


@pytest.mark.parametrize("between", ["\n", ", ", "; "])
@pytest.mark.parametrize("form", ["{}", "[{}]"])
def test_several_calls_stand_between_one_pair_of_markers(between: str, form: str) -> None:
    if form == "[{}]" and between != ", ":
        return
    one = f'{{"name": "say", "arguments": {SAYS}}}'
    text = f"<tool_call>\n{form.replace('{}', one + between + one)}\n</tool_call> then"
    for pieces in ([text], list(text)):
        found = summary(read("hermes", pieces))
        assert [entry[2] for entry in found[:-1]] == ["say", "say"]
        assert found[-1] == ("text", "then")


@pytest.mark.parametrize("name", ["hermes", "generic", "qwen_coder", "llama3"])
def test_a_call_in_the_text_is_read_like_one_in_the_familys_form(name: str) -> None:
    call = f'```json\n{{"name": "say", "arguments": {SAYS}}}\n```'
    prompt = "<think>\n" if family(name).think_open else ""
    thought = "hm</think>\n\n" if prompt else ""
    for pieces in ([thought + call], list(thought + call)):
        found = summary(read(name, pieces, prompt=prompt))
        assert found[-1] == ("call", 0, "say", "function", SAYS, None)
        assert len(found) == 1 + bool(prompt)


@pytest.mark.parametrize("name", ["hermes", "generic", "qwen_coder", "llama3"])
def test_a_package_json_is_text_in_every_family(name: str) -> None:
    text = '{\n  "name": "shell",\n  "version": "1.0.0"\n}'
    assert summary(read(name, list(text))) == [("text", text)]

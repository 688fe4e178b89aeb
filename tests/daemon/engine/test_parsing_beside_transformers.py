"""Our parsers beside `transformers.utils.chat_parsing.ResponseParser`: what docs/parsers.md says of both.

On well-formed output both read the same. The rest holds the differences that we keep our own for: when one of these
tests fails because theirs has learned it, the page is to be written anew.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers.utils.chat_parsing import ResponseParser

from daemon.engine.test_parsing import TOOLS, read, summary, two_calls

NAMED = {"type": "function", "function": {"name": "{content.name}", "arguments": "{content.arguments}"}}
CAPTURED = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}


def template(calls: dict[str, Any], end: str = "") -> dict[str, Any]:
    return {
        "start_anchor": "<|assistant|>",
        "defaults": {"role": "assistant"},
        "fields": {
            "reasoning_content": {"open": "<think>", "close": "</think>"},
            "content": {"repeats": True, "join": ""},
            "tool_calls": {"repeats": True, **calls},
            # An optional marker at the end of another pattern is found or not by how the text was cut.
            **({"end": {"open": end}} if end else {}),
        },
    }


TEMPLATES = {
    "hermes": template({"open": "<tool_call>", "close": "</tool_call>", "content": "json", "transform": NAMED}),
    "qwen_coder": template(
        {
            "open_pattern": r"<tool_call>\n<function=(?P<name>[^>\n]+)>\n",
            "close": "\n</function>\n</tool_call>",
            "content": "xml-inline",
            "content_args": {"tag_pattern": r"<parameter=(?P<key>[^>]+)>\n(?P<value>.*?)\n</parameter>"},
            "transform": CAPTURED,
        }
    ),
    "glm": template(
        {
            "open_pattern": r"<tool_call>(?P<name>[^\n<]+)\n",
            "close": "</tool_call>",
            "content": "xml-inline",
            "content_args": {"tag_pattern": r"<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>"},
            "transform": CAPTURED,
        }
    ),
    "deepseek": template(
        {
            "open_pattern": r"(?:<｜tool▁calls▁begin｜>)?<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?"
            r"(?P<name>[^\n<]+?)(?:\n```json\n|<｜tool▁sep｜>(?=\{))",
            "close_pattern": r"(?:\n```)?<｜tool▁call▁end｜>",
            "content": "json",
            "transform": CAPTURED,
        },
        end="<｜tool▁calls▁end｜>",
    ),
}


def theirs(name: str, pieces: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The message and the events."""
    parser = ResponseParser(TEMPLATES[name], prefix="", tools=TOOLS[:2])
    events = [event for piece in pieces for event in parser.feed(piece)]
    message, rest = parser.finalize()
    return message, [*events, *rest]


@pytest.mark.parametrize("name", sorted(TEMPLATES))
@pytest.mark.parametrize("cut", [list, lambda text: [text]], ids=["characters", "whole"])
def test_both_read_well_formed_output_the_same(name: str, cut: Any) -> None:
    # Without the closing marker inside a string, see below.
    text = two_calls(name).replace(" }</tool_call>", "")
    message, _ = theirs(name, cut(text))
    ours = summary(read(name, cut(text)))
    assert ours[0] == ("reasoning", message["reasoning_content"])
    assert ours[1] == ("text", message["content"].strip())
    called = [call["function"] for call in message["tool_calls"]]
    assert [(entry[2], json.loads(entry[4])) for entry in ours[2:]] == [
        (call["name"], call["arguments"]) for call in called
    ]
    assert len(called) == 2


MALFORMED = {
    "marker in a string": '<tool_call>{"name": "say", "arguments": {"text": "a </tool_call> b"}}</tool_call>',
    "not JSON": '<tool_call>{"name": "say", "arguments": {"text": oops}}</tool_call> after',
    "cut off": '<tool_call>{"name": "say", "argu',
    "no name": '<tool_call>{"arguments": {}}</tool_call> after',
}


@pytest.mark.parametrize("name", sorted(MALFORMED))
def test_theirs_raises_where_ours_tells_what_was_written(name: str) -> None:
    text = MALFORMED[name]
    with pytest.raises(ValueError, match=r"could not parse|missing key"):
        theirs("hermes", list(text))
    (call, *after) = summary(read("hermes", list(text)))
    assert call[0] == "call"
    assert call[4], "what the model wrote is there"
    assert bool(call[5]) == (name != "marker in a string")
    assert after == ([("text", "after")] if text.endswith("after") else [])


def test_theirs_streams_the_raw_region_where_ours_streams_arguments() -> None:
    arguments = '{"text": "hello there"}'
    text = f'<tool_call>{{"name": "say", "arguments": {arguments}}}</tool_call>'
    _, events = theirs("hermes", list(text))
    chunks = [event for event in events if event["type"] == "region_chunk" and event["field"] == "tool_calls"]
    assert all(chunk["dirty"] for chunk in chunks)
    assert "".join(chunk["text"] for chunk in chunks).startswith('{"name"')
    (call,) = summary(read("hermes", list(text)))
    assert (call[2], call[4]) == ("say", arguments)


def test_theirs_shows_the_templates_marks_in_an_answer() -> None:
    said = "It is 42.</tool_call>\n</tool_response><|im_end|>"
    message, _ = theirs("hermes", [said])
    assert message["content"] == said
    assert summary(read("hermes", [said])) == [("text", "It is 42.")]

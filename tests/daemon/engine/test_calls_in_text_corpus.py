"""What real models wrote when they were offered tools: which of it is a call, read whole and in pieces.

tests/data/calls_in_text.json: outputs of the models named there, prompts rendered by their own templates; greedy where
`settings` says nothing else. `calls` and `shown` are what must be made of each, judged by hand. One is a call although
its user only asked to see one (1.5B, prose-3): nothing in the text tells it from a call that is meant. `fenced` are
turns of models that call the shell by a block of commands: `begun` stands in the prompt, `like` are the words that
commands begin with, `printed` is what was just read; the turn ends with its first call. `cut` are turns that a limit
ended.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldeck_daemon.engine.base import ChatEvent, ChatRequest, TextDelta, ToolCallDone
from skilldeck_daemon.engine.chat.plain_tools import FENCE
from skilldeck_daemon.engine.checks import plan_tools
from skilldeck_daemon.engine.families import family
from skilldeck_daemon.engine.parsing.parser import parser_for

CORPUS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data/calls_in_text.json").read_text(encoding="utf-8"))
TOOLS = {tool["function"]["name"]: tool for tool in CORPUS["tools"]}


def read(entry: dict[str, Any], pieces: list[str]) -> tuple[list[Any], str]:
    fenced, printed = entry.get("fenced", False), entry.get("printed", "")
    messages = [{"role": "user", "content": entry["asked"]}]
    messages += [{"role": "tool", "tool_call_id": "c", "content": printed}] if printed else []
    request = ChatRequest(
        messages,
        tools=[TOOLS[name] for name in entry["tools"]],
        commands_tool="shell" if entry["hosted_shell"] else "",
        answered=tuple(CORPUS["skills"]) if entry["hosted_shell"] else (),
        begin_call=entry.get("begun"),
        commands_like=tuple(entry.get("like", ())),
    )
    plan = plan_tools(request)
    printed = printed if fenced else ""
    parser = parser_for(family(entry["family"]), plan, "", request, messages=messages, fenced=fenced, printed=printed)
    parser.feed(FENCE + entry["begun"] if "begun" in entry else "")
    events: list[ChatEvent] = [event for piece in pieces for event in parser.feed(piece)]
    events += parser.close(entry.get("cut", False))
    first = next((at for at, event in enumerate(events) if isinstance(event, ToolCallDone)), len(events))
    events = events[: first + 1] if fenced else events
    calls = [
        [event.name, event.arguments if event.cut_off else json.loads(event.arguments)]
        for event in events
        if isinstance(event, ToolCallDone)
    ]
    return calls, "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize("entry", CORPUS["outputs"], ids=lambda entry: f"{entry['model'][:18]} {entry['case']}")
def test_an_output_is_read_as_it_was_meant(entry: dict[str, Any]) -> None:
    assert read(entry, [entry["text"]]) == (entry["calls"], entry["shown"])
    assert read(entry, list(entry["text"])) == (entry["calls"], entry["shown"])


@given(st.sampled_from(CORPUS["outputs"]), st.data())
@settings(max_examples=100, deadline=None)
def test_no_cut_changes_what_is_read(entry: dict[str, Any], data: Any) -> None:
    text = entry["text"]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(entry, pieces) == (entry["calls"], entry["shown"])

"""Marks of a chat template that a model writes into its answer: what is never shown, and what somebody means by it."""

from __future__ import annotations

from typing import Any

import pytest

from skilldeck_daemon.engine.base import ChatRequest, TextDelta, ToolCallDone
from skilldeck_daemon.engine.checks import plan_tools
from skilldeck_daemon.engine.families import family
from skilldeck_daemon.engine.parsing.parser import parser_for

SHELL: dict[str, Any] = {"type": "function", "function": {"name": "shell", "parameters": {"type": "object"}}}
CALL = '{"name": "shell", "arguments": {"commands": ["ls"]}}'
CALLED = [("shell", '{"commands": ["ls"]}')]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


ASKED = [user("What is it?")]
READ = [*ASKED, {"role": "assistant", "tool_calls": []}, {"role": "tool", "tool_call_id": "c", "content": "42"}]


def read(
    text: str, messages: list[dict[str, Any]], name: str = "hermes", tools: bool = True
) -> tuple[str, list[tuple[str, str]], bool]:
    """Text, calls, and whether the turn was ended; the same however the text is cut."""
    found = []
    for pieces in ([text], list(text), [text[:7], text[7:12], text[12:]]):
        request = ChatRequest(messages, tools=[SHELL] if tools else [])
        parser = parser_for(family(name), plan_tools(request), "", request, messages=messages)
        events = [event for piece in pieces for event in parser.feed(piece)] + parser.close()
        calls = [(event.name, event.arguments) for event in events if isinstance(event, ToolCallDone)]
        found.append(("".join(e.text for e in events if isinstance(e, TextDelta)), calls, parser.over))
    assert found[0] == found[1] == found[2]
    return found[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("The answer is 42.\n</tool_response>", "The answer is 42."),
        ("</tool_response>\nThe answer is 42.", "The answer is 42."),
        ("<tool_response>\n42\n</tool_response>", "42"),
        ("There are two:\n</tool_response>\n\n- a\n- b", "There are two:\n\n- a\n- b"),
        ("It </tool_call>is 42.", "It is 42."),
        ("It\n</tool_call> </tools>is 42.", "It\nis 42."),
        ("It is 42.</think>", "It is 42."),
        ("It is 42 < 43, <b>so</b> there.", "It is 42 < 43, <b>so</b> there."),
    ],
)
def test_a_stray_mark_is_left_out_of_the_answer(text: str, shown: str) -> None:
    for name in ("hermes", "qwen_coder", "generic", "glm"):
        assert read(text, READ, name) == (shown, [], False), name


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("hermes", "<|im_end|>"),
        ("hermes", "<|im_start|>user"),
        ("generic", "<end_of_turn>"),
        ("glm", "<|observation|>"),
        ("llama3", "<|eot_id|>"),
        ("deepseek", "<｜User｜>"),
    ],
)
def test_the_next_message_ends_the_turn(name: str, mark: str) -> None:
    assert read(f"It is 42.\n{mark}\nAnd what is 43?", ASKED, name) == ("It is 42.", [], True)


def test_a_guessed_output_ends_the_turn() -> None:
    guess = "\n<tool_response>\na.csv\n</tool_response>\nThere is a.csv."
    assert read(f"I look.{guess}", ASKED) == ("I look.", [], True)
    assert read(f"<tool_call>\n{CALL}\n</tool_call>{guess}", READ[:1]) == ("", CALLED, True)
    assert read(f"```json\n{CALL}\n```{guess}", ASKED) == ("", CALLED, True)
    # An output that was read may be quoted, once.
    assert read(f"It says:{guess}", READ) == ("It says:\na.csv\nThere is a.csv.", [], False)
    assert read(f"It says:{guess}{guess}", READ) == ("It says:\na.csv\nThere is a.csv.", [], True)


def test_a_call_in_the_text_is_read_beside_stray_marks() -> None:
    for text in (f"{CALL}\n</tool_call>", f"<tools>\n{CALL}\n</tools>", f"I look.\n```json\n{CALL}\n```\n</tool_call>"):
        assert read(text, ASKED)[1] == CALLED, text


@pytest.mark.parametrize("mark", ["</tool_response>", "<tools>", "<|im_end|>"])
def test_what_somebody_means_by_a_mark_is_shown(mark: str) -> None:
    asked = [user(f"What does {mark} mean?")]
    said = f"{mark} ends an output."
    assert read(said, asked) == (said, [], False)
    assert read(said, [{"role": "user", "content": [{"type": "text", "text": mark}]}])[0] == said
    whole = "<tool_response>It is 42.</tool_response>"
    assert read(whole, [user("What does <tool_response> mean?")]) == (whole, [], False)
    for said in (f"It is written `{mark}`.", f"So:\n\n```\n42\n{mark}\n```\nThat is all."):
        assert read(said, ASKED) == (said, [], False)


def test_without_tools_the_marks_of_calls_are_text() -> None:
    assert read("<tools><tool/></tools>", ASKED, tools=False) == ("<tools><tool/></tools>", [], False)
    assert read("4</tool_response>", READ, tools=False)[0] == "4"


def test_a_call_in_the_text_that_is_written_again_is_one_call_and_ends_the_turn() -> None:
    other = CALL.replace("ls", "pwd")
    again = "\n".join([CALL, other, CALL, other, CALL, other])
    assert read(again, ASKED) == ("", [*CALLED, ("shell", '{"commands": ["pwd"]}')], True)
    assert read(f"{CALL}\n{CALL}", ASKED) == ("", CALLED, False)


def test_the_sentence_that_asked_for_an_answer_is_no_part_of_it() -> None:
    request = ChatRequest(READ, tools=[SHELL], answer="Answer with it:")
    parser = parser_for(family("generic"), plan_tools(request), "", request, messages=READ)
    events = [event for char in "Answer with it:\n\n42\n\nAnswer with it:\n" for event in parser.feed(char)]
    assert "".join(event.text for event in events + parser.close() if isinstance(event, TextDelta)) == "42"


def test_a_call_in_tags_that_is_written_again_ends_the_turn_of_a_model_that_learned_of_calls_from_us() -> None:
    again = f"<tool_call>\n{CALL}\n</tool_call>\n" * 3
    assert read(again, ASKED, "generic") == ("", CALLED * 2, True)
    assert read(again, ASKED, "hermes") == ("", CALLED * 3, False)

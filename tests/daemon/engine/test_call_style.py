"""A model that calls the shell by a ```bash block: what it reads, what is a call, and who is spoken to so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from skilldeck_daemon import cli
from skilldeck_daemon.engine.base import (
    ChatEvent,
    ChatFinished,
    ChatRequest,
    ModelInfo,
    TextDelta,
    ToolCallDone,
)
from skilldeck_daemon.engine.chat.model import TokenChatModel
from skilldeck_daemon.engine.chat.plain_tools import COMMANDS, GO_ON
from skilldeck_daemon.engine.chat.styles import choose
from skilldeck_daemon.engine.chat.template import ChatTemplate
from skilldeck_daemon.engine.families import family
from skilldeck_daemon.engine.load_options import take_calls
from skilldeck_daemon.settings import Settings
from skilldeck_shared.errors import BadRequest
from support.token_engines import ScriptedEngine, model_folder

SHELL = {
    "type": "function",
    "function": {
        "name": "shell",
        "parameters": {
            "type": "object",
            "properties": {"commands": {"type": "array", "items": {"type": "string"}}},
            "required": ["commands"],
        },
    },
}
OTHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
ASKED = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"), added=("<tool_call>", "</tool_call>"))


def chat(folder: Path, *texts: str, style: str = "bash", **options: Any) -> TokenChatModel:
    engine = ScriptedEngine(folder, *texts, **options)
    info = ModelInfo("test", "scripted", vocab=engine.vocabulary.size)
    return TokenChatModel(engine, folder, info, call_style=style)


def request(messages: list[dict[str, Any]] | None = None, **changes: Any) -> ChatRequest:
    return ChatRequest(messages or ASKED, **{"tools": [SHELL], "commands_tool": "shell", **changes})


async def play(model: TokenChatModel, asked: ChatRequest) -> tuple[str, list[list[str]], ChatFinished]:
    """Text, commands of the calls, and the end."""
    events: list[ChatEvent] = [event async for event in model.stream(asked)]
    assert isinstance(events[-1], ChatFinished)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    calls = [json.loads(event.arguments)["commands"] for event in events if isinstance(event, ToolCallDone)]
    return text, calls, events[-1]


async def test_a_block_behind_words_is_a_call_and_ends_the_turn(folder: Path) -> None:
    model = chat(folder, "I look.\n\n```bash\nls -la\ncat a.csv\n```\nIt prints 42.")
    text, calls, end = await play(model, request())
    assert (text, calls, end.reason) == ("I look.", [["ls -la\ncat a.csv"]], "tool_calls")


async def test_a_turn_that_must_call_begins_inside_the_block(folder: Path) -> None:
    model = chat(folder, "ls -la\n```", "ls\n```\n", "ls", " -la\n```")
    engine = model.engine
    assert isinstance(engine, ScriptedEngine)
    for asked, begun, command in (
        (request(begin_call=""), "", "ls -la"),
        (request(tool_choice="required"), "", "ls"),
        (request(begin_call=""), "", "ls"),  # its fence is missing
        (request(begin_call="ls"), "ls", "ls -la"),
    ):
        text, calls, end = await play(model, asked)
        assert (text, calls, end.reason) == ("", [[command]], "tool_calls")
        prompt = engine.vocabulary.decode(engine.requests[-1].prompt_ids)
        assert prompt.endswith(f"<|im_start|>assistant\n```bash\n{begun}")


@pytest.mark.parametrize(
    ("wrote", "command"),
    [
        (" a.csv\nls b.csv\n```", "ls a.csv\nls b.csv"),
        (" a.csv\n2 files\nb.csv", "ls a.csv"),  # what it guesses is printed
        (" a.csv\nb.csv and so on and so on", "ls a.csv"),
        (" a.csv \\\nb.csv\n```", "ls a.csv \\\nb.csv"),
        (" <<END\nb.csv\nEND\n```", "ls <<END\nb.csv\nEND"),
    ],
)
async def test_a_begun_block_ends_before_a_line_that_is_no_command(folder: Path, wrote: str, command: str) -> None:
    asked = request(begin_call="ls", commands_like=("ls",))
    text, calls, _ = await play(chat(folder, wrote), asked)
    assert (text, calls) == ("", [[command]])


async def test_a_command_with_a_place_to_fill_in_is_an_explanation(folder: Path) -> None:
    said = "You can run it:\n```bash\npython3 x.py <file>\n```"
    assert (await play(chat(folder, said), request()))[:2] == (said, [])


async def test_a_turn_that_is_to_answer_reads_what_was_printed_last_and_can_write_no_block(folder: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "shell", "arguments": '{"commands": ["ls"]}'}}
    messages = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "a.csv"},
    ]
    model = chat(folder, "a.csv", "a.csv")
    engine = model.engine
    assert isinstance(engine, ScriptedEngine)
    for answer in ("Say it:", ""):
        await play(model, request(messages, answer=answer))
        bias, fence = engine.requests[-1].sampling.logit_bias, engine.vocabulary.encode("```")[0]
        assert (bias.get(fence) == -100) is bool(answer)
        prompt = engine.vocabulary.decode(engine.requests[-1].prompt_ids)
        assert ("user\nSay it:\n\na.csv<|im_end|>\n" in prompt) is bool(answer)


async def test_a_block_that_the_limit_cut_is_a_call_that_was_cut_off(folder: Path) -> None:
    for wrote, asked in (
        ("```bash\nls -la /mnt", request(max_tokens=9)),
        ("ls -la", request(begin_call="", max_tokens=3)),
    ):
        model = chat(folder, wrote)
        events = [event async for event in model.stream(asked)]
        (call,) = [event for event in events if isinstance(event, ToolCallDone)]
        assert call.cut_off
        assert json.loads(call.arguments)["commands"][0].startswith("ls")
        assert not any(isinstance(event, TextDelta) for event in events), "nothing of it is an answer"
        assert isinstance(events[-1], ChatFinished)
        assert events[-1].reason == "length"


async def test_a_block_of_comments_is_no_call(folder: Path) -> None:
    said = "```bash\n# Minutes\n\n# Present\n```"
    assert (await play(chat(folder, said), request()))[:2] == (said, [])


async def test_other_blocks_and_plain_answers_stay_text(folder: Path) -> None:
    for said in ("The answer is 42.", "```python\nls\n```\nis no command", "Use `ls` or ```ls```."):
        assert (await play(chat(folder, said), request()))[:2] == (said, [])


async def test_the_history_is_told_in_the_same_form(folder: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "shell", "arguments": '{"commands": ["ls", "pwd"]}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "a.csv"},
    ]
    prompt = chat(folder).render(request(messages))
    assert f"Be brief.\n\n{COMMANDS}" in prompt
    assert (
        f"assistant\n```bash\nls\npwd\n```<|im_end|>\n<|im_start|>user\nOutput of the commands:\na.csv\n\n{GO_ON}<"
        in prompt
    )
    assert "tool_call" not in prompt
    assert COMMANDS not in chat(folder).render(request(messages, tool_choice="none"))


@pytest.mark.parametrize(
    ("printed", "said", "shown", "called"),
    [
        ("rows: 12\ncolumns: 7\n", "```bash\nrows: 12\ncolumns: 7\n```", "rows: 12\ncolumns: 7", []),
        ("rows: 12\ncolumns: 7", "It has:\n```bash\nrows: 12\ncolumns: 7", "It has:\nrows: 12\ncolumns: 7", []),
        # A command out of what was printed is one.
        ("# Title\n```bash\npython3 x.py\n```", "```bash\npython3 x.py\n```", "", [["python3 x.py"]]),
        ("usage: x.py FILE; try x.py a.csv", "```bash\nx.py a.csv\n```", "", [["x.py a.csv"]]),
    ],
)
async def test_an_output_put_into_a_block_is_the_answer_and_no_command(
    folder: Path, printed: str, said: str, shown: str, called: list[list[str]]
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "shell", "arguments": '{"commands": ["x"]}'}}
    read = [
        *ASKED,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": printed},
    ]
    assert (await play(chat(folder, said), request(read)))[:2] == (shown, called)


@pytest.mark.parametrize(
    "changes",
    [
        {"tools": [SHELL, OTHER]},
        {"commands_tool": ""},
        {"response_format": {"type": "json_object"}},
    ],
)
async def test_where_there_is_more_than_the_shell_the_familys_form_is_kept(folder: Path, changes: Any) -> None:
    assert COMMANDS not in chat(folder).render(request(**changes))
    assert COMMANDS not in chat(folder, style="json").render(request())


SHOWS = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}<tool_call>{{ messages }}"


@pytest.mark.parametrize(
    ("style", "name", "template", "parameters", "expected"),
    [
        ("auto", "hermes", SHOWS, 500_000_000, "bash"),
        ("auto", "hermes", SHOWS, 8_000_000_000, "json"),
        ("auto", "hermes", SHOWS, 0, "json"),  # not known
        ("auto", "hermes", SHOWS + "<think>", 500_000_000, "json"),
        ("auto", "generic", "{{ messages }}", 8_000_000_000, "bash"),
        ("auto", "hermes", SHOWS + "/mnt/skills/", 500_000_000, "json"),  # the bundled model
        ("bash", "hermes", SHOWS + "/mnt/skills/", 500_000_000, "json"),
        ("bash", "hermes", SHOWS, 8_000_000_000, "bash"),
        ("json", "generic", "{{ messages }}", 500_000_000, "json"),
        ("auto", "harmony", SHOWS, 500_000_000, "json"),
    ],
)
def test_the_block_is_chosen_for_small_models_and_templates_without_tools(
    style: str, name: str, template: str, parameters: int, expected: str
) -> None:
    assert choose(style, family(name), ChatTemplate(template), parameters) == expected


def test_the_family_whose_calls_are_read_may_be_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert take_calls({"tool_parser": "glm", "tool_text": "off"}) == {
        "family_name": "glm",
        "tool_text": False,
        "call_style": "auto",
    }
    with pytest.raises(BadRequest, match="tool_parser is 'gml', none of auto, harmony"):
        take_calls({"tool_parser": "gml"})
    with pytest.raises(ValueError, match="is 'gml', none of auto, harmony"):
        Settings(tool_parser="gml")
    monkeypatch.setenv("SKILLDECK_TOOL_PARSER", "llama3")
    shown = json.loads(CliRunner().invoke(cli.app, ["models", "info", str(folder), "--json"]).stdout)
    assert shown["tool_parser"] == "llama3"


def test_models_info_says_whose_calls_are_read_and_how_the_shell_is_called(folder: Path) -> None:
    for model, parser, style in (("tiny", "hermes", "json"), (str(folder), "hermes", "bash")):
        shown = json.loads(CliRunner().invoke(cli.app, ["models", "info", model, "--json"]).stdout)
        assert (shown["tool_parser"], shown["call_style"]) == (parser, style)


async def test_a_script_in_a_block_is_shown_and_where_a_call_was_asked_for_it_runs(folder: Path) -> None:
    script = "#!/bin/bash\ncp -r /mnt/data /tmp/backup\n```"
    said = f"```bash\n{script}"
    assert (await play(chat(folder, said), request()))[:2] == (said, [])
    assert (await play(chat(folder, script), request(begin_call="")))[:2] == ("", [[script.removesuffix("\n```")]])


async def test_a_turn_that_was_to_answer_with_an_output_and_says_nothing_answers_with_it(folder: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "shell", "arguments": '{"commands": ["ls"]}'}}
    messages = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "a.csv"},
    ]
    for said in ("Say it:\n\nSay it:\n\nSay it:\n", "", " "):
        text, calls, end = await play(chat(folder, said), request(messages, answer="Say it:"))
        assert (text.strip(), calls, end.reason) == ("a.csv", [], "stop"), said
    assert (await play(chat(folder, ""), request(messages)))[0] == ""

"""Functions as a small model is shown them: what a call needs as properties, the rest in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.engine.base import ChatRequest, ModelInfo, ToolCallDone
from skilldeck_daemon.engine.chat.few_arguments import FURTHER, shown_few
from skilldeck_daemon.engine.chat.model import TokenChatModel
from skilldeck_daemon.engine.checks import ToolSpec
from support.token_engines import ScriptedEngine, model_folder

PATH = {"type": "string", "description": "The file"}
SPAN = {"type": "object", "properties": {"from": {"type": "integer"}}}
PROPERTIES: dict[str, Any] = {
    "offset": {"type": "integer", "description": "First line"},
    "path": PATH,
    "unit": {"enum": ["line", "byte"], "type": "string"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None, "description": "Lines"},
    "span": SPAN,
}
READ = {
    "type": "function",
    "function": {
        "name": "read",
        "description": "Reads.",
        "parameters": {"type": "object", "properties": PROPERTIES, "required": ["path"]},
    },
}
CALL = '<tool_call>\n{"name": "read", "arguments": {"path": "a", "offset": 3}}\n</tool_call>'


def spec(required: list[str], strict: bool = False) -> ToolSpec:
    return ToolSpec(0, "function", "read", "Reads.", {"properties": PROPERTIES, "required": required}, strict)


def test_what_a_call_needs_and_what_has_a_structure_stay_properties() -> None:
    shown = shown_few(spec(["path"]))
    assert shown.parameters["properties"] == {"path": PATH, "span": SPAN}
    assert shown.description.splitlines() == [
        "Reads.",
        FURTHER,
        "- offset (integer): First line",
        "- unit (line|byte)",
        "- tags (array of strings)",
        "- limit (integer): Lines",
    ]


@pytest.mark.parametrize("tool", [spec([]), spec([*PROPERTIES]), spec(["path"], strict=True)])
def test_a_function_that_needs_nothing_or_all_and_a_strict_one_are_shown_whole(tool: ToolSpec) -> None:
    assert shown_few(tool) is tool


@pytest.mark.parametrize(("parameters", "few"), [(500_000_000, True), (8_000_000_000, False), (0, False)])
async def test_a_small_model_writes_what_is_needed_first_and_may_write_the_rest(
    tmp_path: Path, parameters: int, few: bool
) -> None:
    folder = model_folder(tmp_path, added=("<tool_call>", "</tool_call>"))
    call = CALL if few else CALL.replace('"path": "a", "offset": 3', '"offset": 3, "path": "a"')
    engine = ScriptedEngine(folder, call)
    info = ModelInfo("test", "scripted", vocab=engine.vocabulary.size, parameters=parameters)
    model = TokenChatModel(engine, folder, info)
    request = ChatRequest([{"role": "user", "content": "hello"}], tools=[READ], tool_choice="required")
    events = [event async for event in model.stream(request)]  # the engine fails where the grammar does not allow it
    assert [event.problem for event in events if isinstance(event, ToolCallDone)] == [None]
    assert (FURTHER in model.render(request)) is few

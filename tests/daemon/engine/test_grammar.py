"""Grammars over an engine that draws at random among what the mask allows: whatever comes out must hold."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from llguidance import LLMatcher, LLParserLimits

from skilldeck_daemon.engine.base import (
    Caps,
    ChatEvent,
    ChatFinished,
    ChatRequest,
    ModelInfo,
    ModelSpec,
    Sampling,
    TextDelta,
    ToolCallDone,
)
from skilldeck_daemon.engine.chat.model import TokenChatModel
from skilldeck_daemon.engine.checks import plan_tools
from skilldeck_daemon.engine.detokenize import Vocabulary
from skilldeck_daemon.engine.families import known
from skilldeck_daemon.engine.grammar.compiled import GrammarMask, GrammarTooComplex, rebuild
from skilldeck_daemon.engine.grammar.holding import Held
from skilldeck_daemon.engine.hub import make_engine
from skilldeck_shared.errors import BadRequest
from support.make_gguf import make_gguf
from support.token_engines import TEMPLATE, RandomEngine, ScriptedEngine, model_folder

HELLO = [{"role": "user", "content": "hello"}]
CALL_FORM = '<tool_call>\n{"name": "shell", "arguments": {"commands": ["cat /mnt/data/a b.csv", "é 👋"]}}\n</tool_call>'
MARKERS = ("<tool_call>", "</tool_call>", "<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>", "<|message|>")
# one token, so that reasoning drawn at random comes to an end some time
MARKERS += ("<|end|><|start|>assistant",)
SEEDS = range(4)
THINKING = "{#- a turn may begin with <think>…</think> -#}" + TEMPLATE


def function(name: str, strict: bool = False, **properties: Any) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "parameters": parameters, "strict": strict}}


SHELL = function("shell", commands={"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2})
PICK = function("pick", True, colour={"enum": ["red", "green"]}, count={"type": "integer", "minimum": 1, "maximum": 9})
REGEX = {
    "type": "custom",
    "custom": {"name": "code", "format": {"type": "grammar", "syntax": "regex", "definition": "[A-C]{2,4}-[0-9]{3}"}},
}
LARK = {
    "type": "custom",
    "custom": {
        "name": "sum",
        "format": {
            "type": "grammar",
            "grammar": {"syntax": "lark", "definition": 'start: NUM ("+" NUM)~1..3\nNUM: /[1-9][0-9]?/'},
        },
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"), added=MARKERS)


_models: dict[tuple[Path, str | None, int], TokenChatModel] = {}


def drawn(folder: Path, seed: int, family_name: str | None = None, padding: int = 37) -> TokenChatModel:
    """A model with random weights, whose embedding is padded beyond its tokenizer; built once for all seeds."""
    key = (folder, family_name, padding)
    if key not in _models:
        size = Vocabulary.load(folder).size + padding
        info = ModelInfo("random", "random", vocab=size)
        _models[key] = TokenChatModel(RandomEngine(size), folder, info, family_name=family_name)
    model = _models[key]
    model.engine = RandomEngine(model.info.vocab, seed=seed)
    return model


async def held(model: TokenChatModel, request: ChatRequest) -> Held:
    return await model._grammars.hold(request, plan_tools(request))


async def play(model: TokenChatModel, request: ChatRequest) -> list[ChatEvent]:
    return [event async for event in model.stream(request)]


def calls_of(events: list[ChatEvent]) -> list[ToolCallDone]:
    end = events[-1]
    assert isinstance(end, ChatFinished)
    assert end.reason == "tool_calls", end
    return [event for event in events if isinstance(event, ToolCallDone)]


def valid(call: ToolCallDone, *tools: dict[str, Any]) -> None:
    assert call.problem is None
    schema = next(tool["function"]["parameters"] for tool in tools if tool["function"]["name"] == call.name)
    jsonschema.validate(json.loads(call.arguments), schema)


@pytest.mark.parametrize("family_name", [*known(), "generic"])
async def test_a_required_call_cannot_fail_in_any_family(folder: Path, family_name: str) -> None:
    for seed in SEEDS:
        model = drawn(folder, seed, family_name)
        events = await play(model, ChatRequest(HELLO, tools=[SHELL, PICK], tool_choice="required"))
        calls = calls_of(events)
        assert calls
        for call in calls:
            valid(call, SHELL, PICK)


@pytest.mark.parametrize("family_name", [*known(), "generic"])
async def test_a_named_tool_is_the_one_called_and_once(folder: Path, family_name: str) -> None:
    for seed in SEEDS:
        model = drawn(folder, seed, family_name)
        choice = {"type": "function", "name": "pick"}
        (call,) = calls_of(await play(model, ChatRequest(HELLO, tools=[SHELL, PICK], tool_choice=choice)))
        assert call.name == "pick"
        valid(call, PICK)


async def test_random_weights_on_the_real_engine_cannot_fail_a_required_call(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    weights = make("Llama", vocab_size=768, max_position_embeddings=1024)
    shutil.copytree(weights, tmp_path / "model")
    folder = model_folder(tmp_path / "model", added=MARKERS, config=False)
    engine = make_engine("llamacpp", worker=False)
    info = await engine.load(ModelSpec(str(make_gguf(folder, tmp_path / "random.gguf")), "random"))
    model = TokenChatModel(engine, folder, info, family_name="llama3")  # without reasoning, which may be endless
    try:
        for seed in SEEDS:
            request = ChatRequest(
                HELLO,
                tools=[PICK, SHELL],
                tool_choice="required",
                parallel_tool_calls=False,
                sampling=Sampling(seed=seed),
            )
            (call,) = calls_of(await play(model, request))
            valid(call, SHELL, PICK)
    finally:
        await model.close()


async def test_allowed_tools_hold_and_one_call_stays_one(folder: Path) -> None:
    choice = {"type": "allowed_tools", "mode": "required", "names": ["pick", "shell"]}
    other = function("other", x={"type": "string"})
    for seed in SEEDS:
        request = ChatRequest(HELLO, tools=[other, SHELL, PICK], tool_choice=choice, parallel_tool_calls=False)
        (call,) = calls_of(await play(drawn(folder, seed), request))
        valid(call, SHELL, PICK)


@pytest.mark.parametrize(
    ("tool", "form"), [(REGEX, r"[A-C]{2,4}-[0-9]{3}"), (LARK, r"[1-9][0-9]?(\+[1-9][0-9]?){1,3}")]
)
async def test_a_custom_tools_grammar_holds(folder: Path, tool: dict[str, Any], form: str) -> None:
    for seed in SEEDS:
        for call in calls_of(await play(drawn(folder, seed), ChatRequest(HELLO, tools=[tool], tool_choice="required"))):
            assert call.problem is None
            assert re.fullmatch(form, call.arguments)


@pytest.mark.parametrize("family_name", ["hermes", "deepseek", "llama3"])
async def test_structured_output_follows_its_schema(folder: Path, family_name: str) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3},
        },
        "required": ["name", "tags"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}
    for seed in SEEDS:
        events = await play(drawn(folder, seed, family_name), ChatRequest(HELLO, response_format=wanted))
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize("thought", ["", "<|channel|>analysis<|message|>hm {<|end|><|start|>assistant"])
async def test_structured_output_goes_to_the_final_channel(folder: Path, thought: str) -> None:
    engine = ScriptedEngine(folder, f'{thought}<|channel|>final<|message|>{{"a": [1, 2]}}')
    model = TokenChatModel(engine, folder, ModelInfo("m", "s", vocab=engine.vocabulary.size), family_name="harmony")
    events = await play(model, ChatRequest(HELLO, response_format={"type": "json_object"}))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == '{"a": [1, 2]}'


async def test_what_is_demanded_comes_after_bounded_reasoning_and_only_from_models_that_reason(tmp_path: Path) -> None:
    """Random weights would begin to think and never stop: the grammar lets only a model think that was made to."""
    demanded = ChatRequest(HELLO, response_format={"type": "json_object"}, max_tokens=64)
    thinks = model_folder(tmp_path / "thinks", template=THINKING)
    plain = model_folder(tmp_path / "plain", template="{% for m in messages %}{{ m.content }}{% endfor %}")
    for folder, may in ((thinks, True), (plain, False)):
        model = drawn(folder, 1)
        mask = await model._grammars.mask(demanded, await held(model, demanded), in_reasoning=False, max_new=64)
        assert mask is not None
        begin, thought = model.vocabulary.encode("<think>"), model.vocabulary.encode("x" * 500)
        assert all(mask.accept(token) for token in begin) is may
        if may:
            assert not all(mask.accept(token) for token in thought)
            assert all(mask.accept(token) for token in model.vocabulary.encode("</think>{}"))
            assert mask.terminated


async def test_output_is_always_capped(folder: Path) -> None:
    model = drawn(folder, 1)
    request = ChatRequest(HELLO, response_format={"type": "json_object"}, max_tokens=5)
    end = (await play(model, request))[-1]
    assert isinstance(end, ChatFinished)
    assert end.usage.output_tokens <= 5


# ------------------------------------------------------------------ what a trained model writes is allowed


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "name": "shell"}])
@pytest.mark.parametrize("text", [CALL_FORM, f"<think>\nhm {{\n</think>\n\n{CALL_FORM}"])
async def test_the_form_of_a_call_passes_every_choice(tmp_path: Path, choice: Any, text: str) -> None:
    folder = model_folder(tmp_path, template=THINKING)
    shell = function("shell", commands={"type": "array", "items": {"type": "string"}})
    engine = ScriptedEngine(folder, text)
    model = TokenChatModel(engine, folder, ModelInfo("m", "scripted", vocab=engine.vocabulary.size))
    (call,) = calls_of(await play(model, ChatRequest(HELLO, tools=[shell], tool_choice=choice)))
    assert json.loads(call.arguments) == {"commands": ["cat /mnt/data/a b.csv", "é 👋"]}
    assert call.problem is None


@pytest.mark.parametrize("choice", ["auto", "required"])
async def test_tokens_that_reach_over_the_markers_are_allowed(tmp_path: Path, choice: str) -> None:
    """The bundled model opens and closes a call with one token each."""
    spanning = ('<tool_call>\n{"name": "shell", "arguments": {"commands": ["', '"]}}\n</tool_call>')
    folder = model_folder(tmp_path, added=spanning)
    shell = function("shell", commands={"type": "array", "items": {"type": "string"}})
    engine = ScriptedEngine(folder, f"{spanning[0]}ls{spanning[1]}")
    model = TokenChatModel(engine, folder, ModelInfo("m", "scripted", vocab=engine.vocabulary.size))
    (call,) = calls_of(await play(model, ChatRequest(HELLO, tools=[shell], tool_choice=choice)))
    assert call.arguments == '{"commands": ["ls"]}'


@pytest.mark.parametrize("text", ["plain text, {no call}", f"I look.\n{CALL_FORM}\n{CALL_FORM}", "<think>a</think>b"])
async def test_auto_leaves_text_free(folder: Path, text: str) -> None:
    shell = function("shell", commands={"type": "array", "items": {"type": "string"}})
    engine = ScriptedEngine(folder, text)
    model = TokenChatModel(engine, folder, ModelInfo("m", "scripted", vocab=engine.vocabulary.size))
    events = await play(model, ChatRequest(HELLO, tools=[shell, LARK]))
    assert isinstance(events[-1], ChatFinished)
    assert events[-1].reason in ("stop", "tool_calls")


async def test_none_allows_text_and_no_call(folder: Path) -> None:
    for text, allowed in (("plain <tool text", True), (f"I look. {CALL_FORM}", False)):
        engine = ScriptedEngine(folder, text)
        model = TokenChatModel(engine, folder, ModelInfo("m", "scripted", vocab=engine.vocabulary.size))
        request = ChatRequest(HELLO, tools=[SHELL], tool_choice="none")
        if allowed:
            assert isinstance((await play(model, request))[-1], ChatFinished)
        else:
            with pytest.raises(AssertionError, match="does not allow"):
                await play(model, request)


async def test_auto_does_not_allow_a_malformed_call(folder: Path) -> None:
    engine = ScriptedEngine(folder, '<tool_call>\n{"name": "shell", "arguments": {commands')
    model = TokenChatModel(engine, folder, ModelInfo("m", "scripted", vocab=engine.vocabulary.size))
    with pytest.raises(AssertionError, match="does not allow"):
        await play(model, ChatRequest(HELLO, tools=[SHELL]))


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("request_parts", "param"),
    [
        ({"tools": [SHELL, function("f", True, a={"type": "strnig"})]}, "tools[1].parameters.properties.a.type"),
        ({"tools": [function("f", True, a={"type": "integer", "not": {}})]}, "tools[0].parameters.properties.a.not"),
        ({"tools": [function("f", True, a={"type": "string", "pattern": "(?=x)y"})]},
            "tools[0].parameters.properties.a.pattern"),
        ({"tools": [function("f", True, a={"type": "integer", "minimum": 5, "maximum": 3})]},
            "tools[0].parameters.properties.a"),
        ({"response_format": {"type": "json_schema", "name": "a", "strict": True, "schema": {"type": "x"}}},
            "text.format.schema.type"),
        ({"response_format": {"type": "json_schema", "strict": True, "schema": {"$ref": "#/$defs/no"}}},
            "text.format.schema.$ref"),
        ({"tools": [{"type": "custom", "custom": {"name": "c", "format": {
            "type": "grammar", "syntax": "lark", "definition": "start: nowhere"}}}]}, "tools[0].format.definition"),
        ({"tools": [{"type": "custom", "custom": {"name": "c", "format": {
            "type": "grammar", "syntax": "regex", "definition": "("}}}]}, "tools[0].format.definition"),
        ({"tools": [{"type": "custom", "custom": {"name": "c", "format": {
            "type": "grammar", "syntax": "peg", "definition": "x"}}}]}, "tools[0].format.syntax"),
    ],
)  # fmt: skip
async def test_what_does_not_compile_is_refused_by_its_field(folder: Path, request_parts: Any, param: str) -> None:
    model = drawn(folder, 0)
    with pytest.raises(BadRequest) as caught:
        await model.validate(ChatRequest(HELLO, **request_parts))
    assert caught.value.param == param
    assert len(caught.value.message) < 400
    with pytest.raises(BadRequest):
        await play(model, ChatRequest(HELLO, **request_parts))
    assert model.engine.requests == []


async def test_an_engine_without_grammars_refuses_what_needs_one_and_takes_the_rest(folder: Path) -> None:
    engine = ScriptedEngine(folder, caps=Caps(8, 4096, grammar=False))
    model = TokenChatModel(engine, folder, ModelInfo("m", "scripted", vocab=engine.vocabulary.size))
    await model.validate(ChatRequest(HELLO, tools=[SHELL]))
    for parts in ({"tools": [SHELL], "tool_choice": "required"}, {"tools": [PICK]}, {"tools": [LARK]}):
        with pytest.raises(BadRequest, match="cannot constrain"):
            await model.validate(ChatRequest(HELLO, **parts))


# ------------------------------------------------------------------ masks


async def test_a_mask_is_made_again_from_its_spec(folder: Path) -> None:
    model = drawn(folder, 3)
    await play(model, ChatRequest(HELLO, tools=[PICK], tool_choice="required"))
    mask = model.engine.requests[0].mask
    again = rebuild(json.loads(json.dumps(mask.spec)), str(folder))
    third = await model._grammars.mask(*await _request(model, PICK), in_reasoning=False)
    rows = torch.zeros((2, (model.info.vocab + 31) // 32), dtype=torch.int32)
    for token in model.vocabulary.encode('<tool_call>\n{"name": "pick", "arguments": {"colour": "red", "count": 3}}'):
        again.fill(rows, 0)
        third.fill(rows, 1)
        assert torch.equal(rows[0], rows[1])
        assert again.accept(token)
        assert third.accept(token)
    again.rollback(1)
    assert not again.terminated
    assert again.accept(model.vocabulary.encode("}")[0])


@pytest.mark.parametrize("choice", ["auto", "required"])
async def test_a_grammar_that_becomes_too_much_is_left_or_ends_its_request(folder: Path, choice: str) -> None:
    model = drawn(folder, 0)
    request = ChatRequest(HELLO, tools=[SHELL], tool_choice=choice)
    mask = await model._grammars.mask(request, await held(model, request), in_reasoning=False)
    assert isinstance(mask, GrammarMask)
    few = LLParserLimits(max_lexer_states=8)
    mask._matcher = LLMatcher(model._grammars._backend._tokenizer, mask.spec["grammar"], log_level=0, limits=few)
    row = torch.zeros((1, (model.info.vocab + 31) // 32), dtype=torch.int32)

    def write() -> None:
        for token in model.vocabulary.encode("hello there, this is text"):
            mask.fill(row, 0)
            assert mask.accept(token)
            mask.rollback(1)
            assert mask.accept(token)

    if choice == "required":
        with pytest.raises(GrammarTooComplex, match="tool_choice became too much"):
            write()
        return
    write()
    assert (row == -1).all()  # not only the end, as a failed matcher has it
    assert not mask.terminated


async def _request(model: TokenChatModel, tool: dict[str, Any]) -> tuple[ChatRequest, Held]:
    request = ChatRequest(HELLO, tools=[tool], tool_choice="required")
    return request, await held(model, request)


async def test_a_finished_mask_allows_only_end_tokens_and_padding_is_never_allowed(folder: Path) -> None:
    model = drawn(folder, 0, padding=64)
    mask = await model._grammars.mask(*await _request(model, PICK), in_reasoning=False)
    row = torch.full((1, (model.info.vocab + 31) // 32), -1, dtype=torch.int32)

    def allowed() -> set[int]:
        mask.fill(row, 0)
        bits = (row.unsqueeze(-1) >> torch.arange(32, dtype=torch.int32)) & 1
        return set(bits.flatten().nonzero().flatten().tolist())

    assert max(allowed()) < model.vocabulary.size
    text = '<tool_call>\n{"name": "pick", "arguments": {"colour": "red", "count": 3}}\n</tool_call>'
    for token in [*model.vocabulary.encode(text), min(model.stop_ids)]:
        assert mask.accept(token)
    assert mask.terminated
    assert allowed() == set(model.stop_ids)

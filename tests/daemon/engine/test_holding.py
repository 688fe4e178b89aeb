"""Clients' schemas and grammars: none ends the process, none that is not strict refuses the request."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from skilldeck_daemon.engine.base import ChatRequest, ModelInfo, ToolCallDone
from skilldeck_daemon.engine.chat.model import TokenChatModel
from skilldeck_daemon.engine.checks import plan_tools
from skilldeck_daemon.engine.detokenize import Vocabulary
from skilldeck_daemon.engine.grammar.holding import FREE, Held
from skilldeck_daemon.engine.grammar.schema_form import MAX_BYTES, read_form
from skilldeck_daemon.engine.grammar.trial import LARGE, PROCESSES, SLOW, STUCK, TrialVocabulary, Verdict, tried
from skilldeck_shared.errors import BadRequest
from support.published_schemas import PUBLISHED
from support.token_engines import RandomEngine, ScriptedEngine, model_folder
from support.wait import until

HELLO = [{"role": "user", "content": "hello"}]
BYTES = TrialVocabulary(300, ((299, b"<|end|>"),))
# Python's expressions are other ones than a grammar's (no \\p).
FOLLOWS = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": lambda *_: None})
FAMILIES = ("hermes", "qwen_coder", "glm")  # JSON, and two forms of tags


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"), added=("<tool_call>", "</tool_call>"))


def drawn(folder: Path, family_name: str | None = None, room: int = 4096) -> TokenChatModel:
    size = Vocabulary.load(folder).size
    engine = RandomEngine(size)
    engine.caps = replace(engine.caps, context=room)
    return TokenChatModel(engine, folder, ModelInfo("random", "random", vocab=size), family_name=family_name)


def tool(parameters: Any, name: str = "f", strict: bool = False) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, "strict": strict}}


def takes(schema: Any, **beside: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": schema}, "required": ["x"], **beside}


def custom(definition: str, syntax: str = "lark") -> dict[str, Any]:
    form = {"type": "grammar", "syntax": syntax, "definition": definition}
    return {"type": "custom", "custom": {"name": "c", "format": form}}


def chained(count: int, link: Callable[[str], Any]) -> dict[str, Any]:
    definitions = {f"a{index}": link(f"#/$defs/a{index + 1}") for index in range(count)}
    return {**takes({"$ref": "#/$defs/a0"}), "$defs": {**definitions, f"a{count}": {"type": "string"}}}


def inside(count: int, around: Callable[[Any], Any]) -> dict[str, Any]:
    schema: Any = {"type": "string"}
    for _ in range(count):
        schema = around(schema)
    return takes(schema)


def rules(count: int) -> str:
    chain = "\n".join(f"r{index}: r{index + 1}" for index in range(count))
    return f'start: r0\n{chain}\nr{count}: "a"\n'


async def held(model: TokenChatModel, *tools: Any, **asked: Any) -> Held:
    request = ChatRequest(HELLO, tools=list(tools), **asked)
    return await model._grammars.hold(request, plan_tools(request))


# ------------------------------------------------------------------ what would end the process

LINKS: dict[str, Callable[[str], Any]] = {
    "a reference": lambda to: {"$ref": to},
    "items": lambda to: {"type": "array", "items": {"$ref": to}},
    "anyOf": lambda to: {"anyOf": [{"$ref": to}, {"type": "null"}]},
    "allOf": lambda to: {"allOf": [{"$ref": to}]},
    "properties": lambda to: {"type": "object", "properties": {"a": {"$ref": to}}},
}
FATAL: dict[str, tuple[Any, str]] = {
    "2,750 rules": (custom(rules(2750)), "tools[0].format.definition"),
    "1,900 rules": (custom(rules(1900)), "tools[0].format.definition"),
    "JSON in a Lark grammar": (
        custom("start: %json " + json.dumps(chained(1300, LINKS["allOf"]), separators=(",", ":"))),
        "tools[0].format.definition",
    ),
    "groups": (custom("start: " + "(" * 3000 + '"a"' + ")" * 3000), "tools[0].format.definition"),
    "a regex of groups": (custom("(" * 3000 + "a" + ")" * 3000, "regex"), "tools[0].format.definition"),
    "a strict tool": (tool(chained(1156, LINKS["a reference"]), strict=True), "tools[0].parameters"),
    **{f"2,000 of {how}": (tool(chained(2000, link)), "tools[0].parameters") for how, link in LINKS.items()},
    "an enum of 2 MB": (tool(takes({"enum": [f"value {n}" for n in range(150_000)]})), "tools[0].parameters"),
    "arrays in arrays": (tool(inside(190, lambda s: {"type": "array", "items": s})), "tools[0].parameters"),
}


@pytest.mark.parametrize("attack", FATAL)
async def test_what_would_end_the_compilers_process_is_refused_by_tool_and_path(folder: Path, attack: str) -> None:
    offered, param = FATAL[attack]
    with pytest.raises(BadRequest) as caught:
        await held(drawn(folder), offered)
    assert caught.value.param == param
    assert offered[offered["type"]]["name"] in caught.value.title
    assert len(caught.value.message) < 400


async def test_an_output_format_is_measured_like_a_tool(folder: Path) -> None:
    schema = chained(1156, LINKS["a reference"])
    for strict in (True, False):
        with pytest.raises(BadRequest, match="chains of more than 256") as caught:
            await held(
                drawn(folder), response_format={"type": "json_schema", "name": "a", "schema": schema, "strict": strict}
            )
        assert caught.value.param == "text.format.schema"


@pytest.mark.parametrize("link", LINKS)
async def test_the_longest_chain_that_is_allowed_compiles_here(folder: Path, link: str) -> None:
    """With what stack this process's threads have, not only with the half of it that was tried."""
    model = drawn(folder, room=100_000)
    parameters = chained(120, LINKS[link])
    prepared = await model._prepare(ChatRequest(HELLO, tools=[tool(parameters)], tool_choice="required"))
    assert prepared.generation.mask is not None
    assert prepared.plan.tools[0].parameters["$defs"]


async def test_a_grammar_that_ends_the_process_is_told_by_its_limit_and_the_next_one_works() -> None:
    links = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}]} for n in range(3000)}
    chain = "start: %json " + json.dumps({"$ref": "#/$defs/a0", "$defs": {**links, "a3000": {}}})
    assert (await tried(chain, BYTES)).fatal
    large = await tried("start: %json " + json.dumps({"const": "x" * 4_000_000}), BYTES)
    assert (large.fatal, large.problem) == (True, LARGE)
    assert (await tried('start: "a" <|end|>\n', BYTES)).problem == ""
    assert (await tried("start: nowhere\n", BYTES)).problem != ""
    assert (await tried('start: "\ud800"\n', BYTES)).problem != ""


async def test_work_whose_caller_left_before_it_began_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bytes] = []
    going_on = threading.Event()

    def slow(line: bytes) -> Verdict:
        begun.append(line)
        going_on.wait(30)
        return Verdict("")

    monkeypatch.setattr("skilldeck_daemon.engine.grammar.trial._try", slow)
    waiting = [asyncio.create_task(tried(f'start: "{n}"', BYTES)) for n in range(20)]
    await until(lambda: len(begun) == PROCESSES)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    going_on.set()
    assert (await tried('start: "another"', BYTES)).problem == ""
    assert len(begun) == PROCESSES + 1


@pytest.mark.slow
async def test_a_grammar_that_takes_for_ever_is_ended() -> None:
    # Each may be nothing, so the first row of the parser holds them all: quadratic, in little memory.
    names = [f"r{n}" for n in range(13_000)]
    endless = "start: " + " ".join(names) + "\n" + "\n".join(f'{name}: ("x" | "y" | "xy")*' for name in names) + "\n"
    verdict = await tried(endless, BYTES)
    assert verdict.fatal
    assert verdict.problem in (SLOW, STUCK), "by processor time, or on a busy machine by the clock"


async def test_a_schema_that_is_plain_is_not_sent_to_another_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError("an ordinary schema was tried elsewhere")

    monkeypatch.setattr("skilldeck_daemon.engine.grammar.compiled.tried", never)
    parameters = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "Where."},
            "head": {"type": "integer", "minimum": 1, "default": 10},
            "kinds": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 9},
            "when": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
            "tree": {"$ref": "#/$defs/Tree"},
        },
        "$defs": {"Tree": {"type": "object", "properties": {"under": {"$ref": "#/$defs/Tree"}}}},
        "required": ["path"],
        "additionalProperties": False,
    }
    model = drawn(folder)
    prepared = await model._prepare(ChatRequest(HELLO, tools=[tool(parameters)], tool_choice="required"))
    assert prepared.generation.mask is not None
    for harder in ({"pattern": "a"}, {"allOf": [{}]}, {"multipleOf": 7}, {"maxLength": 10**9}):
        assert not read_form(takes({"type": "string", **harder})).plain


# ------------------------------------------------------------------ what no grammar holds

LOOSE: dict[str, tuple[dict[str, Any], str]] = {
    "a look-ahead": ({"type": "string", "pattern": "^(?!tmp)[a-z]+$"}, ".properties.x.pattern"),
    "a back reference": ({"type": "string", "pattern": r"(a)\1"}, ".properties.x.pattern"),
    "a bad pattern": ({"type": "string", "pattern": "("}, ".properties.x.pattern"),
    "no pattern": ({"type": "string", "pattern": 5}, ".properties.x.pattern"),
    "a missing reference": ({"$ref": "#/$defs/no"}, ".properties.x.$ref"),
    "a reference outside": ({"$ref": "https://example.com/x.json"}, ".properties.x.$ref"),
    "an odd type": ({"type": "strnig"}, ".properties.x.type"),
    "a type that is none": ({"type": 5}, ".properties.x.type"),
    "types with an odd one": ({"type": ["string", "date"]}, ".properties.x.type"),
    "a required flag": ({"type": "string", "required": True}, ".properties.x.required"),
    "an empty enum": ({"enum": []}, ".properties.x.enum"),
    "an empty anyOf": ({"anyOf": []}, ".properties.x.anyOf"),
    "no schema": ({"type": "array", "items": 5}, ".properties.x.items"),
    "a negative length": ({"type": "string", "minLength": -1}, ".properties.x.minLength"),
    "a multiple of nothing": ({"type": "integer", "multipleOf": 0}, ".properties.x.multipleOf"),
    "bounds that cross": ({"type": "integer", "minimum": 5, "maximum": 3}, ".properties.x"),
    "types that exclude each other": ({"allOf": [{"type": "string"}, {"type": "integer"}]}, ".properties.x"),
    "patterns that overlap": ({"type": "object", "patternProperties": {"^a": {}, "^ab": {}}}, ".properties.x"),
    "half a character": ({"enum": ["\ud800"]}, ".properties.x"),
}


@pytest.mark.parametrize("case", LOOSE)
async def test_what_no_grammar_holds_is_left_out_where_the_schema_is_not_strict(
    folder: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    odd, path = LOOSE[case]
    model = drawn(folder)
    fine = tool(takes({"enum": ["red"]}, additionalProperties=False), "fine")
    broken = takes(odd, additionalProperties=False)
    broken["properties"]["other"] = {"type": "integer"}
    with caplog.at_level(logging.WARNING):
        found = await held(model, fine, tool(broken, "broken"))
    assert "tool 'broken'" in caplog.text
    assert f"tools[1].parameters{path} " in caplog.text
    first, second = found.plan.tools
    assert first.parameters["properties"]["x"] == {"enum": ["red"]}
    assert second.parameters["properties"]["other"] == {"type": "integer"}, "only what cannot be held is left out"
    with pytest.raises(BadRequest) as caught:
        await held(model, fine, tool(broken, "broken", strict=True))
    assert caught.value.param == f"tools[1].parameters{path}"
    assert "'broken'" in caught.value.title
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("family_name", FAMILIES)
async def test_the_other_tools_stay_held_and_the_loosened_one_can_be_called(folder: Path, family_name: str) -> None:
    fine = tool(takes({"enum": ["red", "blue"]}, additionalProperties=False), "fine")
    broken = tool(takes({"type": "string", "pattern": "(?=x)y"}), "broken")
    model = drawn(folder, family_name)
    for name, schema in (("fine", fine["function"]["parameters"]), ("broken", takes({"type": "string"}))):
        request = ChatRequest(
            HELLO, tools=[broken, fine], tool_choice={"type": "function", "name": name}, max_tokens=2000
        )
        calls = [event async for event in model.stream(request) if isinstance(event, ToolCallDone)]
        if name == "fine":
            jsonschema.validate(json.loads(calls[0].arguments), schema)


async def test_a_tool_whose_whole_schema_is_given_up_takes_any_object(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    halves = [{"anyOf": [{"properties": {f"p{a}{b}": {}}} for b in range(2)]} for a in range(18)]
    with caplog.at_level(logging.WARNING):
        found = await held(drawn(folder), tool({"type": "object", "allOf": halves}))
    assert found.plan.tools[0].parameters == FREE
    assert "tools[0].parameters schema too large" in caplog.text


async def test_any_object_in_tags(folder: Path) -> None:
    parts = "<parameter=a>\nx y\n</parameter>\n<parameter=b>\n5\n</parameter>\n"
    text = f"<tool_call>\n<function=f>\n{parts}</function>\n</tool_call>"
    engine = ScriptedEngine(folder, text, text)
    model = TokenChatModel(engine, folder, ModelInfo("m", "s", vocab=engine.vocabulary.size), family_name="qwen_coder")
    halves = [{"anyOf": [{"properties": {f"p{a}{b}": {}}} for b in range(2)]} for a in range(18)]
    declared = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
    for parameters in ({"type": "object", "allOf": halves}, declared):
        request = ChatRequest(HELLO, tools=[tool(parameters)], tool_choice="required")
        (call,) = [event async for event in model.stream(request) if isinstance(event, ToolCallDone)]
        assert json.loads(call.arguments) == {"a": "x y", "b": 5}


async def test_an_output_format_that_is_not_strict_is_loosened(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    schema = takes({"type": "string", "pattern": "(?=x)y"})
    model = drawn(folder)
    with caplog.at_level(logging.WARNING):
        found = await held(model, response_format={"type": "json_schema", "name": "a", "schema": schema})
    assert found.format["schema"]["properties"]["x"] == {"type": "string"}
    assert "the output format" in caplog.text
    with pytest.raises(BadRequest) as caught:
        await held(model, response_format={"type": "json_schema", "name": "a", "schema": schema, "strict": True})
    assert caught.value.param == "text.format.schema.properties.x.pattern"


async def test_a_clients_data_is_not_returned_or_logged_in_full(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = "secret " * 2000
    model = drawn(folder)
    with caplog.at_level(logging.DEBUG):
        await held(model, tool(takes({"type": secret, "enum": [secret], "pattern": f"({secret}"})))
        await held(model, tool({"type": "object", "properties": {secret: {"type": "x"}}}))
        for offered in (
            tool(takes({"type": "string", "pattern": f"({secret}"}), strict=True),
            tool(takes({"type": secret}), strict=True),
            tool(takes({"$ref": f"#/{secret}"}), strict=True),
            custom(f'start: "{secret}'),
            custom(f"({secret}", "regex"),
        ):
            with pytest.raises(BadRequest) as caught:
                await held(model, offered)
            assert len(caught.value.message) < 1000
            assert len(caught.value.param or "") < 400
    assert all(len(record.getMessage()) < 2000 for record in caplog.records)


def test_a_schema_as_large_as_allowed_is_read() -> None:
    fits = takes({"enum": ["x" * 1000] * (MAX_BYTES // 1200)})
    assert read_form(fits).large == ""
    described = takes({"type": "string", "description": "long " * MAX_BYTES})
    assert read_form(described).large == "", "what only describes does not count"


# ------------------------------------------------------------------ what programs publish


@pytest.mark.parametrize("family_name", FAMILIES)
async def test_no_published_schema_refuses_a_request(folder: Path, family_name: str) -> None:
    model = drawn(folder, family_name, room=100_000)
    tools = [tool(schema, f"t{index}") for index, schema in enumerate(PUBLISHED.values())]
    assert len(tools) >= 40
    for choice in ("auto", "required"):
        prepared = await model._prepare(ChatRequest(HELLO, tools=tools, tool_choice=choice))
        assert prepared.generation.mask is not None


@pytest.mark.parametrize("title", PUBLISHED)
async def test_a_call_follows_what_is_held_of_a_published_schema(folder: Path, title: str) -> None:
    model = drawn(folder, room=20_000)
    found = await held(model, tool(PUBLISHED[title]))
    assert PUBLISHED[title].get("properties") is None or found.plan.tools[0].parameters != FREE
    request = ChatRequest(HELLO, tools=[tool(PUBLISHED[title])], tool_choice="required", max_tokens=3000)
    events = [event async for event in model.stream(request)]
    for call in (event for event in events if isinstance(event, ToolCallDone) and event.problem is None):
        FOLLOWS(found.plan.tools[0].parameters).validate(json.loads(call.arguments))


async def test_a_published_schema_that_is_strict_is_followed_or_refused_by_its_path(folder: Path) -> None:
    model = drawn(folder)
    refused = {}
    for title, schema in PUBLISHED.items():
        try:
            await held(model, tool(schema, strict=True))
        except BadRequest as error:
            refused[title] = error
    assert 5 < len(refused) < len(PUBLISHED) / 2
    for error in refused.values():
        assert (error.param or "").startswith("tools[0].parameters")
        assert len(error.message) < 500

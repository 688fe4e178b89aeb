"""Messages to ids and back over an engine that plays a script: what a model sees, and what is made of what it says."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldeck_daemon.engine.base import (
    Caps,
    ChatEvent,
    ChatFinished,
    ChatModel,
    ChatRequest,
    ModelInfo,
    ReasoningDelta,
    Sampling,
    TextDelta,
    ToolCallDone,
    ToolCallStart,
)
from skilldeck_daemon.engine.chat.model import StopStrings, TokenChatModel
from skilldeck_daemon.engine.detokenize import Detokenizer, Vocabulary
from skilldeck_daemon.engine.errors import TooLong
from skilldeck_shared.errors import BadRequest
from support.token_engines import SPECIAL, ScriptedEngine, model_folder

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
HELLO = [{"role": "user", "content": "hello"}]
CALL = '<tool_call>\n{"name": "shell", "arguments": {"commands": ["ls -la"]}}\n</tool_call>'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"), added=("<tool_call>", "</tool_call>", "<think>", "</think>"))


def chat(folder: Path, *texts: str, **options: Any) -> TokenChatModel:
    engine = ScriptedEngine(folder, *texts, **options)
    return TokenChatModel(engine, folder, ModelInfo("test", "scripted", vocab=engine.vocabulary.size))


async def play(model: TokenChatModel, request: ChatRequest) -> list[ChatEvent]:
    events = [event async for event in model.stream(request)]
    assert sum(isinstance(event, ChatFinished) for event in events) == 1
    assert isinstance(events[-1], ChatFinished)
    return events


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def end_of(events: list[ChatEvent]) -> ChatFinished:
    assert isinstance(events[-1], ChatFinished)
    return events[-1]


async def test_text_comes_back_exactly_with_exact_counts(folder: Path) -> None:
    said = "grüße aus köln 👋, that is 42"
    model = chat(folder, said)
    events = await play(model, ChatRequest(HELLO))
    assert isinstance(model, ChatModel)
    assert text_of(events) == said
    assert end_of(events).reason == "stop"
    usage = end_of(events).usage
    assert (
        usage.input_tokens == len(model.engine.requests[0].prompt_ids) == await model.count_tokens(ChatRequest(HELLO))
    )
    assert usage.output_tokens == len(model.vocabulary.encode(said)) + 1


async def test_a_turn_may_not_be_nothing_unless_it_was_begun_or_its_end_is_asked_for(folder: Path) -> None:
    model = chat(folder, "x", "x", "x")
    end = next(iter(model.stop_ids))
    begun = [*HELLO, {"role": "assistant", "content": "I am"}]
    for request in (
        ChatRequest(HELLO),
        ChatRequest(begun, continues=True),
        ChatRequest(HELLO, sampling=Sampling(logit_bias={end: 5.0})),
    ):
        await play(model, request)
    blank, *others = [request.blank for request in model.engine.requests]
    assert {model.vocabulary.decode([token]).strip() for token in blank} == {*SPECIAL, ""}
    assert others == [frozenset(), frozenset()]


async def test_calls_and_reasoning_are_told_apart_and_counted(folder: Path) -> None:
    model = chat(folder, f"<think>\nhm, let me see\n</think>\n\nI look.\n{CALL}\n{CALL}")
    events = await play(model, ChatRequest(HELLO, tools=[SHELL]))
    done = [event for event in events if isinstance(event, ToolCallDone)]
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "hm, let me see"
    assert text_of(events) == "I look."
    assert [json.loads(call.arguments) for call in done] == [{"commands": ["ls -la"]}] * 2
    assert end_of(events).reason == "tool_calls"
    inside = len(model.vocabulary.encode("\nhm, let me see\n</think>"))
    assert end_of(events).usage.reasoning_tokens == inside


async def test_a_single_call_ends_the_turn_when_calls_may_not_be_parallel(folder: Path) -> None:
    model = chat(folder, f"{CALL}", caps=Caps(8, 4096, grammar=False))
    several = chat(folder, f"{CALL}\n{CALL}", caps=Caps(8, 4096, grammar=False))
    for each in (model, several):
        events = await play(each, ChatRequest(HELLO, tools=[SHELL], parallel_tool_calls=False))
        assert sum(isinstance(event, ToolCallStart) for event in events) == 1
        assert end_of(events).reason == "tool_calls"
    assert several.engine.cancelled


@pytest.mark.parametrize("parallel", [True, False])
async def test_a_turn_cut_by_the_limit_says_length_and_what_was_cut(folder: Path, parallel: bool) -> None:
    model = chat(folder, CALL, caps=Caps(8, 4096, grammar=False))
    events = await play(model, ChatRequest(HELLO, tools=[SHELL], max_tokens=12, parallel_tool_calls=parallel))
    done = next(event for event in events if isinstance(event, ToolCallDone))
    assert "cut off" in (done.problem or "")
    assert end_of(events).reason == "length"
    assert end_of(events).usage.output_tokens == 12


@pytest.mark.parametrize("written", ["<tool_call>", '<tool_call>\n{"na', '<tool_call>\n{"name": '])
async def test_a_call_cut_off_before_its_name_is_no_call(folder: Path, written: str) -> None:
    model = chat(folder, written + CALL[len(written) :], caps=Caps(8, 4096, grammar=False))
    limit = len(model.vocabulary.encode(written))
    events = await play(model, ChatRequest(HELLO, tools=[SHELL], max_tokens=limit))
    assert not any(isinstance(event, TextDelta | ToolCallStart) for event in events)
    assert end_of(events).reason == "length"


async def test_a_prompt_that_fills_the_context_is_refused_with_the_numbers(folder: Path) -> None:
    model = chat(folder, "x", context=20)
    with pytest.raises(TooLong, match="maximum context length is 20 tokens") as caught:
        await play(model, ChatRequest([{"role": "user", "content": "a b c d " * 20}]))
    assert caught.value.code == "context_length_exceeded"
    assert model.engine.requests == []


async def test_the_output_never_exceeds_the_context(folder: Path) -> None:
    model = chat(folder, "word " * 200, context=64)
    events = await play(model, ChatRequest(HELLO, max_tokens=1000))
    usage = end_of(events).usage
    assert end_of(events).reason == "length"
    assert usage.input_tokens + usage.output_tokens == 64


async def test_a_stop_string_ends_the_text_before_it_and_frees_the_engine(folder: Path) -> None:
    model = chat(folder, "one two STOP three")
    events = await play(model, ChatRequest(HELLO, stop=("STOP", "zzz")))
    assert text_of(events) == "one two "
    assert end_of(events).reason == "stop"
    assert model.engine.cancelled == [model.engine.requests[0].id]
    assert model.engine.active == 0


@given(st.text("abS TOP", max_size=30), st.lists(st.text("SabTOP", min_size=1, max_size=4), max_size=3), st.data())
@settings(max_examples=200, deadline=None)
def test_stop_strings_cut_at_the_first_however_the_text_comes(text: str, stops: list[str], data: Any) -> None:
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    reader, out = StopStrings(stops), ""
    for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True):
        out += reader.feed(text[a:b])
    out += reader.flush()
    assert reader.hit == bool(found)
    if not found:
        assert out == text
    else:
        assert text.startswith(out)
        assert not any(stop in out for stop in stops)


async def test_closing_the_stream_cancels_the_request(folder: Path) -> None:
    model = chat(folder, "and so on " * 50)
    stream = model.stream(ChatRequest(HELLO))
    while not isinstance(await anext(stream), TextDelta):
        pass
    await stream.aclose()
    assert model.engine.cancelled == [model.engine.requests[0].id]


async def test_logprobs_belong_to_the_text_they_come_with(folder: Path) -> None:
    said = "grüße 👋 there"
    model = chat(folder, said)
    events = await play(model, ChatRequest(HELLO, logprobs=1))
    entries = [entry for event in events if isinstance(event, TextDelta) for entry in event.logprobs]
    assert b"".join(bytes(entry.bytes) for entry in entries).decode() == said
    assert all(entry.logprob == -0.5 and len(entry.top) == 1 for entry in entries)


async def test_an_image_is_a_place_in_the_prompt_and_a_picture_for_the_engine(tmp_path: Path) -> None:
    shown = "{% if p.type == 'image' %}[IMG]{% else %}{{ p.text }}{% endif %}"
    parts = (
        f"{{% if m.content is string %}}{{{{ m.content }}}}{{% else %}}{{% for p in m.content %}}{shown}{{% endfor %}}"
    )
    template = f"{{% for m in messages %}}{parts}{{% endif %}}{{% endfor %}}"
    folder = model_folder(tmp_path, template=template, added=("[IMG]",))
    model = chat(folder, "a cat", caps=Caps(8, 4096, images=True))
    url = "data:image/png;base64,aGVsbG8="
    picture = {"type": "image_url", "image_url": {"url": url}}
    content = [{"type": "text", "text": "what is "}, picture, {"type": "text", "text": "?"}]
    request = ChatRequest([{"role": "system", "content": "Look."}, {"role": "user", "content": content}])
    assert text_of(await play(model, request)) == "a cat"
    (asked,) = model.engine.requests  # type: ignore[attr-defined]
    assert model.vocabulary.decode(asked.prompt_ids) == "Look.what is [IMG]?"
    assert asked.images == (url,)


async def test_images_are_refused_by_a_model_that_reads_none(folder: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    with pytest.raises(BadRequest, match="images"):
        await play(chat(folder, "x"), ChatRequest([{"role": "user", "content": [image]}]))


# ------------------------------------------------------------------ exact prefixes


def bytewise(vocabulary: Vocabulary, text: str) -> list[int]:
    """A text spelled in single bytes and its added tokens: ids no tokenizer would choose."""
    ids: list[int] = []
    single = {raw[0]: index for index, raw in enumerate(vocabulary.table) if len(raw) == 1}
    while text:
        marker = next((mark for mark in vocabulary.added.values() if text.startswith(mark)), None)
        if marker:
            ids += vocabulary.encode(marker)
            text = text[len(marker) :]
        else:
            ids += [single[byte] for byte in text[0].encode()]
            text = text[1:]
    return ids


def followed_by(history: list[dict[str, Any]], events: list[ChatEvent], answer: str) -> list[dict[str, Any]]:
    """The history after a turn, as the agent keeps it."""
    calls = [
        {"id": f"c{call.index}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in events
        if isinstance(call, ToolCallDone)
    ]
    assistant: dict[str, Any] = {"role": "assistant", "content": text_of(events), "tool_calls": calls}
    return [*history, assistant, {"role": "user", "content": answer}]


@pytest.mark.parametrize("encode", [None, bytewise])
async def test_the_ids_of_a_growing_conversation_never_change(folder: Path, encode: Any) -> None:
    turns = [f"I look é.\n{CALL}\n{CALL}", CALL, "done 👋"]
    model = chat(folder, *turns, encode=encode)
    history: list[dict[str, Any]] = [{"role": "system", "content": "be brief"}, *HELLO]
    before: list[int] = []
    for turn in turns:
        events = await play(model, ChatRequest(history, tools=[SHELL]))
        prompt = list(model.engine.requests[-1].prompt_ids)
        assert prompt[: len(before)] == before
        assert model.vocabulary.decode(prompt) == model.render(ChatRequest(history, tools=[SHELL]))
        spelled = (encode or (lambda vocabulary, text: vocabulary.encode(text)))(model.vocabulary, turn)
        before = prompt + spelled
        history = followed_by(history, events, "go on")
    assert list(model._memory.split(model.render(ChatRequest(history, tools=[SHELL])))[0]) == before


# ------------------------------------------------------------------ detokenising


@cache
def vocabulary_of(folder: Path) -> Vocabulary:
    return Vocabulary.load(folder)


@given(st.lists(st.integers(0, 699), max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_ids_give_the_text_their_bytes_spell(folder: Path, ids: list[int]) -> None:
    vocabulary = vocabulary_of(folder)
    ids = [token for token in ids if token < vocabulary.size]
    detokenizer = Detokenizer(vocabulary)
    text = "".join(detokenizer.feed(token) for token in ids) + detokenizer.flush()
    assert text == vocabulary.decode(ids)


def test_a_character_split_over_tokens_comes_whole(folder: Path) -> None:
    vocabulary = Vocabulary.load(folder)
    detokenizer = Detokenizer(vocabulary)
    shown = [detokenizer.feed(token) for token in bytewise(vocabulary, "a👋b")]
    assert shown == ["a", "", "", "", "👋", "b"]

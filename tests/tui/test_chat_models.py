"""Which model answers: chosen in Chat, named at each answer, and what is said of the bundled one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.fake_daemon import FakeDaemon
from support.tui import Deck, deck


@pytest.fixture
def fake() -> FakeDaemon:
    made = FakeDaemon()
    made.put("model", {"id": "qwen3-8b", "object": "model", "engine": "llamacpp", "context": 32768})
    return made


def models(fake: FakeDaemon) -> list[Any]:
    return [json.loads(request.request_json)["model"] for request in fake.called("StartRun")]


async def ask(d: Deck, text: str) -> None:
    await d.type(text)
    await d.press("enter")
    await d.shows(f"Echo: {text}")
    await d.until(lambda: not d.chat.live and not d.chat._sending)


@pytest.mark.parametrize("size", [(80, 24), (50, 30), (120, 40)])
async def test_the_model_is_seen_chosen_and_named_at_its_answer(fake: FakeDaemon, size: tuple[int, int]) -> None:
    async with deck(fake, size=size) as d:
        await d.shows("◈ skilldeck-tiny")
        await ask(d, "one")
        await d.press("ctrl+l")
        await d.shows("Which model answers?", "default: skilldeck-tiny", "llamacpp")
        await d.type("qw8")
        await d.press("enter")
        await d.shows("◈ qwen3-8b")
        await ask(d, "two")
        assert models(fake) == ["default", "qwen3-8b"]
        await d.shows("✓ qwen3-8b · ")
        fake.remove("model", "qwen3-8b")
        await d.shows("qwen3-8b is not loaded")
        await d.press("ctrl+l", "enter")
        await d.shows("◈ skilldeck-tiny")
        await ask(d, "three")
        assert models(fake)[-1] == "default"


async def test_a_model_that_is_loaded_answers_from_then_on(fake: FakeDaemon) -> None:
    async with deck(fake, size=(120, 40)) as d:
        await d.press("ctrl+l", "up", "enter")
        await d.shows("Load a model")
        await d.type("gemma")
        await d.press("enter")
        await d.shows("gemma is ready, and answers from the next message on.")
        await d.press("f2")
        await d.shows("◈ gemma")
        assert not fake.called("LoadModel")[0].keep_default


async def test_the_first_answer_of_the_bundled_model_says_what_it_is(fake: FakeDaemon) -> None:
    async with deck(fake, size=(160, 40)) as d:
        await d.press("ctrl+l", "down", "down", "enter")
        for text in ("one", "two"):
            await ask(d, text)
        await d.shows("skilldeck-tiny is a demonstration model: load a larger one for real work, ctrl+l.")
        assert d.text().count("is a demonstration model") == 1

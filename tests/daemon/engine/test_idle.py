"""A model that nobody asks for leaves the memory and comes back with the next request."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from daemon.engine.conftest import make_chat_folder
from skilldeck_daemon.engine.base import ChatFinished, ChatRequest, Finished, GenRequest, Sampling
from skilldeck_daemon.engine.errors import NotLoaded
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_daemon.engine.idle import IdleEngine
from skilldeck_shared.errors import NotFound
from support.make_gguf import make_gguf
from support.wait import until


@pytest.fixture
def file(llama: Path, tmp_path: Path) -> Path:
    return make_gguf(make_chat_folder(llama, tmp_path / "chatty"), tmp_path / "chatty.gguf")


def engine_of(hub: ModelHub) -> IdleEngine:
    engine = hub._entries["chatty"].engine
    assert isinstance(engine, IdleEngine)
    return engine


async def ask(hub: ModelHub) -> ChatFinished:
    request = ChatRequest([{"role": "user", "content": "hello"}], sampling=Sampling(temperature=0), max_tokens=5)
    *_, last = [event async for event in (await hub.ready("default")).stream(request)]
    assert isinstance(last, ChatFinished)
    return last


@pytest.mark.parametrize("worker", [True, False])
async def test_an_idle_model_is_unloaded_and_the_next_request_brings_it_back(file: Path, worker: bool) -> None:
    hub = ModelHub(worker=worker, idle_unload=0.05)
    try:
        await hub.load(str(file))
        first = await ask(hub)
        await until(lambda: hub.states()["chatty"] == "unloaded")
        # What is asked of the model beside tokens needs no weights, and brings none back.
        model = hub.get("default")
        assert (model.info.context, model.caps.context) == (hub.list()[0].context, model.info.context)
        assert await model.count_tokens(ChatRequest([{"role": "user", "content": "hello"}])) == first.usage.input_tokens
        assert (hub.states()["chatty"], hub.status().state) == ("unloaded", "ready")
        answers = [asyncio.create_task(ask(hub)) for _ in range(3)]
        await until(lambda: hub.states()["chatty"] != "unloaded")
        for answer in await asyncio.gather(*answers):
            assert answer.usage.output_tokens == first.usage.output_tokens
        await until(lambda: hub.states()["chatty"] == "unloaded")
        await hub.unload("chatty")
        assert hub.status().state == "idle"
    finally:
        await hub.close()


async def test_a_model_at_work_is_not_idle_and_one_that_does_not_come_back_says_why(file: Path) -> None:
    hub = ModelHub(worker=False, idle_unload=0.2)
    try:
        await hub.load(str(file))
        engine = engine_of(hub)
        handle = await engine.submit(GenRequest("long", (1, 2, 3), 200, Sampling(temperature=0)))
        events = [event async for event in handle]
        assert isinstance(events[-1], Finished)
        assert events[-1].reason == "length"
        await until(lambda: engine.state == "unloaded")
        away = file.rename(file.with_suffix(".away"))
        for _ in range(2):
            with pytest.raises(NotLoaded, match="chatty could not be loaded again") as caught:
                await engine.submit(GenRequest("lost", (1, 2, 3), 5, Sampling()))
            assert isinstance(caught.value, NotLoaded)
        assert hub.status().state == "degraded"
        assert "could not be loaded again" in hub.status().error
        away.rename(file)
        assert (await ask(hub)).reason in ("stop", "length")
        assert hub.status().state == "ready"
    finally:
        await hub.close()
    with pytest.raises((NotLoaded, NotFound)):
        hub.get("chatty")

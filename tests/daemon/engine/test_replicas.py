"""Several scripted servers as one model: who gets a request, and what happens when one of them is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest

from skilldeck_daemon.engine.base import ChatEvent, ChatFinished, ChatModel, ChatRequest, TextDelta
from skilldeck_daemon.engine.errors import NotLoaded
from skilldeck_daemon.engine.remote.model import RemoteChatModel
from skilldeck_daemon.engine.remote.replicas import FIRST_PAUSE_S, ReplicatedChatModel, connect
from skilldeck_shared.errors import BadRequest, Unavailable
from support.scripted_model import Drop, Endless, Fail, ScriptedModel, Turn

HELLO = [{"role": "user", "content": "hello"}]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def replicas(*servers: ScriptedModel, clock: Clock | None = None) -> AsyncIterator[ReplicatedChatModel]:
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
        models = [RemoteChatModel(server.url, "scripted", retries=0) for server in servers]
        together = ReplicatedChatModel(models, clock or Clock())
        try:
            yield together
        finally:
            await together.close()


async def play(model: ReplicatedChatModel, key: str = "") -> list[ChatEvent]:
    events = [event async for event in model.stream(ChatRequest(HELLO, cache_key=key))]
    assert sum(isinstance(event, ChatFinished) for event in events) == 1
    return events


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_a_running_request_sends_the_next_to_the_other_replica() -> None:
    one, two = ScriptedModel(Turn(Endless("a"))), ScriptedModel(Turn("b"))
    async with replicas(one, two) as model:
        assert isinstance(model, ChatModel)
        stream = model.stream(ChatRequest(HELLO))
        await anext(stream)
        assert model.stats().active == 1
        assert text_of(await play(model)) == "b"
        await stream.aclose()
        assert [replica.active for replica in model.replicas] == [0, 0]
        await one.until(lambda server: server.disconnects == 1)


async def test_a_session_stays_where_its_prefix_is_cached() -> None:
    one, two = ScriptedModel(Turn("1"), Turn("2"), Turn("3")), ScriptedModel(Turn("x"))
    async with replicas(one, two) as model:
        await play(model, "session")
        model.replicas[0].active = 2  # busier than the other, but not much
        assert text_of(await play(model, "session")) == "2"
        assert text_of(await play(model, "another")) == "x"
        model.replicas[0].active = 0
        assert text_of(await play(model, "session")) == "3"


async def test_a_session_moves_when_its_replica_is_much_busier() -> None:
    one, two = ScriptedModel(Turn("1")), ScriptedModel(Turn("x"), Turn("y"))
    async with replicas(one, two) as model:
        await play(model, "session")
        model.replicas[0].active = 5
        assert text_of(await play(model, "session")) == "x"
        model.replicas[0].active = 0
        assert text_of(await play(model, "session")) == "y"


@pytest.mark.parametrize("fail", [Fail(503), Fail(429), Turn(Drop())])
async def test_a_failure_before_the_first_token_is_tried_on_another(fail: Fail | Turn) -> None:
    clock = Clock()
    one, two = ScriptedModel(fail, Turn("again")), ScriptedModel(Turn("b"), Turn("c"))
    async with replicas(one, two, clock=clock) as model:
        assert text_of(await play(model)) == "b"
        assert text_of(await play(model)) == "c"  # the first is set aside
        clock.now += FIRST_PAUSE_S
        assert text_of(await play(model)) == "again"
        assert model.replicas[0].failures == 0


async def test_after_the_first_token_nothing_is_tried_again() -> None:
    one, two = ScriptedModel(Turn("half", Drop())), ScriptedModel(Turn("b"))
    async with replicas(one, two) as model:
        events = await play(model)
        end = events[-1]
        assert text_of(events) == "half"
        assert isinstance(end, ChatFinished)
        assert end.reason == "error"
    assert two.requests == []


async def test_a_refused_request_is_not_tried_elsewhere() -> None:
    one, two = ScriptedModel(Fail(400, "no")), ScriptedModel(Turn("b"))
    async with replicas(one, two) as model:
        with pytest.raises(BadRequest, match="no"):
            await play(model)
    assert two.requests == []


async def test_when_none_is_left_the_error_names_them_all() -> None:
    one, two = ScriptedModel(Fail(503, "first is ill")), ScriptedModel(Fail(500, "second is ill"))
    async with replicas(one, two) as model:
        end = (await play(model))[-1]
        assert isinstance(end, ChatFinished)
        assert isinstance(end.error, Unavailable)
        assert "first is ill" in str(end.error)
        assert "second is ill" in str(end.error)


async def test_tokens_are_counted_by_whoever_answers() -> None:
    one, two = ScriptedModel(Fail(503)), ScriptedModel(Turn("x"))
    async with replicas(one, two) as model:
        assert await model.count_tokens(ChatRequest(HELLO)) == 100


async def test_several_addresses_connect_to_one_model_and_one_may_be_down() -> None:
    with ScriptedModel(context=2048) as gone, ScriptedModel(Turn("there"), context=4096) as server:
        gone.stop()
        model = await connect(f"{gone.url}, {server.url}", name="served")
        try:
            assert model.info.context == model.caps.context == 4096
            assert text_of([event async for event in model.stream(ChatRequest(HELLO))]) == "there"
            assert server.requests[0]["model"] == "scripted"
        finally:
            await model.close()
        single = await connect(server.url)
        assert single.info.name == "scripted"
        await single.close()
    with pytest.raises(NotLoaded, match="does not answer"):
        await connect(f"{gone.url},{server.url}")

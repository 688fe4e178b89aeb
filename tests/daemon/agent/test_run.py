"""A run over a plan: one terminal event whatever happens, its end stored before anybody is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from skilldeck_daemon.agent.planning.plan import Plan, render
from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.agent.response import new_response
from skilldeck_daemon.agent.run import Run
from skilldeck_daemon.attachments.listing import Attachments
from skilldeck_daemon.engine.base import ModelInfo, Sampling
from skilldeck_daemon.engine.chat.model import TokenChatModel
from skilldeck_daemon.events.log import Event
from skilldeck_daemon.tools.context import Offer, Placement, ToolContext
from support.token_engines import ScriptedEngine, model_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"), added=("<tool_call>", "</tool_call>"))


def _plan(folder: Path, *texts: str, **body: Any) -> Plan:
    """A plan without files, containers and history; its model writes the texts."""
    engine = ScriptedEngine(folder, *texts)
    model = TokenChatModel(engine, folder, ModelInfo("test", "scripted", vocab=engine.vocabulary.size))
    request = ResponseRequest.parse({"model": "m", "input": "hello", **body})
    context = ToolContext("resp_1", "resp_1", None, cast(Any, None), cast(Any, None), Offer(), Placement())
    return Plan(
        request=request,
        response=new_response("resp_1", request, "test", Sampling(temperature=0)),
        model=model,
        sampling=Sampling(temperature=0),
        items=request.input,
        files=Attachments(),
        context=context,
        known=0,
        raw={},
        own_tools=(),
        left_out=(),
        skills=None,
        preload=None,
        asked=None,
        opening=render(request.input, "", context.place.around, {}, Attachments()),
        cache_salt="a:",
    )


class Stored:
    """What a run gave to be stored, and how many events were published by then."""

    def __init__(self, failures: int = 0) -> None:
        self.ends: list[tuple[str, int]] = []
        self.accounts: list[str] = []
        self._failures = failures

    async def begun(self, run: Run) -> None: ...

    async def ended(self, run: Run, event: Event) -> None:
        self.ends.append((run.record["status"], len(run.log.events)))
        if len(self.ends) <= self._failures:
            raise OSError("the disk is full")

    def run(self, plan: Plan) -> Run:
        return Run(plan, begun=self.begun, ended=self.ended, over=lambda account: self.accounts.append(account.status))


async def test_an_answer_is_stored_before_its_end_is_published(folder: Path) -> None:
    stored = Stored()
    run = stored.run(_plan(folder, "hello there"))
    run.start()
    response = await run.finished()
    assert (response["status"], response["output"][0]["content"][0]["text"]) == ("completed", "hello there")
    assert run.log.events[-1]["type"] == "response.completed"
    assert stored.ends == [("completed", len(run.log.events) - 1)]
    assert stored.accounts == ["completed"]
    assert [event["sequence_number"] for event in run.log.events] == list(range(len(run.log.events)))
    (asked,) = run._plan.model.engine.requests  # type: ignore[attr-defined]
    assert asked.cache_salt == "a:"


async def test_an_end_that_cannot_be_stored_is_a_failure_and_only_that_is_published(folder: Path) -> None:
    stored = Stored(failures=1)
    run = stored.run(_plan(folder, "hello"))
    run.start()
    response = await run.finished()
    assert [status for status, _ in stored.ends] == ["completed", "failed"]
    assert (response["status"], run.log.events[-1]["type"]) == ("failed", "response.failed")
    assert stored.accounts == ["failed"]


async def test_a_call_of_the_client_ends_the_run(folder: Path) -> None:
    tools = [{"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}}]
    text = '<tool_call>\n{"name": "shell", "arguments": {}}\n</tool_call>'
    run = Stored().run(_plan(folder, text, tools=tools))
    run.start()
    response = await run.finished()
    assert response["status"] == "completed"
    assert [item["type"] for item in response["output"]] == ["function_call"]


async def test_the_limit_of_tokens_is_one_of_the_whole_run(folder: Path) -> None:
    run = Stored().run(_plan(folder, "hello there hello there", max_output_tokens=2))
    run.start()
    response = await run.finished()
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert response["usage"]["output_tokens"] == 2


async def test_one_that_is_cancelled_before_its_first_step_ends_all_the_same(folder: Path) -> None:
    stored = Stored()
    run = stored.run(_plan(folder, "never written"))
    run.start()
    run.cancel()
    assert (await asyncio.wait_for(run.finished(), 60))["status"] == "cancelled"
    assert [status for status, _ in stored.ends] == ["cancelled"]


async def test_cancelling_ends_it_once_and_frees_its_place(folder: Path) -> None:
    stored = Stored()
    run = stored.run(_plan(folder, "hello " * 500))
    run.start()
    async for event in run.events():
        if event["type"] == "response.output_text.delta":
            break
    run.cancel()
    run.cancel()
    response = await run.finished()
    assert (response["status"], run.log.events[-1]["type"]) == ("cancelled", "response.incomplete")
    assert response["output"][0]["status"] == "incomplete"
    # What it had used is told, in the response and in the account of its time.
    usage, (turn,) = response["usage"], run.timeline
    (asked,) = run._plan.model.engine.requests  # type: ignore[attr-defined]
    assert usage["input_tokens"] == turn["input_tokens"] == len(asked.prompt_ids)
    assert 0 < usage["output_tokens"] == turn["output_tokens"] < 500
    assert (turn["finish"], turn["prefill_s"] >= 0, turn["decode_s"] > 0) == ("cancelled", True, True)
    await asyncio.sleep(0)
    assert run._plan.model.stats().active == 0

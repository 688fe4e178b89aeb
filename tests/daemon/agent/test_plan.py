"""A plan is whole when it exists: looked up, refused by name, validated and rendered once."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest

from skilldeck_daemon.agent.planning.plan import Plan
from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.core import Core
from skilldeck_daemon.engine.chat.encoding import Encoder
from skilldeck_daemon.engine.chat.model import TokenChatModel
from skilldeck_daemon.engine.chat.template import ChatTemplate
from skilldeck_daemon.engine.grammar.compiled import Grammars
from skilldeck_shared.errors import SkilldeckError

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHELL: dict[str, Any] = {"type": "shell", "environment": {"type": "container_auto"}}
PICK: dict[str, Any] = {
    "type": "function",
    "name": "pick",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    },
}


async def _plan(core: Core, input: Any = "hello", **body: Any) -> Plan:
    request = ResponseRequest.parse({"model": "default", "input": input, **body})
    return await core.services.plans.build(request)


def _file(text: str, name: str = "a.txt", **more: Any) -> dict[str, Any]:
    data = base64.b64encode(text.encode()).decode()
    part = {"type": "input_file", "filename": name, "file_data": f"data:text/plain;base64,{data}"}
    return {"role": "user", "content": [part], **more}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"conversation": "conv_none"}, "conversation"),
        ({"previous_response_id": "resp_none"}, "previous_response_id"),
        ({"input": [{"type": "item_reference", "id": "msg_none"}]}, "input[0].id"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-none"}]}]},
            "input[0].content[0].file_id",
        ),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input"),
        ({"tools": [PICK, {**PICK, "parameters": {"type": "object", "patternProperties": {}}}]}, "tools[1]"),
        (
            {"tools": [{"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_none"}}]},
            "tools[0].environment.container_id",
        ),
        ({"input": "word " * 20_000}, "input"),
    ],
)
async def test_what_cannot_be_carried_out_is_refused_by_its_field(core: Core, body: dict[str, Any], param: str) -> None:
    with pytest.raises(SkilldeckError) as raised:
        await _plan(core, **body)
    assert str(raised.value.param).startswith(param)
    assert core.services.runs.active == 0


async def test_a_request_is_validated_rendered_and_encoded_once_before_its_first_token(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is long enough for its tokens to be counted before it is acknowledged."""
    done: list[str] = []

    def counted(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def call(self: Any, *args: Any, **named: Any) -> Any:
            done.append(name)
            return original(self, *args, **named)

        monkeypatch.setattr(owner, name, call)

    counted(TokenChatModel, "_held")
    counted(ChatTemplate, "render")
    counted(Grammars, "hold")
    counted(Encoder, "encode")
    text = "hello there " * 400
    body = {"model": "default", "input": text, "tools": [PICK], "max_output_tokens": 16}
    run = await core.services.runs.start(ResponseRequest.parse(body))
    assert sorted(done) == ["_held", "encode", "hold", "render"]
    response = await run.finished()
    assert response["usage"]["input_tokens"] > 1000
    assert sorted(done) == ["_held", "encode", "hold", "render"]


async def test_only_the_first_turn_is_taken_for_the_one_that_was_validated(core: Core) -> None:
    plan = await _plan(core, tools=[PICK], max_output_tokens=50)
    assert plan.first is not None
    choice = plan.first.tool_choice
    assert plan.chat(list(plan.opening), tool_choice=choice, max_tokens=50) is plan.first
    assert plan.chat(list(plan.opening), tool_choice=choice, max_tokens=49) is not plan.first
    more = [*plan.opening, {"role": "user", "content": "more"}]
    assert plan.chat(more, tool_choice=choice, max_tokens=50).made.by is None


async def test_a_plan_is_not_changed_from_outside(core: Core) -> None:
    plan = await _plan(core)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.known = 3  # type: ignore[misc]


async def test_files_are_found_by_the_ids_of_their_parts(core: Core) -> None:
    """Also in copies of the items, and where a client numbers its items anew in every request."""
    first = await _plan(core, [_file("one", id="msg_1")])
    assert ">\none\n</file>" in first.opening[-1]["content"]
    run = await core.services.runs.start(
        ResponseRequest.parse({"model": "default", "input": [_file("one", id="msg_1")], "max_output_tokens": 16})
    )
    await run.finished()
    again = await _plan(core, [_file("two", "b.txt", id="msg_1")], previous_response_id=run.id)
    told = [message["content"] for message in again.opening if message["role"] == "user"]
    assert [text.count("</file>") for text in told] == [1, 1]
    assert ">\none\n</file>" in told[0]
    assert ">\ntwo\n</file>" in told[1]
    copies = [{**item, "content": [dict(part) for part in item["content"]]} for item in again.items]
    plan = dataclasses.replace(again, items=copies)
    assert [message["content"] for message in plan.messages() if message["role"] == "user"] == told


async def test_of_a_history_what_is_gone_is_left_out_and_of_the_request_it_is_an_error(core: Core) -> None:
    record = await core.services.files.create(b"one", filename="a.txt")
    item = {"role": "user", "content": [{"type": "input_file", "file_id": record["id"]}]}
    run = await core.services.runs.start(
        ResponseRequest.parse({"model": "default", "input": [item], "max_output_tokens": 16})
    )
    await run.finished()
    await core.services.files.delete(record["id"])
    plan = await _plan(core, "and now?", previous_response_id=run.id)
    assert "(a file that is no longer there)" in next(m for m in plan.opening if m["role"] == "user")["content"]
    with pytest.raises(SkilldeckError, match=record["id"]):
        await _plan(core, [item])


async def test_the_container_of_a_plan_is_only_a_record(core: Core) -> None:
    plan = await _plan(core, [_file("one")], tools=[SHELL])
    assert plan.context.place.record is not None
    assert [file.path for file in plan.files.files.values()] == ["/mnt/data/a.txt"]
    assert core.services.environments.containers.get(plan.context.container_id) is None
    assert plan.context.place.around.shell == "hosted"
    plan.context.close()

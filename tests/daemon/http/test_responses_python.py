"""Responses whose model uses the code interpreter: its items, its events, its container, its place in a history."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from daemon.containers.test_interpreter import FAKE_PYPLOT
from support.daemon import SHELL, Running, running
from support.scripted_model import Call, Endless, Turn, shell
from support.wait import until

PYTHON: dict[str, Any] = {"type": "code_interpreter", "container": {"type": "auto"}}
OUTPUTS = ["code_interpreter_call.outputs"]


def python(code: str, **more: Any) -> Call:
    return Call("python", {"code": code, **more})


def told(daemon: Running, request: int = -1) -> str:
    """The last message the model was sent."""
    return str(daemon.model.requests[request]["messages"][-1]["content"])


def calls(response: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in response["output"] if item["type"] == "code_interpreter_call"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared() -> AsyncIterator[Running]:
    """One daemon for requests that are refused."""
    async with running() as daemon:
        yield daemon


async def test_code_streams_runs_and_its_outputs_are_in_the_item_when_asked_for() -> None:
    code = 'x = 6  # "sechs"\nprint("é")\nx * 7'
    async with running(Turn(python(code)), Turn("It is 42.")) as daemon:
        events = await daemon.stream(tools=[PYTHON], include=OUTPUTS)
        kinds = [event["type"].removeprefix("response.") for event in events if event.get("output_index") == 0]
        deltas = kinds.count("code_interpreter_call_code.delta")
        assert deltas > 3
        assert [kind for kind in kinds if kind != "code_interpreter_call_code.delta"] == [
            "output_item.added",
            "code_interpreter_call.in_progress",
            "code_interpreter_call_code.done",
            "code_interpreter_call.interpreting",
            "code_interpreter_call.completed",
            "output_item.done",
        ]
        (item,) = calls(events[-1]["response"])
        assert (item["code"], item["status"]) == (code, "completed")
        assert item["outputs"] == [{"type": "logs", "logs": "é\n42\n"}]
        assert item["container_id"].startswith("cntr_")
        assert told(daemon) == "é\n42\n"
        system = daemon.model.requests[0]["messages"][0]["content"]
        assert "python tool" in system
        assert "shell" not in system


async def test_the_official_client_reads_the_stream_and_the_response() -> None:
    async with running(Turn(python("print(1)")), Turn("ok"), Turn(python("1 / 0")), Turn("ok")) as daemon:
        stream = await daemon.client.responses.create(model="default", input="go", tools=[PYTHON], stream=True)  # type: ignore[call-overload]
        assert [event.type async for event in stream].count("response.code_interpreter_call.completed") == 1
        response = await daemon.client.responses.create(model="default", input="go", tools=[PYTHON], include=OUTPUTS)  # type: ignore[call-overload]
        assert "ZeroDivisionError" in response.output[0].outputs[0].logs
        assert response.tools[0].container.type == "auto"


async def test_outputs_are_left_out_unless_asked_for_and_the_model_keeps_them() -> None:
    turns = [Turn(python("x = 41\nprint('secret')")), Turn("ok"), Turn(python("x + 1")), Turn("ok")]
    async with running(*turns) as daemon:
        first = await daemon.respond(tools=[PYTHON])
        assert calls(first)[0]["outputs"] is None
        second = await daemon.respond(tools=[PYTHON], previous_response_id=first["id"])
        assert calls(second)[0]["container_id"] == calls(first)[0]["container_id"]
        assert told(daemon) == "42\n"
        messages = daemon.model.requests[2]["messages"]
        assert [message["role"] for message in messages[1:]] == ["user", "assistant", "tool", "assistant", "user"]
        assert messages[3]["content"] == "secret\n"
        assert messages[2]["tool_calls"][0]["function"]["name"] == "python"


async def test_a_conversation_keeps_what_code_wrote() -> None:
    async with running(Turn(python("print('kept')")), Turn("ok"), Turn("again")) as daemon:
        conversation = await daemon.client.conversations.create()
        await daemon.respond(tools=[PYTHON], conversation=conversation.id)
        await daemon.respond(tools=[PYTHON], conversation=conversation.id)
        assert "kept\n" in [message["content"] for message in daemon.model.requests[-1]["messages"]]


async def test_calls_given_back_as_input_are_told_to_the_model() -> None:
    async with running(Turn(python("print(1)")), Turn("ok"), Turn("fine")) as daemon:
        first = await daemon.respond(tools=[PYTHON], include=OUTPUTS)
        bare = {**calls(first)[0], "id": "ci_other", "outputs": None}
        items = [{"role": "user", "content": "go"}, calls(first)[0], bare, {"role": "user", "content": "and?"}]
        await daemon.respond(items)
        messages = daemon.model.requests[-1]["messages"]
        assert [message["role"] for message in messages] == ["user", *["assistant", "tool"] * 2, "user"]
        assert [messages[2]["content"], messages[4]["content"]] == ["1\n", "(its output was not sent)"]


async def test_files_and_figures_it_makes_are_shown_cited_and_downloadable() -> None:
    draw = "from matplotlib import pyplot\npyplot.figure()\nopen('out.csv', 'w').write('a,b')"
    async with running(Turn(python(FAKE_PYPLOT), python(draw)), Turn("See out.csv.")) as daemon:
        file = await daemon.client.files.create(file=("in.txt", b"given"), purpose="user_data")
        tool = {"type": "code_interpreter", "container": {"type": "auto", "file_ids": [file.id]}}
        response = (await daemon.stream(tools=[tool], include=OUTPUTS))[-1]["response"]
        assert daemon.model.requests[0]["messages"][0]["content"].endswith("Files:\n- in.txt")
        logs, image = calls(response)[1]["outputs"]
        assert logs["logs"].endswith("[figure saved as /mnt/data/figure-1.png]\n")
        png = base64.b64decode(image["url"].removeprefix("data:image/png;base64,"))
        notes = {note["filename"]: note for note in response["output"][-1]["content"][0]["annotations"]}
        assert {"figure-1.png", "out.csv"} <= set(notes)
        assert "in.txt" not in notes
        note = notes["figure-1.png"]
        content = await daemon.client.containers.files.content.retrieve(
            note["file_id"], container_id=note["container_id"]
        )
        assert content.content == png


async def test_shell_and_interpreter_share_one_container() -> None:
    turn = Turn(shell("echo from shell > f"), python("print(open('f').read())"), shell("echo $((1+1))"))
    async with running(turn, Turn("ok")) as daemon:
        response = (await daemon.stream(tools=[SHELL, PYTHON], include=OUTPUTS))[-1]["response"]
        kinds = [item["type"] for item in response["output"]]
        assert kinds == ["shell_call", "code_interpreter_call", "shell_call", *["shell_call_output"] * 2, "message"]
        assert calls(response)[0]["outputs"][0]["logs"] == "from shell\n\n"
        assert calls(response)[0]["container_id"] == response["output"][0]["environment"]["container_id"]
        messages = daemon.model.requests[1]["messages"]
        assert [message["role"] for message in messages[2:]] == ["assistant", "tool", "tool", "tool"]
        assert len(messages[2]["tool_calls"]) == 3


async def test_an_existing_container_is_used_by_its_id() -> None:
    async with running(Turn(python("import os; os.listdir()")), Turn("ok")) as daemon:
        container = await daemon.client.containers.create(name="mine")
        await daemon.client.containers.files.create(container.id, file=("here.txt", b"x"))
        tool = {"type": "code_interpreter", "container": container.id}
        response = await daemon.respond(tools=[tool], include=OUTPUTS)
        assert calls(response)[0]["outputs"][0]["logs"] == "['here.txt']\n"
        assert response["tools"] == [tool]


async def test_a_model_that_writes_code_instead_of_json_is_understood() -> None:
    async with running(Turn(Call("python", "for i in range(2):\n    print(i)")), Turn("ok")) as daemon:
        response = (await daemon.stream(tools=[PYTHON], include=OUTPUTS))[-1]["response"]
        assert calls(response)[0]["outputs"][0]["logs"] == "0\n1\n"
        arguments = daemon.model.requests[1]["messages"][-2]["tool_calls"][0]["function"]["arguments"]
        assert arguments == '{"code": "for i in range(2):\\n    print(i)"}'


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ('{"code": "print(1)', "not valid JSON"),
        ('{"source": "1"}', '"code"'),
        ('{"code": "1", "timeout_ms": 0}', '"timeout_ms"'),
        ('{"code": "1", "restart": "yes"}', '"restart"'),
        ('{"code": "1", "code": "2"}', "more than once"),
    ],
)
async def test_a_malformed_call_fails_and_the_model_can_mend_it(arguments: str, complaint: str) -> None:
    async with running(Turn(Call("python", arguments)), Turn(python("'mended'")), Turn("ok")) as daemon:
        response = (await daemon.stream(tools=[PYTHON], include=OUTPUTS))[-1]["response"]
        first, second = calls(response)
        assert first["status"] == "failed"
        assert complaint in first["outputs"][0]["logs"]
        assert complaint in str(daemon.model.requests[1]["messages"][-1]["content"])
        assert second["outputs"][0]["logs"] == "'mended'\n"


async def test_a_timeout_and_a_dead_interpreter_are_told_and_survived() -> None:
    stuck = python("print('before')\nwhile True: pass", timeout_ms=200)
    async with running(
        Turn(stuck), Turn(python("import os; os._exit(1)")), Turn(python("'new'")), Turn("ok")
    ) as daemon:
        response = (await daemon.stream(tools=[PYTHON], include=OUTPUTS))[-1]["response"]
        logs = [call["outputs"][0]["logs"] for call in calls(response)]
        assert logs[0].startswith("before\n")
        assert logs[0].endswith("[timed out after 200 ms]\n")
        assert "exit code 1" in logs[1]
        assert logs[2] == "'new'\n"


async def test_the_model_can_begin_with_a_fresh_interpreter() -> None:
    turns = [Turn(python("x = 1")), Turn(python("'x' in globals()", restart=True)), Turn("ok")]
    async with running(*turns) as daemon:
        response = await daemon.respond(tools=[PYTHON], include=OUTPUTS)
        assert calls(response)[1]["outputs"][0]["logs"] == "False\n"


async def test_cancelling_keeps_what_was_written() -> None:
    async with running(Turn(python("x = 1\nprint('started')\nwhile True: pass"))) as daemon:
        run = await daemon.respond(background=True, tools=[PYTHON], include=OUTPUTS)
        services = daemon.daemon.services
        live = services.runs.live(run["id"])
        assert live is not None
        await until(lambda: "interpreting" in str(live.log.events[-1]["type"]))
        container = services.environments.containers
        await until(lambda: container.stats()["open"] == 1)
        await until(lambda: (found := container.get(live.output.items[0]["container_id"])) is not None and found.busy)
        cancelled = (await daemon.http.post(f"/responses/{run['id']}/cancel")).json()
        assert cancelled["status"] == "cancelled"
        assert calls(cancelled)[0]["status"] == "incomplete"
        found = container.get(calls(cancelled)[0]["container_id"])
        assert found is not None
        assert not found.busy


async def test_code_that_is_cut_off_by_a_limit_ends_the_item_as_incomplete() -> None:
    async with running(Turn(python("x = " + "1 + " * 60 + "1"), finish="length")) as daemon:
        response = (await daemon.stream(tools=[PYTHON], max_output_tokens=20))[-1]["response"]
        assert response["status"] == "incomplete"
        assert [call["status"] for call in calls(response)] in (["incomplete"], [])


async def test_a_model_that_never_stops_can_be_cancelled() -> None:
    async with running(Turn("thinking ", Endless())) as daemon:
        run = await daemon.respond(background=True, tools=[PYTHON])
        await daemon.model.until(lambda model: len(model.requests) == 1)
        assert (await daemon.client.responses.cancel(run["id"])).status == "cancelled"


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{"type": "code_interpreter"}], "tools[0].container"),
        ([{"type": "code_interpreter", "container": 3}], "tools[0].container"),
        ([{"type": "code_interpreter", "container": {}}], "tools[0].container.type"),
        ([{"type": "code_interpreter", "container": "cntr_missing"}], "tools[0].container"),
        (
            [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "2g"}}],
            "tools[0].container.memory_limit",
        ),
        (
            [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-none"]}}],
            "tools[0].container.file_ids[0]",
        ),
        (
            [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "64g"}}],
            "tools[0].container.memory_limit",
        ),
        ([PYTHON, PYTHON], "tools[1]"),
        (
            [
                {"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_a"}},
                {"type": "code_interpreter", "container": "cntr_b"},
            ],
            "tools[1].container",
        ),
        (
            [
                {"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_a"}},
                {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "1g"}},
            ],
            "tools[1].container.memory_limit",
        ),
        (
            [
                {"type": "shell", "environment": {"type": "container_auto", "memory_limit": "4g"}},
                {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "1g"}},
            ],
            "tools[1].container.memory_limit",
        ),
        (
            [
                {"type": "shell", "environment": {"type": "container_auto", "memory_limit": "4g"}},
                {"type": "code_interpreter", "container": "cntr_b"},
            ],
            "tools[1].container",
        ),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_cannot_be_is_refused_by_name(tools: list[dict[str, Any]], param: str, shared: Running) -> None:
    answer = await shared.http.post("/responses", json={"model": "default", "input": "go", "tools": tools})
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == param

"""Responses whose model uses the shell: hosted in containers, or the client's own."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import zipfile
from typing import Any

import pytest

from support.daemon import SHELL, Running, running
from support.scripted_model import Call, Endless, Hold, Raw, Text, Turn, shell
from support.wait import until

LOCAL: dict[str, Any] = {"type": "shell", "environment": {"type": "local"}}


def bundle(name: str = "greeter", description: str = "Greets people.", script: str = "echo hello $1") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(
            f"{name}/SKILL.md", f"---\nname: {name}\ndescription: {description}\n---\nRun sh greet.sh NAME\n"
        )
        archive.writestr(f"{name}/greet.sh", script)
    return data.getvalue()


def outputs(response: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for item in response["output"] if item["type"] == "shell_call_output" for entry in item["output"]]


def told(daemon: Running, request: int = -1) -> str:
    """The last message the model was sent."""
    return str(daemon.model.requests[request]["messages"][-1]["content"])


async def test_a_skill_and_a_file_are_used_in_a_container() -> None:
    call = shell("cat /mnt/skills/greeter/SKILL.md | tail -1", "sh /mnt/skills/greeter/greet.sh $(cat who.txt)")
    async with running(Turn("Let me see.", call), Turn("It says hello Ada.")) as daemon:
        skill = await daemon.client.skills.create(files=[("greeter.zip", bundle(), "application/zip")])
        file = await daemon.client.files.create(file=("who.txt", b"Ada"), purpose="user_data")
        environment = {"type": "container_auto", "skills": [{"type": "skill_reference", "skill_id": skill.id}]}
        content = [{"type": "input_text", "text": "Greet."}, {"type": "input_file", "file_id": file.id}]
        events = await daemon.stream(
            [{"role": "user", "content": content}], tools=[{"type": "shell", "environment": environment}]
        )
        response = events[-1]["response"]
        kinds = [item["type"] for item in response["output"]]
        assert kinds == ["message", "shell_call", "shell_call_output", "message"]
        assert [entry["stdout"] for entry in outputs(response)] == ["Run sh greet.sh NAME\n", "hello Ada\n"]
        system = daemon.model.requests[0]["messages"][0]["content"]
        assert system.endswith("\n\nSkills:\n- greeter: Greets people.\nFiles:\n- who.txt")
        assert '<file name="who.txt"' in daemon.model.requests[0]["messages"][1]["content"]
        assert told(daemon) == (
            "$ cat /mnt/skills/greeter/SKILL.md | tail -1\nRun sh /mnt/skills/greeter/greet.sh NAME\n\n"
            "$ sh /mnt/skills/greeter/greet.sh $(cat who.txt)\nhello Ada"
        )


@pytest.fixture
def greeter() -> dict[str, Any]:
    """The shell with a skill."""
    source = {"type": "base64", "media_type": "application/zip", "data": base64.b64encode(bundle()).decode()}
    skill = {"type": "inline", "name": "greeter", "description": "Greets people.", "source": source}
    return {"type": "shell", "environment": {"type": "container_auto", "skills": [skill]}}


async def test_with_a_skill_the_sandbox_starts_before_the_call_and_goes_when_none_comes(
    greeter: dict[str, Any],
) -> None:
    gate = threading.Event()
    call = shell("sh /mnt/skills/*/greet.sh Ada")
    async with running(Turn("I need ", Hold(gate), "no command."), Turn(call), Turn("Done.")) as daemon:
        containers = daemon.daemon.services.environments.containers
        plain = asyncio.create_task(daemon.respond(tools=[greeter]))
        await until(lambda: containers.stats()["open"] == 1)
        assert (await daemon.http.get("/containers")).json()["data"] == [], "it is nobody's yet"
        gate.set()
        assert [item["type"] for item in (await plain)["output"]] == ["message"]
        await until(lambda: containers.stats()["open"] == 0)
        assert [path for path in containers.base.iterdir() if not path.name.startswith(".")] == []
        starts = containers.stats()["starts"]
        used = await daemon.respond(tools=[greeter])
        assert outputs(used)[0]["stdout"] == "hello Ada\n"
        assert containers.stats()["starts"] == starts + 1, "the one that was begun"


async def test_a_sandbox_begun_ahead_gives_way_to_one_that_is_asked_for(greeter: dict[str, Any]) -> None:
    gate = threading.Event()
    call = shell("sh /mnt/skills/*/greet.sh Ada")
    turns = (Turn("Hm. ", Hold(gate), call), Turn(shell("echo now")), Turn("ok"), Turn("ok"))
    async with running(*turns, max_containers=1) as daemon:
        containers = daemon.daemon.services.environments.containers
        first = asyncio.create_task(daemon.respond(tools=[greeter]))
        await until(lambda: containers.stats()["open"] == 1)
        assert outputs(await daemon.respond(tools=[SHELL]))[0]["stdout"] == "now\n"
        gate.set()
        assert outputs(await first)[0]["stdout"] == "hello Ada\n"


@pytest.mark.parametrize(
    ("skill", "permission", "choice"), [(False, "auto", "auto"), (True, "auto", "none"), (True, "ask", "auto")]
)
async def test_no_sandbox_is_begun_unasked_or_for_nothing(
    greeter: dict[str, Any], skill: bool, permission: str, choice: str
) -> None:
    gate = threading.Event()
    async with running(Turn("No ", Hold(gate), "need."), permission=permission) as daemon:
        containers = daemon.daemon.services.environments.containers
        answer = asyncio.create_task(daemon.respond(tools=[greeter if skill else SHELL], tool_choice=choice))
        await until(lambda: bool(daemon.model.requests))
        begun = containers.stats()["open"]
        gate.set()
        await answer
        assert (begun, containers.stats()["starts"]) == (0, 0)


async def test_commands_appear_while_the_model_writes_and_output_while_the_process_does() -> None:
    async with running(Turn(shell('echo one; echo "zwei" >&2; exit 3')), Turn("ok")) as daemon:
        events = await daemon.stream(tools=[SHELL])
        deltas = [event["delta"] for event in events if event["type"] == "response.shell_call_command.delta"]
        assert len(deltas) > 3
        written = [event["delta"] for event in events if event["type"] == "response.shell_call_output_content.delta"]
        assert {"stdout": "one\n"} in written
        assert {"stderr": "zwei\n"} in written
        assert outputs(events[-1]["response"])[0]["outcome"] == {"type": "exit", "exit_code": 3}
        assert told(daemon) == "exit code: 3\none\nstderr:\nzwei"


async def test_a_timeout_keeps_the_partial_output_and_skips_what_follows() -> None:
    call = shell("echo before; sleep 60", "echo never", timeout_ms=300)
    async with running(Turn(call), Turn("ok")) as daemon:
        events = await daemon.stream(tools=[SHELL])
        first, second = outputs(events[-1]["response"])
        assert (first["stdout"], first["outcome"]) == ("before\n", {"type": "timeout"})
        assert second["outcome"] == {"type": "exit", "exit_code": 126}
        assert "timed out after 300 ms\nbefore" in told(daemon)


async def test_max_output_length_is_echoed_and_kept() -> None:
    async with running(Turn(shell("seq 1 10000", max_output_length=300)), Turn("ok")) as daemon:
        events = await daemon.stream(tools=[SHELL])
        response = events[-1]["response"]
        assert len(outputs(response)[0]["stdout"]) <= 300
        assert [item["max_output_length"] for item in response["output"] if item["type"] == "shell_call_output"] == [
            300
        ]


async def test_several_calls_of_one_turn_run_in_order_and_share_the_container() -> None:
    turn = Turn(shell("echo 1 > a"), shell("cat a"))
    async with running(turn, Turn("ok")) as daemon:
        events = await daemon.stream(tools=[SHELL])
        response = events[-1]["response"]
        kinds = [item["type"] for item in response["output"]]
        assert kinds == ["shell_call", "shell_call", "shell_call_output", "shell_call_output", "message"]
        assert outputs(response)[1]["stdout"] == "1\n"
        sent = daemon.model.requests[1]["messages"]
        assert [message["role"] for message in sent[1:]] == ["user", "assistant", "tool", "tool"]
        assert len(sent[2]["tool_calls"]) == 2


async def test_a_container_is_used_again_by_the_next_response_and_by_reference() -> None:
    turns = [
        Turn(shell("echo kept > f")),
        Turn("ok"),
        Turn(shell("cat f")),
        Turn("ok"),
        Turn(shell("cat f")),
        Turn("ok"),
    ]
    async with running(*turns) as daemon:
        first = await daemon.respond(tools=[SHELL])
        second = await daemon.respond(tools=[SHELL], previous_response_id=first["id"])
        id = first["output"][0]["environment"]["container_id"]
        assert second["output"][0]["environment"] == {"type": "container_reference", "container_id": id}
        reference = {"type": "shell", "environment": {"type": "container_reference", "container_id": id}}
        third = await daemon.respond(tools=[reference])
        assert outputs(second)[0]["stdout"] == outputs(third)[0]["stdout"] == "kept\n"
        listed = await daemon.client.containers.list()
        assert [container.id for container in listed.data] == [id]


async def test_files_a_run_makes_are_cited_where_they_are_named_and_can_be_downloaded() -> None:
    call = shell("mkdir -p out; echo a,b > out/table.csv; echo x > notes.txt; echo h > .hidden")
    async with running(Turn(call), Turn("The table is in out/table.csv.")) as daemon:
        response = (await daemon.stream(tools=[SHELL]))[-1]["response"]
        part = response["output"][-1]["content"][0]
        cited = {note["filename"]: note for note in part["annotations"]}
        assert set(cited) == {"table.csv", "notes.txt"}
        note = cited["table.csv"]
        assert part["text"][note["start_index"] : note["end_index"]] == "out/table.csv"
        assert cited["notes.txt"]["start_index"] == cited["notes.txt"]["end_index"] == len(part["text"])
        content = await daemon.client.containers.files.content.retrieve(
            note["file_id"], container_id=note["container_id"]
        )
        assert content.content == b"a,b\n"


async def test_a_report_beside_hundreds_of_files_of_packages_is_cited() -> None:
    command = """
mkdir -p node_modules/left-pad venv/lib .venv libs/pandas libs/pandas-2.0.dist-info made/_rels made/word zz/deep out
touch venv/pyvenv.cfg .venv/pyvenv.cfg libs/pandas-2.0.dist-info/RECORD package.json
mkdir -p environment/bin && touch environment/pyvenv.cfg environment/bin/activate
for n in $(seq 150); do touch node_modules/left-pad/$n.js venv/lib/$n.py libs/pandas/$n.py a-$n.tmp; done
rm a-*.tmp; touch 'made/[Content_Types].xml' made/_rels/.rels made/word/document.xml
for n in $(seq 150); do touch out/$n.png; done
echo report > zz/deep/report.md; echo x > zz/deep/old.md; echo y > node_modules/left-pad/named.md
"""
    said = "See report.md, and node_modules/left-pad/named.md."
    async with running(Turn(shell(command)), Turn(said)) as daemon:
        response = await daemon.respond(tools=[SHELL])
        cited = [note["filename"] for note in response["output"][-1]["content"][0]["annotations"]]
    assert len(cited) == 100
    assert cited[:2] == ["report.md", "named.md"]
    # The shallow before the deep: of what is as deep the newest, and old.md is deeper than the pictures are many.
    assert "package.json" in cited
    assert all(name == "package.json" or name.endswith(".png") for name in cited[2:])


async def test_given_files_are_not_cited_and_two_of_one_name_are_told_apart() -> None:
    async with running(Turn(shell("cat data.txt data-2.txt")), Turn("ok")) as daemon:
        files = [
            {"type": "input_file", "filename": "data.txt", "file_data": "data:text/plain;base64," + encoded}
            for encoded in (base64.b64encode(text).decode() for text in (b"one\n", b"two\n"))
        ]
        response = await daemon.respond([{"role": "user", "content": files}], tools=[SHELL])
        assert outputs(response)[0]["stdout"] == "one\ntwo\n"
        assert response["output"][-1]["content"][0]["annotations"] == []
        assert "base64" not in str(daemon.model.requests[0])


async def test_file_ids_of_the_environment_are_mounted_and_listed() -> None:
    async with running(Turn(shell("cat given.txt")), Turn("ok")) as daemon:
        file = await daemon.client.files.create(file=("given.txt", b"content"), purpose="user_data")
        tool = {"type": "shell", "environment": {"type": "container_auto", "file_ids": [file.id]}}
        response = await daemon.respond(tools=[tool])
        assert outputs(response)[0]["stdout"] == "content"
        assert daemon.model.requests[0]["messages"][0]["content"].endswith("Files:\n- given.txt")


async def test_inline_skills_and_two_skills_of_one_name_are_mounted_side_by_side() -> None:
    async with running(
        Turn(shell("sh /mnt/skills/greeter/greet.sh; sh /mnt/skills/greeter-2/greet.sh")), Turn("ok")
    ) as daemon:
        skills = [
            {
                "type": "inline",
                "name": "greeter",
                "description": "Greets people.",
                "source": {
                    "type": "base64",
                    "media_type": "application/zip",
                    "data": base64.b64encode(bundle(script=f"echo {word}")).decode(),
                },
            }
            for word in ("first", "second")
        ]
        response = await daemon.respond(
            tools=[{"type": "shell", "environment": {"type": "container_auto", "skills": skills}}]
        )
        assert outputs(response)[0]["stdout"] == "first\nsecond\n"


async def test_a_local_shell_call_ends_the_response_and_its_output_continues_it() -> None:
    skill = {"name": "tidy", "description": "Tidies.", "path": "/home/me/tidy"}
    tool = {"type": "shell", "environment": {"type": "local", "skills": [skill]}}
    async with running(Turn(shell("ls", "pwd")), Turn("Two files.")) as daemon:
        first = (await daemon.stream(tools=[tool]))[-1]["response"]
        call = first["output"][-1]
        assert (first["status"], call["type"], call["environment"]) == ("completed", "shell_call", {"type": "local"})
        assert "- tidy: Tidies. (/home/me/tidy)" in daemon.model.requests[0]["messages"][0]["content"]
        output = {
            "type": "shell_call_output",
            "call_id": call["call_id"],
            "output": [
                {"stdout": "a\nb\n", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}},
                {"stdout": "", "stderr": "", "outcome": {"type": "timeout"}},
            ],
        }
        second = await daemon.respond([output], previous_response_id=first["id"], tools=[tool])
        assert second["output"][0]["content"][0]["text"] == "Two files."
        assert told(daemon) == "$ ls\na\nb\n\n$ pwd\ntimed out\n(no output)"


async def test_a_shell_without_environment_is_the_clients() -> None:
    async with running(Turn(shell("ls"))) as daemon:
        response = await daemon.respond(tools=[{"type": "shell"}])
        assert response["output"][0]["environment"] == {"type": "local"}
        assert (await daemon.client.containers.list()).data == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ('{"commands": ["ls"', "not valid JSON"),
        ('{"command": "ls"}', '"commands"'),
        ('{"commands": []}', '"commands"'),
        ('{"commands": ["ls"], "timeout_ms": "soon"}', '"timeout_ms"'),
        ("[]", "object"),
    ],
)
async def test_a_malformed_call_is_shown_and_answered_with_an_error_the_model_can_mend(
    arguments: str, complaint: str
) -> None:
    async with running(Turn(Call("shell", arguments)), Turn(shell("echo mended")), Turn("ok")) as daemon:
        response = (await daemon.stream(tools=[SHELL]))[-1]["response"]
        assert response["status"] == "completed"
        assert response["output"][0]["status"] == "incomplete"
        assert complaint in outputs(response)[0]["stderr"]
        assert complaint in str(daemon.model.requests[1]["messages"][-1]["content"])
        assert outputs(response)[1]["stdout"] == "mended\n"


async def test_a_model_that_only_writes_malformed_calls_is_stopped() -> None:
    async with running(*[Turn(Call("shell", "nonsense"))] * 10, strict=False) as daemon:
        response = (await daemon.stream(tools=[SHELL]))[-1]["response"]
        assert response["status"] == "failed"
        assert len(daemon.model.requests) == 4


async def test_max_tool_calls_ignores_further_calls_and_takes_the_tool_away() -> None:
    async with running(Turn(shell("echo 1"), shell("echo 2")), Turn("ok")) as daemon:
        response = await daemon.respond(tools=[SHELL], max_tool_calls=1)
        assert [item["type"] for item in response["output"]] == ["shell_call", "shell_call_output", "message"]
        assert "tools" not in daemon.model.requests[1]


async def test_max_output_tokens_counts_over_the_rounds() -> None:
    async with running(Turn(shell("echo " + "x" * 100)), strict=False) as daemon:
        response = await daemon.respond(tools=[SHELL], max_output_tokens=20)
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}
        assert [item["type"] for item in response["output"]] == ["shell_call", "shell_call_output"]


async def test_cancelling_kills_the_command_and_keeps_what_it_wrote() -> None:
    async with running(Turn(shell("echo started; sleep 1000"))) as daemon:
        run = await daemon.respond(background=True, tools=[SHELL])
        await until(lambda: "started\\n" in str(daemon.daemon.services.runs.live(run["id"]).log.events))  # type: ignore[union-attr]
        cancelled = (await daemon.http.post(f"/responses/{run['id']}/cancel")).json()
        assert cancelled["status"] == "cancelled"
        output = cancelled["output"][-1]
        assert (output["type"], output["status"]) == ("shell_call_output", "incomplete")
        assert output["output"][0]["stdout"] == "started\n"
        container = daemon.daemon.services.environments.containers.get(
            cancelled["output"][0]["environment"]["container_id"]
        )
        assert container is not None
        assert not container.busy


async def test_a_model_that_never_stops_writing_a_command_can_be_cancelled() -> None:
    async with running(Turn("thinking ", Endless())) as daemon:
        run = await daemon.respond(background=True, tools=[SHELL])
        await daemon.model.until(lambda model: len(model.requests) == 1)
        cancelled = await daemon.client.responses.cancel(run["id"])
        assert cancelled.status == "cancelled"


def half_written(gate: threading.Event, text: str = '{"commands": ["echo hi"]}') -> Turn:
    """A shell call whose arguments come once the gate is open."""

    def line(delta: dict[str, Any]) -> Raw:
        call = {"index": 0, **delta}
        return Raw("data: " + json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}))

    begun = {"id": "call_1", "type": "function", "function": {"name": "shell", "arguments": ""}}
    return Turn(line(begun), Hold(gate), line({"function": {"arguments": text}}), finish="tool_calls")


async def listed(daemon: Running) -> Any:
    """The one container, once its record is there: that is written when it runs."""
    for _ in range(1000):
        if records := (await daemon.client.containers.list()).data:
            break
        await asyncio.sleep(0.01)
    (record,) = records
    return record


async def test_the_container_starts_while_the_call_is_being_written() -> None:
    gate = threading.Event()
    async with running(half_written(gate), Turn("ok")) as daemon:
        containers = daemon.daemon.services.environments.containers
        asked = asyncio.create_task(daemon.respond(tools=[SHELL]))
        await until(lambda: containers.stats()["running"] == 1)
        record = await listed(daemon)
        container = containers.get(record.id)
        assert container is not None
        # Another run may need its place meanwhile.
        await container.close(delete=False)
        gate.set()
        assert outputs(await asked)[0]["stdout"] == "hi\n"
        assert [entry.id for entry in (await daemon.client.containers.list()).data] == [record.id]


@pytest.mark.parametrize("permission", ["ask", "deny"])
async def test_no_container_starts_for_a_call_that_may_be_refused(permission: str) -> None:
    gate = threading.Event()
    async with running(half_written(gate), Turn("ok"), permission=permission) as daemon:
        asked = asyncio.create_task(daemon.respond(tools=[SHELL], background=True))
        await daemon.model.until(lambda model: len(model.requests) == 1)
        response = await asked
        await until(lambda: len(daemon.daemon.services.runs.live(response["id"]).response["output"]) == 1)  # type: ignore[union-attr]
        assert (await daemon.client.containers.list()).data == []
        await daemon.client.responses.cancel(response["id"])


async def test_cancelling_while_the_container_of_a_call_starts_ends_both() -> None:
    async with running(*[half_written(threading.Event()) for _ in range(5)]) as daemon:
        for _ in range(5):
            response = await daemon.respond(tools=[SHELL], background=True)
            live = daemon.daemon.services.runs.live(response["id"])
            assert live is not None
            async for event in live.events():
                if event["type"] == "response.output_item.added":
                    break
            assert (await daemon.client.responses.cancel(response["id"])).status == "cancelled"
        # Made whole or not at all.
        for record in (await daemon.client.containers.list()).data:
            files = await daemon.http.get(f"/containers/{record.id}/files")
            assert files.status_code == 200, files.text


async def test_cancelling_when_the_container_of_a_call_is_just_stored_leaves_it_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(half_written(threading.Event())) as daemon:
        store, stored = daemon.daemon.services.store.containers, asyncio.Event()
        put = store.put

        async def slow(record: dict[str, Any]) -> None:
            await put(record)
            stored.set()
            await asyncio.sleep(0.1)

        monkeypatch.setattr(store, "put", slow)
        response = await daemon.respond(tools=[SHELL], background=True)
        await stored.wait()
        assert (await daemon.client.responses.cancel(response["id"])).status == "cancelled"
        (record,) = (await daemon.client.containers.list()).data
        assert (await daemon.http.get(f"/containers/{record.id}/files")).status_code == 200


async def test_an_expired_container_is_refused_by_name() -> None:
    async with running(Turn("x"), strict=False) as daemon:
        container = await daemon.client.containers.create(
            name="c", expires_after={"anchor": "last_active_at", "minutes": 1}
        )
        record = await daemon.daemon.services.store.containers.get(container.id)
        assert record is not None
        await daemon.daemon.services.store.containers.put({**record, "last_active_at": 1})
        live = daemon.daemon.services.environments.containers.get(container.id)
        assert live is not None
        live.last_active = 1
        assert await daemon.daemon.services.environments.expire() == [container.id]
        assert (await daemon.client.containers.retrieve(container.id)).status == "expired"
        tool = {"type": "shell", "environment": {"type": "container_reference", "container_id": container.id}}
        answer = await daemon.http.post("/responses", json={"model": "default", "input": "x", "tools": [tool]})
        assert answer.status_code == 404
        assert answer.json()["error"]["param"] == "tools[0].environment.container_id"


async def test_denied_commands_do_not_run_and_the_model_is_told() -> None:
    async with running(Turn(shell("touch /mnt/data/ran")), Turn("ok"), permission="deny") as daemon:
        response = await daemon.respond(tools=[SHELL])
        assert "Permission denied" in outputs(response)[0]["stderr"]
        assert (await daemon.client.containers.list()).data == []


async def test_a_person_approves_once_for_the_session_and_denies_with_a_message() -> None:
    turns = [
        Turn(shell("echo a")),
        Turn("ok"),
        Turn(shell("echo a b")),
        Turn("ok"),
        Turn(shell("echo a; id")),
        Turn("ok"),
    ]
    async with running(*turns, permission="ask") as daemon:

        async def answer(**decision: Any) -> None:
            await until(daemon.daemon.services.approvals.list)
            (pending,) = (await daemon.http.get("/approvals")).json()["data"]
            decided = await daemon.http.post(f"/approvals/{pending['id']}", json=decision)
            assert decided.status_code == 200, decided.text

        first, _ = await asyncio.gather(
            daemon.respond(tools=[SHELL]), answer(decision="approve", remember_for_session=True)
        )
        assert outputs(first)[0]["stdout"] == "a\n"
        second = await daemon.respond(tools=[SHELL], previous_response_id=first["id"])
        assert outputs(second)[0]["stdout"] == "a b\n"
        third, _ = await asyncio.gather(
            daemon.respond(tools=[SHELL], previous_response_id=second["id"]),
            answer(decision="deny", message="Not that one."),
        )
        assert outputs(third)[0]["stderr"] == "Permission denied by the user: Not that one."


async def test_cancelling_a_run_that_waits_for_a_person_withdraws_the_question() -> None:
    async with running(Turn(shell("ls"))) as daemon:
        answer = await daemon.http.post(
            "/responses",
            json={"model": "default", "input": "x", "tools": [SHELL], "background": True},
            headers={"x-skilldeck-permission": "ask"},
        )
        await until(daemon.daemon.services.approvals.list)
        await daemon.client.responses.cancel(answer.json()["id"])
        assert daemon.daemon.services.approvals.list() == []


FENCED = "```json\n{}\n```"


async def test_a_call_in_the_text_is_carried_out_and_none_of_it_is_shown() -> None:
    call = FENCED.format('{"function": "shell", "arguments": {"commands": ["echo hello"]}}')
    async with running(Turn(Text(call, chunk=3)), Turn("It says hello.")) as daemon:
        events = await daemon.stream(tools=[SHELL])
        output = events[-1]["response"]["output"]
        assert [item["type"] for item in output] == ["shell_call", "shell_call_output", "message"]
        assert output[1]["output"][0]["stdout"] == "hello\n"
        assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == (
            "It says hello."
        )


async def test_a_block_of_commands_is_run_only_where_there_is_something_to_work_on() -> None:
    block = "```bash\nwc -l < notes.txt\n```"
    file = {"type": "input_file", "filename": "notes.txt", "file_data": "data:text/plain;base64,YQpiCg=="}
    asked = [{"role": "user", "content": [file, {"type": "input_text", "text": "How many lines?"}]}]
    async with running(Turn(block), Turn("Two."), Turn(block)) as daemon:
        output = (await daemon.respond(asked, tools=[SHELL]))["output"]
        assert output[0]["action"]["commands"] == ["wc -l < notes.txt"]
        assert output[1]["output"][0]["stdout"] == "2\n"
        plain = (await daemon.respond("How do I count lines?", tools=[SHELL]))["output"]
        assert [item["content"][0]["text"] for item in plain] == [block]


async def test_a_skill_called_like_a_tool_is_answered_with_its_instructions() -> None:
    source = {"type": "base64", "media_type": "application/zip", "data": base64.b64encode(bundle()).decode()}
    skill = {"type": "inline", "name": "greeter", "description": "Greets people.", "source": source}
    tool = {"type": "shell", "environment": {"type": "container_auto", "skills": [skill]}}
    call = FENCED.format('{"name": "greeter", "arguments": {"who": "Ann"}}')
    async with running(Turn(call), Turn(shell("greeter Ann")), Turn("Done.")) as daemon:
        output = (await daemon.respond(tools=[tool]))["output"]
        # Only the model is told of a call that no client could carry out.
        assert [item["type"] for item in output] == ["shell_call", "shell_call_output", "message"]
        instructions = "Run sh /mnt/skills/greeter/greet.sh NAME"
        assert told(daemon, 1).endswith(f"commands run with the shell tool:\n{instructions}")
        # Neither is the same mistake as a command a dead end; what is stored is what the shell wrote.
        assert output[1]["output"][0]["outcome"] == {"type": "exit", "exit_code": 127}
        assert output[1]["output"][0]["stderr"].endswith("greeter: command not found\n")
        assert f"greeter is a skill, not a command. Do what its instructions say:\n{instructions}" in told(daemon)


async def test_a_request_says_which_skills_are_opened_for_the_model() -> None:
    source = {"type": "base64", "media_type": "application/zip", "data": base64.b64encode(bundle()).decode()}
    skill = {"type": "inline", "name": "greeter", "description": "Greets people.", "source": source}
    async with running(Turn("One."), Turn("Two."), Turn("Three.")) as daemon:
        for mode in ("named", "none"):
            environment = {"type": "container_auto", "skills": [skill], "skills_preload": mode}
            response = await daemon.respond("Greet.", tools=[{"type": "shell", "environment": environment}])
            assert "skills_preload" not in response["tools"][0]["environment"]
        opened, closed = (str(request["messages"][-1]["content"]) for request in daemon.model.requests)
        assert opened.startswith('<skill name="greeter" path="/mnt/skills/greeter/SKILL.md">\n')
        assert opened.endswith("Run sh /mnt/skills/greeter/greet.sh NAME\n</skill>\n\nGreet.")
        assert closed == "Greet."
        wrong = {"type": "container_auto", "skills_preload": "some"}
        answer = await daemon.http.post(
            "/responses", json={"input": "x", "tools": [{"type": "shell", "environment": wrong}]}
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "tools[0].environment.skills_preload"

"""The control service over a real daemon (store, containers, runs), its model played by a script."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError
from typer.testing import CliRunner

from skilldeck_daemon.rpc import service
from skilldeck_shared.errors import BadRequest, Conflict, NotFound, SkilldeckError, TooLarge
from skilldeck_shared.proto import control_pb2 as pb
from skilldeck_shared.skills.bundle import scan, zip_stream
from skilldeck_tui.cli.main import app
from skilldeck_tui.client.client import Change, Client, ConnectionLost, RunEvent, Snapshot, read_all
from skilldeck_tui.client.connect import wait_ready
from skilldeck_tui.client.upload import upload_folder
from support.daemon import SHELL, Running, running
from support.scripted_model import Endless, Scripted, ScriptedModel, Text, Turn, shell
from support.wait import until

FRONT = "---\nname: counter\ndescription: Counts things.\n---\n# Steps\n"


@asynccontextmanager
async def controlled(*turns: Scripted, **settings: Any) -> AsyncIterator[tuple[Client, Running]]:
    async with running(*turns, **settings) as daemon:
        async with await Client.connect(daemon.daemon.settings.socket) as client:
            yield client, daemon


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    folder = tmp_path / "counter"
    (folder / "scripts").mkdir(parents=True)
    (folder / "SKILL.md").write_text(FRONT)
    script = folder / "scripts/count.sh"
    script.write_text("#!/bin/sh\nwc -l < $1\n")
    script.chmod(0o755)
    return folder


def written(events: list[RunEvent], kind: str) -> str:
    """All deltas of one kind together."""
    return "".join(e.data["delta"] for e in events if e.type == kind and isinstance(e.data["delta"], str))


async def test_the_handshake_tells_who_listens() -> None:
    async with controlled() as (client, daemon):
        hello = await client.hello()
        assert hello.instance == daemon.daemon.services.instance
        assert hello.pid == os.getpid()
        assert hello.http_url == daemon.url
        assert hello.data_dir == str(daemon.daemon.settings.data_dir)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "request_json is nested too deeply"),
        ('{"input": ' + '{"a": ' * 250 + "1" + "}" * 250 + "}", "request_json is nested too deeply"),
        ('{"temperature": NaN}', "request_json is not JSON: NaN is no JSON number"),
        ('{"temperature": 1e999}', "request_json holds a number beyond the range of doubles"),
        ('{"input": [' + "0," * 600_000 + "0]}", "request_json holds more than 500,000 JSON values"),
        ('{"input": ', "request_json is not JSON: .* at line 1, column 11"),
        ("[]", "request_json must be a JSON object"),
    ],
    ids=["deep", "rather deep", "NaN", "infinite", "many", "cut off", "a list"],
)
async def test_what_http_refuses_to_read_the_socket_refuses_too(text: str, why: str) -> None:
    async with controlled() as (client, _):
        with pytest.raises(SkilldeckError, match=why) as caught:
            await client._call(client._stub.StartRun, pb.StartRunRequest(request_json=text))
        assert caught.value.param == "request_json"
        assert caught.value.status in (400, 413)


async def test_a_run_with_skill_and_file_shows_the_same_items_on_socket_and_http(skill: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n2\n")
    turns = (Turn(shell("/mnt/skills/counter/scripts/count.sh a.csv")), Turn(Text("3 lines", chunk=1)))
    async with controlled(*turns) as (client, daemon):
        uploaded = await upload_folder(client, skill)
        stored = await client.upload_file(tmp_path / "a.csv")
        reference = {"type": "skill_reference", "skill_id": uploaded.skill["id"], "version": "latest"}
        content = [{"type": "input_text", "text": "count"}, {"type": "input_file", "file_id": stored["id"]}]
        response = await client.start_run(
            {
                "model": "default",
                "input": [{"type": "message", "role": "user", "content": content}],
                "tools": [{"type": "shell", "environment": {"type": "container_auto", "skills": [reference]}}],
            }
        )
        events = [event async for event in client.watch_run(response["id"])]
        final = events[-1].data["response"]
        assert final["status"] == "completed"
        assert written(events, "response.output_text.delta") == "3 lines"
        (result,) = (item for item in final["output"] if item["type"] == "shell_call_output")
        assert result["output"][0]["stdout"].strip() == "3"
        over_http = (await daemon.http.get(f"/responses/{response['id']}")).json()
        assert over_http["output"] == final["output"]
        assert [e.sequence for e in events] == sorted(e.sequence for e in events)
        assert all(e.time > 0 for e in events)
        detail = await client.run(response["id"])
        assert detail.response["output"] == final["output"]
        assert detail.input[0]["content"][0]["text"] == "count"
        assert {span["kind"] for span in detail.timeline["spans"]} == {"turn", "call"}
        assert detail.timeline["opened"] == ["counter"]  # "count" is like its description
        replayed = [event async for event in client.watch_run(response["id"])]
        assert written(replayed, "response.output_text.delta") == "3 lines"
        assert [e.data for e in replayed if "delta" not in e.type] == [e.data for e in events if "delta" not in e.type]
        rest = [event async for event in client.watch_run(response["id"], after=events[-2].sequence)]
        assert [e.type for e in rest] == ["response.completed"]
        (container,) = (await client.containers()).data
        names = {f["path"] for f in (await client.container_files(container["id"])).data}
        assert "/mnt/data/a.csv" in names


async def test_output_arrives_while_the_process_still_writes() -> None:
    command = "echo first; while [ ! -e go ]; do sleep 0.01; done; echo second"
    async with controlled(Turn(shell(command)), Turn(Text("done"))) as (client, daemon):
        response = await client.start_run({"model": "default", "input": "go", "tools": [SHELL]})
        seen = ""
        async for event in client.watch_run(response["id"]):
            if event.type == "response.shell_call_output_content.delta":
                seen += event.data["delta"].get("stdout", "")
                if seen == "first\n":
                    (container,) = (await client.containers()).data
                    await daemon.http.post(f"/containers/{container['id']}/files", files={"file": ("go", b"")})
        assert seen == "first\nsecond\n"


async def test_a_fast_answer_arrives_whole_in_fewer_messages() -> None:
    text = "".join(f"{number} " for number in range(600))
    async with controlled(Turn(Text(text, chunk=4))) as (client, daemon):
        response = await client.start_run({"model": "default", "input": "count"})
        events = [event async for event in client.watch_run(response["id"])]
        stored = [e async for e in daemon.daemon.services.runs.replay(response["id"])]
        assert written(events, "response.output_text.delta") == text
        assert len(events) < len(stored)
        assert events[-1].sequence == stored[-1]["sequence_number"]


async def test_a_run_goes_on_when_its_watcher_leaves_and_can_be_cancelled() -> None:
    async with controlled(Turn(Endless("word "))) as (client, daemon):
        response = await client.start_run({"model": "default", "input": "talk"})
        async with client.watch_run(response["id"]) as stream:
            while (await anext(stream)).type != "response.output_text.delta":
                pass
        assert daemon.daemon.services.runs.live(response["id"]) is not None
        cancelled = await client.cancel_run(response["id"])
        assert cancelled["status"] == "cancelled"
        events = [event async for event in client.watch_run(response["id"])]
        assert events[-1].data["response"]["status"] == "cancelled"


async def test_a_run_ends_before_its_next_turn_for_a_further_message() -> None:
    command = "echo first; while [ ! -e go ]; do sleep 0.01; done; echo second"
    answer = Turn(Text("Only the north, then."))
    async with controlled(Turn(shell(command)), answer) as (client, daemon):
        session = await client.create_session({"title": "Orders"})
        body = {"model": "default", "input": "go", "tools": [SHELL], "conversation": session["id"]}
        response = await client.start_run(body)
        async for event in client.watch_run(response["id"]):
            if (
                event.type == "response.shell_call_output_content.delta"
                and event.data["delta"].get("stdout") == "first\n"
            ):
                assert (await client.cancel_run(response["id"], after_turn=True))["status"] == "in_progress"
                (container,) = (await client.containers()).data
                await daemon.http.post(f"/containers/{container['id']}/files", files={"file": ("go", b"")})
        ended = (await client.run(response["id"])).response
        assert ended["status"] == "cancelled"
        assert [item["type"] for item in ended["output"]] == ["shell_call", "shell_call_output"]
        assert ended["output"][1]["output"][0]["stdout"] == "first\nsecond\n"
        # The next run of the session reads what was done, and then the message.
        further = await client.start_run({**body, "input": "only the north"})
        async for _event in client.watch_run(further["id"]):
            pass
        assert (await client.run(further["id"])).response["status"] == "completed"
        told = daemon.model.requests[-1]["messages"]
        assert [message["role"] for message in told[-4:]] == ["user", "assistant", "tool", "user"]
        assert "second" in str(told[-2]["content"])
        assert (await client.cancel_run(further["id"], after_turn=True))["status"] == "completed"


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"model": "default"}, "input"),
        ({"model": "nope", "input": "x"}, "model"),
        ({"model": "default", "input": "x", "temperature": 9}, "temperature"),
        ({"model": "default", "input": [{"type": "message", "role": "user", "content": [
            {"type": "input_file", "file_id": "file-none"}]}]}, "input[0].content[0].file_id"),
    ],
)  # fmt: skip
async def test_a_wrong_request_is_refused_with_the_field(request_: dict[str, Any], param: str) -> None:
    async with controlled() as (client, _):
        with pytest.raises((BadRequest, NotFound)) as caught:
            await client.start_run(request_)
        assert caught.value.param == param


async def test_a_wrong_permission_or_broken_json_is_refused() -> None:
    async with controlled() as (client, _):
        with pytest.raises(BadRequest, match="permission"):
            await client.start_run({"model": "default", "input": "x"}, permission="perhaps")
        with pytest.raises(BadRequest, match="not JSON"):
            await client._call(client._stub.StartRun, pb.StartRunRequest(request_json="{"))
        with pytest.raises(BadRequest, match="must be a JSON object"):
            await client._call(client._stub.StartRun, pb.StartRunRequest(request_json="[1]"))
        with pytest.raises(BadRequest, match="limit"):
            await client.skills(limit=5000)
        with pytest.raises(BadRequest, match="order"):
            await client.skills(order="up")


async def test_subscribers_see_everything_that_changes(skill: Path, tmp_path: Path) -> None:
    async with controlled(Turn(Text("hello"))) as (client, _), client.subscribe() as updates:
        first = await anext(updates)
        assert isinstance(first, Snapshot)
        assert (first.skills, first.files, first.runs) == ([], [], [])
        assert [model["id"] for model in first.models] == ["scripted"]
        uploaded = await upload_folder(client, skill)
        (tmp_path / "a.txt").write_text("x")
        stored = await client.upload_file(tmp_path / "a.txt")
        session = await client.create_session({"title": "Counting"})
        body = {"model": "default", "input": "hi there", "conversation": session["id"]}
        response = await client.start_run(body, origin="chat")
        seen: dict[tuple[str, str], Any] = {}
        while (seen.get(("run", response["id"])) or {}).get("status") != "completed":
            change = await anext(updates)
            assert isinstance(change, Change)
            seen[change.topic, change.id] = change.object
        assert seen["skill", uploaded.skill["id"]]["name"] == "counter"
        assert seen["file", stored["id"]]["filename"] == "a.txt"
        assert seen["session", session["id"]]["metadata"] == {"title": "Counting"}
        assert [seen["run", response["id"]][name] for name in ("title", "origin")] == ["hi there", "chat"]
        assert "output" not in seen["run", response["id"]]
        await client.delete_file(stored["id"])
        while (change := await anext(updates)) != Change("file", "delete", stored["id"]):
            pass
        assert (await client.runs(session=session["id"])).data[0]["id"] == response["id"]
        assert (await client.runs(session=(await client.create_session())["id"])).data == []
        items = (await client.session_items(session["id"])).data
        assert [item["role"] for item in items] == ["user", "assistant"]
        (hit,) = await client.search("HI THERE")
        assert (hit["session"], hit["run"], hit["excerpt"]) == (session["id"], "", "hi there")
        with pytest.raises(BadRequest, match="2 to 200 characters"):
            await client.search(" x ")


async def test_the_status_tells_the_models_load_and_waits_for_ready() -> None:
    async with controlled() as (client, daemon):
        status = await wait_ready(client)
        assert status["state"] == "ready"
        assert status["http_url"] == daemon.url
        assert [model["name"] for model in status["models"]] == ["scripted"]
        assert status["runs_active"] == 0


async def test_a_subscriber_that_falls_behind_gets_a_new_snapshot(tmp_path: Path) -> None:
    async with controlled() as (client, daemon), client.subscribe() as updates:
        await anext(updates)
        bus = daemon.daemon.services.bus
        (subscription,) = bus._subscriptions
        subscription._capacity = 2
        for number in range(10):
            bus.publish("file", "put", f"file_{number}", {"id": f"file_{number}"})
        while not isinstance(await anext(updates), Snapshot):
            pass


async def test_an_approval_is_asked_and_answered_over_the_socket() -> None:
    turns = (Turn(shell("echo ran")), Turn(Text("it ran")), Turn(shell("echo again")), Turn(Text("no")))
    async with controlled(*turns, permission="ask") as (client, _), client.subscribe() as updates:
        request = {"model": "default", "input": "go", "tools": [SHELL]}

        async def asked() -> dict[str, Any]:
            while True:
                update = await anext(updates)
                if isinstance(update, Change) and update.topic == "approval" and update.object:
                    return update.object

        first = await client.start_run(request)
        approval = await asked()
        assert (approval["run_id"], approval["commands"]) == (first["id"], ["echo ran"])
        assert (await client.decide(approval["id"], "approve", always=True))["status"] == "approved"
        done = [event async for event in client.watch_run(first["id"])][-1].data["response"]
        assert done["output"][1]["output"][0]["stdout"] == "ran\n"
        (rule,) = await client.rules()
        assert rule["prefix"] == "echo ran"
        assert (await client.change_rule(rule["id"], "echo"))["prefix"] == "echo"
        await client.revoke_rule(rule["id"])
        second = await client.start_run(request)
        approval = await asked()
        await client.decide(approval["id"], "deny", message="not now")
        done = [event async for event in client.watch_run(second["id"])][-1].data["response"]
        assert "not now" in str(done["output"][1])
        with pytest.raises((NotFound, Conflict)):
            await client.decide(approval["id"], "approve")


async def test_a_skills_versions_files_and_default_are_managed(skill: Path) -> None:
    async with controlled() as (client, _):
        first = await upload_folder(client, skill)
        assert (await upload_folder(client, skill)).unchanged
        (skill / "big.bin").write_bytes(os.urandom(3 << 20))
        second = await upload_folder(client, skill, watched=True)
        skill_id = first.skill["id"]
        assert (second.skill["id"], second.version["version"], second.version["watched"]) == (skill_id, "2", True)
        assert second.version["source"] == str(skill)
        tree = await client.skill_tree(skill_id, "2")
        assert [file["path"] for file in tree] == ["SKILL.md", "big.bin", "scripts/count.sh"]
        assert [file["executable"] for file in tree] == [False, False, True]
        assert await read_all(client.read_skill_file(skill_id, "big.bin", "2")) == (skill / "big.bin").read_bytes()
        with pytest.raises(NotFound):
            await read_all(client.read_skill_file(skill_id, "big.bin", "1"))
        assert (await client.set_default_version(skill_id, "2"))["default_version"] == "2"
        assert [v["version"] for v in (await client.skill_versions(skill_id)).data] == ["2", "1"]
        with pytest.raises(Conflict, match="default"):
            await client.delete_skill_version(skill_id, "2")
        await client.delete_skill_version(skill_id, "1")
        await client.delete_skill(skill_id)
        assert (await client.skills()).data == []
        with pytest.raises(NotFound):
            await client.skill_tree(skill_id)


async def test_a_broken_skill_is_refused_with_its_line_and_leaves_nothing(skill: Path) -> None:
    async with controlled() as (client, _):
        (skill / "SKILL.md").write_text("---\nname: counter\ndescription: [x\n---\n")
        with pytest.raises(BadRequest) as caught:
            await upload_folder(client, skill)
        assert caught.value.line >= 2  # type: ignore[attr-defined]
        assert (await client.skills()).data == []


async def zipped(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_an_upload_that_is_cut_short_too_long_or_too_large_leaves_nothing(skill: Path) -> None:
    async with controlled() as (client, daemon):
        for size, held in ((10, b"12345"), (3, b"12345")):
            with pytest.raises(BadRequest, match="announced"):
                await client.send_skill(pb.UploadSkillHeader(size=size), zipped(held))
        with pytest.raises(TooLarge):
            await client.send_skill(pb.UploadSkillHeader(size=60 << 20), zipped(b"x"))
        archive = zip_stream(skill, scan(skill))
        with pytest.raises(BadRequest, match="scanned"):
            await client.send_skill(pb.UploadSkillHeader(size=archive.size, digest="0" * 64), zipped(*archive))
        with pytest.raises(GRPCError, match="begins with its header"):
            await client._stub.UploadSkill([pb.UploadSkillRequest(data=b"x")])
        assert (await client.skills()).data == []
        blobs = daemon.daemon.services.store.blobs
        assert not [path for path in Path(blobs.root).rglob("*") if path.is_file()]


async def test_a_client_killed_in_the_middle_of_an_upload_leaves_nothing(tmp_path: Path) -> None:
    async with controlled() as (client, daemon):
        sent = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield b"PK" + bytes(100_000)
            sent.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(client.send_skill(pb.UploadSkillHeader(size=1 << 20), endless()))
        await sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        other = await Client.connect(daemon.daemon.settings.socket)
        staging = Path(daemon.daemon.services.store.blobs.root)
        await until(lambda: not [path for path in staging.rglob("*") if path.is_file()])
        assert (await other.skills()).data == []
        await other.close()


async def test_files_go_up_and_down_and_have_limits(tmp_path: Path) -> None:
    path = tmp_path / "ünïcode name.bin"
    path.write_bytes(os.urandom(1_500_000))
    async with controlled() as (client, daemon):
        stored = await client.upload_file(path)
        assert (stored["filename"], stored["purpose"]) == (path.name, "user_data")
        assert await read_all(client.read_file(stored["id"])) == path.read_bytes()
        over_http = await daemon.http.get(f"/files/{stored['id']}/content")
        assert over_http.content == path.read_bytes()
        (tmp_path / "empty").touch()
        empty = await client.upload_file(tmp_path / "empty")
        assert await read_all(client.read_file(empty["id"])) == b""
        with pytest.raises(BadRequest, match="purpose"):
            await client.upload_file(path, purpose="nonsense")
        with pytest.raises(NotFound):
            await read_all(client.read_file("file-none"))
        assert (await client.delete_file(stored["id"]))["deleted"]


async def test_containers_can_be_read_and_ended() -> None:
    async with controlled(Turn(shell("printf data > made.txt")), Turn(Text("ok"))) as (client, _):
        response = await client.start_run({"model": "default", "input": "make", "tools": [SHELL]})
        async for _event in client.watch_run(response["id"]):
            pass
        (container,) = (await client.containers()).data
        (file,) = (await client.container_files(container["id"])).data
        assert file["path"] == "/mnt/data/made.txt"
        assert await read_all(client.read_container_file(container["id"], file["id"])) == b"data"
        await client.delete_container(container["id"])
        with pytest.raises(NotFound):
            await client.container_files(container["id"])


async def test_runs_are_listed_newest_first_and_deleted() -> None:
    async with controlled(Turn(Text("a")), Turn(Text("b"))) as (client, _):
        ids = []
        for prompt in ("first", "second"):
            response = await client.start_run({"model": "default", "input": prompt})
            ids.append(response["id"])
            async for _event in client.watch_run(response["id"]):
                pass
        assert [run["title"] for run in (await client.runs()).data] == ["second", "first"]
        page = await client.runs(limit=1)
        assert page.has_more
        await client.delete_run(ids[0])
        with pytest.raises(NotFound):
            await client.run(ids[0])
        with pytest.raises(NotFound):
            async for _event in client.watch_run("resp_none"):
                pass


async def test_a_model_that_cannot_be_loaded_says_why_and_one_can_be_unloaded() -> None:
    async with controlled() as (client, _):
        with pytest.raises(SkilldeckError):
            async for _step in client.load_model("/nonexistent/model"):
                pass
        assert [model["id"] for model in await client.models()] == ["scripted"]
        await client.unload_model("scripted")
        assert await client.models() == []
        with pytest.raises(NotFound):
            await client.unload_model("scripted")


async def test_a_loaded_model_becomes_the_default_one_unless_told_otherwise() -> None:
    async with controlled() as (client, daemon):
        for name, keep in (("kept", True), ("taken", False)):
            engine = {"remote_url": daemon.model.url, "remote_model": "scripted"}
            steps = [
                step async for step in client.load_model("remote", name=name, engine="remote", options=engine,
                                                         keep_default=keep)
            ]  # fmt: skip
            assert steps[-1].model is not None
            assert steps[-1].model["id"] == name
            assert daemon.daemon.services.models.default == ("scripted" if keep else "taken")
        async with client.subscribe() as updates:
            snapshot = await anext(updates)
            assert isinstance(snapshot, Snapshot)
            assert snapshot.status["default_model"] == "taken"


async def test_models_load_takes_the_url_of_the_server_that_runs_the_model() -> None:
    made = {"data": [{"index": 0, "embedding": [0.25, 0.5]}], "usage": {"prompt_tokens": 1}}
    with ScriptedModel(name="theirs", paths={"/v1/embeddings": lambda body: made}) as server:
        async with controlled() as (_, daemon):
            env = {"SKILLDECK_SOCKET": str(daemon.daemon.settings.socket)}

            async def load(*args: str) -> tuple[int, str]:
                command = ["models", "load", "remote", *args]
                ended = await asyncio.to_thread(CliRunner().invoke, app, command, env=env)
                return ended.exit_code, ended.output

            loaded = await load("--name", "embedder", "--remote-url", server.url, "--keep-default")
            assert (loaded[0], "embedder is loaded" in loaded[1]) == (0, True), loaded
            answer = await daemon.http.post("/embeddings", json={"model": "embedder", "input": "x"})
            assert answer.json()["data"][0]["embedding"] == [0.25, 0.5]
            code, said = await load("--name", "gone", "--remote-url", "http://127.0.0.1:9/v1")
            assert (code, "mend --remote-url" in said) == (5, True), said
            assert [info.name for info in daemon.daemon.services.models.list()] == ["scripted", "embedder"]


async def test_the_log_is_followed_and_filtered() -> None:
    import logging

    async with controlled() as (client, daemon):
        ring = daemon.daemon.services.logs
        logger = logging.getLogger("skilldeck_daemon.test")
        logger.setLevel(logging.DEBUG)
        logger.addHandler(ring)  # type: ignore[arg-type]
        try:
            logger.info("calm")
            logger.warning("trouble")
            async with client.logs(tail=1, follow=True, level="warning") as stream:
                assert (await anext(stream)).message == "trouble"
                logger.info("calm again")
                logger.error("worse")
                record = await anext(stream)
                assert (record.level, record.message) == ("error", "worse")
        finally:
            logger.removeHandler(ring)  # type: ignore[arg-type]
        with pytest.raises(BadRequest, match="tail"):
            async for _record in client.logs(tail=-1):
                pass


async def test_a_bug_inside_is_logged_and_not_shown(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("secret innards")

    async with controlled() as (client, daemon):
        monkeypatch.setattr(daemon.daemon.services.skills, "list", broken)
        with pytest.raises(SkilldeckError) as caught:
            await client.skills()
        assert "innards" not in str(caught.value)
        assert "skilldeck logs" in caught.value.hint
        assert "secret innards" in caplog.text


async def test_a_stop_ends_watchers_and_loses_no_finished_work(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with controlled(Turn(Text("kept")), Turn(Endless("x ")), data_dir=data) as (client, daemon):
        kept = await client.start_run({"model": "default", "input": "one"})
        async for _event in client.watch_run(kept["id"]):
            pass
        cut = await client.start_run({"model": "default", "input": "two"})
        watching = client.watch_run(cut["id"])
        while (await anext(watching)).type != "response.output_text.delta":
            pass
        await client.shutdown()
        await until(daemon.daemon.stopping.is_set)
        await daemon.daemon.stop()
        last: RunEvent | None = None
        try:
            async for event in watching:
                last = event
        except ConnectionLost:
            pass
        assert last is not None
    async with controlled(data_dir=data) as (client, _):
        assert (await client.run(kept["id"])).response["output"][0]["content"][0]["text"] == "kept"
        assert (await client.run(cut["id"])).response["status"] in ("cancelled", "failed", "incomplete")


def test_every_call_of_the_protocol_is_implemented() -> None:
    assert not service.ControlService.__abstractmethods__
    stubs, calls = vars(service.ControlBase), service.ControlBase.__abstractmethods__
    assert all(getattr(service.ControlService, name) is not stubs[name] for name in calls)

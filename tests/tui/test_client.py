"""The client against a scripted daemon: dicts in and out, errors rebuilt, streams that can be left, reconnecting."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skilldeck_shared.errors import BadRequest, Conflict, NotFound, SkilldeckError
from skilldeck_shared.proto import control_pb2 as pb
from skilldeck_tui.client.client import (
    Change,
    Client,
    ConnectionLost,
    DaemonUnreachable,
    Link,
    Snapshot,
    VersionMismatch,
    read_all,
)
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.wait import until


@pytest.fixture
def fake() -> FakeDaemon:
    return FakeDaemon()


async def test_a_run_is_started_and_watched_to_its_end(fake: FakeDaemon) -> None:
    async with fake.client() as client:
        response = await client.start_run({"model": "default", "input": "hello"})
        events = [event async for event in client.watch_run(response["id"])]
        assert [event.sequence for event in events] == list(range(len(events)))
        assert events[-1].terminal
        assert events[-1].data["response"]["output"][0]["content"][0]["text"] == "Echo: hello"
        detail = await client.run(response["id"])
        assert detail.response["status"] == "completed"
        assert detail.input[0]["content"] == "hello"


async def test_watching_a_live_run_can_resume_after_a_sequence_number(fake: FakeDaemon) -> None:
    async with fake.client() as client:
        run = fake.start("count")
        async with client.watch_run(run.id) as stream:
            first = await anext(stream)
        run.text("one two three")
        run.complete()
        rest = [event.sequence async for event in client.watch_run(run.id, after=first.sequence)]
        assert rest == list(range(1, len(run.log)))


async def test_leaving_a_live_stream_early_neither_hangs_nor_harms_other_calls(fake: FakeDaemon) -> None:
    async with fake.client() as client:
        run = fake.start("never ends")
        stream = client.watch_run(run.id)
        assert (await anext(stream)).type == "response.created"
        await asyncio.wait_for(stream.aclose(), 60)
        await stream.aclose()
        assert [event async for event in stream] == []
        assert len((await client.runs()).data) == 1


async def test_cancelling_a_waiting_reader_leaves_the_task_clean(fake: FakeDaemon) -> None:
    async with fake.client() as client:
        run = fake.start("never ends")

        async def read() -> None:
            async for _ in client.watch_run(run.id):
                pass

        task = asyncio.create_task(read())
        await until(lambda: fake.called("WatchRun"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.hello()).pid == 4242


async def test_a_subscription_is_a_snapshot_and_then_changes(fake: FakeDaemon) -> None:
    skill = fake.add_skill("csv-summary")
    async with fake.client() as client, client.subscribe() as updates:
        snapshot = await anext(updates)
        assert isinstance(snapshot, Snapshot)
        assert snapshot.skills == [skill]
        assert snapshot.status["state"] == "ready"
        stored = fake.add_file("a.csv", b"x")
        assert await anext(updates) == Change("file", "put", stored["id"], stored)
        fake.remove("file", stored["id"])
        assert await anext(updates) == Change("file", "delete", stored["id"])


@pytest.mark.parametrize(
    "error",
    [
        BadRequest("The name is wrong.", "Use lowercase letters.", param="files[0]"),
        NotFound("No such thing."),
        Conflict("It is the default.", code="is_default"),
        SkilldeckError("Bug."),
    ],
)
async def test_the_daemons_errors_arrive_as_they_were_raised(fake: FakeDaemon, error: SkilldeckError) -> None:
    fake.fail["ListSkills"] = error
    async with fake.client() as client:
        with pytest.raises(type(error)) as caught:
            await client.skills()
    assert type(caught.value) is type(error)
    assert (caught.value.title, caught.value.hint) == (error.title, error.hint)
    assert caught.value.body() == error.body()


async def test_an_error_of_the_manifest_keeps_its_line_and_column(fake: FakeDaemon) -> None:
    error = BadRequest("The description is missing.", param="files")
    error.line, error.column = 3, 7  # type: ignore[attr-defined]
    fake.fail["ListSkills"] = error
    async with fake.client() as client:
        with pytest.raises(BadRequest) as caught:
            await client.skills()
    assert (caught.value.line, caught.value.column) == (3, 7)  # type: ignore[attr-defined]


async def test_very_long_error_texts_still_arrive(fake: FakeDaemon) -> None:
    fake.fail["ListSkills"] = BadRequest("ü" * 100_000)
    async with fake.client() as client:
        with pytest.raises(BadRequest, match="ü…"):
            await client.skills()
        assert await client.skills()


async def test_a_file_goes_up_with_progress_and_comes_back(fake: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(range(256)) * 4096)
    steps: list[tuple[int, int]] = []
    async with fake.client() as client:
        stored = await client.upload_file(path, progress=lambda done, total: steps.append((done, total)))
        assert (stored["filename"], stored["bytes"]) == ("data.bin", 1 << 20)
        assert steps == [(n * 262144, 1 << 20) for n in (1, 2, 3, 4)]
        assert await read_all(client.read_file(stored["id"])) == path.read_bytes()
        assert await read_all(client.read_file(stored["id"]), limit=10) == path.read_bytes()[:10]


async def test_a_file_that_cannot_be_read_is_a_bad_request_and_not_a_lost_connection(
    fake: FakeDaemon, tmp_path: Path
) -> None:
    async with fake.client() as client:
        with pytest.raises(BadRequest, match="cannot be read"):
            await client.upload_file(tmp_path / "missing")
        with pytest.raises(BadRequest, match="cannot be read"):
            await client.upload_file(tmp_path)


async def test_an_upload_refused_by_the_daemon_stops_at_once(fake: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(8 << 20))
    fake.fail["UploadFile"] = BadRequest("No space.", param="file")
    async with fake.client() as client:
        with pytest.raises(BadRequest, match="No space"):
            await client.upload_file(path)


async def test_lists_page_with_after(fake: FakeDaemon) -> None:
    for number in range(5):
        fake.add_file(f"{number}.txt", b"")
    async with fake.client() as client:
        first = await client.files(limit=3, order="asc")
        assert first.has_more
        rest = await client.files(limit=3, order="asc", after=first.data[-1]["id"])
        assert [f["filename"] for f in first.data + rest.data] == [f"{n}.txt" for n in range(5)]
        assert not rest.has_more


async def test_an_approval_is_decided_once(fake: FakeDaemon) -> None:
    run = fake.start("remove it")
    approval = fake.add_approval(run, ["rm -r out"])
    async with fake.client() as client:
        assert (await client.decide(approval["id"], "deny", message="keep it"))["status"] == "denied"
        assert fake.decisions[0].message == "keep it"
        with pytest.raises(NotFound):
            await client.decide(approval["id"], "approve")


async def test_nobody_on_the_socket_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable, match="No daemon listens"):
        await Client.connect(tmp_path / "none.sock")


async def test_connecting_waits_for_a_daemon_that_starts(fake: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "s"
    connecting = asyncio.create_task(Client.connect(path, wait=10))
    await asyncio.sleep(0.02)
    async with fake.listening(path):
        client = await connecting
        assert client.daemon is not None
        assert client.daemon.pid == 4242
        await client.close()


async def test_another_release_is_refused_with_the_way_out(tmp_path: Path) -> None:
    async with FakeDaemon(version="99.1.0").listening(tmp_path / "s") as path:
        with pytest.raises(VersionMismatch, match="skilldeck stop"):
            await Client.connect(path)
        client = await Client.connect(path, check_version=False)
        await client.shutdown()
        await client.close()


async def test_a_daemon_that_dies_ends_streams_with_connection_lost(fake: FakeDaemon, tmp_path: Path) -> None:
    async with fake.listening(tmp_path / "s") as path:
        client = await Client.connect(path)
        stream = client.watch_run(fake.start("x").id)
        await anext(stream)
    with pytest.raises(ConnectionLost):
        async for _ in stream:
            pass
    with pytest.raises(DaemonUnreachable):
        await client.skills()
    await client.close()


async def test_following_survives_a_restart_with_a_new_snapshot(fake: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "s"
    seen: list[object] = []
    updates: object
    async with fake.listening(path):
        client = await Client.connect(path)
        updates = client.follow(pause=0.01)
        seen += [await anext(updates), await anext(updates)]
    seen.append(await anext(updates))
    fake.instance = "instance-2"
    async with fake.listening(path):
        while not isinstance(seen[-1], Snapshot):
            seen.append(await anext(updates))
        await updates.aclose()
    kinds = [update.state if isinstance(update, Link) else update.instance for update in seen]  # type: ignore[attr-defined]
    assert kinds[:3] == ["connected", "instance-1", "lost"]
    assert kinds[-2:] == ["connected", "instance-2"]
    await client.close()


async def test_following_a_run_across_a_restart_neither_loses_nor_doubles(fake: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "s"
    run = fake.start("long")
    got: list[int] = []
    async with fake.listening(path):
        client = await Client.connect(path)
        events = client.follow_run(run.id)
        got += [(await anext(events)).sequence, (await anext(events)).sequence]
    run.text("said while nobody listened")
    run.complete()
    async with fake.listening(path):
        async for event in events:
            got.append(event.sequence)
    assert got == list(range(len(run.log)))
    await client.close()


async def test_logs_come_as_tail_and_then_live(fake: FakeDaemon) -> None:
    for number in range(5):
        fake.write_log(f"line {number}")
    async with fake.client() as client:
        assert [r.message async for r in client.logs(tail=2)] == ["line 3", "line 4"]
        async with client.logs(tail=1, follow=True) as stream:
            assert (await anext(stream)).message == "line 4"
            fake.write_log("fresh", "warning")
            record = await anext(stream)
            assert (record.message, record.level) == ("fresh", "warning")


async def test_loading_a_model_reports_progress_and_ends_with_it(fake: FakeDaemon) -> None:
    async with fake.client() as client:
        steps = [step async for step in client.load_model("/models/small")]
        assert steps[-1].model is not None
        assert steps[-1].model["id"] == "small"
        assert [m["id"] for m in await client.models()] == ["skilldeck-tiny", "small"]


async def test_a_slow_reader_loses_nothing(fake: FakeDaemon) -> None:
    async with fake.client() as client:
        run = fake.start("fast")
        stream = client.watch_run(run.id)
        message = run.begin_text()
        for number in range(5000):
            message.delta(f"{number} ")
        message.finish()
        run.complete()
        await asyncio.sleep(0)
        got = [event async for event in stream]
        assert [event.sequence for event in got] == list(range(len(run.log)))


async def test_a_scripted_run_streams_a_shell_call_while_it_writes(fake: FakeDaemon) -> None:
    step = asyncio.Event()

    async def model(run: FakeRun) -> None:
        shell = run.shell(["wc -l a.csv"])
        shell.output(stdout="12 a")
        await step.wait()
        shell.output(stdout=".csv\n")
        shell.exit([0])
        run.text("12 lines")
        run.complete()

    fake.on_run = model
    async with fake.client() as client:
        response = await client.start_run({"input": "count"})
        out = ""
        async for event in client.watch_run(response["id"]):
            if event.type == "response.shell_call_output_content.delta":
                out += event.data["delta"]["stdout"]
                step.set()
        assert out == "12 a.csv\n"


async def test_a_skill_is_sent_as_header_and_chunks(fake: FakeDaemon) -> None:
    async def broken() -> object:
        yield b"PK"
        raise RuntimeError("changed while reading")

    async with fake.client() as client:
        with pytest.raises(RuntimeError, match="changed while reading"):
            await client.send_skill(pb.UploadSkillHeader(size=10), broken())  # type: ignore[arg-type]
        assert (await client.skills()).data == []

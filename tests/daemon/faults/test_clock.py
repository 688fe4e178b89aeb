"""The wall clock jumps a day ahead and back while the daemon runs: nothing is lost, nothing hangs, order stays."""

from __future__ import annotations

import threading
import time

import pytest

from daemon.containers.support import needs_bwrap
from support.daemon import SHELL, running
from support.scripted_model import Hold, Turn, shell
from support.wait import until

DAY = 86_400.0


class Clock:
    """`time.time` with an offset."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset = 0.0
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.offset)


@needs_bwrap
@pytest.mark.parametrize("jumps", [(DAY, 0.0), (-DAY, 0.0), (DAY, -DAY)], ids=["ahead", "back", "both"])
async def test_a_clock_that_jumps_loses_nothing(monkeypatch: pytest.MonkeyPatch, jumps: tuple[float, ...]) -> None:
    clock = Clock(monkeypatch)
    gate = threading.Event()
    turns = [Turn(shell("echo kept > kept.txt")), Turn("made"), Turn("slow ", Hold(gate), "end")]
    async with running(*turns, Turn(shell("cat kept.txt")), Turn("read")) as daemon:
        services, core = daemon.daemon.services, daemon.daemon.core
        first = await daemon.respond("make", tools=[SHELL])
        (container,) = (await daemon.client.containers.list()).data
        file = await daemon.client.files.create(
            file=("a", b"a"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 7200}
        )
        slow = await daemon.respond("slow", background=True)
        await until(lambda: len(daemon.model.requests) == 3)
        # Stored a moment ago, its row is about to be written.
        blob = await services.store.blobs.put(b"just now")
        for jump in jumps:
            clock.offset = jump
            await core._expire()
            await core._collect()
            assert services.store.blobs.path(blob.sha256).exists()
            assert (await daemon.client.containers.retrieve(container.id)).status == "running"
        clock.offset = jumps[-1]
        gate.set()
        await until(lambda: services.runs.active == 0)
        assert (await daemon.http.get(f"/responses/{slow['id']}")).json()["status"] == "completed"
        reference = {"type": "shell", "environment": {"type": "container_reference", "container_id": container.id}}
        again = await daemon.respond("read", previous_response_id=first["id"], tools=[reference])
        output = next(item for item in again["output"] if item["type"] == "shell_call_output")
        assert output["output"][0]["stdout"] == "kept\n"
        # Newest first, whatever the clock said.
        runs = [run["id"] for run in (await services.runs.list()).data]
        assert runs == [again["id"], slow["id"], first["id"]]
        clock.offset = 0.0
        assert (await daemon.client.files.content(file.id)).content == b"a"

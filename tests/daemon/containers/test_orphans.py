"""Starts that end in the middle, by a cancellation or with the daemon: nothing of them is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

from daemon.containers.support import descriptors, descriptors_are_back, needs_bwrap, processes, sh, until
from skilldeck_daemon.containers import Containers, ContainerSpec
from skilldeck_daemon.containers.sandbox import bwrap, orphans

pytestmark = needs_bwrap
Start = Callable[..., Awaitable[Containers]]


def waiting(base: Path) -> int:
    """A sandbox whose bwrap died before it let its child go; returns the child's pid."""
    tools = bwrap.find_tools()
    block, hold = os.pipe()
    said, tell = os.pipe()
    data = base / "c" / "data"
    argv = [*bwrap.drop_prefix(tools), tools.bwrap, "--unshare-user", "--unshare-pid", "--ro-bind", "/usr", "/usr"]
    argv += ["--userns-block-fd", str(block), "--info-fd", str(tell), "--bind", str(data), "/mnt/data", "--", "true"]
    outer = subprocess.Popen(argv, pass_fds=[block, tell], cwd="/")
    os.close(tell)
    os.close(block)
    with os.fdopen(said, "rb") as file:
        text = b""
        while b"}" not in text:
            text += file.read(1)
    outer.send_signal(signal.SIGKILL)
    outer.wait()
    os.close(hold)
    return int(json.loads(text)["child-pid"])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_what_an_earlier_daemon_left_in_the_middle_of_a_start_ends_with_the_next_start(tmp_path: Path) -> None:
    containers = Containers(tmp_path / "containers", disk_floor_bytes=1)
    await containers.start()
    await containers.create(ContainerSpec("kept"))
    await containers.close()
    neighbour = waiting(tmp_path / "other")
    doctor = waiting(containers.base / ".doctor-1")
    left = waiting(containers.base)
    try:
        assert orphans.find(containers.base) == [left]
        await containers.start()
        assert not alive(left)
        assert (alive(neighbour), alive(doctor)) == (True, True)
        await containers.delete("kept")
        await containers.close()
    finally:
        for pid in (neighbour, doctor, left):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def test_a_start_that_is_cancelled_at_any_moment_leaves_nothing(start_containers: Start) -> None:
    containers = await start_containers(f"starts-{os.urandom(8).hex()}")  # a name that no other process can have
    before = descriptors()
    for number in range(30):
        start = asyncio.create_task(containers.create(ContainerSpec(f"c{number}")))
        await asyncio.wait({start}, timeout=random.uniform(0, 0.08))
        start.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await start).close()
    await until(lambda: processes(containers.base.name) == [], within=30)
    assert list(containers.base.iterdir()) == [containers.base / ".lock"]
    assert containers.stats()["open"] == 0
    container = await containers.create(ContainerSpec("next"))
    assert (await sh(container, "echo next")).stdout == "next\n"
    await containers.delete("next")
    await descriptors_are_back(before)

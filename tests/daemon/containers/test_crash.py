"""kill -9 of the daemon at random moments of running calls: nothing is left, and what was acknowledged is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.containers.support import MIB, needs_bwrap, processes, until
from skilldeck_daemon.containers import Containers, ContainerSpec
from skilldeck_daemon.containers.homes import base_for

pytestmark = needs_bwrap

ROUNDS = int(os.environ.get("SKILLDECK_CRASH_ROUNDS", "5"))
"""A hundred for the figure in the documentation: SKILLDECK_CRASH_ROUNDS=100."""
LONGEST_S = 2.0
"""The kill comes within this long of the first call: shells, interpreters, starts, puts and deletes are under way."""

DAEMON = """
import asyncio, sys
from pathlib import Path
from skilldeck_daemon.containers import Containers, ContainerSpec

async def main(root, name):
    containers = Containers(Path(root), disk_floor_bytes=1)
    await containers.start()
    container = await containers.create(ContainerSpec(name))
    await container.put("kept.txt", b"acknowledged")
    other = await containers.create(ContainerSpec(name + "_unknown"))

    async def shell():
        while True:
            await container.exec(["setsid sleep 300 & yes | head -c 20M; sleep 0.05; mkdir -p d/e; touch d/e/$RANDOM"])

    async def python():
        while True:
            await other.interpret("import subprocess; subprocess.Popen(['sleep', '300']); open('x', 'w').write('x')")

    async def comers():
        for number in range(10_000):
            one = await containers.create(ContainerSpec(f"{name}_{number}"))
            await one.put("big", b"x" * 1_000_000)
            await one.exec(["mkdir -p a/b/c; sleep 300 & sleep 300"], timeout_ms=50)
            await one.close()

    print("ready", flush=True)
    await asyncio.gather(shell(), python(), comers())

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_nothing_is_left_of_a_killed_daemon_but_its_data(tmp_path: Path, number: int) -> None:
    root = tmp_path / f"crash-{os.urandom(8).hex()}"
    mark = base_for(root).name
    daemon = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", DAEMON, str(root), f"cntr_{number}"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert daemon.stdout is not None
    try:
        assert daemon.stdout.readline().split() == [b"ready"]
        # A moment at random; any moment must do.
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.wait(random.uniform(0, LONGEST_S))
        assert len(processes(mark)) >= 4  # two sandboxes at the least, each with its supervisor
    finally:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        daemon.stdout.close()
    # What waits in the middle of a start (see `orphans`) has run nothing, and may be there until the next start.
    await until(lambda: not [one for one in processes(mark) if "(bwrap)" not in one], within=30)

    containers = Containers(root, disk_floor_bytes=MIB)
    await containers.start()
    try:
        assert processes(mark) == []
        assert f"cntr_{number}" not in await containers.sweep({f"cntr_{number}"})
        assert {item.name for item in containers.base.iterdir()} == {".lock", f"cntr_{number}"}
        container = await containers.reopen(ContainerSpec(f"cntr_{number}"))
        assert await container.read("/mnt/data/kept.txt", 100) == b"acknowledged"
        assert (await container.exec(["cat kept.txt"]))[0].stdout == "acknowledged"
        await containers.delete(f"cntr_{number}")
        assert {item.name for item in containers.base.iterdir()} == {".lock"}
        assert processes(mark) == []
        assert mark not in Path("/proc/self/mountinfo").read_text()
    finally:
        await containers.close()

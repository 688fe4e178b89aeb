"""kill -9 of the daemon at random moments of running calls: nothing is left, and what was acknowledged is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.containers.support import MIB, needs_bwrap, until
from skilldeck_daemon.containers import Containers, ContainerSpec, proc

pytestmark = needs_bwrap

ROUNDS = int(os.environ.get("SKILLDECK_CRASH_ROUNDS", "5"))
"""A hundred for the figure in the documentation: SKILLDECK_CRASH_ROUNDS=100."""

DAEMON = """
import asyncio, sys
from pathlib import Path
from skilldeck_daemon.containers import Containers, ContainerSpec

async def main(root, name):
    containers = Containers(Path(root), disk_floor_bytes=1)
    await containers.start()
    container = await containers.create(ContainerSpec(name))
    await container.put("kept.txt", b"acknowledged")
    await containers.create(ContainerSpec(name + "_unknown"))
    pids = [c.init_pid for c in containers._open.values()]
    print("ready", *pids, flush=True)
    while True:
        await container.exec(["setsid sleep 300 & yes | head -c 20M; sleep 0.05; mkdir -p d/e; touch d/e/$RANDOM"])

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_nothing_is_left_of_a_killed_daemon_but_its_data(tmp_path: Path, number: int) -> None:
    root = tmp_path / "containers"
    daemon = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", DAEMON, str(root), f"cntr_{number}"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert daemon.stdout is not None
    try:
        words = daemon.stdout.readline().split()
        assert words[0] == b"ready"
        pids = [int(word) for word in words[1:]]
        # A moment at random within the next calls; any moment must do.
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.wait(random.uniform(0, 0.3))
    finally:
        inside = [pid for root_pid in pids for pid in proc.descendants(root_pid)]
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        daemon.stdout.close()
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids + inside), within=5)

    containers = Containers(root, disk_floor_bytes=MIB)
    await containers.start()
    try:
        assert await containers.sweep({f"cntr_{number}"}) == [f"cntr_{number}_unknown"]
        container = await containers.reopen(ContainerSpec(f"cntr_{number}"))
        assert await container.read("/mnt/data/kept.txt", 100) == b"acknowledged"
        assert (await container.exec(["cat kept.txt"]))[0].stdout == "acknowledged"
        await containers.delete(f"cntr_{number}")
        assert {item.name for item in containers.base.iterdir()} == {".lock"}
        mounts = Path("/proc/self/mountinfo").read_text()
        assert str(containers.base) not in mounts
    finally:
        await containers.close()

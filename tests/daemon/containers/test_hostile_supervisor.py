"""A supervisor that has been taken over: whatever it says, it ends its own sandbox and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from daemon.containers.support import descriptors, descriptors_are_back, needs_bwrap, sh, until
from skilldeck_daemon.containers import Containers, ContainerSpec, NetworkPolicy, SandboxUnavailable
from skilldeck_daemon.containers.sandbox import bwrap

pytestmark = needs_bwrap
Start = Callable[..., Awaitable[Containers]]

SUPERVISOR = """
import os, socket, sys, time
sock = socket.socket(fileno=int(sys.argv[1]))
def say(text, *fds):
    socket.send_fds(sock, [text], fds) if fds else sock.send(text)
def hear():
    return socket.recv_fds(sock, 70000, 4)
{start}
say(b'ready')
while True:
    data, fds, _, _ = hear()
    if not data:
        break
    number = data.split()[1]
    {answer}
"""
HONEST = "say(b'exit ' + number + b' 0')"


async def probed(start: Start, monkeypatch: pytest.MonkeyPatch, path: Path, begin: str, answer: str) -> Containers:
    """Containers that were probed with the real supervisor and start this one from now on."""
    containers = await start()
    path.write_text(SUPERVISOR.format(start=begin, answer=answer))
    path.chmod(0o644)
    monkeypatch.setattr(bwrap, "SUPERVISOR_SOURCE", path)
    return containers


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("say(b'exit 999 0')\n    while True: say(b'killed 7')", id="answers that nobody asked for"),
        pytest.param("while True: say(b'exit 1 0')", id="the same answer for ever"),
        pytest.param("say(b'exit 1 ' + b'9' * 400)\n    time.sleep(9)", id="a large number"),
        pytest.param("say(b'fail 1 ' + b'9' * 400)\n    time.sleep(9)", id="a large error"),
        pytest.param("say(b'exit one 0')\n    time.sleep(9)", id="no number"),
        pytest.param("say(b'exit')\n    time.sleep(9)", id="half a message"),
        pytest.param("say(b'\\xff\\xfe')\n    time.sleep(9)", id="no text"),
        pytest.param("say(b' ')\n    time.sleep(9)", id="nothing"),
        pytest.param("say(b'x' * 60000)\n    time.sleep(9)", id="a long message"),
        pytest.param("say(b'listener', fds[0])\n    time.sleep(9)", id="a listener too late"),
        pytest.param("sock.close()\n    time.sleep(9)", id="it hangs up"),
        pytest.param("os._exit(0)", id="it ends"),
    ],
)
async def test_what_it_answers_to_a_command_ends_its_sandbox_only(
    start_containers: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str
) -> None:
    containers = await probed(start_containers, monkeypatch, tmp_path / "supervisor.py", "", answer)
    before = descriptors()
    container = await containers.create(ContainerSpec("hostile"))
    pid = container.init_pid
    await sh(container, "true")
    await until(lambda: not Path(f"/proc/{pid}").exists(), within=30)
    monkeypatch.undo()
    assert (await sh(container, "echo next")).stdout == "next\n"
    assert container.restarts == 1
    await containers.delete("hostile")
    await descriptors_are_back(before)
    assert list(containers.base.iterdir()) == [containers.base / ".lock"]


async def test_descriptors_that_come_along_are_closed(
    start_containers: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = "say(b'exit ' + number + b' 0', *[0] * 100)\n    [os.close(fd) for fd in fds]"
    containers = await probed(start_containers, monkeypatch, tmp_path / "supervisor.py", "", answer)
    container = await containers.create(ContainerSpec("hostile"))
    await sh(container, "true")
    before = descriptors()
    for _ in range(20):
        assert (await sh(container, "true")).exit_code == 0
    await descriptors_are_back(before)


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param("say(b'listener', 0)", id="no socket"),
        pytest.param("s = socket.socket(); say(b'listener', s.fileno())", id="not listening"),
        pytest.param(
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); say(b'listener', s.fileno())", id="no stream"
        ),
        pytest.param(
            "s = socket.socket(socket.AF_UNIX); s.bind('/tmp/s'); s.listen(); say(b'listener', s.fileno())", id="no TCP"
        ),
        pytest.param("s = socket.create_server(('', 5555)); say(b'listener', s.fileno(), 0)", id="two"),
        pytest.param("say(b'listener')", id="none"),
    ],
)
async def test_a_listener_that_is_none_is_refused_and_nothing_is_left(
    start_containers: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, begin: str
) -> None:
    containers = await probed(start_containers, monkeypatch, tmp_path / "supervisor.py", begin, HONEST)
    before = descriptors()
    policy = NetworkPolicy(("example.org",))
    with pytest.raises(SandboxUnavailable, match="malformed"):
        await containers.create(ContainerSpec("hostile", network=policy))
    await descriptors_are_back(before)
    monkeypatch.undo()
    container = await containers.create(ContainerSpec("next", network=policy))
    assert (await sh(container, "echo next")).stdout == "next\n"


async def test_an_agent_that_reads_nothing_is_replaced(
    start_containers: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    containers = await probed(start_containers, monkeypatch, tmp_path / "supervisor.py", "", "time.sleep(600)")
    monkeypatch.setattr("skilldeck_daemon.containers.sandbox.runtime.KILL_TIMEOUT_S", 0.2)
    container = await containers.create(ContainerSpec("deaf"))
    assert (await sh(container, "true", timeout_ms=100)).timed_out
    monkeypatch.undo()
    assert (await sh(container, "echo next")).stdout == "next\n"


async def test_a_start_that_cannot_be_limited_leaves_no_sandbox(
    containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def refuse(name: str, memory: int, pids: list[int]) -> None:
        started.extend(pids)
        raise OSError("no cgroup")

    monkeypatch.setattr(containers.cgroups, "limit", refuse)
    with pytest.raises(OSError, match="no cgroup"):
        await containers.create(ContainerSpec("c"))
    assert len(started) == 2  # bwrap's own process, and the container's init
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert containers.stats()["open"] == 0
    await asyncio.sleep(0)

"""Starting the real daemon from a client: once, whoever asks; and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpclib.protocol import H2Protocol

from skilldeck_tui.client import connect as connecting
from skilldeck_tui.client.client import Client, DaemonUnreachable, VersionMismatch
from skilldeck_tui.client.connect import DaemonFailed, DaemonNotInstalled, connect, log_file, wait_ready
from skilldeck_tui.client.transport import ConnectionLost, SocketChannel
from support.fake_daemon import FakeDaemon
from support.wait import until


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a daemon without a model, with everything below `tmp_path`, would listen."""
    for name in ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("SKILLDECK_PORT", "0")
    monkeypatch.setenv("SKILLDECK_MODEL", "")
    return tmp_path / "s"


@pytest.fixture
async def stopped_after(socket: Path) -> AsyncIterator[Path]:
    yield socket
    try:
        client = await Client.connect(socket)
    except DaemonUnreachable:
        return
    await client.shutdown()
    await client.close()
    await until(lambda: not socket.exists(), 30)


async def test_clients_that_come_at_once_start_one_daemon_and_it_outlives_them(stopped_after: Path) -> None:
    said: list[str] = []
    clients = await asyncio.gather(
        *(connect(stopped_after, report=lambda stage, _: said.append(stage)) for _ in range(4))
    )
    pids = {client.daemon.pid for client in clients if client.daemon}
    assert len(pids) == 1
    assert "starting the daemon" in said
    await wait_ready(clients[0])
    for client in clients:
        await client.close()
    again = await connect(stopped_after, start=False)
    assert again.daemon is not None
    assert {again.daemon.pid} == pids
    await again.close()
    assert log_file().exists()


async def test_a_daemon_that_cannot_start_is_told_with_the_end_of_its_log(
    socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKILLDECK_PORT", "99999")
    with pytest.raises(DaemonFailed, match="port") as caught:
        await connect(socket)
    assert str(log_file()) in caught.value.hint


async def test_a_client_only_installation_says_what_to_install(socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "DAEMON_PACKAGES", ("a_package_that_does_not_exist",))
    with pytest.raises(DaemonNotInstalled, match="a_package_that_does_not_exist missing") as caught:
        await connect(socket)
    assert caught.value.hint == f"Install it with: {sys.executable} -m pip install 'skilldeck[daemon]'"


async def test_nothing_is_started_when_it_must_not_be(socket: Path) -> None:
    with pytest.raises(DaemonUnreachable):
        await connect(socket, start=False)
    assert not log_file().exists()


async def test_a_running_daemon_of_another_release_is_neither_used_nor_replaced(socket: Path) -> None:
    async with FakeDaemon(version="99.0.0").listening(socket):
        with pytest.raises(VersionMismatch):
            await connect(socket)
    assert not log_file().exists()


async def test_waiting_for_a_model_reports_its_progress_and_its_failure() -> None:
    fake = FakeDaemon()
    fake.status |= {"state": "starting", "detail": "downloading", "fraction": 0.25}
    said: list[tuple[str, float]] = []
    async with fake.client() as client:
        waiting = asyncio.create_task(wait_ready(client, lambda stage, fraction: said.append((stage, fraction))))
        await until(lambda: said)
        fake.put("status", {**fake.status, "state": "ready"})
        assert (await waiting)["state"] == "ready"
        assert said == [("downloading", 0.25)]
        fake.put("status", {**fake.status, "state": "degraded", "detail": "The weights are missing."})
        with pytest.raises(DaemonFailed, match="weights are missing"):
            await wait_ready(client)


async def test_a_state_directory_that_cannot_be_used_says_so(
    socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(DaemonFailed, match="state directory"):
        await connect(socket)


async def test_a_daemon_that_hangs_up_before_the_first_call_is_a_lost_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = SocketChannel.__connect__

    async def then_lost(channel: SocketChannel) -> H2Protocol:
        protocol = await connected(channel)
        protocol.connection_lost(None)
        return protocol

    monkeypatch.setattr(SocketChannel, "__connect__", then_lost)
    async with FakeDaemon().listening(tmp_path / "s") as socket:
        with pytest.raises(ConnectionLost, match="was lost"):
            await Client.connect(socket)

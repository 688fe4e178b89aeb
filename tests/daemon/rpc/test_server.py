"""The control socket's life: who may own it, what is stale, what a shutdown leaves, who is served."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skilldeck_daemon.rpc import listening, server
from skilldeck_daemon.rpc.listening import AlreadyRunning, SocketUnusable
from skilldeck_daemon.rpc.server import ControlServer
from skilldeck_shared.private import OpenToOthers
from skilldeck_tui.client.client import Client, ConnectionLost, DaemonUnreachable

# Enough of the services for the handshake; the calls themselves are tested in test_service.py.
DAEMON = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace
from skilldeck_daemon.rpc.server import ControlServer

async def main():
    services = SimpleNamespace(instance="child", http_url="", settings=SimpleNamespace(data_dir="/"))
    async with ControlServer(services, Path(sys.argv[1])):
        print("listening", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def make(path: Path, **kwargs: Any) -> ControlServer:
    services = SimpleNamespace(instance="one", http_url="", settings=SimpleNamespace(data_dir="/data"))
    return ControlServer(services, path, **kwargs)  # type: ignore[arg-type]


@contextmanager
def daemon_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", DAEMON, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "daemon.sock"


async def test_only_the_owner_may_use_the_socket_and_its_directory(path: Path) -> None:
    async with make(path):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        client = await Client.connect(path)
        assert client.daemon is not None
        assert (client.daemon.instance, client.daemon.pid) == ("one", os.getpid())
        await client.close()


async def test_the_socket_is_private_from_its_first_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    bind = socket.socket.bind

    def watched(self: socket.socket, address: Any) -> None:
        bind(self, address)
        modes.append(stat.S_IMODE(os.stat(address).st_mode))

    monkeypatch.setattr(socket.socket, "bind", watched)
    async with make(path):
        assert modes == [0o600]


async def test_a_second_daemon_is_refused_and_the_first_goes_on(path: Path) -> None:
    async with make(path):
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"):
            await make(path).start()
        client = await Client.connect(path)
        await client.close()


async def test_a_daemon_in_another_process_is_refused_too(path: Path) -> None:
    with daemon_process(path) as process:
        with pytest.raises(AlreadyRunning, match=f"process {process.pid}"):
            await make(path).start()


async def test_the_socket_of_a_killed_daemon_is_taken_over(path: Path) -> None:
    with daemon_process(path) as process:
        process.kill()
        process.wait()
        assert path.is_socket()
        async with make(path):
            client = await Client.connect(path)
            await client.close()


async def test_a_client_of_a_killed_daemon_sees_a_lost_connection(path: Path) -> None:
    with daemon_process(path) as process:
        client = await Client.connect(path)
        stream = client.logs(follow=True)
        process.kill()
        with pytest.raises((ConnectionLost, Exception)):
            async for _ in stream:
                pass
        process.wait()
        with pytest.raises(DaemonUnreachable):
            await client.hello()
        await client.close()


async def test_somebody_listening_without_the_lock_is_never_pushed_aside(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(1)
        with pytest.raises(AlreadyRunning):
            await make(path).start()
        assert path.is_socket()


async def test_a_file_that_is_no_socket_is_never_removed(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_text("precious")
    with pytest.raises(SocketUnusable, match="not a socket"):
        await make(path).start()
    assert path.read_text() == "precious"


async def test_a_path_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    with pytest.raises(SocketUnusable, match="107 bytes"):
        await make(tmp_path / ("x" * 120)).start()


async def test_the_default_directory_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    monkeypatch.setattr(listening.paths, "runtime_dir", lambda: path.parent)
    if os.geteuid() == 0:
        os.chown(path.parent, 61_234, 61_234)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: path.parent.stat().st_uid + 1)
    with pytest.raises(OpenToOthers, match="another user"):
        await make(path).start()


async def test_the_default_directory_is_closed_to_others_when_it_was_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir(mode=0o755)
    monkeypatch.setattr(listening.paths, "runtime_dir", lambda: path.parent)
    async with make(path):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_stopping_ends_live_streams_and_removes_the_socket(path: Path) -> None:
    running = make(path)
    await running.start()
    client = await Client.connect(path)
    other = await Client.connect(path)
    await asyncio.wait_for(running.stop(), 60)
    assert not path.exists()
    for one in (client, other):
        with pytest.raises(DaemonUnreachable):
            await one.hello()
        await one.close()
    await running.stop()
    async with make(path):
        assert path.is_socket()


async def test_stopping_leaves_a_socket_file_that_is_not_ours(path: Path) -> None:
    running = make(path)
    await running.start()
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        await running.stop()
        assert path.is_socket()


async def test_a_connection_of_another_user_is_cut_before_it_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_peer_uid", lambda _: os.getuid() + 1)
    async with make(path):
        with pytest.raises(DaemonUnreachable):
            await Client.connect(path)


def test_the_kernel_tells_whose_connection_it_is(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            accepted, _ = listener.accept()
            with accepted:
                transport = SimpleNamespace(get_extra_info=lambda _: accepted)
                assert server._peer_uid(transport) == os.getuid()  # type: ignore[arg-type]


async def test_a_stop_asked_for_by_a_client_reaches_the_daemon_after_the_answer(path: Path) -> None:
    asked = asyncio.Event()
    async with make(path, on_shutdown=asked.set):
        client = await Client.connect(path)
        await client.shutdown()
        await asyncio.wait_for(asked.wait(), 60)
        await client.close()


async def test_a_socket_that_systemd_passed_is_used_and_left(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as passed:
        passed.bind(str(path))
        passed.listen(5)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            # LISTEN_PID must be the daemon's own, and its descriptor 3.
            "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.dup2(int(sys.argv[2]), 3);"
            f"exec({DAEMON!r})",
            "/nonexistent/unused",
            str(passed.fileno()),
            env={**os.environ, "LISTEN_FDS": "1"},
            pass_fds=(passed.fileno(),),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"listening\n"
        client = await Client.connect(path)
        await client.close()
        process.terminate()
        await process.wait()
        assert path.is_socket()


async def test_a_message_over_the_limit_is_refused_before_it_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make(path):
        client = await Client.connect(path)
        monkeypatch.setattr("skilldeck_shared.control.MAX_MESSAGE", 1000)
        with pytest.raises(Exception, match="over the limit"):
            await client.start_run({"input": "x" * 2000})
        monkeypatch.undo()
        assert await client.hello()
        await client.close()


async def test_many_daemons_started_at_once_leave_exactly_one(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    results: list[object] = []
    start = threading.Barrier(8)

    def one() -> None:
        start.wait()
        try:
            results.append(listening.listen(path))
        except AlreadyRunning:
            results.append(None)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    winners = [result for result in results if result is not None]
    assert len(winners) == 1
    winners[0].close()  # type: ignore[attr-defined]
    assert not path.exists()

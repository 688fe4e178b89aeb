"""The base of the sandbox: built by uv from wheels, seen by every way to start Python inside, exchanged as a whole."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uv

from daemon.containers.support import needs_bwrap, sh, until
from skilldeck_daemon.containers import Containers, ContainerSpec, SandboxUnavailable, artifacts
from skilldeck_daemon.containers.packages import base_build
from skilldeck_daemon.containers.packages.bases import CURRENT, Bases
from skilldeck_daemon.containers.sandbox import bwrap
from support.wheels import offline_index, source_distribution, wheel

pytestmark = needs_bwrap
Start = Callable[..., Awaitable[Containers]]
UID = bwrap.SANDBOX_UID if os.geteuid() == 0 else os.geteuid()


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The index that uv has."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    offline_index(monkeypatch, folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    root = base_build.place_for(tmp_path / "data", UID)
    artifacts.delete_tree(root)


def locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def build(data: Path, *wanted: str) -> base_build.Built:
    return base_build.build(base_build.place_for(data, UID), bwrap.find_python(UID).executable, wanted)


async def test_every_python_of_a_container_finds_the_packages_and_none_of_the_daemons(
    start_containers: Start, data: Path, wheels: Path
) -> None:
    wheel(wheels, "charts", script="draw-charts")
    containers = await start_containers(bases=Bases(data / "sandbox"))
    before = await containers.create(ContainerSpec("before"))
    assert "No module named 'charts'" in (await sh(before, "python3 -c 'import charts'")).stderr
    built = build(data, "charts")
    assert built.packages == 2  # with pip
    box = await containers.create(ContainerSpec("after"))
    python = (await sh(box, "readlink /run/bin/python3")).stdout.strip()
    for start in ("python3", "python", python, "python3 -I", "/run/base/bin/python3"):
        assert (await sh(box, f"{start} -c 'import charts; print(charts.version)'")).stdout == "1.0\n", start
    assert (await sh(box, "draw-charts")).stdout == "1.0\n"
    for ours in ("skilldeck_daemon", "skilldeck_shared", "uvicorn", "grpclib"):
        assert f"No module named '{ours}'" in (await sh(box, f"python3 -c 'import {ours}'")).stderr
    refused = await sh(box, "touch /run/base/x; rm /run/base/bin/draw-charts; echo x >> /run/base/bin/draw-charts")
    assert refused.exit_code == 1
    assert len(refused.stderr.splitlines()) == 3
    assert (await sh(box, "draw-charts")).stdout == "1.0\n"
    bare = await containers.create(ContainerSpec("bare", base=False))
    assert "No module named 'charts'" in (await sh(bare, "python3 -c 'import charts'")).stderr


async def test_what_pip_installs_in_a_container_comes_before_the_base(
    start_containers: Start, data: Path, wheels: Path
) -> None:
    wheel(wheels, "charts")
    build(data, "charts")
    containers = await start_containers(bases=Bases(data / "sandbox"))
    box = await containers.create(ContainerSpec("pip"))
    newer = wheel(wheels, "charts", "2.0", script="draw-charts")
    await box.put(newer.name, newer)
    installed = await sh(box, f"pip install --no-index ./{newer.name} && draw-charts", timeout_ms=60_000)
    assert installed.stdout.endswith("\n2.0\n"), installed
    assert (await sh(box, "python3 -c 'import charts; print(charts.version)'")).stdout == "2.0\n"
    other = await containers.create(ContainerSpec("other"))
    assert (await sh(other, "python3 -c 'import charts; print(charts.version)'")).stdout == "1.0\n"


def test_a_build_that_fails_changes_nothing(data: Path, wheels: Path, tmp_path: Path) -> None:
    wheel(wheels, "charts")
    first = build(data, "charts")
    source_distribution(wheels, "evil", f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for wrong in ("nowhere-to-be-found", "evil", "charts==9"):
        with pytest.raises(base_build.BuildFailed, match="uv ended with"):
            build(data, "charts", wrong)
    assert not (tmp_path / "ran").exists()
    root = Path(first.folder).parent
    assert {item.name for item in root.iterdir()} == {CURRENT, Path(first.folder).name, "cache", ".lock"}
    assert os.readlink(root / CURRENT) == Path(first.folder).name
    assert base_build.wanted_before(root) == ["charts"]


async def test_a_build_that_is_killed_leaves_the_base_that_was_there(data: Path, wheels: Path) -> None:
    wheel(wheels, "charts")
    first = build(data, "charts")
    root = Path(first.folder).parent
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an index that never answers
        env = {**os.environ, "UV_DEFAULT_INDEX": f"http://127.0.0.1:{silent.getsockname()[1]}/", "UV_OFFLINE": "0"}
        command = [sys.executable, "-m", "skilldeck_daemon", "sandbox", "build", "--data-dir", str(data)]
        process = subprocess.Popen(  # noqa: ASYNC220
            command, env=env, start_new_session=True, stderr=subprocess.DEVNULL
        )
        await until(lambda: list(root.glob(".building-*/bin")), within=60)
        with pytest.raises(base_build.BuildFailed, match="under way"):
            build(data, "charts")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # uv still holds the lock until the kernel is done with it.
        await until(lambda: not locked(root / ".lock"))
    assert os.readlink(root / CURRENT) == Path(first.folder).name
    wheel(wheels, "charts", "2.0")
    second = build(data, "charts")
    assert os.readlink(root / CURRENT) == Path(second.folder).name
    assert not list(root.glob(".building-*"))
    assert Path(first.folder).is_dir()  # for the containers that still run with it
    build(data, "charts")
    assert not Path(first.folder).exists()


async def test_an_environment_of_the_operators_own(start_containers: Start, tmp_path: Path) -> None:
    place = Path("/tmp") / f"skilldeck-own-{os.getpid()}"  # where a root daemon's containers can come
    try:
        command = [uv.find_uv_bin(), "venv", "-q", "--python", str(bwrap.find_python(UID).executable), str(place)]
        await asyncio.to_thread(subprocess.run, command, check=True)
        (site,) = place.glob("lib/python*/site-packages")
        (site / "mine.py").write_text("print('mine')")
        containers = await start_containers(bases=Bases(tmp_path / "none", place))
        box = await containers.create(ContainerSpec("own"))
        assert (await sh(box, "python3 -c 'import mine'")).stdout == "mine\n"
        assert (await sh(box, f"{place}/bin/python -c 'import mine'")).stdout == "mine\n"
        assert "mine" in (containers.importable or ())
    finally:
        artifacts.delete_tree(place)


async def test_a_base_that_cannot_be_used_is_an_error_when_it_was_asked_for(
    start_containers: Start, data: Path, wheels: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SandboxUnavailable, match="holds no bin/python3"):
        await start_containers(bases=Bases(data / "sandbox", data / "nothing"))
    wheel(wheels, "charts")
    built = build(data, "charts")
    (site,) = Path(built.folder).glob("lib/python*")
    site.rename(site.with_name("python3.1"))
    containers = await start_containers("again", bases=Bases(data / "sandbox"))
    box = await containers.create(ContainerSpec("without"))
    assert (await sh(box, "python3 -c 'print(1)'")).stdout == "1\n"
    assert "made for another Python" in caplog.text
    assert "skilldeckd sandbox build" in caplog.text

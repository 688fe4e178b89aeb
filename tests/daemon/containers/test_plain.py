"""`--sandbox none`: the same interface without isolation, and with what it still promises."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from daemon.containers.support import sh
from skilldeck_daemon.containers import Container, Containers, ContainerSpec, Mount

Start = Callable[..., Awaitable[Containers]]


@pytest_asyncio.fixture
async def plain(start_containers: Start, tmp_path: Path) -> Container:
    skill = tmp_path / "skill"
    skill.mkdir()
    (skill / "run.sh").write_text("echo from the skill")
    containers = await start_containers(sandbox="none")
    return await containers.create(ContainerSpec("c", mounts=(Mount("demo", skill),)))


async def test_it_is_warned_about(start_containers: Start, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await start_containers(sandbox="none")
    assert "no isolation" in caplog.text


async def test_the_documented_paths_work_where_a_command_names_them(plain: Container) -> None:
    await plain.put("in.txt", b"given\n")
    result = await sh(
        plain, "cat /mnt/data/in.txt in.txt; sh /mnt/skills/demo/run.sh; echo made > /mnt/data/out; exit 4"
    )
    assert (result.stdout, result.exit_code) == ("given\ngiven\nfrom the skill\n", 4)
    assert [e.path for e in await plain.entries()] == ["/mnt/data/in.txt", "/mnt/data/out"]
    assert await plain.read("/mnt/data/out", 10) == b"made\n"


async def test_the_daemons_environment_stays_out(plain: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLDECK_API_KEY", "secret")
    assert "secret" not in (await sh(plain, "env")).stdout


@pytest.mark.parametrize(
    "command",
    [
        "echo a; sleep 77",
        "echo a; trap '' TERM; while :; do sleep 0.01; done",
        "echo a; setsid sleep 77 & sleep 77",
        "echo a; (setsid nohup sleep 77 &) ; sleep 77",
    ],
)
async def test_a_timeout_ends_everything_the_call_started(plain: Container, command: str) -> None:
    marked = command.replace("sleep 77", "sleep 77.4242")
    result = await sh(plain, marked, timeout_ms=200)
    assert result.timed_out
    assert result.stdout == "a\n"
    assert (await sh(plain, "pgrep -fc 'sleep 77[.]4242'")).stdout == "0\n"


async def test_cancelling_ends_everything_too(plain: Container) -> None:
    started = asyncio.Event()
    call = asyncio.create_task(plain.exec(["echo go; sleep 77.4343"], on_output=lambda delta: started.set()))
    await started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await sh(plain, "pgrep -fc 'sleep 77[.]4343'")).stdout == "0\n"


async def test_a_background_process_lives_until_the_container_ends(plain: Container) -> None:
    first = await sh(plain, "sleep 77.4545 & echo started")
    assert first.stdout == "started\n"
    assert (await sh(plain, "pgrep -fc 'sleep 77[.]4545'")).stdout == "1\n"
    await plain.close()
    assert not plain.data_dir.exists()

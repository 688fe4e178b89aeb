"""Containers over time: limits on how many and how large, restarts, expiry, sweeping, what is left behind."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from daemon.containers.support import MIB, descriptors, descriptors_are_back, needs_bwrap, sh, until
from skilldeck_daemon.containers import (
    ContainerError,
    ContainerGone,
    Containers,
    ContainerSpec,
    DiskFull,
    InvalidContainerRequest,
    Mount,
    NetworkPolicy,
    TooManyContainers,
)
from skilldeck_daemon.containers.sandbox import bwrap

pytestmark = needs_bwrap
Start = Callable[..., Awaitable[Containers]]


def names(base: Path) -> list[str]:
    return sorted(item.name for item in base.iterdir() if item.name != ".lock")


async def test_data_survives_a_new_daemon_and_processes_do_not(start_containers: Start) -> None:
    first = await start_containers()
    spec = ContainerSpec("cntr_1")
    container = await first.create(spec)
    (container.data_dir.parent / "staging" / "put-1-aa").write_text("half a file")
    await sh(container, "echo kept > f; touch /tmp/gone; sleep 77 >/dev/null 2>&1 &")
    pid = container.init_pid
    await first.close()
    assert not Path(f"/proc/{pid}").exists()

    second = await start_containers()
    assert second.get("cntr_1") is None
    assert second.exists("cntr_1")
    again = await second.reopen(spec)
    assert not again.running
    assert list((again.data_dir.parent / "staging").iterdir()) == []
    assert await again.read("/mnt/data/f", 10) == b"kept\n"
    assert (await sh(again, "cat f; ls /tmp; pgrep -c sleep")).stdout == "kept\n0\n"
    assert await second.reopen(spec) is again


async def test_a_deleted_container_is_gone_for_every_use(containers: Containers) -> None:
    container = await containers.create(ContainerSpec("cntr_1"))
    assert await containers.delete("cntr_1")
    assert not await containers.delete("cntr_1")
    assert names(containers.base) == []
    for use in (
        container.exec(["true"]),
        container.put("x", b""),
        container.entries(),
        container.read("/mnt/data/x", 1),
    ):
        with pytest.raises(ContainerGone):
            await use
    with pytest.raises(ContainerGone):
        await containers.reopen(ContainerSpec("cntr_1"))


async def test_only_the_unknown_are_swept(start_containers: Start) -> None:
    first = await start_containers()
    for name in ("known", "unknown"):
        await first.create(ContainerSpec(name))
    await first.close()
    second = await start_containers()
    await second.create(ContainerSpec("new"))
    assert await second.sweep({"known"}) == ["unknown"]
    assert names(second.base) == ["known", "new"]


async def test_half_deleted_directories_disappear_at_the_next_start(start_containers: Start) -> None:
    first = await start_containers()
    trash = first.base / ".trash-0123"
    (trash / "deep" / "deeper").mkdir(parents=True)
    (trash / "deep").chmod(0)
    await first.close()
    second = await start_containers()
    assert not trash.exists()
    assert names(second.base) == []


async def test_two_daemons_cannot_share_a_root(start_containers: Start) -> None:
    await start_containers()
    with pytest.raises(ContainerError, match="Another daemon"):
        await start_containers()


async def test_a_container_in_a_call_is_active(containers: Containers) -> None:
    busy = await containers.create(ContainerSpec("busy"))
    started = asyncio.Event()
    call = asyncio.create_task(busy.exec(["echo go; sleep 77"], on_output=lambda delta: started.set()))
    await started.wait()
    busy.last_active = time.time() - 1201
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert busy.last_active > time.time() - 60


async def test_every_use_counts_as_activity(containers: Containers) -> None:
    container = await containers.create(ContainerSpec("c"))
    for use in (lambda: container.exec(["true"]), container.entries, lambda: container.put("x", b"")):
        container.last_active = 0
        await use()
        assert container.last_active > time.time() - 60


async def test_the_number_of_containers_is_limited(start_containers: Start) -> None:
    containers = await start_containers(max_containers=2)
    await containers.create(ContainerSpec("a"))
    await containers.create(ContainerSpec("b"))
    with pytest.raises(TooManyContainers):
        await containers.create(ContainerSpec("c"))
    await containers.delete("a")
    await containers.create(ContainerSpec("c"))


async def test_memory_tiers_above_the_maximum_are_refused(containers: Containers) -> None:
    with pytest.raises(InvalidContainerRequest, match="above this daemon's maximum") as caught:
        await containers.create(ContainerSpec("c", memory_limit="16g"))
    assert caught.value.param == "memory_limit"
    with pytest.raises(InvalidContainerRequest):
        ContainerSpec("c", memory_limit="2g")
    container = await containers.create(ContainerSpec("c", memory_limit="4g"))
    ok = await sh(container, "python3 -c 'x = bytes(3 << 30); print(len(x) >> 30)'")
    assert ok.stdout == "3\n"


@pytest.mark.parametrize("bad", ["../x", "a/b", "", "a b", ".hidden", "x" * 101])
def test_ids_that_are_no_directory_names_are_refused(bad: str) -> None:
    with pytest.raises(InvalidContainerRequest):
        ContainerSpec(bad)


@pytest.mark.parametrize("bad", ["../x", "a/b", "", ".", "-rf", "a\0"])
def test_skill_names_that_are_no_directory_names_are_refused(bad: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidContainerRequest):
        Mount(bad, tmp_path)


async def test_wrong_specs_leave_nothing(containers: Containers, tmp_path: Path) -> None:
    for spec in (
        ContainerSpec("c", mounts=(Mount("gone", tmp_path / "gone"),)),
        ContainerSpec("c", network=NetworkPolicy(("https://example.org/",))),
    ):
        with pytest.raises(InvalidContainerRequest):
            await containers.create(spec)
    assert names(containers.base) == []
    await containers.create(ContainerSpec("c"))
    with pytest.raises(InvalidContainerRequest, match="exists already"):
        await containers.create(ContainerSpec("c"))


async def test_a_skill_folder_under_a_private_directory_can_be_mounted(containers: Containers, tmp_path: Path) -> None:
    private = tmp_path / "private"
    (private / "skill" / "scripts").mkdir(parents=True)
    (private / "skill" / "SKILL.md").write_text("hello")
    (private / "skill" / "scripts" / "go").write_text("#!/bin/sh\necho went\n")
    (private / "skill" / "scripts" / "go").chmod(0o700)
    private.chmod(0o700)
    container = await containers.create(ContainerSpec("c", mounts=(Mount("s", private / "skill"),)))
    assert (await sh(container, "cat /mnt/skills/s/SKILL.md; /mnt/skills/s/scripts/go")).stdout == "hellowent\n"


async def test_the_home_directory_counts_for_the_quota(start_containers: Start) -> None:
    containers = await start_containers(quota_bytes=50 * MIB)
    container = await containers.create(ContainerSpec("c"))
    full = await sh(container, "while :; do head -c 20M /dev/zero >> ~/big; sleep 0.02; done")
    assert full.exit_code == 137
    assert "exceed 50 MiB" in full.stderr
    assert (await sh(container, "rm ~/big; echo tidy")).stdout == "tidy\n"


async def test_a_container_over_its_quota_is_stopped_and_can_be_tidied(start_containers: Start) -> None:
    containers = await start_containers(quota_bytes=50 * MIB)
    container = await containers.create(ContainerSpec("c"))
    full = await sh(container, "while :; do head -c 20M /dev/zero >> big; sleep 0.02; done")
    assert full.exit_code == 137
    assert "exceed 50 MiB" in full.stderr
    with pytest.raises(DiskFull):
        await container.put("more", b"x")
    assert container.restarts == 0
    tidy = await container.exec(["rm big", "echo small > f; cat f; sleep 1"])
    assert [r.exit_code for r in tidy] == [0, 0]
    assert await container.put("more", b"x") == "/mnt/data/more"


async def test_below_the_disk_floor_nothing_starts(containers: Containers) -> None:
    container = await containers.create(ContainerSpec("c"))
    assert containers._watchdog is not None
    containers._watchdog.floor = 1 << 60
    with pytest.raises(DiskFull, match="free"):
        await container.exec(["true"])
    with pytest.raises(DiskFull):
        await container.put("x", b"x")
    containers._watchdog.floor = MIB
    assert (await sh(container, "echo fine")).stdout == "fine\n"


async def test_a_running_call_is_stopped_when_the_disk_fills(containers: Containers) -> None:
    container = await containers.create(ContainerSpec("c"))
    watchdog = containers._watchdog
    assert watchdog is not None

    def fill(delta: object) -> None:
        watchdog.floor = 1 << 60

    result = await sh(container, "echo go; sleep 77", on_output=fill)
    assert result.exit_code == 137
    assert "the disk has less than" in result.stderr


async def test_deleting_while_starting_leaves_nothing(containers: Containers) -> None:
    container = await containers.reopen(await _closed(containers))
    call = asyncio.create_task(container.exec(["true"]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await containers.delete("c")
    with pytest.raises(ContainerGone):
        await call
    assert names(containers.base) == []
    assert containers.stats()["open"] == 0


async def _closed(containers: Containers) -> ContainerSpec:
    spec = ContainerSpec("c")
    container = await containers.create(spec)
    await container.close(delete=False)
    return spec


async def test_fifty_containers_and_then_every_descriptor_is_back(containers: Containers) -> None:
    await (await containers.create(ContainerSpec("warm"))).exec(["true"])
    await containers.delete("warm")
    before = descriptors()
    made = [await containers.create(ContainerSpec(f"c{number}")) for number in range(50)]
    answers = await asyncio.gather(*(sh(container, "echo $((6 * 7))") for container in made))
    assert [answer.stdout for answer in answers] == ["42\n"] * 50
    pids = [container.init_pid for container in made]
    await asyncio.gather(*(containers.delete(f"c{number}") for number in range(50)))
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    await descriptors_are_back(before)
    assert names(containers.base) == []
    assert containers.stats()["running"] == 0


@pytest.fixture
def foreign_python() -> Iterator[Path]:
    """An interpreter that lies outside /usr, where the container's user can read it, and under one of its tmpfs."""
    folder = Path(tempfile.mkdtemp(prefix="skilldeck-python-", dir="/tmp"))
    folder.chmod(0o755)
    system = bwrap.system_python()
    if system is None:
        pytest.skip("no Python in /usr to copy")
    (folder / "lib" / "bin").mkdir(parents=True)
    shutil.copy(system.executable.resolve(), folder / "lib" / "bin" / "python3.copy")
    yield folder / "lib" / "bin" / "python3.copy"
    shutil.rmtree(folder)


async def test_an_interpreter_outside_usr_is_brought_inside(
    start_containers: Start, foreign_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(foreign_python))
    monkeypatch.setattr("sys.base_prefix", str(foreign_python.parents[1]))
    containers = await start_containers()
    container = await containers.create(ContainerSpec("c"))
    result = await sh(container, "python3 -c 'import sys; print(sys.executable)'; readlink -f $(which python)")
    assert result.stdout.splitlines()[1] == str(foreign_python)
    assert result.stderr == ""


async def test_an_interpreter_that_does_not_run_inside_is_replaced(
    start_containers: Start, foreign_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign_python.write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setattr("sys.executable", str(foreign_python))
    monkeypatch.setattr("sys.base_prefix", str(foreign_python.parents[1]))
    containers = await start_containers()
    container = await containers.create(ContainerSpec("c"))
    assert (await sh(container, "python3 -c 'print(6 * 7)'")).stdout == "42\n"

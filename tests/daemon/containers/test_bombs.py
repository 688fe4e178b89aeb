"""Attacks on what there is only so much of: memory, files, descriptors. The daemon lives and the next call works."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from daemon.containers.support import MIB, needs_bwrap, sh, until
from daemon.containers.test_attacks import PRELUDE, number
from skilldeck_daemon.containers import Container, Containers, ContainerSpec, artifacts, output
from skilldeck_daemon.containers.sandbox import proc, watchdog

pytestmark = needs_bwrap
Start = Callable[..., Awaitable[Containers]]


# -- memory ----------------------------------------------------------------------------------------------


async def test_many_processes_cannot_exceed_the_memory_limit_for_long(container: Container) -> None:
    script = (
        "import time\nx = bytearray(200 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\n"
        "print('held', flush=True)\ntime.sleep(60)\n"
    )
    await container.put("hold.py", script.encode())
    assert container.init_pid is not None
    peak = 0
    done = threading.Event()

    def watch(init: int) -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, sum(map(proc.memory, proc.descendants(init))))

    thread = threading.Thread(target=watch, args=(container.init_pid,))
    thread.start()
    try:
        command = "for i in $(seq 12); do python3 hold.py & done; "
        # Twelve times 200 MiB: it ends when so many were killed that the rest fits.
        command += "until [ $(jobs -rp | wc -l) -le 5 ]; do sleep 0.05; done; echo end"
        result = await sh(container, command, timeout_ms=60_000)
    finally:
        done.set()
        thread.join()
    assert "end\n" in result.stdout
    assert "memory limit of 1g exceeded" in result.stderr
    assert peak < 2 * 1024**3
    assert (await sh(container, "echo next")).stdout == "next\n"


async def test_hidden_memory_is_refused_where_only_the_watchdog_counts(
    containers: Containers, container: Container
) -> None:
    if containers.cgroups.mode != "none":
        pytest.skip("a memory cgroup counts what no process shows")
    body = "attempt(os.memfd_create, 'x')\n"
    for name, arguments in (("shmget", "0, 4096, 0o1600"), ("semget", "0, 32000, 0o1600"), ("msgget", "0, 0o1600")):
        body += f"call({number(name)}, {arguments})\n"
    await container.put("a.py", (PRELUDE + body).encode())
    assert (await sh(container, "python3 -I a.py")).stdout == "EPERM\n" * 4
    assert (await sh(container, "echo next")).stdout == "next\n"


async def test_what_hides_its_memory_is_stopped_before_the_machine_has_none_left(
    containers: Containers, container: Container
) -> None:
    """Shared pages that are unmapped again belong to no process; only the machine's memory tells of them."""
    if containers.cgroups.mode != "none":
        pytest.skip("a memory cgroup counts what no process shows")
    older = await containers.create(ContainerSpec("older"))
    dog = containers._watchdog
    assert dog is not None
    assert dog.memory_floor < proc.machine_memory("MemTotal") // 49
    code = """
import ctypes, mmap, os, sys, time
libc = ctypes.CDLL(None)
area = mmap.mmap(-1, 64 << 20)
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
ctypes.memset(start, 1, len(area))
print(libc.munmap(ctypes.c_void_p(start + 4096), ctypes.c_size_t(len(area) - 4096)), flush=True)
time.sleep(60)
"""
    await container.put("hide.py", code.encode())
    told: asyncio.Queue[str] = asyncio.Queue()
    patient = asyncio.create_task(
        sh(older, "echo go; until [ -e end ]; do sleep 0.05; done", on_output=lambda _: told.put_nowait("older"))
    )
    await told.get()

    def full(_: object) -> None:
        if dog.memory_floor < 1 << 60:
            dog.memory_floor = 1 << 60  # as if the machine had no more

    result = await sh(container, "python3 hide.py", on_output=full, timeout_ms=60_000)
    dog.memory_floor = 0
    assert result.exit_code == 137
    assert result.stdout == "0\n"
    assert "out of memory" in result.stderr
    assert container.restarts == 0
    assert (await sh(container, "echo next")).stdout == "next\n"
    await older.put("end", b"")
    await patient


async def test_terminals_are_taken_from_whoever_has_too_many(container: Container) -> None:
    code = "import os, time; held = [os.open('/dev/ptmx', os.O_RDWR) for _ in range({})]; print('held'); time.sleep({})"
    few = await sh(container, f'python3 -c "{code.format(watchdog.TERMINALS - 8, 0.3)}"')
    assert (few.exit_code, few.stdout) == (0, "held\n")
    many = await sh(container, f'python3 -c "{code.format(watchdog.TERMINALS + 8, 60)}"')
    assert many.exit_code == 137
    assert "stopped: more than 128 terminals" in many.stderr
    assert (await sh(container, "ls /dev/pts; echo next")).stdout == "ptmx\nnext\n"


async def test_a_gigabyte_of_output_costs_no_memory(container: Container) -> None:
    page = resource.getpagesize()
    before = peak = int(Path("/proc/self/statm").read_text().split()[1]) * page
    call = asyncio.create_task(sh(container, "head -c 1G /dev/zero; echo; echo end", timeout_ms=120_000))
    while not call.done():
        await asyncio.wait({call}, timeout=0.05)
        peak = max(peak, int(Path("/proc/self/statm").read_text().split()[1]) * page)
    result = call.result()
    assert result.stdout.startswith("\0\0\0")
    assert result.stdout.endswith("\nend\n")
    assert result.truncated_bytes > 1023 * MIB
    assert peak - before < 64 * MIB
    assert (await sh(container, "echo next")).stdout == "next\n"


# -- files -----------------------------------------------------------------------------------------------


async def test_too_many_files_in_memory_end_the_sandbox_and_are_gone(
    containers: Containers, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    if containers.cgroups.mode != "none":
        pytest.skip("a memory cgroup counts them")
    monkeypatch.setattr(watchdog, "MAX_FILES", 1000)
    await sh(container, "echo kept > f")
    flood = "i=0; while :; do : > /tmp/$((i++)); done"
    result = await sh(container, flood, timeout_ms=60_000)
    assert result.exit_code == 137
    assert "more than 1000 files in /tmp" in result.stderr
    assert (await sh(container, "cat f; ls /tmp | wc -l")).stdout == "kept\n0\n"
    assert container.restarts == 1


@pytest.mark.parametrize(
    "hide",
    [
        pytest.param("mkdir locked; cd locked; chmod 000 ../locked", id="locked"),
        pytest.param("mkdir listed; cd listed; chmod 400 ../listed", id="no entry"),
        pytest.param("for i in 1 2 3; do d=$(printf 'd/%.0s' $(seq 200)); mkdir -p $d; cd -P $d; done", id="deep"),
    ],
)
async def test_no_place_is_hidden_from_the_quota(start_containers: Start, hide: str) -> None:
    containers = await start_containers(quota_bytes=20 * MIB)
    container = await containers.create(ContainerSpec("c"))
    # The file is opened first: a locked directory cannot be entered any more, an open file goes on growing.
    script = hide.replace("; chmod", "; exec 3> f; chmod") + "; [ -e /proc/self/fd/3 ] || exec 3> f; yes >&3"
    result = await sh(container, script, timeout_ms=60_000)
    assert result.exit_code == 137
    assert "exceed 20 MiB" in result.stderr
    assert (await sh(container, "echo next")).stdout == "next\n"


def test_usage_counts_everything_and_leaves_no_descriptor(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    fd = os.open(root, os.O_RDONLY)
    for _ in range(300):
        for name in ("d", "e"):
            os.mkdir(name, dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    with open(os.open("deep", os.O_CREAT | os.O_WRONLY, dir_fd=fd), "wb") as file:
        file.write(b"x" * MIB)
    os.close(fd)
    (root / "locked").mkdir()
    (root / "locked" / "f").write_bytes(b"x" * MIB)
    (root / "locked").chmod(0)
    before = len(os.listdir("/proc/self/fd"))
    used, files = artifacts.usage(root, 1_000_000)
    assert files == 603
    assert used >= 2 * MIB
    assert artifacts.usage(root, 100)[1] == 101
    assert len(os.listdir("/proc/self/fd")) == before
    artifacts.delete_tree(root)


def test_usage_never_unlocks_what_a_link_leads_to(tmp_path: Path) -> None:
    """A writer exchanges a locked directory and a link as fast as it can; the link's target stays as it is."""
    root, outside = tmp_path / "data", tmp_path / "outside"
    (root / "locked").mkdir(parents=True)
    outside.mkdir()
    outside.chmod(0)
    (root / "locked").chmod(0)
    (root / "spare").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(root / "locked", root / "tmp")
            os.rename(root / "spare", root / "locked")
            os.rename(root / "tmp", root / "spare")
            os.chmod(root / "spare", 0)
            os.rename(root / "locked", root / "tmp")
            os.rename(root / "spare", root / "locked")
            os.rename(root / "tmp", root / "spare")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(2000):
            artifacts.usage(root, 1000)
    finally:
        stop.set()
        thread.join()
    assert outside.stat().st_mode & 0o777 == 0
    outside.chmod(0o700)


# -- descriptors -----------------------------------------------------------------------------------------


async def test_a_background_process_with_its_output_elsewhere_holds_no_pipe_of_the_call(container: Container) -> None:
    before = len(os.listdir("/proc/self/fd"))
    await sh(container, "for i in 1 2 3; do sleep 60 >/dev/null 2>&1 & done")
    # A child holds them until it has come to its redirection.
    await until(lambda: len(container._drain) == 0, within=30)
    assert len(os.listdir("/proc/self/fd")) == before
    assert (await sh(container, "echo next; ls /proc/self/fd | wc -l")).stdout == "next\n4\n"


async def test_background_processes_that_keep_their_pipes_cannot_use_up_the_daemons_descriptors(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "DRAIN_MOST", 6)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        assert (await sh(container, "while sleep 0.1; do echo noise; done & echo done")).stdout.startswith("done")
    assert 0 < len(container._drain) <= 6
    assert len(os.listdir("/proc/self/fd")) <= before + 6
    assert (await sh(container, "echo next")).stdout == "next\n"


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """The soft limit that most systems give a process; raised by `Containers.start`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


IN_FLIGHT = """
import os, socket, time
held = []
try:
    while True:
        one, two = socket.socketpair()
        held += [one, two]
        for _ in range(10):
            socket.send_fds(one, [b'x'], [0] * 100)
except OSError as error:
    print(error.strerror, flush=True)
time.sleep(600)
"""


async def test_descriptors_in_flight_in_one_container_stop_no_other(
    few_descriptors: None, start_containers: Start
) -> None:
    """The kernel counts them for each user; an ordinary user's daemon is the same user as its containers."""
    containers = await start_containers()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 1024
    hostile = await containers.create(ContainerSpec("hostile"))
    other = await containers.create(ContainerSpec("other"))
    await hostile.put("a.py", IN_FLIGHT.encode())
    await sh(hostile, "python3 a.py > said 2>&1 & until [ -s said ]; do sleep 0.01; done")
    assert await hostile.read("/mnt/data/said", 100) == b"Too many references: cannot splice\n"
    for container in (other, hostile):
        assert (await sh(container, "echo next")).stdout == "next\n"
        assert container.restarts == 0

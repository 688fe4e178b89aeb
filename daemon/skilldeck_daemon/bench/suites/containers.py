"""What the sandbox costs: a call in a running container against no sandbox and against a bwrap of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from skilldeck_daemon.bench.local import resident_bytes, temporary_home
from skilldeck_daemon.bench.measure import Measure, interleaved, timed
from skilldeck_daemon.containers import artifacts
from skilldeck_daemon.containers.container import Container
from skilldeck_daemon.containers.manager import Containers
from skilldeck_daemon.containers.packages import base_build
from skilldeck_daemon.containers.packages.layers import PYTHON
from skilldeck_daemon.containers.sandbox import bwrap
from skilldeck_daemon.containers.spec import SKILLS, ContainerSpec, Environment, Mount

SUITE = "Containers"
CALLS = 20
MANY = 50
SHARING = 50
"""Skills that one environment is for."""
FLOOD = "1G"
BALLAST = 4 * 1024**3


async def measure(
    model: str, rounds: int, *, calls: int = CALLS, many: int = MANY, flood: str = FLOOD, ballast: int = BALLAST
) -> list[Measure]:
    """Calls, starts, many containers at once, a flood of output; then all but the last again with `ballast` bytes
    resident here, which a fork would have to copy the page tables of."""
    calls = max(calls, rounds)
    with temporary_home() as home:
        async with _open(Path(home) / "sandbox") as containers, _open(Path(home) / "plain", sandbox="none") as plain:
            container = await containers.create(ContainerSpec("bench"))
            loose = await plain.create(ContainerSpec("bench"))
            measures = await _calls(container, loose, containers, calls, "")
            measures += await _starts(containers, calls, "")
            measures += await _with_packages(containers, Path(home), calls)
            measures += await _many(containers, many, "")
            measures += await _flood(container, flood)
            resident = bytearray(b"x") * ballast
            suffix = f" with {ballast / 2**30:.0f} GiB resident"
            measures += await _calls(container, loose, containers, calls, suffix)
            measures += await _starts(containers, calls, suffix)
            measures += await _many(containers, many, suffix)
            del resident
    return measures


@contextlib.asynccontextmanager
async def _open(root: Path, **options: Any) -> AsyncIterator[Containers]:
    containers = Containers(root, max_containers=MANY + 1, disk_floor_bytes=0, **options)
    await containers.start()
    try:
        yield containers
    finally:
        await containers.sweep(())
        await containers.delete("bench")
        await containers.close()


async def _calls(
    container: Container, loose: Container, containers: Containers, rounds: int, suffix: str
) -> list[Measure]:
    tools = containers.tools
    assert tools is not None
    command = [*bwrap.drop_prefix(tools), tools.bwrap, *bare(), "--", "/bin/sh", "-c", "true"]

    async def once() -> None:
        subprocess.run(command, check=True, cwd="/")  # noqa: ASYNC221 (the bare cost, without an event loop's)

    async def inside() -> None:
        await container.exec(["true"])

    async def without() -> None:
        await loose.exec(["true"])

    arms = {"inside": timed(inside), "without": timed(without), "bare": timed(once)}
    samples = {name: _ms(values) for name, values in (await interleaved(arms, rounds)).items()}
    name = f"call in a running container{suffix}"
    return [
        Measure(SUITE, name, "ms", samples["inside"], "bare `bwrap … true`", samples["bare"], goal="≤ 5 ms"),
        Measure(SUITE, name, "ms", samples["inside"], "no sandbox", samples["without"]),
    ]


def bare(*more: str) -> list[str]:
    """Arguments for a bwrap that does the least a sandbox must do, and `more`; the command line follows `--`."""
    return [
        *("--unshare-user", "--unshare-pid", "--unshare-net", "--ro-bind", "/usr", "/usr"),
        *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin"),
        *("--proc", "/proc", "--dev", "/dev", *more),
    ]


async def _starts(containers: Containers, rounds: int, suffix: str) -> list[Measure]:
    started, stopped = [], []
    for number in range(rounds):
        begun = time.perf_counter()
        container = await containers.create(ContainerSpec(f"start{number}"))
        ready = time.perf_counter()
        await container.close()
        started.append(ready - begun)
        stopped.append(time.perf_counter() - ready)
    return [
        Measure(SUITE, f"container start{suffix}", "ms", _ms(tuple(started)), goal="≤ 60 ms"),
        Measure(SUITE, f"container stop{suffix}", "ms", _ms(tuple(stopped))),
    ]


async def _with_packages(containers: Containers, home: Path, rounds: int) -> list[Measure]:
    """Starts with an environment of a skill, of one that 50 skills share, and without any, in turn. Each ends with a
    program that imports what it has, not in the time."""
    uid = containers.tools.uid if containers.tools is not None else os.geteuid()
    root = base_build.place_for(home / "packages", uid)
    try:
        environment, mounts = _packages(root)
        begun = 0

        async def started(mounts: tuple[Mount, ...], *environments: Environment) -> float:
            nonlocal begun
            begun += 1
            since = time.perf_counter()
            container = await containers.create(ContainerSpec(f"packages{begun}", mounts, environments=environments))
            seconds = time.perf_counter() - since
            (result,) = await container.exec([f"python3 {SKILLS}/skill0/x.py"])
            await container.close()
            if (result.exit_code == 0) != bool(environments):
                raise RuntimeError(f"the packages of a container were not as asked for: {result.stderr}")
            return seconds

        arms = {
            "one": lambda: started(mounts[:1], environment),
            "shared": lambda: started(mounts, environment),
            "without": lambda: started(mounts[:1]),
        }
        samples = {name: _ms(values) for name, values in (await interleaved(arms, rounds)).items()}
    finally:
        artifacts.delete_tree(root)
    without = ("one with the skill and without its environment", samples["without"])
    return [
        Measure(SUITE, "container start with a skill's environment", "ms", samples["one"], *without, goal="≤ 60 ms"),
        Measure(SUITE, f"container start with {SHARING} skills that share one", "ms", samples["shared"], *without),
    ]


def _packages(root: Path) -> tuple[Environment, tuple[Mount, ...]]:
    """An environment with a package, and the skills that it is for."""
    folder = root / "environments" / ("0" * 64)
    names = tuple(f"skill{number}" for number in range(SHARING))
    before = os.umask(0o022)  # the containers' user reads them
    try:
        (folder / PYTHON / "report_kit").mkdir(parents=True)
        (folder / PYTHON / "report_kit" / "__init__.py").write_text("version = '1.0'\n", encoding="utf-8")
        for name in names:
            (root / "skills" / name).mkdir(parents=True)
            (root / "skills" / name / "x.py").write_text("import report_kit\n", encoding="utf-8")
    finally:
        os.umask(before)
    return Environment(folder.name, folder, names), tuple(Mount(name, root / "skills" / name) for name in names)


async def _many(containers: Containers, many: int, suffix: str) -> list[Measure]:
    descriptors = len(os.listdir("/proc/self/fd"))
    begun = time.perf_counter()
    made = await asyncio.gather(*(containers.create(ContainerSpec(f"many{number}")) for number in range(many)))
    started = time.perf_counter()
    await asyncio.gather(*(container.exec(["true"]) for container in made))
    called = time.perf_counter()
    each = (len(os.listdir("/proc/self/fd")) - descriptors) / many
    await asyncio.gather(*(container.close() for container in made))
    left = len(os.listdir("/proc/self/fd")) - descriptors
    return [
        Measure(SUITE, f"{many} containers started at once{suffix}", "s", (started - begun,)),
        Measure(SUITE, f"a call in each of {many} at once{suffix}", "s", (called - started,)),
        Measure(SUITE, f"descriptors a container{suffix}", "", (each,), note=f"{left} left open after closing all"),
    ]


async def _flood(container: Container, size: str) -> list[Measure]:
    pid = os.getpid()
    resident = peak = resident_bytes(pid)
    begun, cpu = time.perf_counter(), time.process_time()
    call = asyncio.create_task(container.exec([f"head -c {size} /dev/zero | tr '\\0' x"]))
    while not call.done():
        await asyncio.wait({call}, timeout=0.05)
        peak = max(peak, resident_bytes(pid))
    seconds, busy = time.perf_counter() - begun, time.process_time() - cpu
    await call
    return [
        Measure(SUITE, f"{size} of output", "s", (seconds,), note=f"{busy:.2f} s of the daemon's CPU time"),
        Measure(SUITE, "memory growth meanwhile", "MiB", ((peak - resident) / 2**20,), goal="flat"),
    ]


def _ms(samples: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(value * 1000 for value in samples)

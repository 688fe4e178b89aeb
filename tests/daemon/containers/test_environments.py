"""Environments of skills: built by uv and npm from an index on loopback, in a container, and shown to others."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from daemon.containers.support import needs_bwrap, sh, until
from skilldeck_daemon.containers import Container, Containers, ContainerSpec, Mount, artifacts
from skilldeck_daemon.containers.network.indexes import Indexes
from skilldeck_daemon.containers.packages import base_build
from skilldeck_daemon.containers.packages.bases import Bases
from skilldeck_daemon.containers.packages.environment_build import BuildFailed, EnvironmentBuilder
from skilldeck_daemon.containers.packages.wants import Wanted
from skilldeck_daemon.containers.sandbox import bwrap
from skilldeck_daemon.containers.spec import Environment
from support.index import Index, index
from support.wheels import source_distribution, wheel

pytestmark = needs_bwrap
Start = Callable[..., Awaitable[Containers]]
UID = bwrap.SANDBOX_UID if os.geteuid() == 0 else os.geteuid()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Index]:
    with index(tmp_path / "wheels") as server:
        yield server


@pytest_asyncio.fixture
async def builder(start_containers: Start, served: Index, tmp_path: Path) -> AsyncIterator[EnvironmentBuilder]:
    indexes = Indexes(served.python, served.npm)
    containers = await start_containers(bases=Bases(tmp_path / "data/sandbox"), indexes=indexes)
    made = EnvironmentBuilder(containers, tmp_path / "data")
    await made.refresh()
    yield made
    artifacts.delete_tree(base_build.place_for(tmp_path / "data", UID))


def needs_npm() -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")


def place(builder: EnvironmentBuilder) -> Path:
    return builder._place()


async def build(builder: EnvironmentBuilder, *python: str, node: tuple[str, ...] = ()) -> Path:
    wanted = Wanted(python, node)
    return await builder.build(builder.digest(wanted), wanted, lambda line: None)


async def box_with(
    builder: EnvironmentBuilder, *environments: Environment, mounts: tuple[Mount, ...] = ()
) -> Container:
    spec = ContainerSpec(f"box{len(mounts)}{os.urandom(3).hex()}", mounts, environments=environments)
    return await builder._containers.create(spec)


async def test_what_was_built_is_found_by_every_way_to_start_python(builder: EnvironmentBuilder, served: Index) -> None:
    wheel(served.folder, "charts", script="draw-charts")
    folder = await build(builder, "charts")
    digest = folder.name
    assert builder.notes(digest)["packages"] == 1
    assert builder.modules(digest) == {"charts"}
    shown = builder.environment(digest, ("report",), ())
    assert shown is not None
    box = await box_with(builder, shown)
    for start in ("python3", "python", "python3 -I", "uv run --with charts python3", "uv run -q --script"):
        command = f"echo 'import charts; print(charts.version)' > x.py; {start} x.py"
        assert (await sh(box, command)).stdout == "1.0\n", start
    assert (await sh(box, "draw-charts && echo $PYTHONPATH")).stdout == "1.0\n\n"
    refused = await sh(box, "touch /run/environments/*/x; touch /run/environments/x; touch /mnt/x")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (1, 3)
    # pip takes what is there for what is asked for, without any network.
    assert "already satisfied: charts" in (await sh(box, "pip install charts || python3 -m pip install charts")).stdout
    other = await box_with(builder)
    assert "No module named 'charts'" in (await sh(other, "python3 -c 'import charts'")).stderr


async def test_it_is_built_once_and_a_second_time_is_a_look(builder: EnvironmentBuilder, served: Index) -> None:
    wheel(served.folder, "charts")
    folder = await build(builder, "charts")
    asked = len(served.asked)
    assert await build(builder, "charts") == folder
    assert len(served.asked) == asked
    assert builder.digest(Wanted(("charts",))) != builder.digest(Wanted(("charts==1.0",)))


async def test_each_skill_has_its_own_version_first(builder: EnvironmentBuilder, served: Index, tmp_path: Path) -> None:
    shown, mounts = [], []
    for name, version in (("old", "1.0"), ("new", "2.0")):
        wheel(served.folder, "charts", version, script="draw-charts")
        folder = await build(builder, f"charts=={version}")
        found = builder.environment(folder.name, (name,), ())
        assert found is not None
        shown.append(found)
        (tmp_path / name / "scripts").mkdir(parents=True)
        (tmp_path / name / "scripts/x.py").write_text("import charts; print(charts.version)")
        (tmp_path / name / "scripts/deep").mkdir()
        (tmp_path / name / "scripts/deep/y.py").write_text("from scripts import x")
        (tmp_path / name).chmod(0o755)
        mounts.append(Mount(name, tmp_path / name))
    box = await box_with(builder, *shown, mounts=tuple(mounts))
    for name, version in (("old", "1.0"), ("new", "2.0")):
        for command in (
            f"python3 /mnt/skills/{name}/scripts/x.py",
            f"cd /mnt/skills/{name} && python3 scripts/x.py",
            f"cd /mnt/skills/{name} && python3 -c 'import charts; print(charts.version)'",
            f"uv run /mnt/skills/{name}/scripts/x.py",
            f"python3 /mnt/skills/{name}/scripts/deep/y.py",  # a folder of the skill as a package
        ):
            assert (await sh(box, command)).stdout == f"{version}\n", command


async def test_packages_for_node_are_found_by_require_and_by_import(builder: EnvironmentBuilder, served: Index) -> None:
    needs_npm()
    served.node("plot-kit", "1.2.0", bin={"plot-kit": "bin.js"}, script="#!/usr/bin/env node\nconsole.log('plotted')\n")
    served.node("@inner/part", "3.0.0")
    folder = await build(builder, node=("plot-kit@^1.0.0", "@inner/part@3"))
    assert builder.notes(folder.name)["packages"] == 2
    shown = builder.environment(folder.name, (), ("plot-kit", "@inner/part"))
    assert shown is not None
    box = await box_with(builder, shown)
    required = await sh(box, 'node -e \'console.log(require("plot-kit").version, require("@inner/part").name)\'')
    assert required.stdout == "1.2.0 @inner/part\n"
    code = 'import kit from "plot-kit"; import part from "@inner/part"; console.log(kit.version, part.version)'
    assert (await sh(box, f"echo '{code}' > x.mjs && node x.mjs")).stdout == "1.2.0 3.0.0\n"
    assert (await sh(box, "plot-kit")).stdout == "plotted\n"


SPY = """
import os, socket, sys
found = []
for path in ("/root", "/etc/shadow", "/home", "/proc/1/environ", "%(host)s"):
    try:
        found.append(path + ": " + (repr(os.listdir(path)) if os.path.isdir(path) else open(path).read()))
    except OSError as error:
        found.append(path + ": " + error.strerror)
for where in (("127.0.0.1", %(port)d), ("192.0.2.1", 80)):
    try:
        socket.create_connection(where, 2)
        found.append("reached %%s" %% (where,))
    except OSError as error:
        pass
open("/tmp/left-behind", "w").write("x")
os.makedirs(os.path.expanduser("~/.local/bin"), exist_ok=True)
open(os.path.expanduser("~/.local/bin/python3"), "w").write("x")
if os.fork() == 0:
    os.setsid()
    os.closerange(0, 64)
    import time
    time.sleep(600)
sys.exit("SPY " + repr(found))
"""


async def test_a_setup_program_gets_nothing_and_leaves_nothing(
    builder: EnvironmentBuilder, served: Index, tmp_path: Path
) -> None:
    secret = tmp_path / "secret-of-the-host"
    secret.write_text("the host's secret")
    with index(tmp_path / "other") as other:  # on loopback too, and not the index
        source_distribution(served.folder, "evil", SPY % {"host": secret, "port": other.server_port})
        wheel(served.folder, "setuptools", "99.0", source=BACKEND)
        before = sorted(item.name for item in builder._containers.base.iterdir())
        with pytest.raises(BuildFailed) as failed:
            await build(builder, "evil")
        assert "SPY" in failed.value.log, failed.value.log
        assert "the host's secret" not in failed.value.log
        assert "reached" not in failed.value.log
        assert "/etc/shadow: No such file" in failed.value.log
        assert "/proc/1/environ: Permission denied" in failed.value.log
    assert not Path("/tmp/left-behind").exists()
    assert sorted(item.name for item in builder._containers.base.iterdir()) == before
    assert {item.name for item in place(builder).iterdir()} == set()
    assert builder._containers.stats()["open"] == 0
    wheel(served.folder, "charts")
    assert (await build(builder, "charts")).is_dir()  # and the next one is not hindered


BACKEND = """
import subprocess, sys
class build_meta:
    @staticmethod
    def run(*args, **kwargs):
        sys.exit(subprocess.run([sys.executable, "setup.py"]).returncode or 1)
    get_requires_for_build_wheel = prepare_metadata_for_build_wheel = build_wheel = run
    class __legacy__:
        pass
    __legacy__.get_requires_for_build_wheel = __legacy__.build_wheel = run
    __legacy__.prepare_metadata_for_build_wheel = run
sys.modules["setuptools.build_meta"] = build_meta
"""
"""A build backend that runs setup.py, as setuptools does."""


async def test_scripts_after_an_installation_do_not_run(builder: EnvironmentBuilder, served: Index) -> None:
    needs_npm()
    served.node("evil", scripts={"postinstall": "touch /mnt/data/env/ran", "install": "touch /mnt/data/env/ran"})
    folder = await build(builder, node=("evil@1",))
    assert (folder / "node/node_modules/evil/index.js").exists()
    assert not (folder / "ran").exists()


async def test_a_package_that_is_not_there_leaves_nothing(builder: EnvironmentBuilder, served: Index) -> None:
    wheel(served.folder, "charts")
    for wanted in (("nowhere-to-be-found",), ("charts==9",), ("charts", "nowhere-to-be-found")):
        with pytest.raises(BuildFailed, match="No solution found"):
            await build(builder, *wanted)
    needs_npm()
    with pytest.raises(BuildFailed, match="404"):
        await build(builder, node=("nowhere-to-be-found@1",))
    assert list(place(builder).iterdir()) == []
    assert builder._containers.stats()["open"] == 0


async def test_a_build_that_is_cancelled_leaves_nothing_and_can_be_made_anew(
    builder: EnvironmentBuilder, served: Index
) -> None:
    wheel(served.folder, "charts")
    served.silent.set()
    task = asyncio.create_task(build(builder, "charts"))
    await until(lambda: bool(served.asked), within=60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert builder._containers.stats()["open"] == 0
    assert list(place(builder).iterdir()) == []
    served.silent.clear()
    digest = builder.digest(Wanted(("charts",), ()))
    (place(builder) / f"{digest}.json").write_text("{}")  # a kill between the two leaves what is said of it alone
    assert (await build(builder, "charts")).is_dir()
    assert builder.notes(digest)["packages"] == 1


async def test_what_a_kill_left_goes_at_the_start(builder: EnvironmentBuilder) -> None:
    left = place(builder) / ".building-of-before"
    (left / "python/deep").mkdir(parents=True)
    (left / "python").chmod(0o000)
    await builder.clear()
    assert list(place(builder).iterdir()) == []


async def test_a_place_that_nothing_was_built_in_goes_at_the_end(builder: EnvironmentBuilder, served: Index) -> None:
    made = place(builder)
    await builder.close()
    assert not made.exists()
    wheel(served.folder, "charts")
    folder = await build(builder, "charts")  # of another daemon meanwhile
    await builder.close()
    assert folder.is_dir()


async def test_what_nothing_needs_is_collected(builder: EnvironmentBuilder, served: Index) -> None:
    wheel(served.folder, "charts")
    wheel(served.folder, "tables")
    kept, gone = await build(builder, "charts"), await build(builder, "tables")
    assert await builder.collect({kept.name}, 3600) == 0  # used a moment ago
    assert await builder.collect({kept.name}, 0) == 1
    assert (kept.is_dir(), gone.exists()) == (True, False)
    assert {item.name for item in place(builder).iterdir()} == {kept.name, f"{kept.name}.json"}


async def test_fifty_skills_share_one(builder: EnvironmentBuilder, served: Index, tmp_path: Path) -> None:
    wheel(served.folder, "charts")
    folder = await build(builder, "charts")
    names = tuple(f"skill{number}" for number in range(50))
    mounts = []
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_text("import charts; print(charts.__file__)")
        mounts.append(Mount(name, tmp_path / name))
    shown = builder.environment(folder.name, names, ())
    assert shown is not None
    box = await box_with(builder, shown, mounts=tuple(mounts))
    told = await sh(
        box, "for x in /mnt/skills/*/x.py; do python3 $x; done | sort | uniq -c; ls /run/environments | wc -l"
    )
    assert told.stdout.split() == ["50", f"/run/environments/{folder.name[:16]}/python/charts.py", "1"]

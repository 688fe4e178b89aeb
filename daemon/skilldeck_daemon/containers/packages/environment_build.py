"""Environments of skills: the packages that a skill says it needs, built in a container and shown read-only to others.

A build's container reaches the package index and nothing else, and sees what every container sees: whatever a package
runs there (a setup.py) finds nothing of the host, and what it leaves is in the environment or gone. What comes of it is
moved out when the container has ended, into a folder named by the digest of the requirements and the interpreter: whole
or not there. Nothing of it is ever run or imported by the daemon. A folder that a kill left half moved goes at `clear`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uv

from skilldeck_daemon.containers import artifacts
from skilldeck_daemon.containers.manager import Containers
from skilldeck_daemon.containers.packages import base_build, wants
from skilldeck_daemon.containers.packages.bases import names_in
from skilldeck_daemon.containers.packages.layers import NODE, PYTHON, Base
from skilldeck_daemon.containers.packages.wants import Wanted
from skilldeck_daemon.containers.sandbox import bwrap
from skilldeck_daemon.containers.spec import MEMORY_TIERS, WORKDIR, Bind, ContainerSpec, Environment, NetworkPolicy
from skilldeck_shared import private
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.json_types import JsonObject

FOLDER = "environments"
TIMEOUT_MS = 900_000
LOG_CHARS = 64 * 1024
_BEGUN = ".building-"
_NOTES = "environment.json"
_TOOLS = "/run/tools"
_MAKE = f"{WORKDIR}/env"
_SETTINGS = {
    "UV_NO_CONFIG": "1",
    "UV_NO_PROGRESS": "1",
    "UV_PYTHON_DOWNLOADS": "never",
    "UV_CACHE_DIR": f"{WORKDIR}/cache",
    "NPM_CONFIG_CACHE": f"{WORKDIR}/cache/npm",
}

OnLine = Callable[[str], None]


class BuildFailed(SkilldeckError):
    """The environment could not be built; nothing of it is there."""

    code = "build_failed"

    def __init__(self, title: str, hint: str = "", log: str = "") -> None:
        super().__init__(title, hint)
        self.log = log


class EnvironmentBuilder:
    """Builds environments under `root`, the place of the sandbox's bases (`base_build.place_for`).

    One object serves the daemon. It does not know which are wanted, nor whether somebody agreed.
    """

    def __init__(self, containers: Containers, data_dir: Path) -> None:
        self._containers = containers
        self._data_dir = data_dir
        self._indexes = containers.indexes
        self._root: Path | None = None
        self._serial = 0
        self._base: Base | None = None
        self._there: wants.Versions | None = None

    @property
    def possible(self) -> bool:
        """Whether there is a sandbox to build in."""
        return self._containers.tools is not None

    def hosts(self, wanted: Wanted) -> tuple[str, ...]:
        """What a build reaches."""
        return self._indexes.hosts(python=bool(wanted.python), node=bool(wanted.node))

    async def clear(self) -> None:
        """Remove what builds that were killed had begun."""

        def sweep() -> None:
            for item in self._place().glob(f"{_BEGUN}*"):
                artifacts.delete_tree(item)

        if self.possible:
            await asyncio.to_thread(sweep)

    async def close(self) -> None:
        """Leave no empty folder behind: of a root daemon they may lie apart from its data."""

        def tidy(root: Path) -> None:
            with contextlib.suppress(OSError):
                root.rmdir()
                root.parent.rmdir()

        if self._root is not None:
            await asyncio.to_thread(tidy, self._root)
            self._root = None

    def _place(self) -> Path:
        if self._root is None:
            tools = self._containers.tools
            assert tools is not None
            root = base_build.place_for(self._data_dir, tools.uid) / FOLDER
            private.folder(root)
            if tools.uid != os.geteuid():
                bwrap.open_way(root, tools.uid)
            self._root = root
        return self._root

    async def refresh(self) -> None:
        """Look which base there is now: `missing` and `digest` go by the last look."""
        base = await self._containers.packages()
        if base != self._base or self._there is None:
            self._there = await asyncio.to_thread(wants.versions_of, base)
            self._base = base

    @property
    def node_packages(self) -> frozenset[str]:
        """Those of the base, by the last look."""
        return frozenset(self._there.node) if self._there is not None else frozenset()

    def missing(self, wanted: Wanted) -> Wanted:
        """What of it the base does not have; an environment is of all that is left."""
        return wanted if self._there is None else self._there.without(wanted)

    def digest(self, wanted: Wanted) -> str:
        """Names the environment of these requirements for the interpreter that containers have."""
        tools = self._containers.tools
        assert tools is not None
        python = (self._base.python if self._base is not None else tools.python).executable
        place = self._base.over if self._base is not None else tools.over  # names the interpreter's version
        said = json.dumps([sorted(wanted.python), sorted(wanted.node), str(python), place])
        return hashlib.sha256(said.encode()).hexdigest()

    def path(self, digest: str) -> Path | None:
        """Where an environment lies; None when it is not built. Marks it as used."""
        if not self.possible:
            return None
        place = self._place() / digest
        try:
            os.utime(place)
        except OSError:
            return None
        return place

    def environment(self, digest: str, skills: Sequence[str], node: Sequence[str]) -> Environment | None:
        """As a container has it; None when it is not built."""
        place = self.path(digest)
        return Environment(digest, place, tuple(skills), tuple(node)) if place is not None else None

    def notes(self, digest: str) -> JsonObject:
        """What was written down of a built one: {packages, bytes, seconds, log}. Blocks."""
        try:
            kept: JsonObject = json.loads((self._place() / f"{digest}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return kept

    def modules(self, digest: str) -> frozenset[str]:
        """What Python programs can import of it. Blocks: it lists a folder."""
        return frozenset(names_in(self._place() / digest / PYTHON)) - {"bin", "__pycache__"}

    async def build(self, digest: str, wanted: Wanted, on_line: OnLine) -> Path:
        """Make it, unless it is there; returns where it lies.

        Args:
            on_line: called with each line that uv and npm write.
        Raises: `BuildFailed` with the whole log.
        """
        there = self.path(digest)
        if there is not None:
            return there
        self._serial += 1
        id = f"environment-{os.getpid()}-{self._serial}"
        log: list[str] = []

        def heard(line: str) -> None:
            log.append(line)
            on_line(line)

        started = time.monotonic()
        tools = await asyncio.to_thread(self._tools)
        hosts = self.hosts(wanted)
        memory = next(tier for tier in reversed(MEMORY_TIERS) if _fits(tier, self._containers.max_memory))
        spec = ContainerSpec(id, (), memory, NetworkPolicy(hosts, tuple(_bare(host) for host in hosts)), (tools,))
        try:
            container = await self._containers.create(spec)
            try:
                await container.exec([f"mkdir -p {_MAKE}"])
                if wanted.python:
                    await container.put("requirements.txt", "".join(f"{line}\n" for line in wanted.python).encode())
                    await self._run(container.exec, _python_command(self._indexes.python), heard, log)
                if wanted.node:
                    listed = dict(wants.split(item) for item in wanted.node)
                    await container.put("package.json", json.dumps({"private": True, "dependencies": listed}).encode())
                    await self._run(container.exec, _node_command(self._indexes.node), heard, log)
            finally:
                await asyncio.shield(container.close(delete=False))
            kept = {"python": list(wanted.python), "node": list(wanted.node), "log": "\n".join(log)[-LOG_CHARS:]}
            return await asyncio.to_thread(self._take, container.data_dir / "env", digest, kept, started)
        except OSError as error:
            raise BuildFailed(f"The environment could not be kept: {error.strerror}.", log="\n".join(log)) from error
        finally:
            await asyncio.shield(self._containers.delete(id))

    async def _run(self, execute: Callable[..., Awaitable[Any]], command: str, heard: OnLine, log: list[str]) -> None:
        rest = ""

        def output(piece: Any) -> None:
            nonlocal rest
            *lines, rest = (rest + piece.text).split("\n")
            for line in lines:
                if line.strip():
                    heard(line.rstrip())

        settings = [f"{name}={value}" for name, value in _SETTINGS.items()]
        # A proxy is all that leads out, also to an index on this very machine.
        whole = f"unset no_proxy NO_PROXY; export {' '.join(settings)}; {command}"
        (result,) = await execute([whole], timeout_ms=TIMEOUT_MS, max_output_length=LOG_CHARS, on_output=output)
        if rest.strip():
            heard(rest.rstrip())
        if result.timed_out:
            raise BuildFailed(f"It took more than {TIMEOUT_MS // 60_000} minutes.", log="\n".join(log))
        if result.exit_code != 0:
            raise BuildFailed(wants.reason(log) or f"it ended with {result.exit_code}", log="\n".join(log))

    def _tools(self) -> Bind:
        """uv, where the containers' user can read it."""
        found = Path(uv.find_uv_bin())
        folder = self._place().parent / "tools"
        place = folder / "uv"
        if not place.exists() or place.stat().st_size != found.stat().st_size:
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
            begun = folder / f"{_BEGUN}{os.getpid()}"
            shutil.copyfile(found, begun)
            begun.chmod(0o755)
            begun.rename(place)
        return Bind(folder, _TOOLS)

    def _take(self, made: Path, digest: str, kept: JsonObject, started: float) -> Path:
        """Move what a container that has ended left behind to its place."""
        if not stat.S_ISDIR(os.lstat(made).st_mode):
            raise BuildFailed("The build left no environment.")
        place, begun = self._place() / digest, self._place() / f"{_BEGUN}{digest}"
        artifacts.delete_tree(begun)
        try:
            os.rename(made, begun)
        except OSError:  # another file system
            shutil.copytree(made, begun, symlinks=True)
        found = {
            **kept,
            "packages": _count(begun),
            "bytes": base_build.size(begun),
            "seconds": round(time.monotonic() - started, 1),
        }
        notes = self._place() / f"{digest}.json"
        notes.unlink(missing_ok=True)  # of a build that was killed before its folder had its name
        private.write(notes, json.dumps(found).encode())
        begun.chmod(0o755)
        begun.rename(place)
        return place

    async def collect(self, keep: Collection[str], unused_seconds: float) -> int:
        """Remove those not in `keep` that no container asked for in a while; returns how many."""

        def sweep() -> int:
            gone = 0
            for item in list(self._place().iterdir()):
                name = item.name.removesuffix(".json")
                if name.startswith(".") or name in keep:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    if item.is_dir() and item.stat().st_mtime <= time.time() - unused_seconds:
                        doomed = item.with_name(f"{_BEGUN}{name}")
                        item.rename(doomed)  # gone at once for whoever looks
                        artifacts.delete_tree(doomed)
                        item.with_name(f"{name}.json").unlink(missing_ok=True)
                        gone += 1
                    elif item.suffix == ".json" and not item.with_name(name).exists():
                        item.unlink()
            return gone

        return await asyncio.to_thread(sweep) if self.possible else 0


def _python_command(index: str) -> str:
    # One with a password in its address is not shown to what a package runs: then nothing of a package is run.
    only = " --only-binary :all:" if "@" in urlsplit(index).netloc else ""
    return (
        f"{_TOOLS}/uv pip install --python /run/bin/python3 --target {_MAKE}/{PYTHON} --link-mode hardlink"
        f" --compile-bytecode --default-index {_quoted(index)}{only} -r {WORKDIR}/requirements.txt 2>&1"
    )


def _node_command(index: str) -> str:
    folder = f"{_MAKE}/{Path(NODE).parent}"
    return (
        f"mkdir -p {folder} && mv {WORKDIR}/package.json {folder}/ && cd {folder} && "
        f"npm install --ignore-scripts --no-audit --no-fund --no-update-notifier --registry {_quoted(index)} 2>&1"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fits(tier: str, most: str) -> bool:
    return MEMORY_TIERS[tier] <= min(MEMORY_TIERS[most], MEMORY_TIERS["4g"])


def _bare(host: str) -> str:
    return host.partition(":")[0]


def _count(folder: Path) -> int:
    node = folder / NODE
    scoped = list(node.glob("[!.@]*")) + list(node.glob("@*/*"))
    return len(list((folder / PYTHON).glob("*.dist-info"))) + len(scoped)

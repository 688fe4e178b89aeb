"""All containers of one daemon: where they live, how many there are, what is left of them after a crash.

Each container is a directory `<root>/<id>` that only the daemon and the container's processes can enter. Ids that the
caller knows survive a restart (`reopen`); everything else is removed by `sweep`. One daemon at a time owns a root, by a
lock on `<root>/.lock` that the kernel drops when the daemon dies, however it dies; its sandboxes die with it.

A root daemon's containers belong to an unprivileged uid. When the root directory cannot be entered by that uid
(`/root` is 0700 on most systems) the containers live in /var/lib/skilldeck instead, and skill folders that cannot be
reached are copied beside the container.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Literal

from skilldeck_daemon.containers import artifacts
from skilldeck_daemon.containers.container import Container
from skilldeck_daemon.containers.errors import (
    ContainerError,
    ContainerGone,
    InvalidContainerRequest,
    SandboxUnavailable,
    TooManyContainers,
)
from skilldeck_daemon.containers.homes import (
    PROBE_ID,
    RootLock,
    base_for,
    discard,
    make_home,
    sweep_unfinished,
    within_reach,
)
from skilldeck_daemon.containers.network.indexes import Indexes
from skilldeck_daemon.containers.network.proxy import Proxy
from skilldeck_daemon.containers.network.reach import Reach
from skilldeck_daemon.containers.packages.bases import Bases, modules, packages_of
from skilldeck_daemon.containers.packages.layers import Base
from skilldeck_daemon.containers.sandbox import bwrap, diagnose, orphans
from skilldeck_daemon.containers.sandbox.cgroups import Cgroups
from skilldeck_daemon.containers.sandbox.inotify import Shares
from skilldeck_daemon.containers.sandbox.plain import PlainRuntime
from skilldeck_daemon.containers.sandbox.runtime import BwrapRuntime, Runtime
from skilldeck_daemon.containers.sandbox.watchdog import Monitor, Watchdog
from skilldeck_daemon.containers.spec import GIB, MEMORY_TIERS, ContainerSpec, Stats
from skilldeck_shared import private

log = logging.getLogger(__name__)

Sandbox = Literal["auto", "bwrap", "none"]


class Containers:
    """Makes, finds and deletes containers. `start` first, `close` last; everything on one event loop."""

    def __init__(
        self,
        root: Path,
        *,
        sandbox: Sandbox = "auto",
        max_memory: str = "4g",
        max_containers: int = 64,
        disk_floor_bytes: int = GIB,
        quota_bytes: int = 4 * GIB,
        allow_private_hosts: Collection[str] = (),
        ways: Collection[Path] = (),
        bases: Bases | None = None,
        indexes: Indexes = Indexes(),
    ) -> None:
        """
        Args:
            root: the directory for all containers; made when missing.
            sandbox: `auto` and `bwrap` isolate with bubblewrap or refuse to start; `none` runs commands as plain
                processes of this user, which is for machines whose owner trusts every skill and every model.
            max_memory: the largest `memory_limit` a container may ask for.
            max_containers: how many may be open at once.
            disk_floor_bytes: below this much free disk no call starts and running ones are stopped.
            quota_bytes: how much one container may keep in /mnt/data and its home directory.
            allow_private_hosts: names that an allowlist may reach although they resolve to private addresses.
            ways: private folders on the way to `root` and to skills, made when missing; a root daemon lets its
                containers' user, and no other, through them.
            bases: finds the packages that commands have; without it they have the bare interpreter.
            indexes: where packages come from.
        """
        if max_memory not in MEMORY_TIERS:
            raise InvalidContainerRequest(
                f"Unknown max_memory {max_memory!r}.",
                f"Use one of {', '.join(MEMORY_TIERS)}.",
                param="max_memory",
            )
        self.root = root
        self.base = root
        self.sandbox: Literal["bwrap", "none"] = "none" if sandbox == "none" else "bwrap"
        self.max_memory = max_memory
        self.max_containers = max_containers
        self.disk_floor_bytes = disk_floor_bytes
        self.quota_bytes = quota_bytes
        self.allow_private_hosts = frozenset(allow_private_hosts)
        self._ways = tuple(ways)
        self._bases = bases
        self.indexes = indexes
        self._listed: Base | None = None
        self.importable: frozenset[str] | None = None
        """What Python programs in a container can import beside the standard library, by the last look of `packages`;
        None before the first, and without a sandbox."""
        self.cgroups = Cgroups(None, "none")
        self.tools: bwrap.Tools | None = None
        self._inotify = Shares.of_host()
        self._open: dict[str, Container] = {}
        self._lock: RootLock | None = None
        self._watchdog: Watchdog | None = None
        self._serial = 0
        self._starts = 0  # of sandboxes, since this object was made
        self._restarts = 0  # of containers that are closed by now

    # -- life --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Checks that commands can be isolated, by isolating one, and takes the root.

        Raises: `SandboxUnavailable` whose hint names the command that mends it. Never falls back to less.
        """
        bwrap.raise_descriptor_limit()
        if self.sandbox == "bwrap":
            self.tools = bwrap.find_tools()
            await asyncio.to_thread(diagnose.check_version, self.tools.bwrap)
            self._open_ways()
            self.base = base_for(self.root)
            if self.base != self.root:
                log.info("the sandbox's user cannot enter %s; containers are kept in %s", self.root, self.base)
        else:
            log.warning(
                "sandbox is off (--sandbox none): the model's commands run as this user, with no isolation at all"
            )
        try:
            private.folder(self.base)
        except OSError as error:
            raise SandboxUnavailable(
                f"The containers' directory {self.base} cannot be made: {error.strerror}.",
                "Choose another one with --data-dir.",
            ) from error
        if self._owner is not None:
            bwrap.open_way(self.base, self._owner)
        self._lock = RootLock(self.base, own=self.base != self.root)
        try:
            await asyncio.to_thread(orphans.end, self.base)
            await asyncio.to_thread(sweep_unfinished, self.base)
            self.cgroups = await asyncio.to_thread(Cgroups.detect) if self.tools else self.cgroups
            self._watchdog = Watchdog(self.base, floor=self.disk_floor_bytes, quota=self.quota_bytes)
            if self.tools is not None:
                await self._probe_interpreters(self.tools)
                over = await asyncio.to_thread(packages_of, self.tools.python)
                self.tools = replace(self.tools, over=over)
                await self.packages()
        except BaseException:
            await self.close()
            raise

    def _open_ways(self) -> None:
        if self._owner is not None:
            for folder in self._ways:
                with contextlib.suppress(OSError):  # then containers live elsewhere, and skills are copied
                    if not folder.is_dir():
                        private.folder(folder)
                    bwrap.open_way(folder, self._owner)

    async def _probe_interpreters(self, tools: bwrap.Tools) -> None:
        """Probes with the interpreter found first, and with the system's when that one does not run inside (it may
        need libraries from elsewhere)."""
        try:
            await self.probe()
        except SandboxUnavailable as error:
            if self._inotify.instances and "inotify" in error.title:  # what cannot be limited is not there at all
                self._inotify = Shares()
                return await self._probe_interpreters(tools)
            system = bwrap.system_python()
            if tools.python.prefix is None or system is None:
                raise
            self.tools = replace(tools, python=system)
            await self.probe()
            log.info("%s does not run inside the sandbox; using %s", tools.python.executable, system.executable)

    async def probe(self) -> float:
        """Starts a container exactly as a real one, runs `true` in it, removes it. Returns the seconds it took."""
        started = time.monotonic()
        home = await asyncio.to_thread(make_home, self.base / f".{PROBE_ID}-{os.urandom(4).hex()}", self._owner)
        spec = ContainerSpec(PROBE_ID, base=False)
        try:
            runtime = await self._launch(spec, home, None, None)
            reader, writer = os.pipe()
            try:
                job = runtime.run("true", writer, writer)
                done, _ = await asyncio.wait({job.exited}, timeout=10)
                if not done or job.exited.result() != 0:
                    raise SandboxUnavailable("The sandbox starts but cannot run a command.")
            finally:
                os.close(reader)
                os.close(writer)
                await runtime.stop()
        except SandboxUnavailable as error:
            raise diagnose.explain(error) from error
        finally:
            await asyncio.to_thread(artifacts.delete_tree, home)
        return time.monotonic() - started

    async def packages(self) -> Base | None:
        """The base that the next container gets. Raises `SandboxUnavailable` when the one asked for cannot be used."""
        base = None
        if self._bases is not None:
            base = await asyncio.to_thread(self._bases.current, self.tools.uid if self.tools else os.geteuid())
        if self.tools is not None and (self.importable is None or base != self._listed):
            self.importable = await asyncio.to_thread(modules, base, self.tools.python)
            self._listed = base
        return base

    async def close(self) -> None:
        """Ends all sandboxes. Data directories stay for the next start."""
        await asyncio.gather(*(container.close(delete=False) for container in list(self._open.values())))
        if self._watchdog is not None:
            await self._watchdog.close()
            self._watchdog = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # -- containers --------------------------------------------------------------------------------------

    async def create(self, spec: ContainerSpec) -> Container:
        """A new, empty container with its sandbox running.

        Raises: `InvalidContainerRequest` (memory tier, domains, a missing skill folder, an id in use),
        `TooManyContainers`, `SandboxUnavailable`.
        """
        self._check(spec)
        if self.exists(spec.id):
            raise InvalidContainerRequest(f"Container {spec.id!r} exists already.", param="id")
        container = await self._enter(spec)
        try:
            await container.ensure_running()
        except BaseException:
            await container.close()
            raise
        return container

    def get(self, container_id: str) -> Container | None:
        """The open container with this id."""
        return self._open.get(container_id)

    async def reopen(self, spec: ContainerSpec) -> Container:
        """The container with this id: the open one, or one whose data outlived an earlier daemon.

        Its sandbox starts with the first command. Raises `ContainerGone` when there is no data, and as `create`.
        """
        container = self._open.get(spec.id)
        if container is not None:
            return container
        if not self.exists(spec.id):
            raise ContainerGone(f"Container {spec.id!r} has been deleted or has expired.", "Create a new container.")
        self._check(spec)
        return await self._enter(spec)

    def exists(self, container_id: str) -> bool:
        """Whether there is data under this id, open or not."""
        return container_id in self._open or (self.base / container_id / "data").is_dir()

    async def delete(self, container_id: str) -> bool:
        """Ends the container and removes its data; returns whether there was one."""
        container = self._open.get(container_id)
        if container is not None:
            await container.close()
            return True
        if not self.exists(container_id):
            return False
        await asyncio.to_thread(discard, self.base / container_id)
        return True

    async def sweep(self, keep: Collection[str]) -> list[str]:
        """Removes every container that is neither open nor in `keep`. Returns the ids removed."""
        keep = set(keep)

        def remove() -> list[str]:
            gone = []
            for item in sorted(self.base.iterdir()):
                if item.name.startswith(".") or item.name in keep or item.name in self._open:
                    continue
                discard(item)
                gone.append(item.name)
            return gone

        return await asyncio.to_thread(remove)

    @property
    def full(self) -> bool:
        """Whether `max_containers` are open."""
        return len(self._open) >= self.max_containers

    def stats(self) -> Stats:
        """Numbers for /metrics and `doctor`."""
        containers = list(self._open.values())
        return {
            "sandbox": self.sandbox,
            "cgroup": self.cgroups.mode,
            "open": len(containers),
            "running": sum(container.running for container in containers),
            "busy": sum(container.busy for container in containers),
            "starts": self._starts,
            "restarts": self._restarts + sum(container.restarts for container in containers),
            "max_containers": self.max_containers,
            "max_memory": self.max_memory,
            "disk_free_bytes": self._watchdog.free() if self._watchdog else 0,
        }

    # -- inside ------------------------------------------------------------------------------------------

    @property
    def _owner(self) -> int | None:
        """The uid that container files get, None when it is our own."""
        return self.tools.uid if self.tools is not None and self.tools.setpriv is not None else None

    def validate(self, spec: ContainerSpec) -> None:
        """Raises `InvalidContainerRequest` for what no container may have here: memory, domains."""
        if spec.memory_bytes > MEMORY_TIERS[self.max_memory]:
            raise InvalidContainerRequest(
                f"memory_limit {spec.memory_limit} is above this daemon's maximum of {self.max_memory}.",
                f"Ask for {self.max_memory} or less, or raise the daemon's maximum.",
                param="memory_limit",
            )
        Proxy.check(spec.network.allowed_domains, spec.network.secrets)
        if spec.network.secrets and self.sandbox == "none":
            raise InvalidContainerRequest(
                "Without a sandbox there is no proxy that could put secrets in.",
                "Leave them out, or run the daemon with a sandbox.",
                param="network_policy.domain_secrets",
            )

    def _check(self, spec: ContainerSpec) -> None:
        if self._watchdog is None:
            raise ContainerError("The containers have not been started.")
        self.validate(spec)
        for mount in spec.mounts:
            if not mount.path.is_dir():
                raise InvalidContainerRequest(
                    f"The folder of skill {mount.name!r} does not exist: {mount.path}.", param="skills"
                )
        if self.full:
            raise TooManyContainers(
                f"{self.max_containers} containers are open already.",
                "Delete one, wait for one to expire, or raise the daemon's max_containers.",
            )

    async def _enter(self, spec: ContainerSpec) -> Container:
        assert self._watchdog is not None
        home = self.base / spec.id
        monitor = self._watchdog.monitor(spec, home / "data")
        proxies: list[Proxy] = []
        reach = Reach(bool(spec.network.allowed_domains), self.indexes, limited=self.sandbox == "bwrap")

        async def launch() -> Runtime:
            for proxy in proxies:
                await proxy.close()
            proxies.clear()
            if monitor.group is not None:
                await asyncio.to_thread(monitor.group.remove)
                monitor.group = None
            if spec.network.allowed_domains and self.sandbox == "bwrap":
                private = self.allow_private_hosts | set(spec.network.private)
                network = spec.network
                proxies.append(
                    Proxy(network.allowed_domains, private=private, secrets=network.secrets, refused=reach.refused.add)
                )
            self._starts += 1
            return await self._launch(spec, home, monitor, proxies[0] if proxies else None)

        async def closed(container: Container, delete: bool) -> None:
            for proxy in proxies:
                await proxy.close()
            if monitor.group is not None:
                await asyncio.to_thread(monitor.group.remove)
            try:
                if delete:
                    await asyncio.to_thread(discard, home)
            finally:
                self._open.pop(spec.id, None)
                self._restarts += container.restarts

        container = Container(spec, home, start=launch, watch=monitor, owner=self._owner, reach=reach, on_closed=closed)
        self._open[spec.id] = container
        try:
            await asyncio.to_thread(make_home, home, self._owner)
        except BaseException:
            del self._open[spec.id]
            raise
        return container

    async def _launch(self, spec: ContainerSpec, home: Path, monitor: Monitor | None, proxy: Proxy | None) -> Runtime:
        mounts = [(mount.name, mount.path) for mount in spec.mounts]
        # A command may have locked its own directories.
        (home / "data").chmod(0o755)
        (home / "home").chmod(0o700)
        base = await self.packages() if spec.base else None
        if self.tools is None:
            plain = PlainRuntime(home / "data", mounts, base)
            await plain.start()
            return plain
        if self._owner is not None:
            mounts = await asyncio.to_thread(within_reach, mounts, home / "skills", self.tools.uid)
        self._serial += 1
        name = f"{os.getpid()}-{self._serial}-{spec.id}"[:100]
        watching = self._inotify.next()
        trusted = b""
        if spec.network.secrets:
            # What makes certificates: no start needs it.
            from skilldeck_daemon.containers.network.intercept import authority

            trusted = authority().bundle()
        runtime = BwrapRuntime(
            replace(self.tools, base=base, indexes=self.indexes),
            spec,
            home / "data",
            mounts,
            hide_memory=self.cgroups.mode == "none",
            wrap=self.cgroups.wrap(name, spec.memory_bytes),
            trusted=trusted,
            watching=watching,
            on_listener=proxy.serve if proxy is not None else None,
        )
        self._inotify.hold(runtime, watching)
        await runtime.start()
        try:
            if monitor is not None:
                monitor.group = await asyncio.to_thread(self.cgroups.limit, name, spec.memory_bytes, runtime.first_pids)
        except BaseException:
            await runtime.stop()
            raise
        return runtime

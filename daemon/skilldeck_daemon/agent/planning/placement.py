"""Where a run's hosted calls are executed: in the container a request names, the one its history used, or a new one.

Nothing is made here: a new container is a record until a call asks for it (`tools/context.py`). What the request names
and is not there is an error that names the field.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from skilldeck_daemon.attachments.gather import Sources, from_file_id
from skilldeck_daemon.attachments.listing import Attachment, Attachments
from skilldeck_daemon.containers import WORKDIR, ContainerGone
from skilldeck_daemon.containers.errors import InvalidContainerRequest, SandboxUnavailable
from skilldeck_daemon.containers.packages.bases import programs
from skilldeck_daemon.libraries.containers.environments import Environments
from skilldeck_daemon.libraries.containers.mounted import Mounted, numbered
from skilldeck_daemon.libraries.containers.secrets import names_of
from skilldeck_daemon.store.records import StoredContainer
from skilldeck_daemon.tools.base import Tool
from skilldeck_daemon.tools.code_interpreter import Place, place_of
from skilldeck_daemon.tools.context import Placement, Surroundings
from skilldeck_daemon.tools.products import hidden
from skilldeck_daemon.wire.environment import EnvironmentSpec, Preloads
from skilldeck_daemon.wire.item_kinds import Item, container_of
from skilldeck_shared.errors import NotFound


def hosted_auto(tools: Sequence[Tool]) -> bool:
    """Whether the request is given a container of its own, which may have further skills."""
    where = _commands_run(tools)
    return where is not None and where.kind == "container_auto"


def preload_of(tools: Sequence[Tool]) -> Preloads | None:
    """Which instructions the request itself wants to be opened for the model; None where it does not say."""
    where = _commands_run(tools)
    return where.skills_preload if where is not None else None


def _commands_run(tools: Sequence[Tool]) -> EnvironmentSpec | None:
    """Where the request's commands run, on its client's machine too."""
    return next((tool.where() for tool in tools if tool.runs == "commands"), None)


@dataclass(frozen=True)
class Placer:
    """Places one run. Beside the skills of the request's environment it is given `mounts` and `disk`, those on disk
    that it asks for; `attachments` learn their paths in the container."""

    run_id: str
    environments: Environments
    sources: Sources
    attachments: Attachments
    mounts: tuple[Mounted, ...] = ()
    disk: tuple[Mounted, ...] = ()

    async def place(self, tools: Sequence[Tool], history: Sequence[Item]) -> Placement:
        """Raises NotFound, BadRequest naming the field, or why commands cannot be isolated on this machine."""
        attached = self.attachments.files
        commands = _commands_run(tools)
        shown = "" if commands is None else "local" if commands.kind == "local" else "hosted"
        place = place_of(tools)
        skills: tuple[tuple[str, str], ...] = ()
        if commands is not None and shown == "local":
            own = commands.skills
            skills = tuple((skill["name"], f"{skill['description']} ({skill['path']})") for _, skill in own)
        if place is None:
            names = tuple(attachment.name for attachment in attached.values())
            return Placement(Surroundings(shown, skills, names)) if shown else Placement()
        if self.environments.unavailable is not None:
            raise self.environments.unavailable
        self.attachments.add_texts()
        for param, file_id in place.files:
            self.attachments.remember(("", param, file_id), await from_file_id(file_id, self.sources, param))
        record, new = await self._record(place, history)
        mounted = tuple(map(Mounted.of, record["mounts"]))
        present = set() if new else await self._present(record["id"])
        for attachment in attached.values():
            attachment.path = f"{WORKDIR}/{attachment.name}"
        for attachment in attached.values():
            beside = self.attachments.text_of(attachment)
            attachment.text_path = beside.path if beside is not None else ""
        names = tuple(attachment.name for attachment in attached.values())
        if shown == "hosted":
            skills = tuple((mount.name, mount.description) for mount in mounted)
        python = any(tool.runs == "python" for tool in tools)
        hosts = tuple(record["network_policy"].get("allowed_domains", ()))
        files = (*sorted(present - set(names)), *names)
        around = Surroundings(shown, skills, files, python, hosts, await self._programs())
        if not new:
            return Placement(around, record["id"], mounted)
        return Placement(around, record["id"], mounted, record, tuple(attached.values()))

    async def _programs(self) -> tuple[str, ...]:
        """What runs scripts in the container; () where that is not known."""
        containers = self.environments.containers
        with contextlib.suppress(SandboxUnavailable):  # its start says so
            await containers.packages()
        found = containers.importable
        return () if found is None else await asyncio.to_thread(programs, found)

    async def _record(self, place: Place, history: Sequence[Item]) -> tuple[StoredContainer, bool]:
        """The container's record, and whether it is one that does not exist yet."""
        spec = place.spec
        if spec.kind == "container_reference":
            try:
                await self.environments.open(spec.container_id)
                return await self.environments.record(spec.container_id), False
            except (ContainerGone, NotFound) as error:
                error.param = place.param
                raise
        mounts = [*await self.environments.resolve(spec.skills), *self.mounts]
        named = {mount.name for mount in mounts}  # what the request brings itself hides what lies on disk
        mounts = numbered([*mounts, *(mount for mount in self.disk if mount.name not in named)])
        used = next((id for item in reversed(history) if (id := container_of(item))), "")
        earlier = await self.sources.store.containers.get(used) if used else None
        if earlier is not None and earlier["status"] == "running":
            fitting = await self._fitting(earlier, spec, mounts)
            if fitting is not None:
                if spec.secrets:
                    self.environments.renew(fitting["id"], spec.secrets)
                return fitting, False
        record = self.environments.new_record(
            f"auto-{self.run_id}", mounts, spec.memory_limit, spec.allowed_domains, secrets=spec.secrets
        )
        try:
            self.environments.validate(record)  # now, not when the model makes its first call
        except InvalidContainerRequest as error:
            self.environments.give_up(record)
            error.param = f"{place.param.removesuffix('.container_id')}.{error.param}"
            raise
        return record, True

    async def _fitting(
        self, record: StoredContainer, spec: EnvironmentSpec, mounts: list[Mounted]
    ) -> StoredContainer | None:
        """The container's record when it has what is asked for: the same skills, memory and network.

        Skills from disk that the conversation came to mention later are added to the container it has.
        """
        domains = tuple(record["network_policy"].get("allowed_domains", ()))
        if (record["memory_limit"], domains) != (spec.memory_limit, spec.allowed_domains):
            return None
        if record.get("secrets", []) != names_of(spec.secrets):
            return None
        had = [Mounted.of(mount) for mount in record["mounts"]]
        if had == mounts:
            return record
        places = {mount.path for mount in had}
        added = [mount for mount in mounts if mount.path not in places]
        local = {mount.path for mount in (*self.mounts, *self.disk)}
        # Descriptions may change where they lie: the folder is what counts.
        kept = [(mount.name, mount.path) for mount in mounts if mount.path in places]
        if kept != [(mount.name, mount.path) for mount in had] or any(mount.path not in local for mount in added):
            return None
        return await self.environments.remount(record, mounts, reopen=bool(added))

    async def _present(self, container_id: str) -> set[str]:
        """Which files a container that exists holds; the request's other files are named apart from those."""
        there = await self.environments.files.sync(container_id)
        names = {file["path"].removeprefix(WORKDIR + "/") for file in there}
        by_key = {file["key"]: file["path"].removeprefix(WORKDIR + "/") for file in there if file.get("key")}
        for attachment in self.attachments.files.values():
            if attachment.key in by_key:
                attachment.name = by_key[attachment.key]
                continue
            attachment.name = await self._add(container_id, attachment)
            names.add(attachment.name)
        return {name for name in names if not hidden(name)}

    async def _add(self, container_id: str, attachment: Attachment) -> str:
        file = await self.environments.files.add(
            container_id, attachment.name, attachment.source, "user", attachment.key
        )
        return str(file["path"]).removeprefix(WORKDIR + "/")

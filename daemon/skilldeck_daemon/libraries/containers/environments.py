"""Containers as clients see them: names, status, expiry, cfile ids; the sandboxes themselves are `containers/`.

A container's record and its data survive a restart of the daemon. Idle for its time (20 minutes unless asked
otherwise) it expires: the record stays, the data is gone. Any operation counts as use. More containers may exist than
sandboxes may be open: the one idle longest is parked (its data stays) and opened again when it is used.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from weakref import WeakValueDictionary

from skilldeck_daemon.containers import Container, Containers, ContainerSpec
from skilldeck_daemon.containers.errors import ContainerGone, SandboxUnavailable
from skilldeck_daemon.containers.spec import Secret
from skilldeck_daemon.libraries.bus import Bus
from skilldeck_daemon.libraries.containers.container_files import ContainerFiles
from skilldeck_daemon.libraries.containers.mounted import Mounted, Mounts, numbered, spec_of
from skilldeck_daemon.libraries.containers.prewarm import EarlySandboxes
from skilldeck_daemon.libraries.containers.secrets import Secrets, names_of
from skilldeck_daemon.libraries.files import FileLibrary
from skilldeck_daemon.libraries.skill_environments import SkillEnvironments
from skilldeck_daemon.libraries.skills import SkillLibrary
from skilldeck_daemon.store import Page, Store
from skilldeck_daemon.store.ids import new_id, steady
from skilldeck_daemon.store.records import (
    ContainerObject,
    Deleted,
    StoredContainer,
    public_container,
)
from skilldeck_daemon.wire.environment import container_contents, idle_minutes, shown_policy
from skilldeck_daemon.wire.fields import Fields
from skilldeck_shared.errors import NotFound, Unavailable
from skilldeck_shared.json_types import JsonObject

log = logging.getLogger(__name__)

Ids = list[str]
EXPIRES_MINUTES = 20
ORPHANED_SECONDS = 3600
PAGE = 100
TOUCH_SECONDS = 15
"""How stale a stored last_active_at may be."""


class ContainerElsewhere(Unavailable):
    """The container is where another daemon runs."""

    code = "container_elsewhere"


class Environments:
    """See the module. `files`: those inside. `unavailable` holds the reason when commands cannot be isolated here."""

    def __init__(
        self,
        containers: Containers,
        store: Store,
        skills: SkillLibrary,
        files: FileLibrary,
        bus: Bus,
        packages: SkillEnvironments,
    ) -> None:
        self.containers = containers
        self.packages = packages
        self.early = EarlySandboxes(containers)
        self.unavailable: SandboxUnavailable | None = None
        self._store = store
        self._skills = skills
        self.files = ContainerFiles(store, files, self.open)
        self._bus = bus
        # A lock lives while somebody holds it or waits for it: containers come and go without end.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._home = ""
        self._secrets = Secrets()
        self._opened: set[str] = set()  # may hold ids that were closed since the last `_park`

    # -- life

    async def start(self, home: str = "") -> None:
        """Open the sandboxes' root; drop data that no living record names.

        Args:
            home: names this data directory where several daemons share the records; a container stays in its home.
        """
        self._home = home
        try:
            await self.containers.start()
        except SandboxUnavailable as error:
            self.unavailable = error
            return
        await self.packages.start()
        await self.expire()
        mine = [record["id"] async for record in self._running() if record.get("home", "") == home]
        await self.containers.sweep(mine)

    async def close(self) -> None:
        await self.packages.close()
        await self.early.close()
        await self.containers.close()

    async def expire(self) -> Ids:
        """Expire what was idle too long; returns the ids."""
        expired = []
        async for record in self._running():
            container = self.containers.get(record["id"])
            if container is not None and container.busy:
                continue
            if record.get("home", "") != self._home:
                # Its own daemon does this; when that is gone for good the record is all that is left.
                record = {**record, "last_active_at": record["last_active_at"] + ORPHANED_SECONDS}
            active = max(record["last_active_at"], container.last_active if container else 0)
            if active + record["expires_after"]["minutes"] * 60 <= steady():
                await self.containers.delete(record["id"])
                self._secrets.forget(record["id"])
                await self._save({**record, "status": "expired"})
                expired.append(record["id"])
        return expired

    async def _running(self) -> AsyncIterator[StoredContainer]:
        """Every record that says so, a page in memory at a time: busy daemons have thousands."""
        after, more = "", True
        while more:
            page = await self._store.containers.list(PAGE, "asc", after, status="running")
            more = page.has_more and bool(page.data)
            for record in page.data:
                yield record
                after = record["id"]

    # -- records

    async def create(self, body: JsonObject) -> ContainerObject:
        """POST /containers."""
        fields = Fields(body)
        name = fields.needed("name", maximum=256)
        contents = container_contents(fields)
        minutes = idle_minutes(fields) or EXPIRES_MINUTES
        mounts = await self.resolve(contents.skills)
        sources = [await self.files.source(id, f"file_ids[{index}]") for index, id in enumerate(contents.file_ids)]
        record = self.new_record(
            name, mounts, contents.memory_limit, contents.allowed_domains, minutes, secrets=contents.secrets
        )
        await self.open_new(record)
        try:
            for source in sources:
                await self.files.add(record["id"], source[0], source[1], "user")
        except BaseException:
            await self.delete(record["id"])
            raise
        return public_container(record)

    def validate(self, record: StoredContainer) -> None:
        """Whether a container may be made of a record: raises `InvalidContainerRequest` naming its field."""
        self.containers.validate(self._spec(record))

    def new_record(
        self,
        name: str,
        mounts: Sequence[Mounted],
        memory: str,
        domains: Sequence[str],
        minutes: int = EXPIRES_MINUTES,
        *,
        secrets: Sequence[Secret] = (),
    ) -> StoredContainer:
        """A container's record before it exists. Secrets' values are not in it."""
        now = int(time.time())
        id = new_id("cntr")
        if secrets:
            self._secrets.keep(id, secrets)
        record: StoredContainer = {
            "id": id,
            "object": "container",
            "created_at": now,
            "status": "running",
            "expires_after": {"anchor": "last_active_at", "minutes": minutes},
            "last_active_at": now,
            "memory_limit": memory,
            "name": name,
            "network_policy": shown_policy(domains),
            "mounts": [mount.kept() for mount in mounts],
        }
        if secrets:
            record["secrets"] = names_of(secrets)
        if self._home:
            record["home"] = self._home
        return record

    def renew(self, id: str, secrets: Sequence[Secret]) -> None:
        """The values that a container's secrets have from now on."""
        self._secrets.keep(id, secrets)

    def give_up(self, record: StoredContainer) -> None:
        """A record that will not become a container."""
        self._secrets.forget(record["id"])

    def begin(self, record: StoredContainer) -> None:
        """Start the sandbox of a new record ahead, while there is room: `open_new` takes it, or `early` gives it up."""
        if self.unavailable is None:
            self.early.begin(self._spec(record))

    async def open_new(self, record: StoredContainer) -> Container:
        """Make the container of a new record, unless it was begun, then store the record."""
        self._available()
        container = await self.early.take(record["id"])
        if container is None:
            await self._park()
            container = await self.containers.create(self._spec(record))
        self._opened.add(record["id"])
        saving = asyncio.ensure_future(self._save(record))
        try:
            await asyncio.shield(saving)
        except BaseException:
            # A cancellation may come when the row is already written: the container is made whole or not at all.
            await asyncio.wait([saving])
            if saving.exception() is not None:
                await container.close()
            raise
        return container

    async def get(self, id: str) -> ContainerObject:
        """The container object; counts as use."""
        record = await self.record(id)
        return public_container(await self._touch(record) if record["status"] == "running" else record)

    async def list(
        self, limit: int = 20, order: str = "desc", after: str = "", name: str | None = None
    ) -> Page[ContainerObject]:
        page = await self._store.containers.list(limit, order, after, name=name)
        return page.map(public_container)

    async def delete(self, id: str) -> Deleted:
        await self.record(id)
        await self.containers.delete(id)
        self._secrets.forget(id)
        await self._store.containers.delete(id)
        self._bus.publish("container", "delete", id, None)
        return {"id": id, "object": "container.deleted", "deleted": True}

    async def record(self, id: str) -> StoredContainer:
        """The stored record, with what stays inside."""
        record = await self._store.containers.get(id)
        if record is None:
            raise NotFound(f"No container {id[:100]!r}.", param="container_id")
        return record

    async def open(self, id: str) -> Container:
        """The live container; raises ContainerGone when it expired."""
        self._available()
        record = await self.record(id)
        if record["status"] != "running":
            raise ContainerGone(f"Container {id!r} has expired: its data is gone.", "Create a new container.")
        if record.get("home", "") != self._home:
            raise ContainerElsewhere(
                f"Container {id!r} is on another daemon of this store.",
                "Send all requests that use one container to one daemon (session affinity), or create a new one.",
            )
        async with self._locks.setdefault(id, asyncio.Lock()):
            container = self.containers.get(id)
            spec = self._spec(record)
            if container is not None and not container.busy and container.spec != spec:
                # What its skills need was built meanwhile, or a secret has another value.
                await container.close(delete=False)
                container = None
            if container is None:
                await self._park()
                try:
                    container = await self.containers.reopen(spec)
                    self._opened.add(id)
                except ContainerGone:
                    await self._save({**record, "status": "expired"})
                    raise
        await self._touch(record)
        return container

    async def remount(
        self, record: StoredContainer, mounts: Sequence[Mounted], *, reopen: bool
    ) -> StoredContainer | None:
        """Give a container further skills: it is opened anew with them at its next use, its data stays.

        Returns its record, or None when it is in use and has to be left as it is.
        """
        id = record["id"]
        async with self._locks.setdefault(id, asyncio.Lock()):
            container = self.containers.get(id) if reopen else None
            if container is not None:
                if container.busy:
                    return None
                self._opened.discard(id)
                await container.close(delete=False)
            record = {**record, "mounts": [mount.kept() for mount in mounts]}
            await self._save(record)
        return record

    async def _park(self) -> None:
        """Make room for one more sandbox: those no call asked for end, then those idle longest, whose data stays."""
        await self.early.make_room()
        known = {id: found for id in self._opened if (found := self.containers.get(id)) is not None}
        self._opened = set(known)
        if not self.containers.full:
            return
        idle = [container for container in known.values() if not container.busy]
        surplus = self.containers.stats()["open"] - self.containers.max_containers + 1
        for container in sorted(idle, key=lambda entry: entry.last_active)[:surplus]:
            self._opened.discard(container.spec.id)
            await container.close(delete=False)

    def _spec(self, record: StoredContainer) -> ContainerSpec:
        return spec_of(record, self.packages, self._secrets.of(record["id"]))

    def _available(self) -> None:
        if self.unavailable is not None:
            raise self.unavailable

    async def _touch(self, record: StoredContainer) -> StoredContainer:
        now = int(time.time())
        if now - record["last_active_at"] >= TOUCH_SECONDS:
            record = {**record, "last_active_at": now}
            await self._save(record)
        return record

    async def _save(self, record: StoredContainer) -> None:
        await self._store.containers.put(record)
        self._bus.publish("container", "put", record["id"], public_container(record))

    # -- skills to put in

    async def resolve(self, skills: Sequence[tuple[str, JsonObject]]) -> Mounts:
        """Skill references and inline skills, each with the path it stood at; a second of one name gets `-2`."""
        mounts: Mounts = []
        for path, reference in skills:
            found = await self._skills.resolve(reference, path)
            mounts.append(
                Mounted(
                    found.name,
                    found.description,
                    str(found.path),
                    found.skill_id,
                    str(found.version),
                    found.needs.kept() if found.needs else {},
                )
            )
        return numbered(mounts)

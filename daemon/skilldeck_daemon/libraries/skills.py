"""The skills of the daemon: uploads become versions, references become folders a container can mount.

Takes and returns the Skill and SkillVersion objects of the wire, with four fields more (`digest`, `source`, `watched`,
`warnings`). A method that returns has stored its result durably; one that raises has changed nothing. Inflating and
hashing happen in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from skilldeck_daemon.containers import Containers, SandboxUnavailable
from skilldeck_daemon.libraries.bus import Bus
from skilldeck_daemon.libraries.records import EnvironmentAccount, SkillObject, VersionObject
from skilldeck_daemon.libraries.skill_environments import SkillEnvironments
from skilldeck_daemon.libraries.skill_objects import (
    Sandbox,
    needs_of,
    new_version,
    read_late,
    skill_object,
    version_object,
)
from skilldeck_daemon.libraries.skill_objects import entries as entries_of
from skilldeck_daemon.libraries.skill_results import (
    Content,
    ResolvedSkill,
    Uploaded,
    named_number,
    no_skill,
    no_version,
    read_chunks,
    version_number,
)
from skilldeck_daemon.skills.archive import zip_chunks
from skilldeck_daemon.skills.inline import inline_data, read_inline
from skilldeck_daemon.skills.mounts import MountCache
from skilldeck_daemon.skills.needs import read_needs
from skilldeck_daemon.skills.reader import Bundle, Reading, UploadPart, read_partial, read_upload
from skilldeck_daemon.store import Page, Store
from skilldeck_daemon.store.blobs import SHA256
from skilldeck_daemon.store.records import Deleted, DeletedVersion, FileEntry, NewVersion, SkillRow, VersionRow
from skilldeck_daemon.store.tables.skills import DefaultVersionInUse
from skilldeck_daemon.wire.caller import CLIENT, TESTS
from skilldeck_shared.errors import BadRequest, Conflict, NotFound
from skilldeck_shared.json_types import JsonObject
from skilldeck_shared.skills.bundle import BundleError, Entry

# Inside the class `list` is a method.
Files = list[FileEntry]
Names = list[str]


class SkillLibrary:
    """Everything the surfaces do with skills."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        mounts: MountCache,
        watched_versions: int = 50,
        containers: Containers | None = None,
        environments: SkillEnvironments | None = None,
    ) -> None:
        """
        Args:
            watched_versions: how many versions made by watching a folder a skill keeps (see `prune`).
            containers: know what programs find there; what a skill imports beyond is a warning of it.
            environments: bring what skills say they need.
        """
        self._store = store
        self._bus = bus
        self._mounts = mounts
        self._watched_versions = watched_versions
        self._containers = containers
        self._environments = environments
        if environments is not None:
            environments.changed = self._environment_changed
        self._awaiting: dict[str, set[str]] = {}  # skills by the environment their latest version has
        self._telling: set[asyncio.Task[None]] = set()
        # Uploads by name decide by what is there: one at a time, or two saves would make two skills.
        self._by_name = asyncio.Lock()

    # Uploading

    async def create(self, parts: list[UploadPart], *, source: str = "") -> SkillObject:
        """A new skill from an upload. Raises `BadRequest` naming file, line and fix."""
        async with self._store.blobs.staging() as staging:
            bundle = await asyncio.to_thread(read_upload, parts, staging)
            version = await self._new_version(bundle, "upload", source, False)
            await self._keep(bundle)
        row, _ = await self._store.skills.create(version)
        await self._made(version)
        return self._published(row)

    async def add_version(
        self, skill_id: str, parts: list[UploadPart], *, default: bool = False, source: str = ""
    ) -> VersionObject:
        """The next version of a skill; the default stays unless `default`."""
        await self._row(skill_id)
        async with self._store.blobs.staging() as staging:
            bundle = await asyncio.to_thread(read_upload, parts, staging)
            new = await self._new_version(bundle, "upload", source, False)
            await self._keep(bundle)
        _, version = await self._add(skill_id, new, default)
        await self._made(new)
        return self._version_object(version)

    async def upload(
        self,
        parts: list[UploadPart],
        *,
        skill_id: str = "",
        by_name: bool = False,
        make_default: bool = False,
        digest: str = "",
        source: str = "",
        watched: bool = False,
        origin: str = "upload",
        listed: Sequence[Entry] = (),
    ) -> Uploaded:
        """What the control socket uploads: a new skill, a version of one, or by the name in SKILL.md whichever fits.

        Args:
            skill_id: add a version to this skill.
            by_name: without `skill_id`, add to the newest skill of that name when there is one.
            make_default: the version serves from now on when none is named.
            digest: what the client scanned; a difference means that the upload was damaged or changed on the way.
            source: where it came from, for display.
            watched: made by watching a folder; all but the newest `watched_versions` such are pruned (see `prune`).
            origin: "upload" or "install".
            listed: all files of the skill, when the one part is a zip with those that were not here (`missing`).
        """
        async with self._by_name, self._store.blobs.staging() as staging:
            # Folders of a disk, perhaps made for other clients. Whoever watches one writes it and sees its mistakes.
            reading = Reading(lenient=not watched, any_length=True)
            if listed:
                bundle = await asyncio.to_thread(
                    read_partial, parts[0], staging, listed, self._store.blobs.found, reading
                )
            else:
                bundle = await asyncio.to_thread(read_upload, parts, staging, reading)
            if digest and digest != bundle.digest:
                raise BundleError(
                    "The upload is not what was scanned.", "Scan the folder again.", code="changed_while_reading"
                )
            existing = None
            if skill_id:
                existing = await self._row(skill_id)
            elif by_name:
                existing = await self._store.skills.by_name(bundle.manifest.name)
            if existing is not None and existing["latest"]["digest"] == bundle.digest:
                if make_default and existing["default_version"] != existing["latest_version"]:
                    await self.set_default(existing["id"], existing["latest_version"])
                    existing = await self._row(existing["id"])
                if origin == "install" and existing["latest"]["source"] != source:  # updates come from there now
                    await self._store.skills.came_from(existing["latest"], source, origin)
                    existing = await self._row(existing["id"])
                    self._published(existing)
                return Uploaded(self._skill_object(existing), self._version_object(existing["latest"]), True)
            new = await self._new_version(bundle, "watch" if watched else origin, source, watched)
            await self._keep(bundle)
            if existing is None:
                row, version = await self._store.skills.create(new)
                await self._made(new)
                return Uploaded(self._published(row), self._version_object(version), False)
            row, version = await self._add(existing["id"], new, make_default)
            await self._made(new)
            if watched and await self.prune(existing["id"], self._watched_versions):
                row = await self._row(existing["id"])
            return Uploaded(self._skill_object(row), self._version_object(version), False)

    async def catch_up(self) -> None:
        """Read what versions that earlier releases stored import and need."""
        while rows := await self._store.skills.unread():
            for row in rows:
                await read_late(self._store, row)
            for skill_id in {row["skill_id"] for row in rows}:
                with contextlib.suppress(NotFound):  # deleted meanwhile
                    self._published(await self._row(skill_id))

    async def missing(self, hashes: Sequence[str]) -> Names:
        """Of these SHA-256s, those whose content an upload has to bring. Raises BadRequest for what is none."""
        for sha in hashes:
            if not SHA256.fullmatch(sha):
                raise BadRequest(f"{sha[:80]!r} is no SHA-256.", "Send 64 hexadecimal digits.", param="sha256")
        return await self._store.blobs.missing(hashes)

    async def _new_version(self, bundle: Bundle, origin: str, source: str, watched: bool) -> NewVersion:
        """To be made before the bundle is kept, which moves its files."""
        if self._containers is not None:
            with contextlib.suppress(SandboxUnavailable):  # then there is nothing to compare imports with
                await self._containers.packages()
        return await asyncio.to_thread(new_version, bundle, origin, source, watched)

    def _skill_object(self, row: SkillRow) -> SkillObject:
        digest = self._environments.digest(needs_of(row["latest"])) if self._environments is not None else None
        if digest is not None:
            self._awaiting.setdefault(digest, set()).add(row["id"])
        return skill_object(row, self._sandbox)

    def _version_object(self, row: VersionRow) -> VersionObject:
        return version_object(row, self._sandbox)

    @property
    def _sandbox(self) -> Sandbox:
        return Sandbox(self._containers.importable if self._containers is not None else None, self._environments)

    def _environment_changed(self, digest: str) -> None:
        """Publish the skills that are shown with it."""

        async def publish() -> None:
            for skill_id in list(self._awaiting.get(digest, ())):
                row = await self._store.skills.get(skill_id)
                if row is None:
                    self._awaiting[digest].discard(skill_id)
                else:
                    self._published(row)

        task = asyncio.create_task(publish())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _made(self, version: NewVersion) -> None:
        """A version is stored: what it needs may be built."""
        if self._environments is not None:
            await self._environments.uploaded(version["name"], needs_of(version))

    async def environment(self, skill_id: str, version: str | int) -> EnvironmentAccount:
        """How it stands with what a version needs; see `SkillEnvironments.account`."""
        row = await self._version_row(await self._row(skill_id), version, "version")
        if self._environments is None:
            return {"object": "skill.environment", "status": "none"}
        return await asyncio.to_thread(self._environments.account, needs_of(row))

    async def _keep(self, bundle: Bundle) -> None:
        await self._store.blobs.put_staged((file.staged, file.entry.sha256) for file in bundle.files)

    async def _add(self, skill_id: str, version: NewVersion, default: bool) -> tuple[SkillRow, VersionRow]:
        added = await self._store.skills.add_version(skill_id, version, default)
        if added is None:
            raise no_skill(skill_id)
        self._published(added[0])
        return added

    # Looking

    async def get(self, skill_id: str) -> SkillObject:
        """The Skill. Raises `NotFound`."""
        return self._skill_object(await self._row(skill_id))

    async def by_name(self, name: str) -> SkillObject | None:
        """The newest skill of this name, None when there is none."""
        row = await self._store.skills.by_name(name)
        return self._skill_object(row) if row is not None else None

    async def list(self, limit: int = 20, order: str = "desc", after: str = "") -> Page[SkillObject]:
        """One page of Skills."""
        return (await self._store.skills.list(limit, order, after)).map(self._skill_object)

    async def versions(
        self, skill_id: str, limit: int = 20, order: str = "desc", after: str = ""
    ) -> Page[VersionObject]:
        """One page of a skill's SkillVersions."""
        await self._row(skill_id)
        return (await self._store.skills.versions(skill_id, limit, order, after)).map(self._version_object)

    async def version(self, skill_id: str, version: str | int) -> VersionObject:
        """One SkillVersion; `version` is a number or "latest"."""
        return self._version_object(await self._version_row(await self._row(skill_id), version, "version"))

    async def tree(self, skill_id: str, version: str | int = "") -> Files:
        """The files of a version ("" for the default): {path, bytes, sha256, executable}, sorted."""
        row = await self._version_row(await self._row(skill_id), version, "version")
        return row["files"]

    async def read_file(self, skill_id: str, version: str | int, path: str) -> Path:
        """Where the content of one file of a version lies; read-only."""
        for entry in await self.tree(skill_id, version):
            if entry["path"] == path:
                return await self._store.blobs.fetch(entry["sha256"])
        raise NotFound(f"The skill has no file {path!r}.", "Ask for its tree to see the files.", param="path")

    async def content(self, skill_id: str, version: str | int = "") -> Content:
        """The zip of a version ("" for the default): the same bytes at every call."""
        row = await self._version_row(await self._row(skill_id), version, "version")
        entries = entries_of(row)

        def build() -> tuple[BinaryIO, int]:
            # Whole before the first byte is sent: its length is known, and a missing blob is an error answer instead
            # of half a zip. The file has no name, so an abandoned download leaves nothing.
            file = tempfile.TemporaryFile(dir=self._store.blobs.temporary)  # noqa: SIM115
            for chunk in zip_chunks(row["name"], entries, self._store.blobs.require):
                file.write(chunk)
            size = file.tell()
            file.seek(0)
            return file, size

        file, size = await asyncio.to_thread(build)
        return Content(f"{row['name']}-{row['version']}.zip", size, read_chunks(file))

    # Changing

    async def set_default(self, skill_id: str, version: str | int) -> SkillObject:
        """Make a version the one that serves when none is named. Returns the Skill."""
        row = await self._row(skill_id)
        number = named_number(row, version, "default_version")
        changed = await self._store.skills.set_default(skill_id, number)
        if changed is None:
            raise no_version(version, "default_version")
        return self._published(changed)

    async def delete(self, skill_id: str) -> Deleted:
        """Delete a skill with all versions. Running containers keep what they have mounted."""
        if not await self._store.skills.delete(skill_id):
            raise no_skill(skill_id)
        self._bus.publish("skill", "delete", skill_id)
        return {"id": skill_id, "object": "skill.deleted", "deleted": True}

    async def delete_emptied(self, skill_id: str) -> bool:
        """Delete a skill that went with its last version, once: whether it was one."""
        return await self._store.skills.delete_emptied(skill_id)

    async def delete_version(self, skill_id: str, version: str | int) -> DeletedVersion:
        """Delete one version; the last one takes the skill with it. The default goes last (`Conflict`)."""
        number = named_number(await self._row(skill_id), version, "version")
        try:
            deleted = await self._store.skills.delete_version(skill_id, number)
        except DefaultVersionInUse as error:
            raise Conflict(
                f"Version {number} is the default version and cannot be deleted while others exist.",
                "Make another version the default first.",
                param="version",
                code="default_version",
            ) from error
        if deleted is None:
            raise no_version(version, "version")
        row, gone = deleted
        if gone:
            self._bus.publish("skill", "delete", skill_id)
        else:
            self._published(await self._row(skill_id))
        return {
            "id": row["id"],
            "object": "skill.version.deleted",
            "deleted": True,
            "version": str(row["version"]),
        }

    async def prune(self, skill_id: str, keep: int) -> int:
        """Delete watched versions beyond the newest `keep`; returns how many.

        The default, the latest, promoted versions (they were a default once) and versions that a request named by
        number stay, but for a test's that named it while it was the latest.
        """
        removed = 0
        for number in await self._store.skills.prunable(skill_id, keep):
            try:
                removed += await self._store.skills.delete_version(skill_id, number) is not None
            except DefaultVersionInUse:
                continue
        if removed:
            self._published(await self._row(skill_id))
        return removed

    # Running

    async def resolve(self, reference: JsonObject, param: str = "skills") -> ResolvedSkill:
        """The folder behind a `skill_reference` or `inline` skill of a request.

        Args:
            reference: the object as the client sent it.
            param: where it stood in the request, for errors (`tools[0].environment.skills[2]`).
        Raises:
            BadRequest, NotFound: with the field below `param`.
        """
        kind = reference.get("type") if isinstance(reference, dict) else None
        if kind == "skill_reference":
            return await self._resolve_reference(reference, param)
        if kind == "inline":
            return await self._resolve_inline(reference, param)
        raise BadRequest(
            "A skill must have the type skill_reference or inline.",
            'Send {"type": "skill_reference", "skill_id": …}, or an inline skill with its zip.',
            param=f"{param}.type",
        )

    async def _resolve_reference(self, reference: JsonObject, param: str) -> ResolvedSkill:
        skill_id = reference.get("skill_id")
        if not isinstance(skill_id, str) or not 1 <= len(skill_id) <= 64:
            raise BadRequest("skill_id must be a text of 1 to 64 characters.", param=f"{param}.skill_id")
        skill = await self._row(skill_id, f"{param}.skill_id")
        asked = reference.get("version")
        row = await self._version_row(skill, "" if asked is None else asked, f"{param}.version")
        newest = row["version"] == skill["latest_version"]
        if asked not in (None, "latest") and not row["promoted"] and not (newest and CLIENT.get() == TESTS):
            # Somebody relies on this number: pruning leaves it alone from now on. Tests after every save name the
            # version of that save, so that a later one does not get in between; each would be kept for ever.
            await self._store.skills.promote(skill_id, row["version"])
        if "needs" not in row["doc"]:
            row = await read_late(self._store, row)
        path = await self._mounts.path(row["digest"], entries_of(row))
        return ResolvedSkill(
            row["name"],
            row["description"],
            str(row["version"]),
            skill_id,
            path,
            row["digest"],
            row["doc"]["manifest_path"],
            needs_of(row),
        )

    async def _resolve_inline(self, reference: JsonObject, param: str) -> ResolvedSkill:
        data = inline_data(reference, param)
        async with self._store.blobs.staging() as staging:
            bundle = await asyncio.to_thread(read_inline, reference, data, staging, param)
            staged = {file.entry.sha256: file.staged for file in bundle.files}
            path = await self._mounts.path(bundle.digest, [file.entry for file in bundle.files], staged.__getitem__)
            needs = await asyncio.to_thread(read_needs, [(file.entry.path, file.staged) for file in bundle.files])
        manifest = bundle.manifest
        return ResolvedSkill(
            manifest.name, manifest.description, "", "", path, bundle.digest, bundle.manifest_path, needs
        )

    # Rows

    async def _row(self, skill_id: str, param: str = "skill_id") -> SkillRow:
        row = await self._store.skills.get(skill_id)
        if row is None:
            raise no_skill(skill_id, param)
        return row

    async def _version_row(self, skill: SkillRow, version: object, param: str) -> VersionRow:
        row = await self._store.skills.version(skill["id"], version_number(skill, version, param))
        if row is None:
            raise no_version(version, param)
        return row

    def _published(self, row: SkillRow) -> SkillObject:
        skill = self._skill_object(row)
        self._bus.publish("skill", "put", skill["id"], skill)
        return skill

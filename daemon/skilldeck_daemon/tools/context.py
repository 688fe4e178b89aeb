"""What a run gives its tools: the container with the skills and files of the request, and permission to run commands.

A container_auto request uses the container that the history used when it is still there and has what is asked for;
else a new one is made with the first call, while the model still writes what to run in it. With skills or files to use
its sandbox starts with the run, beside the model; an answer without commands leaves nothing of it. A failed start of a
container is a failed call, not half a container. `agent/planning/placement.py` decides which container that is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

from skilldeck_daemon.attachments.listing import Attachment
from skilldeck_daemon.containers import Container, ContainerGone
from skilldeck_daemon.libraries.approvals import Approvals, strictest
from skilldeck_daemon.libraries.containers.environments import Environments
from skilldeck_daemon.libraries.containers.mounted import Mounted
from skilldeck_daemon.skills.needs import Needs
from skilldeck_daemon.store.records import ContainerFileObject, StoredContainer, StoredContainerFile, public_file
from skilldeck_daemon.tools.mcp_servers.servers import McpServers
from skilldeck_daemon.tools.products import products
from skilldeck_daemon.tools.web.items import WebCallItem
from skilldeck_daemon.tools.web.pages import Pages, PageText
from skilldeck_daemon.tools.web.providers import SearchProvider
from skilldeck_daemon.wire.item_kinds import Found, Item
from skilldeck_shared.errors import NotFound, SkilldeckError
from skilldeck_shared.json_types import JsonObject

log = logging.getLogger(__name__)

CITED_FILES = 100
"""Files of one run that are cited at most; all are in the container's list."""


@dataclass(frozen=True)
class Surroundings:
    """What the catalogue lists: skills as (name, description), file names; `shell` is hosted, local or none, `python`:
    the code interpreter, `hosts` what a hosted shell's network reaches (None: not known), `programs` what runs
    scripts there ((): not known)."""

    shell: str = ""
    skills: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    python: bool = False
    hosts: tuple[str, ...] | None = None
    programs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Web:
    """The web, where the operator has turned it on."""

    provider: SearchProvider
    pages: Pages


@dataclass(frozen=True)
class Offer:
    """What this daemon has for tools to work with; None where its operator turned it off."""

    web: Web | None = None
    mcp: McpServers | None = None


@dataclass(frozen=True)
class Placement:
    """Where the hosted calls of a run are executed, and what the model is shown of it.

    `record` is of a container that does not exist yet, with the `files` it will be given; both are empty for one that
    does. `mounted` are all skills it has.
    """

    around: Surroundings = field(default_factory=Surroundings)
    container_id: str = ""
    mounted: tuple[Mounted, ...] = ()
    record: StoredContainer | None = None
    files: tuple[Attachment, ...] = ()


class Verdict(NamedTuple):
    """Whether a call was allowed, and under the policy "ask" the seconds until that was known."""

    allowed: bool
    asked_s: float | None = None


async def _anything(function: JsonObject) -> bool:
    return True


def _nothing(name: str) -> str:
    return ""


@dataclass
class ToolContext:
    """What the tools of one run share. Made whole by `PlanBuilder`; what changes afterwards changes in here.

    Args:
        said: the conversation before this run's output.
        reports_made: whether `made` is kept, which lists the container's files after each call of the shell.
        fits: whether the model can be given a function.
        skill_text: a mounted skill's instructions, "" where the model's template has its own way to them.
    """

    run_id: str
    session: str
    permission: str | None
    approvals: Approvals
    environments: Environments
    offer: Offer
    place: Placement
    include: frozenset[str] = frozenset()
    reports_made: bool = False
    said: Sequence[Item] = ()
    instructions: str = ""
    fits: Callable[[JsonObject], Awaitable[bool]] = _anything
    skill_text: Callable[[str], str] = _nothing
    sources: dict[str, str] = field(default_factory=dict)  # titles of the pages that were found, by URL
    pages: dict[str, PageText] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)  # approval requests whose tool is not there any more
    closing: list[Callable[[], None]] = field(default_factory=list)  # what ends with the run
    verdicts: dict[str, Verdict] = field(default_factory=dict)  # by call id
    made: dict[str, list[ContainerFileObject]] = field(default_factory=dict)  # what each call made, by call id

    def __post_init__(self) -> None:
        self._record = self.place.record
        self._files = list(self.place.files)
        self._coming: asyncio.Task[Container] | None = None  # the container of the call that is being written
        self._marks: dict[str, int] | None = None  # path → mtime of the files that were there before this run's calls
        self._seen: dict[str, int] | None = None  # the same when the last call ended
        for item in self.said:
            self.cite(cast(WebCallItem, item).get("results") or ())

    @property
    def container_id(self) -> str:
        return self.place.container_id

    @property
    def skill_names(self) -> tuple[str, ...]:
        """Of the skills that its own shell has."""
        around = self.place.around
        return tuple(name for name, _ in around.skills) if around.shell == "hosted" else ()

    def cite(self, results: Iterable[Found]) -> None:
        """Remember pages as sources of what the model writes. One without a title keeps that it was found under."""
        for result in results:
            if result["title"] != result["url"] or result["url"] not in self.sources:
                self.sources[result["url"]] = result["title"]

    def close(self) -> None:
        """The run is over."""
        if self._record is not None:
            self.environments.give_up(self._record)
        for end in self.closing:
            end()

    async def approve(self, kind: str, commands: list[str], call_id: str) -> str | None:
        """None, or why the commands may not run, for the model."""
        asked = time.monotonic()
        refusal = await self.approvals.check(
            kind,
            commands,
            permission=self.permission,
            run_id=self.run_id,
            call_id=call_id,
            session=self.session,
            skills={
                mount.name: {"skill_id": mount.skill_id, "version": mount.version, "path": mount.path}
                for mount in self.place.mounted
            },
        )
        asks = strictest(self.approvals.permission, self.permission) == "ask"
        self.verdicts[call_id] = Verdict(refusal is None, time.monotonic() - asked if asks else None)
        return refusal

    def begin_container(self) -> None:
        """The model begins with skills or files to use: start a new container's sandbox meanwhile.

        That takes 15 ms, which pass while the prompt is read. Under "ask" nothing starts unasked.
        """
        if self._record is None or not self._unasked():
            return
        if not self.environments.packages.settled(needs for _, needs in self._needs):
            # What its skills need is built, or asked about, while the prompt is read.
            preparing = asyncio.create_task(self._prepare())
            self.closing.append(partial(_stop, preparing))
        elif self.place.mounted or self._files:
            self.environments.begin(self._record)
            self.closing.append(partial(self.environments.early.give_up, self.container_id))

    def expect_container(self) -> None:
        """The model has begun a call: get the container ready meanwhile. What goes wrong is raised by `container`.

        A new one takes 30 ms, which passes while the arguments are written. Under "ask" nothing starts unasked.
        """
        if self._coming is None and self._unasked():
            self._coming = asyncio.create_task(self._ready(start=True))
            self._coming.add_done_callback(lambda task: task.cancelled() or task.exception())  # perhaps nobody asks
            self.closing.append(partial(_stop, self._coming))

    def _unasked(self) -> bool:
        return strictest(self.approvals.permission, self.permission) == "auto"

    async def container(self) -> Container:
        """The run's container, made when this is its first use, with the run's files in it."""
        coming, self._coming = self._coming, None
        if coming is not None:
            with contextlib.suppress(ContainerGone):  # idle ones give way to others; its data is still there
                container = await coming
                if not container.closed:
                    return container
        return await self._ready()

    @property
    def _needs(self) -> list[tuple[str, Needs]]:
        return [(mount.name, Needs.of(mount.needs)) for mount in self.place.mounted]

    async def _prepare(self) -> None:
        await self.environments.packages.prepare(
            self._needs, run_id=self.run_id, session=self.session, permission=self.permission
        )

    async def _ready(self, *, start: bool = False) -> Container:
        await self._prepare()
        if self._record is not None:
            record = self._record
            await self.environments.open_new(record)
            self._record = None
        container = await self.environments.open(self.container_id)
        while self._files:
            attachment = self._files[0]
            await self.environments.files.add(
                self.container_id, attachment.name, attachment.source, "user", attachment.key
            )
            self._files.pop(0)
        if self._marks is None:
            self._marks = _marks(await self.environments.files.sync(self.container_id, container))
        if start:
            await container.start()
        return container

    async def produced(self, text: str = "") -> list[ContainerFileObject]:
        """container.file objects of what this run's calls made or changed, the best first (see `products`).

        Args:
            text: the answer; files it mentions come first.
        """
        if self._marks is None:
            return []
        try:
            files = await self.environments.files.sync(self.container_id)
        except (ContainerGone, NotFound):  # deleted meanwhile
            return []
        return _changed(files, self._marks, text)

    async def call_ended(self, call_id: str) -> None:
        """A call has ended, and neither its output's end is published nor the next one begun: note what it made.

        Later nobody could say which of two calls made a file.
        """
        if not self.reports_made or self._marks is None:
            return
        try:
            files = await self.environments.files.sync(self.container_id)
        except SkilldeckError as error:  # the call's output is returned all the same
            log.warning("what call %s of run %s made cannot be listed: %s", call_id, self.run_id, error)
            return
        self.made[call_id] = _changed(files, self._marks if self._seen is None else self._seen)
        self._seen = _marks(files)


def _marks(files: Iterable[StoredContainerFile]) -> dict[str, int]:
    return {file["path"]: file["mtime_ns"] for file in files}


def _changed(files: Sequence[StoredContainerFile], before: dict[str, int], text: str = "") -> list[ContainerFileObject]:
    made = [file for file in files if before.get(file["path"]) != file["mtime_ns"]]
    return [public_file(file) for file in products(made, files, text)[:CITED_FILES]]


def _stop(task: asyncio.Task[Any]) -> None:
    task.cancel()

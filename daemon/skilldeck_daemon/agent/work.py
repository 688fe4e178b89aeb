"""What a run gives its tools: the container with the skills and files of the request, and permission to run commands.

A container_auto request uses the container that the history used when it is still there and has what is asked for;
else a new one is made with the first call, while the model still writes what to run in it. With skills or files to use
its sandbox starts with the run, beside the model; an answer without commands leaves nothing of it. A failed start of a
container is a failed call, not half a container.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from skilldeck_daemon.agent.approvals import Approvals, strictest
from skilldeck_daemon.agent.attachments import Attachment, Attachments
from skilldeck_daemon.agent.context import Surroundings
from skilldeck_daemon.agent.environments import Environments, Mounted, numbered, public
from skilldeck_daemon.agent.gather import Sources, from_file_id
from skilldeck_daemon.agent.inputs import Item
from skilldeck_daemon.agent.mcp.servers import McpServers
from skilldeck_daemon.agent.products import hidden, products
from skilldeck_daemon.agent.tools.base import Tool
from skilldeck_daemon.agent.tools.code_interpreter import CodeInterpreterTool, Place, place_of
from skilldeck_daemon.agent.tools.shell import EnvironmentSpec, ShellTool
from skilldeck_daemon.agent.web.pages import Pages, PageText
from skilldeck_daemon.agent.web.providers import SearchProvider
from skilldeck_daemon.containers import WORKDIR, Container, ContainerGone
from skilldeck_daemon.containers.errors import InvalidContainerRequest
from skilldeck_shared.errors import NotFound

CITED_FILES = 100
"""Files of one run that are cited at most; all are in the container's list."""


@dataclass(frozen=True)
class Web:
    """The web, where the operator has turned it on."""

    provider: SearchProvider
    pages: Pages


@dataclass(frozen=True)
class Nearby:
    """What a caller on this machine may add to a request, and no HTTP client can.

    `mounts` are folders mounted read-only as skills; `project` is the caller's working directory ("" for the
    daemon's own project) and `skills` names skills on disk (see `ondisk`).
    """

    mounts: tuple[Mounted, ...] = ()
    project: str = ""
    skills: tuple[str, ...] = ()


class Verdict(NamedTuple):
    """Whether a call was allowed, and under the policy "ask" the seconds until that was known."""

    allowed: bool
    asked_s: float | None = None


async def _anything(function: dict[str, Any]) -> bool:
    return True


@dataclass
class Work:
    """The work of one run. Beside the skills of the request's environment it is given `mounts`, and `disk`: those on
    disk that it asks for."""

    run_id: str
    session: str
    permission: str | None
    approvals: Approvals
    environments: Environments
    around: Surroundings = field(default_factory=Surroundings)
    container_id: str = ""
    mounts: tuple[Mounted, ...] = ()
    include: frozenset[str] = frozenset()
    disk: list[Mounted] = field(default_factory=list)
    mounted: list[Mounted] = field(default_factory=list)  # all that its container has
    web: Web | None = None
    mcp: McpServers | None = None
    said: list[Item] = field(default_factory=list)  # the conversation before this run's output
    instructions: str = ""
    sources: dict[str, str] = field(default_factory=dict)  # titles of the pages that were found, by URL
    pages: dict[str, PageText] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)  # approval requests whose tool is not there any more
    closing: list[Callable[[], None]] = field(default_factory=list)  # what ends with the run
    fits: Callable[[dict[str, Any]], Awaitable[bool]] = _anything  # whether the model can be given a function
    verdicts: dict[str, Verdict] = field(default_factory=dict)  # by call id
    _record: dict[str, Any] | None = None  # of a container that does not exist yet
    _files: list[Attachment] = field(default_factory=list)
    _coming: asyncio.Task[Container] | None = None  # the container of the call that is being written
    _marks: dict[str, int] | None = None  # path → mtime of the files that were there before this run's calls

    @property
    def skill_names(self) -> tuple[str, ...]:
        """Of the skills that its own shell has."""
        return tuple(name for name, _ in self.around.skills) if self.around.shell == "hosted" else ()

    def cite(self, results: Iterable[dict[str, str]]) -> None:
        """Remember pages as sources of what the model writes. One without a title keeps that it was found under."""
        for result in results:
            if result["title"] != result["url"] or result["url"] not in self.sources:
                self.sources[result["url"]] = result["title"]

    def close(self) -> None:
        """The run is over."""
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
                for mount in self.mounted
            },
        )
        asks = strictest(self.approvals.permission, self.permission) == "ask"
        self.verdicts[call_id] = Verdict(refusal is None, time.monotonic() - asked if asks else None)
        return refusal

    def begin_container(self) -> None:
        """The model begins with skills or files to use: start a new container's sandbox meanwhile.

        That takes 15 ms, which pass while the prompt is read. Under "ask" nothing starts unasked.
        """
        if self._record is not None and (self.mounted or self._files) and self._unasked():
            self.environments.begin(self._record)
            self.closing.append(partial(self.environments.early.give_up, self.container_id))

    def expect_container(self) -> None:
        """The model has begun a call: get the container ready meanwhile. What goes wrong is told by `container`.

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

    async def _ready(self, *, start: bool = False) -> Container:
        if self._record is not None:
            record = self._record
            await self.environments.open_new(record)
            self._record = None
        container = await self.environments.open(self.container_id)
        while self._files:
            attachment = self._files[0]
            await self.environments.add(self.container_id, attachment.name, attachment.source, "user", attachment.key)
            self._files.pop(0)
        if self._marks is None:
            present = await self.environments.sync(self.container_id, container)
            self._marks = {file["path"]: file["_mtime_ns"] for file in present}
        if start:
            await container.start()
        return container

    async def produced(self, text: str = "") -> list[dict[str, Any]]:
        """container.file objects of what this run's calls made or changed, the best first (see `products`).

        Args:
            text: the answer; files it mentions come first.
        """
        if self._marks is None:
            return []
        try:
            files = await self.environments.sync(self.container_id)
        except (ContainerGone, NotFound):  # deleted meanwhile
            return []
        made = [file for file in files if self._marks.get(file["path"]) != file["_mtime_ns"]]
        return [public(file) for file in products(made, files, text)[:CITED_FILES]]


def _stop(task: asyncio.Task[Container]) -> None:
    task.cancel()


def hosted_auto(tools: list[Tool]) -> bool:
    """Whether the request is given a container of its own, which may have further skills."""
    return any(isinstance(tool, ShellTool) and tool.environment.kind == "container_auto" for tool in tools)


async def prepare(
    work: Work,
    tools: list[Tool],
    history: list[Item],
    attachments: Attachments,
    sources: Sources,
) -> None:
    """Resolve the hosted tools' environment against what exists. Raises NotFound, BadRequest naming the field."""
    names = tuple(attachment.name for attachment in attachments.files.values())
    shell = next((tool for tool in tools if isinstance(tool, ShellTool)), None)
    python = any(isinstance(tool, CodeInterpreterTool) for tool in tools)
    skills: tuple[tuple[str, str], ...] = ()
    if shell is not None and not shell.hosted:
        own = shell.environment.skills
        skills = tuple((skill["name"], f"{skill['description']} ({skill['path']})") for _, skill in own)
        work.around = Surroundings("local", skills, names)
    place = place_of(tools)
    if place is None:
        return
    spec = place.spec
    if work.environments.unavailable is not None:
        raise work.environments.unavailable
    attachments.add_texts()
    for param, file_id in place.files:
        attachments.remember({"file_id": file_id}, await from_file_id(file_id, sources, param))
    if spec.kind == "container_reference":
        record = await _referenced(work, spec, place.param)
    else:
        record = await _automatic(work, place, history, attachments, sources)
    work.container_id = record["id"]
    work.mounted = mounts = [Mounted(**mount) for mount in record["_mounts"]]
    present: set[str] = set()
    if work._record is None:
        present = await _present(work, attachments)
    for attachment in attachments.files.values():
        attachment.path = f"{WORKDIR}/{attachment.name}"
    for attachment in attachments.files.values():
        beside = attachments.text_of(attachment)
        attachment.text_path = beside.path if beside is not None else ""
    listed = tuple(sorted(present - {a.name for a in attachments.files.values()}))
    shown = ("hosted" if shell.hosted else "local") if shell is not None else ""
    if shown == "hosted":
        skills = tuple((mount.name, mount.description) for mount in mounts)
    work.around = Surroundings(shown, skills, (*listed, *(a.name for a in attachments.files.values())), python)


async def _referenced(work: Work, spec: EnvironmentSpec, param: str) -> dict[str, Any]:
    try:
        await work.environments.open(spec.container_id)
        return await work.environments.record(spec.container_id)
    except (ContainerGone, NotFound) as error:
        error.param = param
        raise


async def _automatic(
    work: Work,
    place: Place,
    history: list[Item],
    attachments: Attachments,
    sources: Sources,
) -> dict[str, Any]:
    spec = place.spec
    mounts = await work.environments.resolve(spec.skills)
    mounts += work.mounts
    named = {mount.name for mount in mounts}  # what the request brings itself hides what lies on disk
    mounts = numbered([*mounts, *(mount for mount in work.disk if mount.name not in named)])
    for item in reversed(history):
        id = _container_of(item)
        if not id:
            continue
        record = await sources.store.containers.get(id)
        if record is not None and record["status"] == "running":
            fitting = await _fitting(work, record, spec, mounts)
            if fitting is not None:
                return fitting
        break
    record = work.environments.new_record(f"auto-{work.run_id}", mounts, spec.memory_limit, spec.allowed_domains)
    try:
        work.environments.validate(record)  # now, not when the model makes its first call
    except InvalidContainerRequest as error:
        error.param = f"{place.param.removesuffix('.container_id')}.{error.param}"
        raise
    work._record = record
    work._files = list(attachments.files.values())
    return work._record


def _container_of(item: Item) -> str:
    """The container that an item of the history was made in; empty for others."""
    if item.get("type") == "code_interpreter_call":
        return str(item["container_id"])
    where = item.get("environment") or {}
    hosted = item.get("type") == "shell_call" and where.get("type") == "container_reference"
    return str(where["container_id"]) if hosted else ""


async def _fitting(
    work: Work, record: dict[str, Any], spec: EnvironmentSpec, mounts: list[Mounted]
) -> dict[str, Any] | None:
    """The container's record when it has what is asked for: the same skills, memory and network.

    Skills from disk that the conversation came to mention later are added to the container it has.
    """
    domains = tuple(record["network_policy"].get("allowed_domains", ()))
    if (record["memory_limit"], domains) != (spec.memory_limit, spec.allowed_domains):
        return None
    had = [Mounted(**mount) for mount in record["_mounts"]]
    if had == mounts:
        return record
    places = {mount.path for mount in had}
    added = [mount for mount in mounts if mount.path not in places]
    local = {mount.path for mount in (*work.mounts, *work.disk)}
    # Descriptions may change where they lie: the folder is what counts.
    kept = [(mount.name, mount.path) for mount in mounts if mount.path in places]
    if kept != [(mount.name, mount.path) for mount in had] or any(mount.path not in local for mount in added):
        return None
    return await work.environments.remount(record, mounts, reopen=bool(added))


async def _present(work: Work, attachments: Attachments) -> set[str]:
    """For a container that exists: which files it holds; the request's other files are named apart from those."""
    there = await work.environments.sync(work.container_id)
    names = {file["path"].removeprefix(WORKDIR + "/") for file in there}
    by_key = {file["_key"]: file["path"].removeprefix(WORKDIR + "/") for file in there if file.get("_key")}
    for attachment in attachments.files.values():
        if attachment.key in by_key:
            attachment.name = by_key[attachment.key]
            continue
        path = await _add(work, attachment)
        attachment.name = path.removeprefix(WORKDIR + "/")
        names.add(attachment.name)
    return {name for name in names if not hidden(name)}


async def _add(work: Work, attachment: Attachment) -> str:
    file = await work.environments.add(work.container_id, attachment.name, attachment.source, "user", attachment.key)
    return str(file["path"])

"""The composition of everything below the surfaces: store, containers, models, libraries, runs.

    core = Core(settings)
    async with core:            # owns the data directory, by a lock the kernel drops when the process dies
        await core.load_model() # raises when the model cannot be loaded
        run = await core.services.runs.start(...)

The daemon (`app.py`) puts its listeners around a `Core`; `Runner` (`runner.py`) uses one without any. Opening that
fails leaves nothing running; closing cancels what runs, stores it so, and ends containers, store and models in this
order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from skilldeck_daemon import telemetry
from skilldeck_daemon.agent.accounts.metrics import Metrics
from skilldeck_daemon.agent.accounts.traces import Traces, Tracing
from skilldeck_daemon.agent.admission import Admission
from skilldeck_daemon.agent.failover import BEAT_SECONDS
from skilldeck_daemon.agent.planning.plan import PlanBuilder
from skilldeck_daemon.agent.runs import Runs
from skilldeck_daemon.agent.services import Services
from skilldeck_daemon.attachments.documents import Documents
from skilldeck_daemon.containers import Containers
from skilldeck_daemon.containers.network.indexes import Indexes
from skilldeck_daemon.containers.packages.bases import Bases
from skilldeck_daemon.containers.packages.environment_build import EnvironmentBuilder
from skilldeck_daemon.engine.base import ModelInfo
from skilldeck_daemon.engine.hub import OWN_PROCESS, ModelHub
from skilldeck_daemon.engine.process.child import Child
from skilldeck_daemon.libraries.approvals import Approvals
from skilldeck_daemon.libraries.bus import Bus
from skilldeck_daemon.libraries.containers.environments import Environments
from skilldeck_daemon.libraries.conversations import Conversations
from skilldeck_daemon.libraries.evaluations import Evaluations
from skilldeck_daemon.libraries.files import FileLibrary
from skilldeck_daemon.libraries.ondisk import DiskSkills
from skilldeck_daemon.libraries.skill_environments import SkillEnvironments
from skilldeck_daemon.libraries.skills import SkillLibrary
from skilldeck_daemon.logs import LogRing
from skilldeck_daemon.settings import Settings
from skilldeck_daemon.skills.mounts import MountCache
from skilldeck_daemon.skills.trust import Trust
from skilldeck_daemon.store import Store, sqlite_url
from skilldeck_daemon.store.faults import disk_faults
from skilldeck_daemon.store.owner import own
from skilldeck_daemon.store.upkeep import backup
from skilldeck_daemon.tools.context import Offer, Web
from skilldeck_daemon.tools.mcp_servers.servers import McpServers
from skilldeck_daemon.tools.web.pages import Pages
from skilldeck_daemon.tools.web.providers import Ddgs, SearXNG
from skilldeck_daemon.wire import sealed
from skilldeck_shared import private
from skilldeck_shared.errors import Unavailable

log = logging.getLogger(__name__)

KEEP_SECONDS = 1.0
SWEEP_SECONDS = 15.0
COLLECT_SECONDS = 3600.0
LOW_GRACE_SECONDS = 300.0
"""Where the disk is nearly full, content that nothing names goes after so long; an upload may take it up meanwhile."""


class Core:
    """`services` is there from construction; it may be used while the core is open."""

    def __init__(
        self,
        settings: Settings,
        logs: LogRing | None = None,
        spare: Child | None = None,
        tracing: Callable[[], Tracing | None] = telemetry.from_environment,
        meanwhile: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """
        Args:
            spare: a process for the first engine, when one was started already.
            tracing: finds out where traces go.
            meanwhile: is begun while the core opens, when the data directory is its own: the loading of a model.
        """
        self.settings = settings
        data = settings.data_dir
        store = Store(settings.database_url or sqlite_url(data / "skilldeck.db"), data / "blobs", settings.blobs_url)
        bus = Bus()
        # Without a sandbox a command could write through a link into the stored blob.
        mounts = MountCache(data / "skills", store.blobs.require, bound=settings.sandbox != "none")
        files = FileLibrary(store, bus)
        containers = Containers(
            data / "containers",
            sandbox=settings.sandbox,
            max_memory=settings.max_memory,
            max_containers=settings.max_containers,
            allow_private_hosts=settings.private_hosts,
            ways=(data, data / "skills", data / "sandbox"),
            bases=Bases(data / "sandbox", settings.sandbox_python),
            indexes=Indexes(settings.package_index, settings.npm_registry),
        )
        approvals = Approvals(store, bus, settings.permission, settings.approval_timeout)
        packages = SkillEnvironments(EnvironmentBuilder(containers, data), approvals, bus, settings.skill_environments)
        skills = SkillLibrary(store, bus, mounts, settings.watched_versions, containers, packages)
        environments = Environments(containers, store, skills, files, bus, packages)
        own_process = OWN_PROCESS if settings.engine_process == "auto" else settings.engine_process == "on"
        models = ModelHub(
            data / "models",
            worker=own_process,
            spare=spare,
            aliases=settings.aliases,
            any_model=settings.any_model,
            idle_unload=settings.idle_unload,
        )
        disk = DiskSkills(
            Trust(data / "trusted.json"),
            mode=settings.skills,
            project=settings.project,
            claude=settings.claude_skills,
        )
        self._documents = Documents(containers, data / "documents")
        self._mcp = McpServers(settings.mcp_servers, settings.private_hosts)
        metrics = Metrics()
        self._traces = Traces(tracing)
        plans = PlanBuilder(
            store,
            models,
            environments,
            files,
            approvals,
            self._documents,
            settings.private_hosts,
            disk,
            Offer(self._web(), self._mcp),
            settings.skills_preload,
            settings.verify,
        )
        admission = Admission(settings)
        runs = Runs(store, models, plans, bus, (metrics.observe, self._traces.observe), admission)
        self.services = Services(
            settings=settings,
            store=store,
            bus=bus,
            models=models,
            skills=skills,
            files=files,
            environments=environments,
            approvals=approvals,
            conversations=Conversations(store, bus),
            evaluations=Evaluations(store, bus),
            plans=plans,
            runs=runs,
            disk=disk,
            metrics=metrics,
            logs=logs or LogRing(),
            admission=admission,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = contextlib.AsyncExitStack()
        self._owned: Callable[[], None] | None = None
        self._meanwhile = meanwhile

    def _web(self) -> Web | None:
        settings = self.settings
        if settings.web_search == "off":
            return None
        provider = SearXNG(settings.searxng_url, settings.private_hosts) if settings.web_search == "searxng" else Ddgs()
        return Web(provider, Pages(self._documents, settings.private_hosts))

    def own(self) -> None:
        """Take the data directory, ahead of opening; raises DataDirInUse. `disown` gives it back."""
        if self._owned is None:
            self._owned = own(self.settings.data_dir)

    def disown(self) -> None:
        if self._owned is not None:
            self._owned()
            self._owned = None

    async def __aenter__(self) -> Core:
        """Raises the error of the part that cannot start; nothing is left running then."""
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        services = self.services
        self.own()
        stack.callback(self.disown)
        if await asyncio.to_thread(backup.complete, self.settings.data_dir):
            log.warning("a restore that was interrupted was carried to its end")
        stack.push_async_callback(services.models.close)
        stack.push_async_callback(self._end_tasks)
        if self._meanwhile is not None:
            self.spawn("meanwhile", self._meanwhile())
        shared = services.store.database.replicated
        if not shared:
            _open_key(self.settings.data_dir / "seal.key")
        await services.store.open()
        stack.push_async_callback(services.store.close)
        if shared:
            sealed.use_key(await services.store.leases.agree("seal.key", sealed.new_key()))
        for id in await services.runs.open(services.instance):
            log.info("response %s was interrupted when the daemon stopped; it is marked failed", id)
        stack.push_async_callback(services.environments.close)
        await services.environments.start(_home(self.settings.data_dir) if shared else "")
        if services.environments.unavailable is not None:
            log.error("commands cannot be run here: %s", services.environments.unavailable)
        stack.push_async_callback(self._documents.close)
        stack.push_async_callback(self._mcp.close)
        self._traces.open()
        stack.push_async_callback(self._traces.close)
        stack.push_async_callback(services.runs.close)
        stack.push_async_callback(self._end_tasks)
        if shared:
            self._every("leases", BEAT_SECONDS, services.runs.beat)
        self._every("progress", KEEP_SECONDS, services.runs.keep)
        self._every("expiry", SWEEP_SECONDS, self._expire)
        self._every("collection", COLLECT_SECONDS, self._collect)
        self.spawn("reading", self._catch_up())

    async def load_model(self) -> ModelInfo | None:
        """Load the model the settings ask for; None when they ask for none. Raises what the engine raises."""
        settings = self.settings
        if not settings.model and not settings.remote_url:
            return None
        options = dict(settings.engine_options)
        if settings.remote_url:
            options |= {
                "remote_url": settings.remote_url,
                "remote_api_key": settings.remote_api_key.get_secret_value(),
                "remote_model": settings.remote_model,
                "remote_images": settings.remote_images,
            }
        if settings.chat_template is not None:
            options["chat_template"] = str(settings.chat_template)
        if settings.tool_text != "auto":
            options["tool_text"] = settings.tool_text
        if settings.call_style != "auto" and not settings.remote_url:
            options["call_style"] = settings.call_style
        if settings.tool_parser != "auto" and not settings.remote_url:
            options["tool_parser"] = settings.tool_parser
        info = await self.services.models.load(
            settings.model or "remote", settings.model_name or None, settings.engine, options
        )
        log.info("serving %s with the %s engine", info.name, info.engine)
        return info

    async def _expire(self) -> None:
        await self.services.environments.expire()
        await self.services.files.sweep()
        await self.services.runs.settle()
        room = self.services.store.room
        await asyncio.to_thread(room.keep)
        if room.trouble():  # what was deleted is room again before its hour is over
            await self.services.store.collect_blobs(LOW_GRACE_SECONDS)

    async def _catch_up(self) -> None:
        try:
            await self.services.skills.catch_up()
        except Exception:  # each is read at its use, too
            log.exception("what skills of an earlier version need could not be read")

    async def _collect(self) -> None:
        await self.services.store.collect_blobs()
        await self.services.environments.packages.collect(await self.services.store.skills.needs())

    def spawn(self, name: str, work: Awaitable[None]) -> None:
        """A task that is cancelled when the core closes, before the runs are."""
        self._tasks.append(asyncio.ensure_future(work))
        self._tasks[-1].set_name(name)

    def _every(self, name: str, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        async def loop() -> None:
            while True:
                await asyncio.sleep(seconds)
                try:
                    await work()
                except Exception:
                    log.exception("%s failed; it is tried again in %g s", name, seconds)

        self.spawn(name, loop())

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _home(data_dir: Path) -> str:
    """A name for this data directory, the same at every start."""
    path = data_dir / "home.id"
    if not path.exists() or not path.read_text():  # an earlier release, killed while it wrote, left an empty one
        partial = data_dir / "home.id.part"
        partial.unlink(missing_ok=True)
        private.write(partial, secrets.token_hex(8).encode())
        partial.replace(path)
    return path.read_text()


def _open_key(path: Path) -> None:
    try:
        with disk_faults(path.parent):
            sealed.open_key(path)
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"The key {path} cannot be used: {error}.", "Remove it: what was sealed with it is lost."
        ) from error

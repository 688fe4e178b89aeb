"""The loaded models by the names they are served under.

`load` turns a model (the bundled one, a folder, a GGUF file, an id of the hub, a remote server) into a `ChatModel`;
requests ask `ready`, which waits for a model that is being loaded. Loading and unloading run one at a time and never
block the event loop. Nothing here is stored: after a restart the daemon loads what it is told to. An engine that died
is restarted by its worker; `status` says what is the matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from skilldeck_daemon.engine import engines
from skilldeck_daemon.engine.base import WAIT_S, ChatModel, Engine, EngineStats, ModelInfo, ModelSpec, Progress
from skilldeck_daemon.engine.errors import NotLoaded
from skilldeck_daemon.engine.idle import IdleEngine
from skilldeck_daemon.engine.load_options import remote_model, take_calls, take_flag, take_template
from skilldeck_daemon.engine.models import registry
from skilldeck_daemon.engine.models.source import ModelSource
from skilldeck_daemon.engine.process.child import Child
from skilldeck_shared.errors import BadRequest, NotFound
from skilldeck_shared.json_types import JsonObject

log = logging.getLogger(__name__)

DEFAULT = "default"
# Requests are running and no token and no prompt progress came for this long: the engine hangs.
STALLED_S = 120.0
# A crash of an engine (killed, out of memory, a CUDA error) then costs its requests and nothing else, and the daemon's
# own interpreter never waits for torch or for llama.cpp.
OWN_PROCESS = os.name == "posix"

State = Literal["idle", "loading", "ready", "degraded"]


@dataclass(frozen=True)
class HubStatus:
    """What /health says of what is served: idle (nothing is), loading (fraction, stage), ready, or degraded (error).

    While a further model is loading, what is served stays ready; `stage` then says what is loading.
    """

    state: State
    model: str = ""
    fraction: float = 0.0
    stage: str = ""
    error: str = ""


@dataclass
class _Entry:
    model: ChatModel
    engine: Engine | None  # None for a remote model
    loaded: float = field(default_factory=time.time)


@dataclass(eq=False)
class _Coming:
    """A model that somebody asked to load and that is not there yet; `done` is given why it is not, None when it is."""

    name: str
    done: asyncio.Future[Exception | None]
    waiting: int = 0


class ModelHub:
    """Owns every loaded model. Use it from one event loop."""

    def __init__(
        self,
        models: Path | None = None,
        *,
        worker: bool = OWN_PROCESS,
        spare: Child | None = None,
        aliases: Mapping[str, str] | None = None,
        any_model: bool = False,
        idle_unload: float = 0,
    ) -> None:
        """
        Args:
            models: where downloads live.
            worker: whether engines get processes of their own.
            spare: the first of them.
            aliases: further names, each with the served name (or "default") it stands for.
            any_model: whether the default model answers to names that nothing is served under.
            idle_unload: seconds without a request after which a model leaves the memory until the next; 0: never.
        """
        self._models = models
        self._aliases = dict(aliases or {})
        self._any_model = any_model
        self._idle_unload = idle_unload
        self._worker = worker
        self._spare = spare
        self._entries: dict[str, _Entry] = {}
        self._default = ""
        self._lock = asyncio.Lock()
        self._coming: list[_Coming] = []  # in the order they were asked for
        self._loading: HubStatus | None = None
        self._begun = 0.0  # monotonic: when the loading began
        self._failed: HubStatus | None = None
        self._busy_since: dict[str, float] = {}  # monotonic: when `status` first saw requests running

    def meant(self, name: str, *, foreign: bool = False) -> str:
        """The name itself, or "default" when nothing is served under it and the default model answers all the same.

        Args:
            foreign: the name is another service's, as no model here is called, so that it can be no misspelling.
        """
        coming = any(one.name == name for one in self._coming)
        known = name == DEFAULT or name in self._entries or name in self._aliases or coming
        return name if known or not (self._any_model or foreign) else DEFAULT

    def stand_in(self, name: str, *, foreign: bool = False) -> str:
        """The served name of the default model when it answers in place of `name`; else ""."""
        return "" if self.meant(name, foreign=foreign) == name else self._default

    def get(self, name: str) -> ChatModel:
        """The model served as `name`; "default" is the first loaded one. Raises NotFound, or NotLoaded meanwhile."""
        return self._find(self._named(name))

    async def ready(self, name: str, limit: float = WAIT_S) -> ChatModel:
        """`get`, for a request: it waits for a model that is being loaded.

        Raises NotFound; NotLoaded when loading fails, takes longer than `limit` seconds, or nobody asked for it.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while (coming := self._awaited(self._named(name))) is not None:
                    coming.waiting += 1
                    try:
                        failed = await asyncio.shield(coming.done)
                    finally:
                        coming.waiting -= 1
                    if failed is not None and self._awaited(self._named(name)) is None:
                        raise NotLoaded(
                            f"Model {coming.name} could not be loaded: {failed}", "See skilldeck status and its log."
                        ) from failed
        return self.get(name)

    def _named(self, name: str) -> str:
        """The served name, or "default", that a name leads to."""
        name = self.meant(name)
        return name if name in self._entries else self._aliases.get(name, name)

    def _awaited(self, name: str) -> _Coming | None:
        """The loading that a request for `name` has to wait for."""
        if name in self._entries or (name == DEFAULT and self._default):
            return None
        return next((one for one in self._coming if name in (DEFAULT, one.name)), None)

    def _find(self, name: str) -> ChatModel:
        entry = self._entries.get(self._default if name == DEFAULT else name)
        if entry is not None:
            return entry.model
        if (coming := self._awaited(name)) is not None:
            now = self._loading
            stage = f"{now.stage}, {now.fraction:.0%}" if now and now.model == coming.name else "it waits for another"
            raise NotLoaded(f"Model {coming.name} is loading: {stage}.", "Try again in a moment.")
        if name == DEFAULT:
            why = f" {self._failed.error}" if self._failed else ""
            raise NotLoaded(f"No model is loaded.{why}", "Load one: skilldeck models load NAME")
        served = ", ".join([DEFAULT, *self._entries, *self.aliases])
        raise NotFound(
            f"The model {name!r} is not served here.",
            f"Served: {served}. Set any_model (--any-model) to have the default model answer to every name.",
            param="model",
            code="model_not_found",
        )

    def list(self) -> list[ModelInfo]:
        """The loaded models, the default one first."""
        ordered = sorted(self._entries.items(), key=lambda item: item[0] != self._default)
        return [replace(entry.model.info, created=int(entry.loaded)) for _, entry in ordered]

    @property
    def aliases(self) -> dict[str, str]:
        """The further names that lead to a loaded model, each with the served name it stands for."""
        found = {alias: self._default if name == DEFAULT else name for alias, name in self._aliases.items()}
        return {alias: name for alias, name in found.items() if name in self._entries and alias not in self._entries}

    @property
    def default(self) -> str:
        """The served name that "default" stands for, "" when nothing is loaded."""
        return self._default

    def set_default(self, name: str) -> None:
        """Make "default" stand for a loaded model."""
        self._find(name)
        self._default = name if name != DEFAULT else self._default

    async def load(
        self,
        model: str = registry.TINY,
        name: str | None = None,
        engine: str = "auto",
        options: JsonObject | None = None,
        progress: Progress | None = None,
    ) -> ModelInfo:
        """Load `model` and serve it as `name`; one of the same name is replaced, after its memory is freed. Without a
        name a remote one is served as its server calls it.

        options: of the engine; `chat_template`: a Jinja file instead of the model's; `worker` (bool): whether the
        engine runs in a process of its own; `tool_text`: "auto" reads the calls in a model's text, "off" leaves them;
        `call_style`: how a local one calls the shell (`chat/styles.py`);
        and for a remote model `remote_url` (several separated by commas), `remote_api_key`, `remote_model`,
        `remote_images` (bool: it reads images).
        Raises the errors of the engine and of `registry.resolve_model`.
        """
        options = dict(options or {})
        if engine not in (engines.AUTO, engines.REMOTE):
            engines.kind(engine)
        unnamed = _elsewhere(engine, options) and not name and model in (registry.TINY, engines.REMOTE, "")
        served = engines.REMOTE if unnamed else name or registry.served_name(model)
        if served == DEFAULT:
            raise BadRequest("A model cannot be named 'default'; that is an alias.", param="name")

        over = False

        def report(fraction: float, stage: str) -> None:
            if over:  # an engine that died and loads again: `status` shows its trouble until it is back
                return
            self._loading = now = HubStatus("loading", served, fraction, stage)
            if progress is not None:
                progress(fraction, self._timed(now).stage)

        coming = _Coming(served, asyncio.get_running_loop().create_future())
        self._coming.append(coming)
        failed: Exception | None = None
        try:
            async with self._lock:
                try:
                    return await self._load(model, served, engine, options, report, unnamed=unnamed)
                finally:
                    over, self._loading = True, None
        except Exception as error:
            failed = error
            raise
        finally:
            self._coming.remove(coming)
            coming.done.set_result(failed)

    async def _load(
        self, model: str, served: str, engine: str, options: JsonObject, report: Progress, *, unnamed: bool
    ) -> ModelInfo:
        self._begun = time.monotonic()  # what waited for another model's loading is not this one's
        report(0.0, "starting")
        try:
            if served in self._entries:
                await self._close(served)
            if _elsewhere(engine, options):
                entry = _Entry(await remote_model(model, None if unnamed else served, options), None)
                if unnamed and entry.model.info.name != DEFAULT:
                    served = entry.model.info.name
                    if served in self._entries:
                        await self._close(served)
            else:
                entry = await self._local(model, served, engine, options, report)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if self._entries:  # an event, and no trouble of what is served
                log.warning("the model %s was not loaded: %s", served, error)
            else:
                self._failed = HubStatus("degraded", served, error=str(error))
            raise
        self._failed = None
        self._entries[served] = entry
        self._default = self._default or served
        _warn_of_context(entry.model.info)
        return entry.model.info

    async def unload(self, name: str) -> None:
        """Stop serving a model; its requests end as cancelled. NotFound when it is not served."""
        async with self._lock:
            self._find(name)
            await self._close(self._default if name == DEFAULT else name)

    async def close(self) -> None:
        """Unload everything."""
        async with self._lock:
            spare, self._spare = self._spare, None
            if spare is not None:
                await spare.close()
            for name in list(self._entries):
                await self._close(name)

    def status(self) -> HubStatus:
        """One line for /health; trouble of any model that is served wins."""
        loading = self._timed(self._loading) if self._loading is not None else None
        if not self._entries:
            return loading or self._failed or HubStatus("idle")
        for name, entry in self._entries.items():
            trouble = getattr(entry.engine, "trouble", "") or self._stalled(name, entry.model.stats())
            if trouble:
                return HubStatus("degraded", name, error=trouble)
        return HubStatus("ready", self._default, 1.0, f"loading {loading.model}: {loading.stage}" if loading else "")

    def _timed(self, loading: HubStatus) -> HubStatus:
        """With the time it took so far, of now and not of the last report: compiling an extension reports nothing for
        minutes."""
        seconds = time.monotonic() - self._begun
        return replace(loading, stage=f"{loading.stage} ({seconds:.0f} s)") if seconds >= 1 else loading

    def stats(self) -> dict[str, EngineStats]:
        """The engines' numbers by served name; of a model that is loading, how many requests wait for it."""
        waiting = {one.name: EngineStats(queued=one.waiting) for one in self._coming}
        return waiting | {name: entry.model.stats() for name, entry in self._entries.items()}

    def states(self) -> dict[str, str]:
        """By served name: ready, loading, or unloaded (idle; the next request loads it)."""
        loaded = {name: getattr(entry.engine, "state", "ready") for name, entry in self._entries.items()}
        return {one.name: "loading" for one in self._coming} | loaded

    # ------------------------------------------------------------ inside

    async def _close(self, name: str) -> None:
        entry = self._entries.pop(name)
        if self._default == name:
            self._default = next(iter(self._entries), "")
        await entry.model.close()

    def _stalled(self, name: str, stats: EngineStats) -> str:
        """Why the engine seems to hang: requests were running at every look for STALLED_S, and no token came."""
        now = time.monotonic()
        if not stats.active:
            self._busy_since.pop(name, None)
            return ""
        quiet = now - max(self._busy_since.setdefault(name, now), stats.last_token_at)
        return f"{stats.active} requests are running and no token came for {quiet:.0f} s." if quiet > STALLED_S else ""

    async def _local(self, model: str, served: str, engine: str, options: JsonObject, report: Progress) -> _Entry:
        path = await asyncio.to_thread(
            registry.resolve_model, model, _part(report, 0.0, 0.5), self._models, engine == engines.AUTO
        )
        source = await asyncio.to_thread(ModelSource.of, path)
        chosen = await asyncio.to_thread(engines.chosen, engine, source)
        chosen.check()
        if source.path == registry.tiny_file():
            options = {**registry.TINY_OPTIONS, **options}
        if isinstance(options.get("draft_model"), str) and options["draft_model"]:
            # A hub id, as the model itself may be; what is no model at all is refused before the large one is read.
            try:
                draft = await asyncio.to_thread(
                    registry.resolve_model, options["draft_model"], _part(report, 0.5, 0.5), self._models
                )
            except (BadRequest, NotFound) as error:
                error.param = "draft_model"
                raise
            options["draft_model"] = str(draft)
        template = await asyncio.to_thread(take_template, options)
        calls = take_calls(options)
        spare = None
        if worker := take_flag(options, "worker", self._worker):
            spare, self._spare = self._spare, None
        built = make_engine(chosen.name, worker, spare)
        if self._idle_unload:
            built = IdleEngine(built, self._idle_unload)
        # A fifth of a second of imports, while the engine reads its weights.
        importing = asyncio.create_task(asyncio.to_thread(import_module, "skilldeck_daemon.engine.chat.model"))
        try:
            info = await built.load(ModelSpec(str(source.path), served, options), _part(report, 0.5, 1.0))
            if source.path == registry.tiny_file():
                info = replace(info, description=registry.TINY_DESCRIPTION)
            await importing
            chat: ChatModel
            if built.caps.embeds:
                from skilldeck_daemon.engine.chat.embedding import EmbeddingModel

                chat = await asyncio.to_thread(EmbeddingModel, built, source.path, info)
            else:
                from skilldeck_daemon.engine.chat.model import TokenChatModel

                chat = await asyncio.to_thread(
                    TokenChatModel, built, str(source.path), info, template=template, **calls
                )
        except BaseException:
            await built.unload()
            raise
        return _Entry(chat, built)


def make_engine(name: str, worker: bool, spare: Child | None = None) -> Engine:
    """An engine that has loaded nothing yet; `worker` puts it into a process of its own, which may be there already."""
    if worker:
        from skilldeck_daemon.engine.process.worker import WorkerEngine

        return WorkerEngine(name, spare=spare)
    return engines.kind(name).make()


def _elsewhere(engine: str, options: Mapping[str, Any]) -> bool:
    """Whether another server is to run the model."""
    return engine == engines.REMOTE or (engine == engines.AUTO and bool(options.get("remote_url")))


def _part(report: Progress, low: float, high: float) -> Progress:
    """Progress of one part of a whole."""
    return lambda fraction, stage: report(low + (high - low) * fraction, stage)


def _warn_of_context(info: ModelInfo) -> None:
    """Say at once what a request will only meet when it is too long."""
    if info.context < info.longest:
        cure = info.lengthening
        log.warning("%s is served with %d tokens of context: to change that, %s", info.name, info.context, cure)

"""What a subscriber sees: one snapshot, then every change, with the daemon's status once a second.

Subscribing to the bus comes before the snapshot, so nothing falls between them; a change that the snapshot already
holds is harmless (an object replaces itself). A subscriber that falls behind gets a new snapshot on the same stream.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from skilldeck_daemon.agent.admission import CallerShare
from skilldeck_daemon.engine.base import ModelInfo
from skilldeck_daemon.libraries.bus import Change, SubscriberBehind, Subscription
from skilldeck_daemon.rpc.coalesce import Coalescer
from skilldeck_daemon.rpc.handling import dump
from skilldeck_shared.json_types import JsonObject
from skilldeck_shared.proto import control_pb2 as pb
from skilldeck_shared.version import __version__

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services

STATUS_SECONDS = 1.0
SHOWN = 1000
SHOWN_RUNS = 50


class ModelObject(TypedDict):
    """The Model of HTTP with what a person wants to know of it. `aliases` are its further names."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    engine: str
    state: str
    family: str
    context: int
    parameters: int
    quantization: str
    size: int
    licence: str
    path: str
    description: str
    aliases: list[str]


class DaemonStatus(TypedDict):
    """The daemon at one moment. `models` are {name, engine, state} with the figures of `EngineStats`."""

    version: str
    instance: str
    pid: int
    started_at: int
    http_url: str
    data_dir: str
    state: str
    detail: str
    fraction: float
    sandbox: str
    permission: str
    runs_active: int
    callers: list[CallerShare]
    approvals_pending: int
    watched_versions: int
    default_model: str
    models: list[JsonObject]


class State:
    """The subscribable state of one daemon; a status ticker runs while anybody subscribes."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._subscribers = 0
        self._ticker: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def updates(self) -> AsyncIterator[AsyncIterator[pb.Update]]:
        """The messages of one Subscribe call."""
        self._subscribers += 1
        if self._ticker is None:
            self._ticker = asyncio.create_task(self._tick())
        try:
            async with aclosing(self._updates()) as updates:
                yield updates
        finally:
            self._subscribers -= 1
            if self._subscribers == 0:
                await self.close()

    async def close(self) -> None:
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            ticker.cancel()
            with suppress(asyncio.CancelledError):
                await ticker

    async def _updates(self) -> Any:
        while True:
            async with self._services.bus.subscribe() as changes:
                yield pb.Update(snapshot=await self.snapshot())
                try:
                    async with aclosing(Coalescer(_each(changes), _key, _newest)) as merged:
                        async for change in merged:
                            yield pb.Update(
                                change=pb.Change(
                                    topic=change.topic,
                                    action=change.action,
                                    id=change.id,
                                    json=dump(change.object) if change.object is not None else "",
                                )
                            )
                except SubscriberBehind:
                    continue

    async def snapshot(self) -> pb.Snapshot:
        services = self._services

        async def listed(library: Any, limit: int = SHOWN) -> list[str]:
            return [dump(item) for item in (await library.list(limit=limit)).data]

        return pb.Snapshot(
            instance=services.instance,
            status_json=dump(self.status()),
            skills_json=await listed(services.skills),
            files_json=await listed(services.files),
            runs_json=await listed(services.runs, SHOWN_RUNS),
            sessions_json=await listed(services.conversations),
            containers_json=await listed(services.environments),
            approvals_json=[dump(approval) for approval in services.approvals.list()],
            models_json=[dump(model) for model in self.models()],
            disk_skills_json=[dump(skill) for skill in await services.disk.list()],
        )

    def models(self) -> list[ModelObject]:
        """The loaded models, the default one first."""
        aliases = self._services.models.aliases
        return [model_object(info, aliases) for info in self._services.models.list()]

    def status(self) -> DaemonStatus:
        """The daemon at this moment, without rates that change while nothing happens."""
        services, hub = self._services, self._services.models
        health, stats, states = hub.status(), hub.stats(), hub.states()
        engines = {info.name: info.engine for info in hub.list()}
        ready = {"idle": "ready", "loading": "starting"}.get(health.state, health.state)
        trouble = services.store.trouble()
        if trouble and ready == "ready":
            ready = "degraded"
        return {
            "version": __version__,
            "instance": services.instance,
            "pid": os.getpid(),
            "started_at": int(services.started_at),
            "http_url": services.http_url,
            "data_dir": str(services.settings.data_dir),
            "state": ready,
            "detail": health.error or trouble or health.stage,
            "fraction": round(health.fraction, 3),
            "sandbox": str(services.settings.sandbox),
            "permission": services.approvals.permission,
            "runs_active": services.runs.active,
            "callers": services.admission.shown(),
            "approvals_pending": len(services.approvals.list()),
            "watched_versions": services.settings.watched_versions,
            "default_model": hub.default,
            "models": [
                {"name": name, "engine": engines.get(name, ""), "state": state, **asdict(stats[name])}
                for name, state in states.items()
                if name in stats
            ],
        }

    async def _tick(self) -> None:
        publish = self._services.bus.publish
        last: DaemonStatus | None = None
        known = {model["id"]: model for model in self.models()}
        while True:
            # The engines know nothing of subscribers, so a model that was loaded or died is noticed here.
            models = {model["id"]: model for model in self.models()}
            for name in known.keys() - models.keys():
                publish("model", "delete", name)
            for name, model in models.items():
                if known.get(name) != model:
                    publish("model", "put", name, model)
            known = models
            status = self.status()
            if status != last:
                last = status
                publish("status", "put", "", status)
            await asyncio.sleep(STATUS_SECONDS)


def model_object(info: ModelInfo, aliases: Mapping[str, str]) -> ModelObject:
    """`aliases`: further names, each with the served one that it stands for."""
    return {
        "id": info.name,
        "object": "model",
        "created": info.created,
        "owned_by": "skilldeck",
        "engine": info.engine,
        "state": "ready",
        "family": info.family,
        "context": info.context,
        "parameters": info.parameters,
        "quantization": info.quantization,
        "size": info.size,
        "licence": info.licence,
        "path": info.path,
        "description": info.description,
        "aliases": sorted(alias for alias, name in aliases.items() if name == info.name),
    }


async def _each(changes: Subscription) -> AsyncIterator[Change]:
    async for change in changes:
        yield change


def _key(change: Change) -> tuple[str, str] | None:
    # Questions and deletions go out at once; of a thing that changes fast the newest state is enough.
    if change.topic == "approval" or change.action == "delete":
        return None
    return change.topic, change.id


def _newest(changes: list[Change]) -> Change:
    return changes[-1]

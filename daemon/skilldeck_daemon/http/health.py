"""/health (200 only when tokens can flow) and /metrics (Prometheus)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import JSONResponse, Response

from skilldeck_shared.version import __version__

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services
    from skilldeck_daemon.engine.base import EngineStats


def router(services: Services) -> APIRouter:
    """The routes; they stand at the root, not under /v1."""
    api = APIRouter(tags=["health"])
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(services))

    @api.get("/health")
    async def health() -> Response:
        status = services.models.status()
        ready = status.state == "ready"
        sandbox = services.environments.unavailable
        body = {
            "status": "ok" if ready else status.state,
            "version": __version__,
            "model": status.model,
            "progress": round(status.fraction, 3),
            "stage": status.stage,
            "error": status.error or None,
            "engines": {name: _engine(stats) for name, stats in services.models.stats().items()},
            "sandbox": "ok" if sandbox is None else str(sandbox),
        }
        return JSONResponse(body, 200 if ready else 503)

    @api.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    return api


class _Numbers(Collector):
    """Read at every scrape from those who count; nothing is counted twice."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        services = self._services
        yield _gauge("runs_active", "Runs that have not ended.", services.runs.active)
        yield _gauge("approvals_pending", "Calls that wait for a person.", len(services.approvals.list()))
        containers = services.environments.containers.stats()
        for name in ("open", "running", "busy", "restarts"):
            yield _gauge(f"containers_{name}", f"Containers: {name}.", containers[name])
        yield _gauge("disk_free_bytes", "Free disk where containers live.", containers["disk_free_bytes"])
        for name, about in (
            ("active", "Requests that generate."),
            ("queued", "Requests that wait."),
            ("cache_used", "Fraction of the KV cache that is in use."),
            ("tokens_per_s", "Tokens decoded per second, lately."),
            ("prefill_per_s", "Prompt tokens per second, lately."),
            ("device_memory_used", "Bytes of device memory in use."),
            ("device_memory_total", "Bytes of device memory."),
        ):
            family = GaugeMetricFamily(f"skilldeck_engine_{name}", about, labels=["model"])
            for model, stats in services.models.stats().items():
                family.add_metric([model], getattr(stats, name))
            yield family


def _engine(stats: EngineStats) -> dict[str, Any]:
    """How one engine gets on: `token_age_s` seconds ago it made its last token or read a piece of a prompt."""
    age = round(time.monotonic() - stats.last_token_at, 1) if stats.last_token_at else None
    return {
        "active": stats.active,
        "queued": stats.queued,
        "tokens_per_s": round(stats.tokens_per_s, 1),
        "token_age_s": age,
    }


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"skilldeck_{name}", about, value=value)

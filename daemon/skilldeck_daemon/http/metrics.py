"""/metrics for Prometheus: what the runs counted (`agent/accounts/metrics.py`), and what is there when it is asked for.

As text, or as OpenMetrics for those who accept it. A key is required where the API requires one. docs/observability.md
lists the names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from skilldeck_daemon.http.routing import Routes
from skilldeck_shared.version import __version__

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services
    from skilldeck_daemon.store import Counts

ENGINE = (
    ("active", "active", "Requests that generate."),
    ("queued", "queued", "Requests that wait."),
    ("slots", "max_batch", "Requests that may generate at once."),
    ("cache_used_ratio", "cache_used", "Part of the KV cache that is in use, 0 to 1."),
    ("decode_tokens_per_second", "tokens_per_s", "Tokens written per second, over the last seconds."),
    ("prefill_tokens_per_second", "prefill_per_s", "Prompt tokens read per second, over the last seconds."),
    ("device_memory_used_bytes", "device_memory_used", "Device memory in use."),
    ("device_memory_total_bytes", "device_memory_total", "Device memory."),
)


def router(services: Services) -> Routes:
    """The route; it stands at the root, not under /v1."""
    api = Routes()
    # Series that say when a counter began would double the text.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    fixed = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=fixed)

    @api.get("/metrics")
    async def metrics(request: Request) -> Response:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Now(services, await services.store.counts()))
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        joined = _Joined(services.metrics.registry, registry, fixed)
        return Response(encode(joined), headers={"content-type": media_type})

    return api


class _Joined(CollectorRegistry):
    """Several registries as one."""

    def __init__(self, *registries: CollectorRegistry) -> None:
        super().__init__(auto_describe=False)
        self._registries = registries

    def collect(self) -> Iterator[Metric]:
        for registry in self._registries:
            yield from registry.collect()


class _Now(Collector):
    """How things stand, read from those who know."""

    def __init__(self, services: Services, counts: Counts) -> None:
        self._services = services
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        services, counts = self._services, self._counts
        info = GaugeMetricFamily("skilldeck_build_info", "The daemon's version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield _gauge("uptime_seconds", "Since the daemon started.", time.time() - services.started_at)
        ready = services.models.status().state == "ready"
        yield _gauge("ready", "1 when tokens can flow, as /health says.", int(ready))
        yield _gauge("runs_active", "Runs that have not ended.", services.runs.active)
        yield _gauge("responses_stored", "Responses that can be retrieved.", counts.responses)
        yield _gauge("approvals_pending", "Calls that wait for a person.", len(services.approvals.list()))
        stalls = services.stalls
        yield _counter("loop_stalls", "Times the event loop stood still for over 250 ms.", stalls.count)
        yield _counter("loop_stall_seconds", "Seconds of those times.", stalls.seconds)
        yield _gauge("loop_stall_longest_seconds", "The longest of them.", stalls.longest)
        yield _counter("requests_refused", "Refused because their key had its share.", services.admission.refused)
        yield from self._containers()
        yield _gauge("skills", "Skills in the library.", counts.skills)
        yield _gauge("skill_versions", "Versions of all skills.", counts.skill_versions)
        yield _gauge("files", "Uploaded files.", counts.files)
        yield _gauge("files_bytes", "Bytes of all uploaded files.", counts.file_bytes)
        engines = services.models.stats()
        for name, field, about in ENGINE:
            family = GaugeMetricFamily(f"skilldeck_engine_{name}", about, labels=["model"])
            for model, stats in engines.items():
                family.add_metric([model], getattr(stats, field))
            yield family

    def _containers(self) -> Iterator[Metric]:
        stats = self._services.environments.containers.stats()
        yield _gauge("containers_open", "Containers that are open.", stats["open"])
        yield _gauge("containers_running", "Containers whose sandbox is up.", stats["running"])
        yield _gauge("containers_busy", "Containers in which a call runs.", stats["busy"])
        yield _gauge("containers_limit", "Containers that may be open at once.", stats["max_containers"])
        yield _gauge("disk_free_bytes", "Free disk where containers live.", stats["disk_free_bytes"])
        yield _counter("container_starts", "Sandboxes that were started.", stats["starts"])
        yield _counter("container_restarts", "Sandboxes that died and were started again.", stats["restarts"])


def _counter(name: str, about: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"skilldeck_{name}", about, value=value)


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"skilldeck_{name}", about, value=value)

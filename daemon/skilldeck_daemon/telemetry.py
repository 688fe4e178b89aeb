"""Where traces go: to the collector that OpenTelemetry's own variables name, or with a program's other spans.

Off unless one of OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_TRACES_EXPORTER is set; then
the standard variables count (headers, timeout, certificates, sampler, resource, batch sizes, OTEL_SDK_DISABLED), and
spans leave in batches from a thread of the SDK. What keeps traces from being written is written to the log and stops
nothing else.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from importlib.metadata import entry_points

from skilldeck_daemon.agent.accounts.traces import NAME, Tracing
from skilldeck_shared.version import __version__

log = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
INSTALL = "pip install 'skilldeck[daemon,otel]'"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


def from_environment() -> Tracing | None:
    """An exporter of the daemon's own, as the variables say; None when they say none."""
    exporter = _variable("OTEL_TRACES_EXPORTER") or ("otlp" if any(map(_variable, ENDPOINTS)) else "none")
    if exporter == "none" or _variable("OTEL_SDK_DISABLED").lower() == "true":
        return None
    try:
        return _exporting(exporter)
    except ImportError as error:
        log.error("traces are off: %s is not installed. Install it: %s", error.name or error, INSTALL)
    except Exception as error:
        log.error("traces are off: %s", error)
    return None


def of_program() -> Tracing | None:
    """The tracer of the program this runs in, when it has set one up; its owner closes it."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    return Tracing(trace.get_tracer(NAME, __version__), lambda: None)


def _exporting(exporter: str) -> Tracing:
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = exporter
    if exporter == "otlp":
        protocol = (
            _variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            or _variable("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"
        )
        if protocol not in PROTOCOLS:
            raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}; it may be {' or '.join(PROTOCOLS)}.")
        name = PROTOCOLS[protocol]
    found = list(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found:
        raise ImportError(f"the exporter {name!r}", name=f"the OpenTelemetry exporter {name!r}")
    service = _variable("OTEL_SERVICE_NAME") or NAME
    resource = Resource.create({SERVICE_NAME: service, SERVICE_VERSION: __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(found[0].load()()))
    log.info("traces are exported with %s", name)

    def close() -> None:
        # A collector that does not answer must not keep the daemon from ending.
        closing = threading.Thread(target=provider.shutdown, name="traces-end", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    return Tracing(provider.get_tracer(NAME, __version__), close)


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()

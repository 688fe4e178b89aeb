"""Traces of runs, as a collector on loopback receives them and as another program's tracer does."""

from __future__ import annotations

import builtins
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from skilldeck_daemon import telemetry
from support.collector import Collector, Span
from support.daemon import SHELL, running
from support.scripted_model import Call, Fail, ScriptedModel, Turn, shell, usage

SECRETS = ("prompt-word", "command-word", "answer-word")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


def tree(spans: list[Span], parent: str = "") -> list[Any]:
    """[name, [children]] in the order they began; children lie within their parents."""
    found = []
    for span in sorted((span for span in spans if span.parent == parent), key=lambda span: span.start):
        for child in spans:
            if child.parent == span.id:
                assert span.start <= child.start <= child.end <= span.end, (span, child)
        found.append([span.name, tree(spans, span.id)])
    return found


async def test_a_run_is_a_trace_of_rounds_prefills_and_calls(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=deck")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    turns = [
        Turn(shell("echo command-word", "exit 3"), shell("sleep 60", timeout_ms=50), usage=usage(100, 20, cached=60)),
        Turn(Call("shell", "{")),
        Turn("answer-word"),
    ]
    async with running(*turns) as daemon:
        response = await daemon.respond("prompt-word", tools=[SHELL])
    # The daemon has ended: everything was sent.
    begin = ["prefill", []], ["decode", []]
    assert tree(collector.spans) == [
        [
            "invoke_agent skilldeck",
            [
                ["round", [*begin, ["execute_tool shell", []], ["execute_tool shell", []]]],
                ["round", [*begin, ["execute_tool shell", []]]],
                ["round", [*begin]],
            ],
        ]
    ]
    assert len({span.trace for span in collector.spans}) == 1
    run = next(span for span in collector.spans if not span.parent)
    assert run.attributes["gen_ai.response.id"] == response["id"]
    assert (run.attributes["gen_ai.request.model"], run.attributes["skilldeck.run.status"]) == ("scripted", "completed")
    assert run.attributes["gen_ai.usage.cache_read.input_tokens"] == 60
    rounds = sorted((span for span in collector.spans if span.name == "round"), key=lambda span: span.start)
    assert [span.attributes["skilldeck.round"] for span in rounds] == [1, 2, 3]
    assert rounds[0].attributes["gen_ai.usage.output_tokens"] == 20
    calls = sorted((s for s in collector.spans if s.name == "execute_tool shell"), key=lambda span: span.start)
    assert [(s.attributes["skilldeck.tool.outcome"], s.failed) for s in calls] == [
        ("completed", False),
        ("timeout", True),
        ("invalid", True),
    ]
    assert [s.attributes.get("skilldeck.shell.exit_codes") for s in calls] == [[0, 3], [124], None]
    assert collector.resource["service.name"] == "skilldeck"
    assert collector.resource["deployment.environment.name"] == "test"
    assert collector.headers["x-team"] == "deck"
    assert not [word for word in SECRETS if word in str(collector.spans)]


async def test_a_clients_traceparent_is_the_runs_parent_and_a_failure_shows(collector: Collector) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with running(Fail(400, "bad"), Turn("fine"), Turn("later")) as daemon:
        for headers in ({"traceparent": parent}, {"traceparent": "nonsense"}, {}):
            body = {"model": "default", "input": "go"}
            await daemon.http.post("/responses", json=body, headers=headers)
    failed, fine, later = sorted(
        (span for span in collector.spans if span.name == "invoke_agent skilldeck"), key=lambda span: span.start
    )
    assert (failed.trace, failed.parent) == (parent[3:35], parent[36:52])
    assert failed.failed
    assert failed.attributes["error.type"]
    assert (fine.parent, later.parent) == ("", "")
    assert fine.trace != later.trace


async def test_nothing_is_sent_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert telemetry.from_environment() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    for name, value in (("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert telemetry.from_environment() is None


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon", "http/protobuf or grpc"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "zipkin"),
    ],
)
async def test_what_cannot_be_is_told_and_the_daemon_runs(
    variable: str,
    value: str,
    told: str,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(variable, value)
    async with running(Turn("fine")) as daemon:
        await daemon.respond()
    (message,) = [message for message in caplog.messages if "traces are off" in message]
    assert told in message
    assert collector.spans == []


async def test_without_the_packages_the_log_names_the_command(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry.sdk"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with caplog.at_level(logging.ERROR):
        assert telemetry.from_environment() is None
    assert telemetry.INSTALL in caplog.text


async def test_a_collector_that_is_gone_costs_the_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    async with running(Turn("fine")) as daemon:
        assert (await daemon.respond())["status"] == "completed"


def test_a_runners_runs_join_the_trace_of_its_program() -> None:
    program = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from skilldeck_daemon import Runner

kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
with Runner("", engine="remote", remote_url=sys.argv[1]) as runner:
    with trace.get_tracer("mine").start_as_current_span("outer") as outer:
        runner.run("hello")
found = {span.name: span for span in kept.get_finished_spans()}
assert found["invoke_agent skilldeck"].parent.span_id == outer.get_span_context().span_id, found
print(sorted(found))
"""
    with ScriptedModel(Turn("hello")) as model:
        done = subprocess.run(
            [sys.executable, "-c", program, model.url], capture_output=True, text=True, timeout=120, check=False
        )
    assert done.stdout.strip() == "['decode', 'invoke_agent skilldeck', 'outer', 'prefill', 'round']", done.stderr

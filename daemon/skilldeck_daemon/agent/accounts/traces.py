"""A trace of each run: spans made of its account when it is over, in a thread of their own.

    invoke_agent skilldeck                 the run
    └─ round                               one turn of the model and the calls it made
       ├─ prefill, decode                  as the engine measured them
       └─ execute_tool shell               a call; waiting for permission included

Names and attributes follow OpenTelemetry's conventions for generative AI; none holds text of a prompt, a command or an
output. A run is a child of the caller's span: of the `traceparent` that HTTP clients send (`PARENT`), else of the
current one of the program it runs in. What has not been exported when the process dies is lost.

opentelemetry is imported only where there is a tracer.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skilldeck_daemon.agent.accounts.account import Account, Entry
from skilldeck_daemon.store.run_records import CallEntry

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

PARENT: ContextVar[str] = ContextVar("traceparent", default="")
"""The W3C traceparent of the request that is being answered."""
NAME = "skilldeck"
FAULTS = ("failed", "timeout", "invalid")
TIMEOUT_CODE = 124
"""What stands for the exit code of a command that was killed for its time: that of timeout(1)."""
Attributes = dict[str, Any]


@dataclass(frozen=True)
class Tracing:
    """Where spans go. `close` exports what is left; it blocks for a bounded time."""

    tracer: Tracer
    close: Callable[[], None]


class Traces:
    """Writes the traces of one daemon or runner.

    Args:
        source: finds out where spans go, None when nowhere; called by `open`.
    """

    def __init__(self, source: Callable[[], Tracing | None]) -> None:
        self._source = source
        self._tracing: Tracing | None = None
        self._writer: ThreadPoolExecutor | None = None

    def open(self) -> None:
        self._tracing = self._source()
        if self._tracing is not None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="traces")

    async def close(self) -> None:
        """Every run whose account was taken is exported when this returns, if the collector takes it."""
        tracing, writer = self._tracing, self._writer
        self._tracing = self._writer = None
        if tracing is not None and writer is not None:
            await asyncio.to_thread(writer.shutdown)
            await asyncio.to_thread(tracing.close)

    def observe(self, account: Account) -> None:
        """Trace a run that is over; returns at once."""
        if self._tracing is not None and self._writer is not None:
            # The caller's span is found in the context of the run's task.
            self._writer.submit(contextvars.copy_context().run, write, self._tracing.tracer, account)


def write(tracer: Tracer, account: Account) -> None:
    """Make the spans of a run."""
    from opentelemetry import trace

    def under(parent: Span) -> Context:
        return trace.set_span_in_context(parent)

    run = tracer.start_span(
        f"invoke_agent {NAME}",
        context=_callers(),
        attributes=_of_run(account),
        start_time=_ns(account.started),
    )
    if account.error is not None:
        run.set_status(trace.StatusCode.ERROR, account.error)
    for number, entries in enumerate(account.rounds, 1):
        begun, ended = entries[0]["start"], entries[-1]["end"]
        round = tracer.start_span(
            "round", context=under(run), attributes=_of_round(account, number, entries[0]), start_time=_ns(begun)
        )
        for entry in entries:
            if entry["kind"] == "call":
                span = tracer.start_span(
                    f"execute_tool {entry['tool']}",
                    context=under(round),
                    attributes=_of_call(entry),
                    start_time=_ns(entry["start"]),
                )
                if entry["outcome"] in FAULTS:
                    span.set_status(trace.StatusCode.ERROR, entry["outcome"])
                span.end(_ns(entry["end"]))
            elif entry["finish"] not in ("cancelled", "error"):
                written = max(begun, entry["end"] - entry["decode_s"])
                read = max(begun, written - entry["prefill_s"])
                attributes = {"gen_ai.usage.input_tokens": entry["input_tokens"], **_cached(entry["cached_tokens"])}
                tracer.start_span("prefill", under(round), attributes=attributes, start_time=_ns(read)).end(
                    _ns(written)
                )
                attributes = {"gen_ai.usage.output_tokens": entry["output_tokens"]}
                span = tracer.start_span("decode", under(round), attributes=attributes, start_time=_ns(written))
                span.end(_ns(entry["end"]))
        round.end(_ns(ended))
    run.end(_ns(account.ended))


def _callers() -> Context | None:
    """The context of the caller's span; None stands for the current one."""
    if not PARENT.get():
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": PARENT.get()})


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _cached(tokens: int) -> Attributes:
    return {"gen_ai.usage.cache_read.input_tokens": tokens}


def _of_run(account: Account) -> Attributes:
    attributes: Attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": NAME,
        "gen_ai.agent.name": NAME,
        "gen_ai.request.model": account.model,
        "gen_ai.response.id": account.id,
        "gen_ai.conversation.id": account.session,
        "gen_ai.usage.input_tokens": account.usage.input_tokens,
        "gen_ai.usage.output_tokens": account.usage.output_tokens,
        **_cached(account.usage.cached_tokens),
        "skilldeck.run.status": account.status,
        "skilldeck.run.background": account.background,
        "skilldeck.run.rounds": len(account.rounds),
    }
    if account.container_id:
        attributes["skilldeck.container.id"] = account.container_id
    if account.skills:
        attributes["skilldeck.skills"] = [f"{name}@{version}" for name, version in account.skills]
    if account.error is not None:
        attributes["error.type"] = account.error
    return attributes


def _of_round(account: Account, number: int, turn: Entry) -> Attributes:
    if turn["kind"] != "turn":
        return {"skilldeck.round": number}
    return {
        "skilldeck.round": number,
        "gen_ai.request.model": account.model,
        "gen_ai.response.finish_reasons": [turn["finish"]],
        "gen_ai.usage.input_tokens": turn["input_tokens"],
        "gen_ai.usage.output_tokens": turn["output_tokens"],
        **_cached(turn["cached_tokens"]),
    }


def _of_call(entry: CallEntry) -> Attributes:
    attributes: Attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": entry["tool"],
        "gen_ai.tool.call.id": entry["call_id"],
        "skilldeck.tool.outcome": entry["outcome"],
    }
    if "asked_s" in entry:
        attributes["skilldeck.approval.wait_seconds"] = entry["asked_s"]
    if "exit_codes" in entry:
        attributes["skilldeck.shell.exit_codes"] = [
            TIMEOUT_CODE if code is None else code for code in entry["exit_codes"]
        ]
    if entry["outcome"] in FAULTS:
        attributes["error.type"] = entry["outcome"]
    return attributes

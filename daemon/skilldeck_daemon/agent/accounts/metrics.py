"""Numbers of the runs for Prometheus: counted when a run is over, from its account, and nowhere on the way.

Labels are of few values: served models, tools by their type, outcomes, skills of the library. What is there now
(live runs, containers, engines) is read where it is when it is asked for (`http/metrics.py`). Counts begin at zero with
the daemon.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from skilldeck_daemon.agent.accounts.account import Account
from skilldeck_daemon.store.run_records import CallEntry

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
ROUNDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 100)


class Metrics:
    """The counters of one daemon; `registry` holds them."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=False)

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"skilldeck_{name}", about, labels, registry=registry)

        def histogram(name: str, about: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"skilldeck_{name}", about, labels, buckets=buckets, registry=registry)

        self._runs = counter("runs", "Runs that have ended.", "model", "status")
        self._run_seconds = histogram("run_duration_seconds", "From a run's start to its end.", "model")
        self._rounds = histogram("run_rounds", "Turns of the model in a run.", "model", buckets=ROUNDS)
        self._tokens = counter(
            "tokens", "Tokens by type; cached ones are among input, reasoning among output.", "model", "type"
        )
        self._prefill = histogram("prefill_seconds", "Reading a turn's prompt.", "model")
        self._decode = histogram("decode_seconds", "Writing a turn's answer.", "model")
        self._calls = counter("tool_calls", "Tool calls carried out here, by outcome.", "tool", "outcome")
        self._call_seconds = histogram("tool_call_duration_seconds", "Tool calls, waiting for approval apart.", "tool")
        self._asked = histogram("approval_wait_seconds", "How long calls waited for permission.", "tool")
        self._commands = counter("commands", "Shell commands, by outcome.", "outcome")
        self._skills = counter("skill_runs", "Runs that were given a skill of the library.", "skill")

    def observe(self, account: Account) -> None:
        """Count a run that is over."""
        model = account.model
        self._runs.labels(model, account.status).inc()
        self._run_seconds.labels(model).observe(account.ended - account.started)
        turns = account.turns
        self._rounds.labels(model).observe(len(turns))
        used = account.usage
        for kind, tokens in (
            ("input", used.input_tokens),
            ("cached", used.cached_tokens),
            ("output", used.output_tokens),
            ("reasoning", used.reasoning_tokens),
        ):
            self._tokens.labels(model, kind).inc(tokens)
        for turn in turns:
            if turn["finish"] not in ("cancelled", "error"):
                self._prefill.labels(model).observe(turn["prefill_s"])
                self._decode.labels(model).observe(turn["decode_s"])
        for entry in account.timeline:
            if entry["kind"] == "call":
                self._call(entry)
        for name in {name for name, _ in account.skills}:
            self._skills.labels(name).inc()

    def _call(self, entry: CallEntry) -> None:
        tool, asked = entry["tool"], entry.get("asked_s", 0.0)
        self._calls.labels(tool, entry["outcome"]).inc()
        self._call_seconds.labels(tool).observe(max(0.0, entry["end"] - entry["start"] - asked))
        if "asked_s" in entry:
            self._asked.labels(tool).observe(asked)
        for code in entry.get("exit_codes", ()):
            self._commands.labels("timeout" if code is None else "ok" if code == 0 else "error").inc()

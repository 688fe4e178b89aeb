"""A recorded run of the bundled model with a skill: what was streamed then is still a valid stream."""

from __future__ import annotations

import json
from pathlib import Path

from support.ordering import check_stream

RECORDING = Path(__file__).parents[2] / "data/run.jsonl"


def test_the_recorded_run_keeps_every_rule_of_a_stream() -> None:
    events = [json.loads(line) for line in RECORDING.read_text(encoding="utf-8").splitlines()]
    check_stream(events)
    items = [item["type"] for item in events[-1]["response"]["output"]]
    assert items[:4] == ["shell_call", "shell_call_output", "shell_call", "shell_call_output"]
    assert items[-1] == "message"

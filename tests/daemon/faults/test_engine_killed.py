"""The engine's process is killed in the middle of an answer: its stream ends as failed, the next answer is whole."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from support.daemon import running
from support.ordering import check_stream
from support.wait import until

# The grammar holds the model to it: far more tokens than are made before the kill.
LONG = {"type": "array", "items": {"type": "integer"}, "minItems": 400}
FORMAT = {"format": {"type": "json_schema", "name": "long", "schema": LONG}}


def children() -> list[int]:
    """Processes of ours that run the engine."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"skilldeck_daemon.engine" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except (OSError, ValueError):
            continue
    return found


async def test_a_killed_engine_costs_its_answer_and_nothing_else() -> None:
    async with running(load=False, model="tiny", engine_process="on") as daemon:
        await until(lambda: daemon.daemon.services.models.status().state == "ready", 120)
        (engine,) = children()
        body = {"model": "default", "input": "numbers", "stream": True, "text": FORMAT}
        events = []
        async with daemon.http.stream("POST", "/responses", json=body, timeout=120) as answer:
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                events.append(json.loads(line.removeprefix("data: ")))
                if events[-1]["type"] == "response.output_text.delta" and engine:
                    os.kill(engine, signal.SIGKILL)
                    engine = 0
        check_stream(events)
        failed = events[-1]["response"]
        assert (events[-1]["type"], failed["status"], failed["error"]["code"]) == (
            "response.failed",
            "failed",
            "server_error",
        )
        assert (await daemon.http.get(f"/responses/{failed['id']}")).json() == failed
        await until(lambda: daemon.daemon.services.models.status().state == "ready" and bool(children()), 120)
        again = await daemon.respond("hello", max_output_tokens=16)
        assert again["status"] in ("completed", "incomplete")
        assert again["usage"]["output_tokens"] > 0

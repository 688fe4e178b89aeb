"""From the end of a tool call's tokens to the first line of its process, in a real run of the bundled model.

The model reads a skill of ours and runs its script, which prints the clock at once; both clocks are this machine's.
The reference is the same script's first line after starting a bare bwrap. Calls of a run after its first, whose
container is open then; the first is measured apart.
"""

from __future__ import annotations

import asyncio
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from skilldeck_daemon.app import Daemon
from skilldeck_daemon.bench import local
from skilldeck_daemon.bench.measure import Measure, interleaved
from skilldeck_daemon.bench.suites.containers import bare
from skilldeck_shared.errors import Unavailable

SUITE = "Tool round trip"
NAME = "time-stamp"
MANIFEST = f"""---
name: {NAME}
description: Stamps a text file with the time. Use it for notes.
---
# Time stamp

Run the script on the file:

```bash
bash scripts/stamp.sh FILE
```
"""
# Bash knows the time without starting another process.
SCRIPT = 'echo "stamp: $EPOCHREALTIME"\n'
STAMP = re.compile(r"stamp: (\d+\.\d+)")


async def measure(model: str, rounds: int) -> list[Measure]:
    """Milliseconds between the model's last token of a call and the process it starts."""
    with local.temporary_home() as home:
        async with local.in_process(Path(home), model=model) as (daemon, client):
            trip = await _Trip.prepare(daemon, client, Path(home) / "bare")
            samples = await interleaved({"ours": trip.ours, "bare": trip.bare}, rounds)
    return [
        Measure(
            SUITE,
            "end of the call's tokens to its process",
            "ms",
            samples["ours"],
            "bare bwrap to its process",
            samples["bare"],
            goal="≤ 10 ms",
        ),
        Measure(SUITE, "the whole first call of a run, its container's start included", "ms", tuple(trip.first[1:])),
    ]


class _Trip:
    def __init__(self, daemon: Daemon, client: httpx.AsyncClient, body: dict[str, Any], command: list[str]) -> None:
        self._daemon, self._client, self._body, self._command = daemon, client, body, command
        self.first: list[float] = []

    @classmethod
    async def prepare(cls, daemon: Daemon, client: httpx.AsyncClient, home: Path) -> _Trip:
        texts = {"SKILL.md": MANIFEST, "scripts/stamp.sh": SCRIPT}
        parts = [("files", (f"{NAME}/{path}", text.encode())) for path, text in texts.items()]
        skill = await client.post("/skills", files=parts)
        file = await client.post("/files", files={"file": ("note.txt", b"a note\n")}, data={"purpose": "user_data"})
        text = {"type": "input_text", "text": f"Use the {NAME} skill on note.txt"}
        attached = {"type": "input_file", "file_id": file.raise_for_status().json()["id"]}
        reference = {"type": "skill_reference", "skill_id": skill.raise_for_status().json()["id"]}
        tools = daemon.services.environments.containers.tools
        if tools is None:
            raise Unavailable("Commands cannot be sandboxed here.")
        home.mkdir()
        (home / "stamp.sh").write_text(SCRIPT, encoding="utf-8")
        body = {
            "model": "default",
            "temperature": 0,
            "input": [{"role": "user", "content": [text, attached]}],
            "tools": [{"type": "shell", "environment": {"type": "container_auto", "skills": [reference]}}],
        }
        command = [
            tools.bwrap,
            *bare("--ro-bind", str(home), "/mnt"),
            "--",
            "/bin/bash",
            "-c",
            "bash /mnt/stamp.sh note",
        ]
        return cls(daemon, client, body, command)

    async def ours(self) -> float:
        answer = await self._client.post("/responses", json=self._body)
        response = answer.raise_for_status().json()
        outputs = [item for item in response["output"] if item["type"] == "shell_call_output"]
        found = [STAMP.search(output["output"][-1]["stdout"]) for output in outputs]
        spans = (await self._daemon.services.runs.detail(response["id"]))["timeline"]["spans"]
        # A call stands right after the turn that wrote it.
        ends = [(before["end"], span) for before, span in pairwise(spans) if span["kind"] == "call"]
        if len(ends) < 2 or len(ends) != len(found) or found[-1] is None:
            raise Unavailable(f"The model did not run the script: {[output['output'] for output in outputs]}")
        self.first.append((ends[0][1]["end"] - ends[0][0]) * 1000)
        return (float(found[-1].group(1)) - float(ends[-1][0])) * 1000

    async def bare(self) -> float:
        begun = time.time()
        child = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await child.communicate()
        found = STAMP.search(out.decode())
        if found is None:
            raise Unavailable(f"bwrap printed {out!r} (exit status {child.returncode}).")
        return (float(found.group(1)) - begun) * 1000

"""One skill task from the request to the answer, against what a user would pick instead, on the same model.

Ours is the whole product: HTTP, store, a sandboxed container, the model reading the skill and running its script. The
references are given less to do: the very prompts ours renders, as text, and each command in a bare bwrap; no server
for the wheel, no store, no container to start. An answer counts only when it holds what the script printed. Each
repetition is about another file, an invoice of another number, as a person's next question would be.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx

from skilldeck_daemon.agent.planning.plan import Plan
from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.app import Daemon
from skilldeck_daemon.bench import local
from skilldeck_daemon.bench.measure import Measure, interleaved, prepared
from skilldeck_daemon.bench.references import Absent, transformers_serve, wheel
from skilldeck_daemon.bench.suites.containers import bare
from skilldeck_daemon.engine.chat.model import TokenChatModel
from skilldeck_daemon.engine.models import registry
from skilldeck_daemon.store.run_records import Item
from skilldeck_shared.errors import Unavailable
from skilldeck_shared.paths import examples_dir

SUITE = "Skill task"
SKILL = "invoice-check"
MAX_TURNS = 8
MAX_TOKENS = 512
NAMES = ("larkfield", "harbour", "orchard", "mill", "quarry", "bakery", "foundry", "garden", "stable", "tannery")


class NotDone(Unavailable):
    """The task was not carried out; `str` says how it ended."""


class Completes(Protocol):
    """A reference."""

    @property
    def name(self) -> str: ...

    async def complete(self, prompt: str, max_tokens: int) -> str: ...


async def measure(model: str, rounds: int, *, wheel_python: Path | None = None) -> list[Measure]:
    """Seconds for the task: ours, and each reference that can do it here."""
    folder = registry.resolve_model(model)
    with local.temporary_home() as home:
        async with local.in_process(Path(home), model=model) as (daemon, client), contextlib.AsyncExitStack() as stack:
            task = await Task.prepare(daemon, client, Path(home) / "bare")
            arms: dict[str, Callable[[], Awaitable[float]]] = {"ours": prepared(task.ask, task.ours)}
            for name, opening in (
                ("mistralrs, one thread", wheel(folder, wheel_python)),
                ("mistralrs, as it chooses", wheel(folder, wheel_python, threads=0)),
                ("transformers serve", transformers_serve(folder)),
            ):
                try:
                    other: Completes = await stack.enter_async_context(opening)
                    await task.theirs(other, await task.plan())
                except (Absent, NotDone) as error:
                    print(f"{name}: {error}", file=sys.stderr)
                else:
                    arms[name] = prepared(task.plan, partial(task.theirs, other))
            samples = await interleaved(arms, rounds)
    title = f"{SKILL}, from the request to the answer"
    ours = samples.pop("ours")
    goals = {"mistralrs, one thread": "≤ 0.5"}
    if not samples:
        return [Measure(SUITE, title, "s", ours)]
    return [
        Measure(SUITE, title, "s", ours, name, theirs, goal=goals.get(name, "")) for name, theirs in samples.items()
    ]


@dataclass
class Task:
    """The example skill on its sample, ready to be asked for."""

    daemon: Daemon
    client: httpx.AsyncClient
    tools: list[dict[str, Any]]
    home: Path  # of the files, for the bare sandbox
    command: list[str]  # a bare sandbox that lacks its command line
    asked: int = 0

    @classmethod
    async def prepare(cls, daemon: Daemon, client: httpx.AsyncClient, home: Path) -> Task:
        bundle = examples_dir() / SKILL
        paths = [path for path in sorted(bundle.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
        parts = [("files", (path.relative_to(bundle.parent).as_posix(), path.read_bytes())) for path in paths]
        skill = await client.post("/skills", files=parts)
        reference = {"type": "skill_reference", "skill_id": skill.raise_for_status().json()["id"]}
        home.mkdir()
        tools = daemon.services.environments.containers.tools
        if tools is None:
            raise NotDone("Commands cannot be sandboxed here.")
        mounts = ["--bind", str(home), "/mnt/data", "--ro-bind", str(bundle), f"/mnt/skills/{SKILL}"]
        return cls(
            daemon,
            client,
            [{"type": "shell", "environment": {"type": "container_auto", "skills": [reference]}}],
            home,
            [tools.bwrap, *bare(*mounts, "--tmpfs", "/tmp", "--chdir", "/mnt/data")],
        )

    async def ask(self) -> dict[str, Any]:
        """The next request: the sample under a new name, with another number of its invoice."""
        sample = next((examples_dir() / SKILL / "samples").iterdir())
        number, self.asked = self.asked, self.asked + 1
        name = f"{NAMES[number % len(NAMES)]}{number // len(NAMES) or ''}{sample.suffix}"
        text = re.sub(r"(?<=2025-)\d{4}", f"{1000 + 37 * number}", sample.read_text(encoding="utf-8"), count=1)
        (self.home / name).write_text(text, encoding="utf-8")
        file = await self.client.post("/files", files={"file": (name, text)}, data={"purpose": "user_data"})
        attached = {"type": "input_file", "file_id": file.raise_for_status().json()["id"]}
        asked = {"type": "input_text", "text": f"Use the {SKILL} skill on {name}"}
        return {
            "model": "default", "temperature": 0, "input": [{"role": "user", "content": [asked, attached]}],
            "tools": self.tools,
        }  # fmt: skip

    async def plan(self) -> Plan:
        """The next request as the daemon understands it."""
        return await self.daemon.services.plans.build(ResponseRequest.parse(await self.ask()))

    async def ours(self, body: dict[str, Any]) -> None:
        answer = await self.client.post("/responses", json=body)
        response = answer.raise_for_status().json()
        results = [item["output"][-1]["stdout"] for item in response["output"] if item["type"] == "shell_call_output"]
        said = response["output"][-1].get("content") or [{"text": ""}]
        _check("ours", results, said[0]["text"])

    async def theirs(self, other: Completes, plan: Plan) -> None:
        """The same loop with the other's text: render, complete, run what was called, until it answers."""
        model = plan.model
        assert isinstance(model, TokenChatModel)
        items: list[Item] = []
        raw: dict[str, str] = {}
        results: list[str] = []
        for number in range(MAX_TURNS):
            chat = plan.chat(plan.messages(items, raw), tool_choice="auto", max_tokens=MAX_TOKENS)
            text = await other.complete(model.render(chat), MAX_TOKENS)
            call = _call(text)
            if call is None:
                return _check(other.name, results, text)
            call_id = f"call_{number}"
            raw[call_id] = json.dumps(call["arguments"])
            outputs = [await self._run(command) for command in call["arguments"]["commands"]]
            results.append(outputs[-1]["stdout"])
            action = {"commands": call["arguments"]["commands"], "timeout_ms": None, "max_output_length": None}
            made: list[Any] = [
                {"type": "shell_call", "id": f"sh_{number}", "call_id": call_id, "action": action},
                {"type": "shell_call_output", "call_id": call_id, "output": outputs},
            ]
            items += made
        raise NotDone(f"{other.name} was still calling after {MAX_TURNS} turns.")

    async def _run(self, command: str) -> dict[str, Any]:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *self.command, "--", "/bin/bash", "-c", command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        out, err = await child.communicate()
        outcome = {"type": "exit", "exit_code": child.returncode}
        return {"stdout": out.decode(errors="replace"), "stderr": err.decode(errors="replace"), "outcome": outcome}


def _call(text: str) -> dict[str, Any] | None:
    """The shell call in a turn, whether its markers were kept or dropped; None for an answer."""
    start = text.find('{"name"')
    if start < 0 or text[:start].replace("<tool_call>", "").strip():
        return None
    try:
        call: dict[str, Any] = json.JSONDecoder().raw_decode(text[start:])[0]
        return call if call["arguments"]["commands"] else None
    except (ValueError, LookupError, TypeError):
        raise NotDone(f"A call that is none: {text[:200]!r}") from None


def _check(name: str, results: list[str], said: str) -> None:
    printed = [line.strip() for line in (results[-1] if len(results) > 1 else "").splitlines() if line.strip()]
    missing = [line for line in printed if line not in said]
    if not printed or missing:
        raise NotDone(f"{name} ended without the script's result: {said[:200]!r} after {len(results)} calls.")

"""The ways in which `skilldeckd bench --skills` has a model carry out a task, all on the same weights.

`ours` is the product as it comes; the other arms of ours are that with one or several of its parts switched off.
`plain` is the loop that examples of SDKs show: one shell function, the skills listed with their paths, the outputs
given back until the model answers. It runs on the same server, so calls in the model's text are read for it as well.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from skilldeck_daemon.agent.guidance.skill_commands import PARTS, Part
from skilldeck_daemon.agent.planning.plan import Nearby
from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.bench.skill_tasks import Deed, Task
from skilldeck_daemon.containers import WORKDIR
from skilldeck_daemon.containers.container import Container
from skilldeck_daemon.core import Core
from skilldeck_daemon.libraries.containers.mounted import Mounted
from skilldeck_daemon.runner_request import SkillMount
from skilldeck_daemon.tools.shell_items import ShellCall, ShellOutput
from skilldeck_daemon.wire.item_kinds import FunctionCall, container_of
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.json_types import JsonObject

MAX_CALLS = 8
MAX_TOKENS = 700
PRINTED = 4000  # characters of an output that are kept with a result
LARGEST = 1 << 16  # bytes of a file that is looked at
PLAIN = (
    "You are a helpful assistant. You can run commands with the shell function; the user's files are in /mnt/data."
    "\nThese skills are available; read a skill's SKILL.md before you use it:\n"
)
SHELL = {
    "type": "function",
    "name": "shell",
    "description": "Run a command in bash and return its output.",
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "string", "description": "The command to run."}},
        "required": ["command"],
        "additionalProperties": False,
    },
}


@dataclass(frozen=True)
class Arm:
    """`preload`: the request's `skills_preload`; `call_style`, `tool_text`: what the model is loaded with; `led`: see
    `Plan`; `verify`: of the request."""

    name: str
    plain: bool = False
    preload: str = "named"
    call_style: str = "auto"
    tool_text: str = "auto"
    led: frozenset[Part] = PARTS
    verify: str = "mark"

    @property
    def loaded(self) -> dict[str, str]:
        """What of it is decided when the model is loaded."""
        return {"call_style": self.call_style, "tool_text": self.tool_text}


ARMS: tuple[Arm, ...] = (
    Arm("plain", plain=True),
    Arm("ours"),
    Arm("ours, SKILL.md not opened", preload="none"),
    Arm("ours, turns left to the model", led=frozenset()),
    Arm("ours, failed commands left to the model", led=PARTS - {"retries"}),
    Arm("ours, answers left to the model", led=PARTS - {"answers"}),
    Arm("ours, doubted answers asked for again", verify="retry"),
    Arm("ours, calls in JSON", call_style="json"),
    Arm("ours, calls in JSON, none read in the text", call_style="json", tool_text="off"),
    Arm("ours, none of it", preload="none", call_style="json", tool_text="off", led=frozenset()),
)


class Bench:
    """Carries out tasks in an open core, whose model is loaded."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def carry_out(self, task: Task, arm: Arm) -> Deed:
        """Greedy, and within the bench's limits. What fails on the way stands in `Deed.ended`."""
        mounts = tuple(SkillMount(path).read() for path in task.skills)
        deed = Deed()
        self._core.services.plans.led = arm.led
        try:
            await (self._plain(task, mounts, deed) if arm.plain else self._ours(task, mounts, arm, deed))
        except SkilldeckError as error:
            deed.ended = f"{type(error).__name__}: {error}"
        return deed

    # -- ours

    async def _ours(self, task: Task, mounts: tuple[Mounted, ...], arm: Arm, deed: Deed) -> None:
        files = [await self._upload(path) for path in task.files]
        content = [{"type": "input_text", "text": task.prompt}]
        content += [{"type": "input_file", "file_id": file} for file in files]
        body = {
            "input": [{"type": "message", "role": "user", "content": content}],
            "tools": [{"type": "shell", "environment": {"type": "container_auto", "skills_preload": arm.preload}}],
            "max_tool_calls": MAX_CALLS,
            "verify": arm.verify,
        }
        run = await self._core.services.runs.start(_request(body), nearby=Nearby(mounts=mounts))
        response = await run.finished()
        _count(response, deed)
        calls = {item["call_id"]: cast(ShellCall, item) for item in response["output"] if item["type"] == "shell_call"}
        containers = [container_of(call) for call in calls.values()]
        for item in response["output"]:
            if item["type"] == "shell_call_output" and item["call_id"] in calls:
                commands = calls[item["call_id"]]["action"]["commands"]
                for command, entry in zip(commands, cast(ShellOutput, item)["output"], strict=False):
                    deed.commands.append((command, entry["outcome"].get("exit_code")))
                    deed.printed = f"{entry['stdout']}{entry['stderr']}"[:PRINTED]
        deed.turns = sum(entry["kind"] == "turn" for entry in run.timeline)
        if containers and task.made:
            container = await self._core.services.environments.open(containers[-1])
            await _look(container, task.made, deed)

    async def _upload(self, path: Path) -> str:
        async def content() -> AsyncIterator[bytes]:
            yield path.read_bytes()

        stored = await self._core.services.files.create(content(), filename=path.name, purpose="user_data")
        return str(stored["id"])

    # -- a loop as SDK examples write it

    async def _plain(self, task: Task, mounts: tuple[Mounted, ...], deed: Deed) -> None:
        environments = self._core.services.environments
        record = environments.new_record("bench", list(mounts), "1g", ())
        container = await environments.open_new(record)
        for path in task.files:
            await environments.files.add(record["id"], path.name, path, "user")
        listed = "\n".join(
            f"- {mount.name}: {mount.description} (/mnt/skills/{mount.name}/SKILL.md)" for mount in mounts
        )
        names = ", ".join(f"{WORKDIR}/{path.name}" for path in task.files)
        asked = f"{task.prompt}\n\nAttached: {names}" if names else task.prompt
        items: list[JsonObject] = [{"type": "message", "role": "user", "content": asked}]
        for _turn in range(MAX_CALLS + 1):
            body = {"input": items, "instructions": PLAIN + listed, "tools": [SHELL]}
            response = await (await self._core.services.runs.start(_request(body))).finished()
            deed.turns += 1
            _count(response, deed)
            calls = [cast(FunctionCall, item) for item in response["output"] if item["type"] == "function_call"]
            if not calls:
                break
            items += map(dict, response["output"])
            for call in calls:
                text = await _run(container, call["arguments"], deed)
                items.append({"type": "function_call_output", "call_id": call["call_id"], "output": text})
        else:
            deed.ended = "the model went on calling"
        await _look(container, task.made, deed)


def _request(body: Mapping[str, Any]) -> ResponseRequest:
    return ResponseRequest.parse({"max_output_tokens": MAX_TOKENS, "temperature": 0, "store": False, **body})


def _count(response: Mapping[str, Any], deed: Deed) -> None:
    deed.tokens += (response["usage"] or {}).get("output_tokens", 0)
    deed.ended = response["status"]
    if response["incomplete_details"]:
        deed.ended = str(response["incomplete_details"]["reason"])
    if response["error"]:
        deed.ended = str(response["error"]["message"])
    messages = [item for item in response["output"] if item["type"] == "message"]
    places = (response.get("skilldeck") or {}).get("ungrounded") or []
    deed.unsupported = [place["text"] for place in places]
    deed.answer = "".join(part.get("text", "") for part in messages[-1]["content"]) if messages else ""


async def _run(container: Container, arguments: str, deed: Deed) -> str:
    """A call of the plain loop's shell function."""
    try:
        command = json.loads(arguments)["command"]
    except (ValueError, KeyError, TypeError):
        return "error: the function needs a command"
    if not isinstance(command, str):
        return "error: the command must be a string"
    result = (await container.exec([command]))[0]
    code = None if result.timed_out else result.exit_code
    deed.commands.append((command, code))
    return f"{result.stdout}{result.stderr}" or f"exit code {code}"


async def _look(container: Container, names: Sequence[str] | Mapping[str, str], deed: Deed) -> None:
    """Read the files that are to be there, as the container's own programs find them."""
    for name in names:
        result = (await container.exec([f"head -c {LARGEST} -- '{WORKDIR}/{name}'"]))[0]
        deed.files[name] = result.stdout

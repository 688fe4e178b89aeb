"""The items of a shell: calls with their commands, and outputs with what each command printed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict, cast

from skilldeck_daemon.engine.messages import MessageCall
from skilldeck_daemon.store.run_records import Event
from skilldeck_daemon.wire.fields import Fields
from skilldeck_daemon.wire.item_kinds import (
    NO_OUTPUT,
    CallKind,
    CommandOutput,
    Item,
    Outcome,
    OutputKind,
    Renderer,
    call_key,
    function_call,
)
from skilldeck_daemon.wire.items import read_call_id, read_common
from skilldeck_shared.json_types import JsonObject

KILLED_EXIT = 137
"""Exit code of a command that was killed (128 + SIGKILL)."""


class ShellAction(TypedDict):
    """What is to be run: a limit of null is the default."""

    commands: list[str]
    timeout_ms: int | None
    max_output_length: int | None


def no_action() -> ShellAction:
    return {"commands": [], "timeout_ms": None, "max_output_length": None}


class ShellPlace(TypedDict):
    """The `environment` of a call: local, or the container of a container_reference."""

    type: str
    container_id: NotRequired[str]


class ShellCall(Item):
    action: ShellAction
    environment: ShellPlace | None


class ShellOutput(Item):
    output: list[CommandOutput]
    max_output_length: int | None


class ShellCallKind(CallKind[ShellCall]):
    type = "shell_call"
    deltas = ("response.shell_call_command.delta",)
    hosted = True

    def read(self, fields: Fields) -> ShellCall:
        action = fields.object("action", required=True)
        assert action is not None
        environment = fields.object("environment")
        where: ShellPlace | None = None
        if environment is not None:
            where = {"type": environment.needed("type", choices=("local", "container_reference"))}
            if where["type"] == "container_reference":
                where["container_id"] = environment.needed("container_id", maximum=256)
        return {
            **read_common(fields, "sh"),
            "call_id": read_call_id(fields),
            "action": {
                "commands": action.strings("commands", required=True),
                "timeout_ms": action.integer("timeout_ms", minimum=0),
                "max_output_length": action.integer("max_output_length", minimum=0),
            },
            "environment": where,
        }

    def render(self, item: ShellCall, raw: Mapping[str, str]) -> MessageCall:
        action = {name: value for name, value in item["action"].items() if value is not None}
        return function_call(item, "shell", raw.get(call_key(item)) or json.dumps(action, ensure_ascii=False))

    def clients(self, item: ShellCall) -> bool:
        return not self.container(item)

    def container(self, item: ShellCall) -> str:
        where = item.get("environment")
        return where["container_id"] if where and where.get("type") == "container_reference" else ""

    def commands(self, item: ShellCall) -> Sequence[str]:
        return item["action"]["commands"]


class ShellOutputKind(OutputKind[ShellOutput]):
    type = "shell_call_output"
    deltas = ("response.shell_call_output_content.delta",)
    hosted = True

    def read(self, fields: Fields) -> ShellOutput:
        output: list[CommandOutput] = []
        for entry in fields.objects("output", required=True):
            outcome = entry.object("outcome", required=True)
            assert outcome is not None
            ended: Outcome = {"type": outcome.needed("type", choices=("exit", "timeout"))}
            if ended["type"] == "exit":
                ended["exit_code"] = outcome.integer("exit_code", required=True) or 0
            stdout, stderr = (entry.string(name, required=True) or "" for name in ("stdout", "stderr"))
            output.append({"stdout": stdout, "stderr": stderr, "outcome": ended})
        return {
            **read_common(fields, "sho"),
            "call_id": read_call_id(fields),
            "output": output,
            "max_output_length": fields.integer("max_output_length", minimum=0),
        }

    def render(self, item: ShellOutput, call: Item, renderer: Renderer) -> str:
        # Nobody keeps a client from answering another call with this item.
        action = cast(ShellCall, call).get("action") or no_action()
        commands = [*action.get("commands", ()), *[""] * len(item["output"])]
        entries = [renderer.shown(entry, command) for entry, command in zip(item["output"], commands, strict=False)]
        return shell_text(entries, commands, action.get("timeout_ms"))

    def so_far(self, item: ShellOutput, events: Sequence[Event]) -> ShellOutput:
        """The command that has not ended is one that was killed."""
        ended = len(item["output"])
        written: dict[str, list[str]] = {"stdout": [], "stderr": []}
        for event in events:
            if event["type"] in self.deltas and event["command_index"] == ended:
                for name, text in event["delta"].items():
                    written[name].append(text)
        stdout, stderr = ("".join(written[name]) for name in ("stdout", "stderr"))
        killed: Outcome = {"type": "exit", "exit_code": KILLED_EXIT}
        return {**item, "output": [*item["output"], {"stdout": stdout, "stderr": stderr, "outcome": killed}]}

    def well(self, item: ShellOutput) -> bool:
        return all(entry["outcome"].get("exit_code") == 0 for entry in item["output"])

    def printed(self, item: ShellOutput) -> str:
        return "\n".join(entry["stdout"] + entry["stderr"] for entry in item["output"])

    def replaced(self, item: ShellOutput, text: str) -> ShellOutput:
        return {**item, "output": [{"stdout": text, "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]}

    def account(self, item: ShellOutput) -> JsonObject:
        codes = [entry["outcome"].get("exit_code") for entry in item["output"]]
        return {**({"outcome": "timeout"} if None in codes else {}), "exit_codes": codes}


def shell_text(output: Sequence[CommandOutput], commands: Sequence[str], timeout_ms: int | None) -> str:
    """A shell call's output as the model reads it."""
    blocks = [_entry_text(entry, timeout_ms) for entry in output]
    if len(blocks) <= 1:
        return blocks[0] if blocks else NO_OUTPUT
    names = [*commands, *[""] * len(blocks)]
    return "\n\n".join(f"$ {name}\n{block}" for name, block in zip(names, blocks, strict=False))


def _entry_text(entry: CommandOutput, timeout_ms: int | None) -> str:
    lines = []
    outcome = entry["outcome"]
    if outcome["type"] == "timeout":
        lines.append(f"timed out after {timeout_ms} ms" if timeout_ms else "timed out")
    elif outcome["exit_code"] != 0:
        lines.append(f"exit code: {outcome['exit_code']}")
    stdout, stderr = entry["stdout"].rstrip("\n"), entry["stderr"].rstrip("\n")
    if stdout:
        lines.append(stdout)
    if stderr:
        lines += ["stderr:", stderr]
    if not stdout and not stderr:
        lines.append(NO_OUTPUT)
    return "\n".join(lines)

"""The `shell` tool: hosted (container_auto, container_reference) or the client's own (local, or no environment).

The same function and schema on every engine. The shell_call item's commands appear while the model writes them, the
shell_call_output item's text while the processes write it. A call that is not valid is surfaced as incomplete and
answered with an error the model can read.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

from skilldeck_daemon.containers.errors import ContainerError, InvalidContainerRequest
from skilldeck_daemon.containers.spec import CommandResult, OutputPiece
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.tools.base import Call, CallWriter, Tool
from skilldeck_daemon.tools.context import ToolContext
from skilldeck_daemon.tools.partial import CommandReader
from skilldeck_daemon.tools.shell_items import (
    KILLED_EXIT,
    ShellAction,
    ShellCall,
    ShellCallKind,
    ShellOutput,
    ShellOutputKind,
    ShellPlace,
    no_action,
)
from skilldeck_daemon.wire.environment import EnvironmentSpec, parse_environment
from skilldeck_daemon.wire.fields import Fields
from skilldeck_daemon.wire.item_kinds import CommandOutput, Outcome
from skilldeck_shared.characters import clean
from skilldeck_shared.json_types import JsonObject

FUNCTION = {
    "name": "shell",
    "description": (
        "Run shell commands (bash) in the working directory and get their output. Each command runs on its own:"
        " the directory and variables of one are not those of the next."
    ),
    "parameters": {
        "type": "object",
        "properties": {
            "commands": {
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
                "description": "The commands, run in order.",
            },
            "timeout_ms": {"type": "integer", "description": "Limit of each command in milliseconds."},
            "max_output_length": {"type": "integer", "description": "Characters of output to keep, per command."},
        },
        "required": ["commands"],
        "additionalProperties": False,
    },
    "strict": False,
}
ERROR_EXIT = 126
"""Exit code of a command that was not run: the shell's own for "cannot execute"."""


HERE = re.compile(r"(?<=\s)<<-?(?P<quote>['\"]?)(?P<end>[A-Z_]{2,})(?P=quote)(?=\s|$)")


def ended(command: str) -> str:
    """The command with the end of a here-document that has none: models forget it behind the last line of a program.
    The shell goes on without it as well, but says so each time, and models answer with that."""
    begun = HERE.search(command)
    if begun is None or re.search(rf"^\t*{begun['end']}$", command[begun.end() :], re.MULTILINE):
        return command
    return f"{command.rstrip()}\n{begun['end']}\n"


@dataclass(frozen=True)
class ShellTool(Tool):
    environment: EnvironmentSpec
    path: str = "tools[0]"

    type = "shell"
    items = (ShellCallKind(), ShellOutputKind())
    runs = "commands"

    @property
    def hosted(self) -> bool:  # type: ignore[override]
        return self.environment.kind != "local"

    def where(self) -> EnvironmentSpec:
        return self.environment

    @classmethod
    def parse(cls, fields: Fields) -> ShellTool:
        fields.refuse("allowed_callers", why="Programmatic tool calling is not served here.")
        environment = fields.object("environment")
        return cls(parse_environment(environment) if environment else EnvironmentSpec(), fields.path)

    def echo(self) -> JsonObject:
        shown = {"environment": self.environment.echo} if self.environment.echo is not None else {}
        return {"type": "shell", **shown}

    def declare(self) -> list[JsonObject]:
        return [{"type": "function", "function": FUNCTION}]

    def begin(self, output: Output, context: ToolContext, call_id: str, name: str) -> CallWriter:
        where: ShellPlace = {"type": "local"}
        if self.hosted:
            where = {"type": "container_reference", "container_id": context.container_id}
            context.expect_container()
        return ShellWriter(self, output, call_id, where)

    async def execute(self, call: Call, output: Output, context: ToolContext) -> None:
        writer = ShellOutputWriter(output, call)
        if call.problem is not None:
            return writer.refuse(call.problem)
        refusal = await context.approve("shell", list(call.commands), call.call_id)
        if refusal is not None:
            return writer.refuse(refusal)
        problem = ""
        results: list[CommandResult] = []
        try:
            try:
                container = await context.container()
                results = await container.exec(
                    [ended(command) for command in call.commands],
                    timeout_ms=call.timeout_ms,
                    max_output_length=call.max_output_length,
                    on_output=writer.written,
                    on_command=writer.command,
                )
            except (ContainerError, InvalidContainerRequest) as error:
                # The model can do something about a full disk or a command it may not send; the run goes on.
                problem = str(error)
            await context.call_ended(call.call_id)
        except asyncio.CancelledError:
            writer.interrupted()
            raise
        if problem:
            writer.refuse(problem)
        else:
            writer.close(results)


class ShellWriter(CallWriter):
    """The shell_call item while the model writes it."""

    def __init__(self, tool: ShellTool, output: Output, call_id: str, environment: ShellPlace) -> None:
        super().__init__()
        self._tool = tool
        self._output = output
        self._call_id = call_id
        self._reader = CommandReader()
        self._commands: list[str] = []  # as streamed so far; the one being written is empty
        self._pieces: list[str] = []  # of the one being written
        self._finished = 0  # how many of them ended
        self._item: ShellCall = {
            "id": new_id("sh"),
            "type": "shell_call",
            "status": "in_progress",
            "call_id": call_id,
            "action": no_action(),
            "environment": environment,
        }
        self._index = output.add(self._item, self._abandon)

    def _emit(self, kind: str, index: int, **fields: Any) -> None:
        self._output.log.append(
            f"response.shell_call_command.{kind}", output_index=self._index, command_index=index, **fields
        )

    def show(self, delta: str) -> None:
        for piece in self._reader.feed(delta):
            if piece.kind == "begin":
                self._commands.append("")
                self._item["action"] = {**no_action(), "commands": self._commands}
                self._emit("added", piece.index, command="")
            elif piece.kind == "text":
                self._pieces.append(piece.text)
                self._emit("delta", piece.index, delta=piece.text)
            else:
                self._settle()
                self._finished += 1
                self._emit("done", piece.index, command=self._commands[piece.index])

    def _settle(self) -> None:
        """Put what was written of the last command where it belongs."""
        if self._pieces:
            self._commands[-1] += "".join(self._pieces)
            self._pieces.clear()

    def _abandon(self) -> None:
        self._settle()
        self._output.done(self._index, status="incomplete")

    def close(self, arguments: str, problem: str | None) -> Call:
        self._settle()
        action = no_action()
        if problem is None:
            try:
                action = read_arguments(arguments)
            except ValueError as error:
                problem = str(error)
        if problem is not None:
            # What the model wrote is shown as it is, so that a person sees what went wrong.
            action["commands"] = list(self._commands) or [clean(arguments)]
        self._complete(action["commands"])
        self._output.raw[self._call_id] = arguments
        self._output.done(self._index, status="completed" if problem is None else "incomplete", action=action)
        return Call(
            self._tool,
            self._call_id,
            "shell",
            arguments,
            hosted=self._tool.hosted,
            problem=problem,
            commands=tuple(action["commands"]),
            timeout_ms=action["timeout_ms"],
            max_output_length=action["max_output_length"],
        )

    def _complete(self, commands: list[str]) -> None:
        """Publish whatever was not streamed: an unfinished command, or all when the text was not read in pieces."""
        for index in range(self._finished, len(commands)):
            if index >= len(self._commands):
                self._commands.append(commands[index])
                self._emit("added", index, command="")
                self._emit("delta", index, delta=commands[index])
            self._emit("done", index, command=commands[index])


def read_arguments(text: str) -> ShellAction:
    """The call's arguments; ValueError says in one sentence what is wrong, for the model."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"The arguments are not valid JSON ({error}).") from None
    if not isinstance(value, dict):
        raise ValueError('The arguments must be an object like {"commands": ["ls"]}.')
    commands = value.get("commands")
    if isinstance(commands, str):
        commands = [commands]
    if not isinstance(commands, list) or not commands or not all(isinstance(entry, str) for entry in commands):
        raise ValueError('The arguments need "commands", a list of one or more strings.')
    return {
        "commands": [clean(command) for command in commands],
        "timeout_ms": _limit(value, "timeout_ms", 1),
        "max_output_length": _limit(value, "max_output_length", 0),
    }


def _limit(arguments: JsonObject, name: str, least: int) -> int | None:
    number = arguments.get(name)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < least):
        raise ValueError(f'"{name}" must be a whole number of at least {least}.')
    return number


class ShellOutputWriter:
    """The shell_call_output item while the processes write it."""

    def __init__(self, output: Output, call: Call) -> None:
        self._output = output
        self._commands = len(call.commands)
        self._entries: list[CommandOutput] = []
        self._streams: dict[str, list[str]] = {"stdout": [], "stderr": []}  # of the command that runs now
        self._item: ShellOutput = {
            "id": new_id("sho"),
            "type": "shell_call_output",
            "status": "in_progress",
            "call_id": call.call_id,
            "output": [],
            "max_output_length": call.max_output_length,
        }
        self._index = output.add(self._item)

    def _emit(self, kind: str, index: int, **fields: Any) -> None:
        self._output.emit(f"response.shell_call_output_content.{kind}", self._index, command_index=index, **fields)

    def written(self, piece: OutputPiece) -> None:
        self._streams[piece.stream].append(piece.text)
        self._emit("delta", piece.command_index, delta={piece.stream: piece.text})

    def command(self, index: int, phase: str, result: CommandResult | None) -> None:
        if phase == "done" and result is not None:
            self._entry(index, output_entry(result))

    def _entry(self, index: int, entry: CommandOutput) -> None:
        self._streams = {"stdout": [], "stderr": []}
        self._entries.append(entry)
        self._item["output"] = list(self._entries)
        self._emit("done", index, output=[entry])

    def close(self, results: list[CommandResult]) -> None:
        for index in range(len(results), self._commands):
            self._note(index, "Not run: an earlier command of this call timed out.")
        self._output.done(self._index, status="completed", output=list(self._entries))

    def interrupted(self) -> None:
        """The run was cancelled: what the command wrote so far is kept."""
        if len(self._entries) < self._commands:
            stdout, stderr = ("".join(self._streams[name]) for name in ("stdout", "stderr"))
            outcome: Outcome = {"type": "exit", "exit_code": KILLED_EXIT}
            self._entry(len(self._entries), {"stdout": stdout, "stderr": stderr, "outcome": outcome})
        self._output.done(self._index, status="incomplete", output=list(self._entries))

    def refuse(self, message: str) -> None:
        """No (further) command was run; the message is the output of the first, so that the model reads it."""
        for index in range(len(self._entries), self._commands):
            self._note(index, message if index == len(self._entries) else "Not run.")
        self._output.done(self._index, status="completed", output=list(self._entries))

    def _note(self, index: int, message: str) -> None:
        self._emit("delta", index, delta={"stderr": message})
        entry: CommandOutput = {"stdout": "", "stderr": message, "outcome": {"type": "exit", "exit_code": ERROR_EXIT}}
        self._entry(index, entry)


def output_entry(result: CommandResult) -> CommandOutput:
    outcome: Outcome = {"type": "timeout"}
    if not result.timed_out:
        outcome = {"type": "exit", "exit_code": result.exit_code if result.exit_code is not None else -1}
    return {"stdout": result.stdout, "stderr": result.stderr, "outcome": outcome}

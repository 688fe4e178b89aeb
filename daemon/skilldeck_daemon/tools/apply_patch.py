"""The `apply_patch` tool: one file created, updated or deleted by a V4A diff (see `patching.py`).

By itself it is the client's: the apply_patch_call ends the response, and apply_patch_call_output comes back as input.
Beside a hosted shell the files are those of the container, and the patch is applied here: under /mnt/data only, through
reads and writes that follow no link, whole or not at all. No event brings the diff while it is written (OpenAI's SDKs
know none), so the item appears when it is complete. A call that names no valid operation could not be shown as one: it
is shown as a function call, answered with what is wrong.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NotRequired, TypedDict

from skilldeck_daemon.containers.errors import (
    ArtifactNotFound,
    ArtifactTooLarge,
    ContainerError,
    InvalidContainerRequest,
)
from skilldeck_daemon.containers.spec import WORKDIR
from skilldeck_daemon.engine.checks import CUT_OFF
from skilldeck_daemon.engine.messages import MessageCall
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.tools import patching
from skilldeck_daemon.tools.base import Call, CallWriter, Tool
from skilldeck_daemon.tools.context import ToolContext
from skilldeck_daemon.tools.shell import ShellTool
from skilldeck_daemon.wire.fields import Fields, item_id
from skilldeck_daemon.wire.item_kinds import Answer, CallKind, FunctionCall, Item, OutputKind, Renderer, function_call
from skilldeck_daemon.wire.items import read_call_id
from skilldeck_shared.characters import clean
from skilldeck_shared.json_types import JsonObject

OPERATIONS = ("create_file", "update_file", "delete_file")
MAX_FILE = 10 * 1024 * 1024
MAX_PATH = 4096
STOPPED = "The run was stopped before this patch was applied."
FUNCTION = {
    "name": "apply_patch",
    "description": (
        "Create, update or delete one text file. For create_file the diff is the whole file, each line with a '+'"
        " before it. For update_file it is one or more hunks: an optional line '@@ LINE', where LINE is a line of the"
        " file that stands before the change, then about three unchanged lines (a space before each), the lines to"
        " remove (a '-' before each), the lines to add (a '+' before each), and about three unchanged lines. There are"
        " no line numbers. delete_file needs no diff."
    ),
    "parameters": {
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": list(OPERATIONS)},
            "path": {"type": "string", "description": "The file, relative to the working directory."},
            "diff": {"type": "string", "description": "What to create or to change."},
        },
        "required": ["type", "path"],
        "additionalProperties": False,
    },
    "strict": False,
}


class PatchOperation(TypedDict):
    """What is to be done with a file; deleting needs no diff."""

    type: str
    path: str
    diff: NotRequired[str]


class PatchCallItem(Item):
    operation: PatchOperation


class PatchOutput(Item):
    output: str | None


class PatchCallKind(CallKind[PatchCallItem]):
    type = "apply_patch_call"
    deltas = ("response.apply_patch_call_operation_diff.delta",)
    hosted = True

    def read(self, fields: Fields) -> PatchCallItem:
        given = fields.object("operation", required=True)
        assert given is not None
        kind = given.needed("type", choices=OPERATIONS)
        operation: PatchOperation = {"type": kind, "path": given.needed("path", maximum=MAX_PATH)}
        if kind != "delete_file":
            operation["diff"] = given.string("diff", required=True, maximum=MAX_FILE) or ""
        return {
            "id": item_id(fields, "apc"),
            "type": self.type,
            "status": fields.string("status", choices=("in_progress", "completed")) or "completed",
            "call_id": read_call_id(fields),
            "operation": operation,
        }

    def render(self, item: PatchCallItem, raw: Mapping[str, str]) -> MessageCall:
        arguments = raw.get(item["call_id"]) or json.dumps(item["operation"], ensure_ascii=False)
        return function_call(item, "apply_patch", arguments)


class PatchOutputKind(OutputKind[PatchOutput]):
    type = "apply_patch_call_output"
    hosted = True

    def read(self, fields: Fields) -> PatchOutput:
        return {
            "id": item_id(fields, "apco"),
            "type": self.type,
            "status": fields.needed("status", choices=("completed", "failed")),
            "call_id": read_call_id(fields),
            "output": fields.string("output", maximum=MAX_FILE),
        }

    def render(self, item: PatchOutput, call: Item, renderer: Renderer) -> str:
        text = item.get("output") or ""
        if item["status"] == "failed":
            return f"failed: {text}" if text else "failed"
        return text or "done"


@dataclass(frozen=True)
class ApplyPatchTool(Tool):
    hosted: bool = False

    type = "apply_patch"
    items = (PatchCallKind(), PatchOutputKind())

    @classmethod
    def parse(cls, fields: Fields) -> ApplyPatchTool:
        fields.refuse("allowed_callers", why="Programmatic tool calling is not served here.")
        return cls()

    def beside(self, tools: Sequence[Tool]) -> Tool:
        return replace(self, hosted=any(isinstance(tool, ShellTool) and tool.hosted for tool in tools))

    def echo(self) -> JsonObject:
        return {"type": self.type}

    def declare(self) -> list[JsonObject]:
        return [{"type": "function", "function": FUNCTION}]

    def begin(self, output: Output, context: ToolContext, call_id: str, name: str) -> CallWriter:
        if self.hosted:
            context.expect_container()
        return PatchWriter(self, output, call_id)

    async def execute(self, call: Call, output: Output, context: ToolContext) -> None:
        if call.problem is not None:
            item: Answer = {
                "id": new_id("fco"),
                "type": "function_call_output",
                "status": "in_progress",
                "call_id": call.call_id,
                "output": call.problem,
            }
            output.done(output.add(item), status="completed")
            return
        assert isinstance(call, PatchCall)
        output.done(call.index, status="completed")
        operation = call.operation
        try:
            shown = f"{operation['type']} {operation['path']}\n{operation.get('diff', '')}".rstrip()
            refusal = await context.approve(self.type, [shown], call.call_id)
            if refusal is not None:
                return _answer(output, call.call_id, "failed", refusal)
            done = await _apply(operation, context)
        except asyncio.CancelledError:
            _answer(output, call.call_id, "failed", STOPPED)
            raise
        except (
            patching.PatchError,
            ContainerError,
            InvalidContainerRequest,
            ArtifactNotFound,
            ArtifactTooLarge,
        ) as error:
            return _answer(output, call.call_id, "failed", str(error))
        _answer(output, call.call_id, "completed", done)


async def _apply(operation: PatchOperation, context: ToolContext) -> str:
    """Carry it out in the container; returns what was done. Raises PatchError and the container's errors."""
    path = inside(operation["path"])
    name = path.removeprefix(WORKDIR + "/")
    summary = patching.Summary(0, 0)

    def change(old: bytes | None) -> bytes | None:
        nonlocal summary
        if operation["type"] == "create_file":
            if old is not None:
                raise patching.PatchError(f"{name} exists already: update it, or delete it first.")
            text, summary = patching.create(operation["diff"])
            return text.encode()
        if old is None:
            raise patching.PatchError(f"There is no file {name}.")
        if operation["type"] == "delete_file":
            return None
        try:
            before = old.decode()
        except UnicodeDecodeError:
            raise patching.PatchError(f"{name} is not UTF-8 text; change it with a command.") from None
        text, summary = patching.update(before, operation["diff"])
        return text.encode()

    container = await context.container()
    await container.edit(path, change, MAX_FILE)
    if operation["type"] == "delete_file":
        return f"Deleted {name}."
    verb = "Created" if operation["type"] == "create_file" else "Updated"
    return f"{verb} {name}: {summary.added} lines added, {summary.removed} removed."


def inside(path: str) -> str:
    """The path under /mnt/data that a call names, relative or absolute; PatchError for any other."""
    absolute = path if path.startswith("/") else f"{WORKDIR}/{path}"
    parts = absolute.split("/")
    if (
        not absolute.startswith(WORKDIR + "/")
        or ".." in parts
        or "\0" in path
        or not absolute[len(WORKDIR) :].strip("/.")
    ):
        raise patching.PatchError(f"{path!r} is no file under {WORKDIR}: paths are relative to it and hold no '..'.")
    if path.endswith("/"):
        raise patching.PatchError(f"{path!r} is a directory's name.")
    return "/".join(part for part in parts if part != ".")


def _answer(output: Output, call_id: str, status: str, text: str) -> None:
    item: PatchOutput = {
        "id": new_id("apco"),
        "type": "apply_patch_call_output",
        "call_id": call_id,
        "status": status,
        "output": text,
    }
    output.done(output.add(item))


@dataclass(frozen=True)
class PatchCall(Call):
    """A valid call; `index` is its item's."""

    operation: PatchOperation = None  # type: ignore[assignment]
    index: int = -1


class PatchWriter(CallWriter):
    """Collects the arguments; the apply_patch_call item appears with the whole operation."""

    def __init__(self, tool: ApplyPatchTool, output: Output, call_id: str) -> None:
        super().__init__()
        self._tool = tool
        self._output = output
        self._call_id = call_id

    def show(self, delta: str) -> None:
        """Nothing: there is no event for it."""

    def close(self, arguments: str, problem: str | None) -> Call:
        self._output.raw[self._call_id] = arguments
        if problem is not None:
            return self._invalid(arguments, problem)
        try:
            operation = read_arguments(arguments)
        except ValueError as error:
            return self._invalid(arguments, str(error))
        item: PatchCallItem = {
            "id": new_id("apc"),
            "type": "apply_patch_call",
            "status": "in_progress",
            "call_id": self._call_id,
            "operation": operation,
        }
        index = self._output.add(item, lambda: self._abandon(index))
        if not self._tool.hosted:
            self._output.done(index, status="completed")
        return PatchCall(
            self._tool,
            self._call_id,
            "apply_patch",
            arguments,
            hosted=self._tool.hosted,
            operation=operation,
            index=index,
        )

    def _abandon(self, index: int) -> None:
        self._output.done(index, status="completed")
        _answer(self._output, self._call_id, "failed", STOPPED)

    def cut(self, arguments: str) -> None:
        self._invalid(arguments, CUT_OFF, "incomplete")

    def _invalid(self, arguments: str, problem: str, status: str = "completed") -> Call:
        item: FunctionCall = {
            "id": new_id("fc"),
            "type": "function_call",
            "status": "in_progress",
            "call_id": self._call_id,
            "name": "apply_patch",
            "arguments": "",
        }
        index = self._output.add(item)
        if arguments:
            self._output.emit("response.function_call_arguments.delta", index, delta=arguments)
        self._output.emit("response.function_call_arguments.done", index, name="apply_patch", arguments=arguments)
        self._output.done(index, status=status, arguments=arguments)
        return Call(self._tool, self._call_id, "apply_patch", arguments, hosted=True, problem=problem)


def read_arguments(text: str) -> PatchOperation:
    """The operation; ValueError says in one sentence what is wrong, for the model."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"The arguments are not valid JSON ({error}).") from None
    if isinstance(value, dict) and isinstance(value.get("operation"), dict):
        value = value["operation"]  # as the item holds it
    if not isinstance(value, dict) or value.get("type") not in OPERATIONS:
        raise ValueError(f'The arguments need a "type", one of: {", ".join(OPERATIONS)}.')
    path, diff = value.get("path"), value.get("diff")
    if not isinstance(path, str) or not path.strip() or len(path) > MAX_PATH:
        raise ValueError('The arguments need a "path", the file\'s name.')
    operation: PatchOperation = {"type": value["type"], "path": clean(path)}
    if value["type"] == "delete_file":
        return operation
    if not isinstance(diff, str) or len(diff) > MAX_FILE:
        raise ValueError(f'The arguments need a "diff", a text of at most {MAX_FILE} characters.')
    return {**operation, "diff": clean(diff)}

"""The `code_interpreter` tool: Python whose variables last, in the container that the shell tool uses as well.

The model sees one function, `python`, with the code as its argument. The code streams into the code_interpreter_call
item while the model writes it; then it runs, and the item ends with its outputs: all text in one `logs` entry, each
figure as an `image` with a data: URL. Clients see them when they asked for `code_interpreter_call.outputs`; the model
always does. A call that is not valid, or not allowed, ends as failed and says so to the model.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NotRequired, TypedDict

from skilldeck_daemon.containers.container import Container
from skilldeck_daemon.containers.errors import (
    ArtifactNotFound,
    ArtifactTooLarge,
    ContainerError,
    InvalidContainerRequest,
)
from skilldeck_daemon.engine.messages import MessageCall
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.tools.base import Call, CallWriter, Tool
from skilldeck_daemon.tools.context import ToolContext
from skilldeck_daemon.tools.partial import CommandReader
from skilldeck_daemon.tools.shell import ShellTool
from skilldeck_daemon.wire.environment import EnvironmentSpec, container_contents, shown_policy
from skilldeck_daemon.wire.fields import Fields, item_id, refuse
from skilldeck_daemon.wire.item_kinds import NO_OUTPUT, NOT_SENT, Answer, CallKind, Item, function_call
from skilldeck_daemon.wire.items import STATUSES
from skilldeck_shared.characters import clean
from skilldeck_shared.json_types import JsonObject

TIMEOUT_MS = 120_000
"""Of one call, when the model names none."""
IMAGE_BYTES = 8 * 1024 * 1024
"""Of all figures of one call together that are shown as data: URLs; others are files only."""
INCLUDE = "code_interpreter_call.outputs"
FUNCTION = {
    "name": "python",
    "description": (
        "Run Python code and get what it prints, and the value of its last expression. Variables and imports of one"
        " call are there in the next. The working directory is /mnt/data; matplotlib figures are saved there."
    ),
    "parameters": {
        "type": "object",
        "properties": {
            "code": {"type": "string", "description": "The code."},
            "timeout_ms": {"type": "integer", "description": "Limit in milliseconds; at it the code is interrupted."},
            "restart": {
                "type": "boolean",
                "description": "Begin with a fresh interpreter: the variables of earlier calls are gone.",
            },
        },
        "required": ["code"],
        "additionalProperties": False,
    },
    "strict": False,
}


class PythonOutput(TypedDict):
    """Text (`logs`), or an image by its URL."""

    type: str
    logs: NotRequired[str]
    url: NotRequired[str]


class PythonCallItem(Item):
    code: str | None
    container_id: str
    outputs: list[PythonOutput] | None


class PythonCallKind(CallKind[PythonCallItem]):
    """The call and its outputs in one; `code_interpreter_call.outputs` shows these as far as they were text."""

    type = "code_interpreter_call"
    deltas = ("response.code_interpreter_call_code.delta",)
    includes = (INCLUDE,)
    hosted = True

    def read(self, fields: Fields) -> PythonCallItem:
        outputs: list[PythonOutput] | None = None
        if fields.value.get("outputs") is not None:
            outputs = []
            for entry in fields.objects("outputs"):
                if entry.needed("type", choices=("logs", "image")) == "logs":
                    outputs.append({"type": "logs", "logs": entry.string("logs", required=True) or ""})
                else:
                    outputs.append({"type": "image", "url": entry.string("url", required=True) or ""})
        return {
            "id": item_id(fields, "ci"),
            "type": self.type,
            "status": fields.string("status", choices=(*STATUSES, "interpreting", "failed")) or "completed",
            "code": fields.string("code"),
            "container_id": fields.needed("container_id", maximum=256),
            "outputs": outputs,
        }

    def render(self, item: PythonCallItem, raw: Mapping[str, str]) -> MessageCall:
        arguments = raw.get(item["id"]) or json.dumps({"code": item["code"] or ""}, ensure_ascii=False)
        return function_call(item, "python", arguments)

    def answer(self, item: PythonCallItem) -> str:
        if item["outputs"] is None:
            return NOT_SENT
        return "".join(output["logs"] for output in item["outputs"] if output["type"] == "logs") or NO_OUTPUT

    def program(self, item: PythonCallItem) -> str:
        return item["code"] or ""

    def included(self, item: PythonCallItem, include: Collection[str], answer: Answer | None) -> Item:
        if INCLUDE not in include or item["outputs"] is not None or answer is None:
            return item
        shown: PythonCallItem = {**item, "outputs": [{"type": "logs", "logs": str(answer["output"])}]}
        return shown

    def container(self, item: PythonCallItem) -> str:
        return item["container_id"]


@dataclass(frozen=True)
class Place:
    """The one container of a request. `param` is the field that names it, `files` are (field, file id)."""

    spec: EnvironmentSpec
    param: str
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CodeInterpreterTool(Tool):
    """`stated` holds which of memory_limit and network_policy the request gave."""

    environment: EnvironmentSpec
    stated: frozenset[str] = frozenset()
    path: str = "tools[0]"

    type = "code_interpreter"
    hosted = True
    runs = "python"
    items = (PythonCallKind(),)

    @classmethod
    def parse(cls, fields: Fields) -> CodeInterpreterTool:
        fields.refuse("allowed_callers", why="Programmatic tool calling is not served here.")
        if isinstance(fields.value.get("container"), str):
            id = fields.needed("container", maximum=256)
            return cls(EnvironmentSpec("container_reference", id, echo={"container": id}), path=fields.path)
        container = fields.object("container", required=True)
        assert container is not None
        container.needed("type", choices=("auto",))
        container.refuse("skills", why="Skills belong to the shell tool's environment.")
        contents = container_contents(container)
        stated = frozenset(name for name in ("memory_limit", "network_policy") if container.value.get(name) is not None)
        shown = {
            "type": "auto",
            "file_ids": list(contents.file_ids),
            "memory_limit": contents.memory_limit,
            "network_policy": shown_policy(contents.allowed_domains),
        }
        spec = EnvironmentSpec(
            "container_auto",
            file_ids=contents.file_ids,
            memory_limit=contents.memory_limit,
            allowed_domains=contents.allowed_domains,
            secrets=contents.secrets,
            echo={"container": shown},
        )
        return cls(spec, stated, fields.path)

    def where(self) -> EnvironmentSpec:
        return self.environment

    def beside(self, tools: Sequence[Tool]) -> Tool:
        place_of(tools)  # refuses what contradicts the shell's environment
        return self

    def echo(self) -> JsonObject:
        return {"type": self.type, **(self.environment.echo or {})}

    def declare(self) -> list[JsonObject]:
        return [{"type": "function", "function": FUNCTION}]

    def begin(self, output: Output, context: ToolContext, call_id: str, name: str) -> CallWriter:
        context.expect_container()
        return PythonWriter(self, output, context, call_id)

    async def execute(self, call: Call, output: Output, context: ToolContext) -> None:
        assert isinstance(call, PythonCall)
        writer = call.writer
        if call.problem is not None:
            return writer.finish("failed", call.problem)
        refusal = await context.approve(self.type, list(call.commands), call.call_id)
        if refusal is not None:
            return writer.finish("failed", refusal)
        writer.emit("code_interpreter_call.interpreting")
        written: list[str] = []
        try:
            container = await context.container()
            result = await container.interpret(
                call.commands[0],
                timeout_ms=call.timeout_ms or TIMEOUT_MS,
                restart=call.restart,
                on_output=written.append,
            )
            images = await read_figures(container, result.figures) if INCLUDE in context.include else []
        except asyncio.CancelledError:
            writer.finish("incomplete", "".join(written))
            raise
        except (ContainerError, InvalidContainerRequest) as error:
            return writer.finish("failed", "".join(written) + str(error))
        saved = "".join(f"[figure saved as {path}]\n" for path in result.figures)
        writer.emit("code_interpreter_call.completed")
        writer.finish("completed", result.text + saved, images)


def place_of(tools: Sequence[Tool]) -> Place | None:
    """The container of a request's hosted tools, None when it needs none.

    The shell and the code interpreter share it; BadRequest names the field where they contradict each other.
    """
    shell = next((tool for tool in tools if isinstance(tool, ShellTool) and tool.hosted), None)
    python = next((tool for tool in tools if isinstance(tool, CodeInterpreterTool)), None)
    files: list[tuple[str, str]] = []
    if shell is not None:
        spec, param = shell.environment, f"{shell.path}.environment.container_id"
        files += [(f"{shell.path}.environment.file_ids[{n}]", id) for n, id in enumerate(spec.file_ids)]
    if python is not None:
        files += [(f"{python.path}.container.file_ids[{n}]", id) for n, id in enumerate(python.environment.file_ids)]
        if shell is None:
            spec, param = python.environment, f"{python.path}.container"
        else:
            spec, param = _shared(shell, python, param)
    elif shell is None:
        return None
    return Place(spec, param, tuple(files))


def _shared(shell: ShellTool, python: CodeInterpreterTool, param: str) -> tuple[EnvironmentSpec, str]:
    one, other = shell.environment, python.environment
    field = f"{python.path}.container"
    why = "The shell and the code interpreter of one request share one container"
    if other.kind == "container_reference":
        if one.kind == "container_reference" and one.container_id != other.container_id:
            refuse(field, f"{why}: '{field}' is {other.container_id[:64]!r}, '{param}' is {one.container_id[:64]!r}.")
        if one.kind == "container_auto" and (one.skills or one.memory_limit != "1g" or one.allowed_domains):
            hint = f"Use {{'type': 'auto'}} in '{field}', or a container_reference in '{shell.path}.environment'."
            refuse(
                field, f"{why}: '{field}' names one that exists, '{shell.path}.environment' asks for a new one.", hint
            )
        return other, field
    if one.kind == "container_reference":
        for name in sorted(python.stated):
            refuse(f"{field}.{name}", f"{why}, and '{param}' names one that exists.", "It keeps what it was made with.")
        return one, param
    memory, domains = one.memory_limit, one.allowed_domains
    if "memory_limit" in python.stated and other.memory_limit != memory:
        if memory != "1g":
            hint = f"Give both the same memory_limit: {memory!r} is the shell's."
            refuse(f"{field}.memory_limit", f"{why}.", hint)
        memory = other.memory_limit
    if "network_policy" in python.stated and (other.allowed_domains, other.secrets) != (domains, one.secrets):
        refuse(f"{field}.network_policy", f"{why}.", "Give both the same network_policy.")
    return replace(one, memory_limit=memory), param


@dataclass(frozen=True)
class PythonCall(Call):
    """A call with the item it writes. `commands` holds the code."""

    writer: PythonWriter = None  # type: ignore[assignment]
    restart: bool = False


class PythonWriter(CallWriter):
    """The code_interpreter_call item, from the model's first word to its outputs."""

    def __init__(self, tool: CodeInterpreterTool, output: Output, context: ToolContext, call_id: str) -> None:
        super().__init__()
        self._tool = tool
        self._output = output
        self._included = INCLUDE in context.include
        self._call_id = call_id
        self._reader = CommandReader("code")
        self._plain: bool | None = None  # the model writes code instead of JSON; None: not known yet
        self._code: list[str] = []
        self._item: PythonCallItem = {
            "id": new_id("ci"),
            "type": "code_interpreter_call",
            "status": "in_progress",
            "code": "",
            "container_id": context.container_id,
            "outputs": None,
        }
        self._index = output.add(self._item, lambda: self.finish("incomplete", ""))
        self.emit("code_interpreter_call.in_progress")

    def emit(self, kind: str, **fields: Any) -> None:
        self._output.emit(f"response.{kind}", self._index, **fields)

    def show(self, delta: str) -> None:
        if self._plain is None and delta.strip():  # the first that is no white space
            self._plain = not delta.lstrip().startswith("{")
            delta = "".join(self._written)
        if self._plain is None:
            return
        if self._plain:
            self._grow(clean(delta))
            return
        for piece in self._reader.feed(delta):
            if piece.kind == "text" and piece.index == 0:
                self._grow(piece.text)

    def _grow(self, text: str) -> None:
        self._code.append(text)
        self.emit("code_interpreter_call_code.delta", delta=text)

    def close(self, arguments: str, problem: str | None) -> Call:
        timeout_ms = None
        restart = False
        code = ""
        if arguments.strip() and not arguments.lstrip().startswith("{"):
            # Some models were taught a python tool whose whole argument is the code.
            code, problem = clean(arguments), None
            arguments = json.dumps({"code": code}, ensure_ascii=False)
        elif problem is None:
            try:
                code, timeout_ms, restart = read_arguments(arguments)
            except ValueError as error:
                problem = str(error)
        shown = "".join(self._code)
        if problem is None and not code.startswith(shown):
            problem = 'The arguments hold "code" more than once.'
        if problem is not None:
            code = shown or clean(arguments)  # a person sees what went wrong
        if len(code) > len(shown):
            self._grow(code[len(shown) :])
        self._item["code"] = code
        self.emit("code_interpreter_call_code.done", code=code)
        self._output.raw[self._item["id"]] = arguments
        return PythonCall(
            self._tool,
            self._call_id,
            FUNCTION["name"],  # type: ignore[arg-type]
            arguments,
            hosted=True,
            problem=problem,
            commands=(code,),
            timeout_ms=timeout_ms,
            writer=self,
            restart=restart,
        )

    def finish(self, status: str, text: str, images: Sequence[str] = ()) -> None:
        """End the item. The model reads the text whether or not the client asked for it."""
        outputs: list[PythonOutput] = [{"type": "logs", "logs": text}] if text else []
        for url in images:
            outputs.append({"type": "image", "url": url})
        code = "".join(self._code)
        self._output.done(self._index, status=status, code=code, outputs=outputs if self._included else None)
        answer: Answer = {
            "id": new_id("fco"),
            "type": "function_call_output",
            "status": "completed",
            "call_id": self._item["id"],
            "output": text or NO_OUTPUT,
        }
        self._output.hide(answer)


def read_arguments(text: str) -> tuple[str, int | None, bool]:
    """(code, timeout_ms, restart); ValueError says in one sentence what is wrong, for the model."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"The arguments are not valid JSON ({error}).") from None
    code = value.get("code") if isinstance(value, dict) else None
    if not isinstance(code, str):
        raise ValueError('The arguments must be an object like {"code": "print(1)"}.')
    timeout = value.get("timeout_ms")
    if isinstance(timeout, float) and timeout.is_integer():
        timeout = int(timeout)
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int) or timeout < 1):
        raise ValueError('"timeout_ms" must be a whole number of at least 1.')
    restart = value.get("restart")
    if restart is not None and not isinstance(restart, bool):
        raise ValueError('"restart" must be true or false.')
    return clean(code), timeout, bool(restart)


async def read_figures(container: Container, paths: Sequence[str]) -> list[str]:
    """data: URLs of the figures, as many as fit."""
    urls = []
    room = IMAGE_BYTES
    for path in paths:
        try:
            data = await container.read(path, room)
        except (ArtifactNotFound, ArtifactTooLarge):
            continue
        room -= len(data)
        urls.append("data:image/png;base64," + base64.b64encode(data).decode())
    return urls

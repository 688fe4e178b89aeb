"""`read_file`: the model reads on in a file whose text it was not shown whole.

Declared by the daemon itself, when a request has such a file and no hosted shell to read it with. It reads only this
request's files, by name, a page of characters at a time. OpenAI has no item for it, so its calls are no output items:
they are kept beside the output (`Output.hidden`) and rendered for the model in this run and in those that continue it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from skilldeck_daemon.attachments import texts
from skilldeck_daemon.attachments.listing import FILE_CHARS, Attachment, Attachments
from skilldeck_daemon.engine.base import ModelInfo
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.tools.base import Call, CallWriter, Tool
from skilldeck_daemon.tools.choice import ToolChoice
from skilldeck_daemon.tools.context import ToolContext
from skilldeck_daemon.wire.item_kinds import Answer, FunctionCall
from skilldeck_shared.json_types import JsonObject

NAMES = ("read_file", "read_attached_file")
PAGE_CHARS = 8_192
MAX_PAGE_CHARS = 16_384
RUN_CHARS = 262_144
"""Characters that one run may read, however long the model's context is."""
CHARS_PER_TOKEN = 1.5
"""Of the context, how much may be read: about half of it, so that there is room for the answer."""
MAX_OFFSET = 2**40

DESCRIPTION = (
    "Read more of an attached file whose text is marked truncated. Returns the text from character `offset` on, and"
    " where the rest begins."
)
PARAMETERS: JsonObject = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "The file's name."},
        "offset": {
            "type": "integer",
            "minimum": 0,
            "description": f"First character to read; what was shown ends at {FILE_CHARS} or before.",
        },
        "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_CHARS, "description": "Characters to read."},
    },
    "required": ["name", "offset"],
    "additionalProperties": False,
}


class ReadFileTool(Tool):
    """The tool of one run.

    Args:
        name: one of `NAMES` that no tool of the request has.
        files: the request's files.
        context: tokens of the model's context, 0 when unknown.
    """

    type = "function"
    hosted = True
    internal = True

    def __init__(self, name: str, files: Attachments, context: int = 0) -> None:
        self.name = name
        self._files = files
        self._left = min(RUN_CHARS, int(context * CHARS_PER_TOKEN)) if context else RUN_CHARS
        self._calls: dict[str, FunctionCall] = {}

    def echo(self) -> JsonObject:
        return {"type": "function", "name": self.name, "parameters": PARAMETERS, "strict": False}

    def declare(self) -> list[JsonObject]:
        function = {"name": self.name, "description": DESCRIPTION, "parameters": PARAMETERS, "strict": False}
        return [{"type": "function", "function": function}]

    def matches(self, choice: JsonObject) -> bool:
        return False  # no client knows of it

    def begin(self, output: Output, context: ToolContext, call_id: str, name: str) -> CallWriter:
        return _Writer(self, output, call_id)

    def began(self, item: FunctionCall) -> None:
        """Remember the call's item until it is carried out."""
        self._calls[item["call_id"]] = item

    async def execute(self, call: Call, output: Output, context: ToolContext) -> None:
        text = call.problem if call.problem is not None else await self._read(json.loads(call.arguments))
        answer: Answer = {"type": "function_call_output", "call_id": call.call_id, "output": text}
        output.hide(answer)
        self._calls.pop(call.call_id)["status"] = "completed"

    async def _read(self, arguments: JsonObject) -> str:
        name, offset = arguments["name"], arguments.get("offset") or 0
        limit = min(arguments.get("limit") or PAGE_CHARS, MAX_PAGE_CHARS)
        readable = {file.name: file for file in self._files.files.values() if file.body is not None}
        file = readable.get(name)
        if file is None:
            return _no_such_file(name, next((f for f in self._files.files.values() if f.name == name), None), readable)
        if self._left <= 0:
            return "No more can be read in this answer; say what you found so far."
        limit = min(limit, self._left)
        assert file.body is not None
        piece, more = await asyncio.to_thread(texts.read, file.body, file.encoding, offset, limit)
        self._left -= len(piece)
        end = offset + len(piece)
        if not piece:
            return f"[{name}: the text ends before character {offset}]"
        rest = f"more follows from offset {end}" if more else "the text ends here"
        return f"[{name}: characters {offset} to {end}; {rest}]\n{piece}"


def _no_such_file(name: str, file: Attachment | None, readable: dict[str, Attachment]) -> str:
    there = f"Files with text: {', '.join(readable)}." if readable else "No file has text."
    if file is not None:
        return f"{name!r} has no text to read. {file.note} {there}".replace("  ", " ")
    return f"There is no file {name[:200]!r}. {there}"


class _Writer(CallWriter):
    """The call while the model writes it: nobody sees it."""

    def __init__(self, tool: ReadFileTool, output: Output, call_id: str) -> None:
        super().__init__()
        self._tool = tool
        self._output = output
        self._call_id = call_id

    def show(self, delta: str) -> None:
        pass

    def close(self, arguments: str, problem: str | None) -> Call:
        problem = _problem(arguments)
        item: FunctionCall = {
            "id": new_id("fc"),
            "type": "function_call",
            "status": "incomplete",
            "call_id": self._call_id,
            "name": self._tool.name,
            "arguments": arguments,
        }
        self._output.hide(item)
        self._tool.began(item)
        return Call(self._tool, self._call_id, self._tool.name, arguments, hosted=True, problem=problem)


def _problem(arguments: str) -> str | None:
    """Why the arguments cannot be used, for the model."""
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError) as error:
        return f"The arguments are not valid JSON: {error}."
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        return 'The arguments must be an object with "name", the name of a file.'
    for field, lowest in (("offset", 0), ("limit", 1)):
        value = given.get(field)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= MAX_OFFSET:
            return f'"{field}" must be an integer of at least {lowest}.'
    return None


def own_tools(
    tools: Sequence[Tool], choice: ToolChoice, text_format: Mapping[str, Any], files: Attachments, model: ModelInfo
) -> tuple[Tool, ...]:
    """The tools the daemon adds to a request's: `read_file`, when it has more to read and nothing else reads it."""
    if not files.cut or choice.mode == "none" or choice.tools is not None:
        return ()
    if any(tool.hosted and tool.type in ("shell", "code_interpreter") for tool in tools):
        return ()
    if model.engine == "remote" and text_format["type"] != "text":
        return ()  # some servers refuse tools beside a format, and this one is nobody's wish
    taken = {name for tool in tools for name in tool.names}
    name = next((name for name in NAMES if name not in taken), None)
    return () if name is None else (ReadFileTool(name, files, model.context),)

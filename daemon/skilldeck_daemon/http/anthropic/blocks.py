"""The `messages` of an Anthropic Messages request as input items of a run.

Blocks: text, image, document, search_result, container_upload, tool_use and tool_result, thinking, and the
server_tool_use and its results with which an earlier answer showed commands and searches that were made here.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from skilldeck_daemon.agent.compaction import told_compaction
from skilldeck_daemon.http.chat.messages import image_part
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.store.run_records import Part
from skilldeck_daemon.tools.shell_items import ShellCall, ShellOutput
from skilldeck_daemon.tools.web.items import WebCallItem
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_daemon.wire.item_kinds import KINDS, Answer, CommandOutput, Found, FunctionCall
from skilldeck_daemon.wire.items import MAX_ITEMS, Item, decode_file_data, message_item
from skilldeck_daemon.wire.sealed import unseal

CONTENT = ("text", "image", "document", "search_result", "container_upload")
ASSISTANT = (
    "text",
    "tool_use",
    "thinking",
    "redacted_thinking",
    "server_tool_use",
    "bash_code_execution_tool_result",
    "web_search_tool_result",
    "compaction",
)
HOSTED_NAME = "bash_code_execution"
SEARCH_NAME = "web_search"


class BlockReader:
    """Collects `items`, in `places` where each stood, and in `parts` where the parts of each stood."""

    def __init__(self, container_id: str = "") -> None:
        self.items: list[Item] = []
        self.places: list[str] = []
        self.parts: dict[int, list[str]] = {}
        self.begun = False  # whether the last message is the beginning of the answer
        self._container_id = container_id
        self._pending: set[str] = set()
        self._ran: set[str] = set()
        self._searched: dict[str, str] = {}  # the query of each search whose result has not come yet

    def read(self, fields: Fields) -> None:
        """Read the whole list. Raises BadRequest naming the field."""
        messages = fields.objects("messages", required=True, minimum=1, maximum=MAX_ITEMS)
        for message in messages:
            role = message.needed("role", choices=("user", "assistant", "system"))
            if role == "assistant":
                self._assistant(message)
            else:
                self._others(message, role)
        self._settled()
        self.begun = bool(self.items) and self.items[-1].get("role") == "assistant"

    def _add(self, item: Item, place: str, parts: list[str] | None = None) -> None:
        if parts is not None:
            self.parts[len(self.items)] = parts
        self.items.append(item)
        self.places.append(place)

    def _settled(self) -> None:
        """Every call has its result. What stands between the two does no harm: it is put in order for the model."""
        if self._pending:
            refuse(
                "messages",
                f"The tool_use {min(self._pending)[:100]!r} has no tool_result in 'messages'.",
                "Begin the next user message with a tool_result block for each tool_use.",
            )

    # -- user and system

    def _others(self, message: Fields, role: str) -> None:
        parts: list[Part] = []
        places: list[str] = []
        for block in blocks(message, "content"):
            type = block.needed("type", choices=(*CONTENT, "tool_result") if role == "user" else ("text",))
            if type == "tool_result":
                self._result(block)
                continue
            parts.append(content_part(block))
            places.append(_place(block))
        if parts:
            self._add(message_item(role, parts), message.path, places)

    def _result(self, block: Fields) -> None:
        id = block.needed("tool_use_id", maximum=256)
        if id not in self._pending:
            refuse(
                block.name("tool_use_id"),
                f"'{block.path}' answers {id[:100]!r}, which no message before it called.",
                "Send the assistant message with its tool_use block first, and answer each once.",
            )
        self._pending.discard(id)
        inner = blocks(block, "content") if block.value.get("content") is not None else []
        parts = [_reference(entry) or content_part(entry) for entry in inner]
        if block.boolean("is_error"):
            parts.insert(0, {"type": "input_text", "text": "Error:"})
            inner.insert(0, block)
        output: Any = parts
        if all(part["type"] == "input_text" for part in parts):
            output = "\n".join(part["text"] for part in parts)
        item: Answer = {
            "id": new_id("fco"),
            "type": "function_call_output",
            "status": "completed",
            "call_id": id,
            "output": output,
        }
        self._add(item, block.path, [_place(entry) for entry in inner])

    # -- assistant

    def _assistant(self, message: Fields) -> None:
        for block in blocks(message, "content"):
            match block.needed("type", choices=ASSISTANT):
                case "text":
                    text = block.string("text", required=True) or ""
                    part: Part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
                    self._add(message_item("assistant", [part]), block.path)
                case "thinking" | "redacted_thinking":
                    self._thinking(block)
                case "tool_use":
                    self._call(block)
                case "server_tool_use":
                    self._command(block)
                case "web_search_tool_result":
                    self._search_result(block)
                case "compaction":
                    self._compaction(block)
                case _:
                    self._command_output(block)

    def _thinking(self, block: Fields) -> None:
        text = block.string("thinking") or unseal(block.string("data") or "")
        if text:
            content: list[Part] = [{"type": "reasoning_text", "text": text}]
            self._add({"id": new_id("rs"), "type": "reasoning", "summary": [], "content": content}, block.path)

    def _compaction(self, block: Fields) -> None:
        """What stands for all before it; one without content failed, and stands for nothing."""
        text = block.string("content", minimum=1)
        if text is None:
            return
        ours = unseal(block.string("encrypted_content") or "")
        self._add(KINDS["compaction"].read(block) if ours else told_compaction(text), block.path)

    def _call(self, block: Fields) -> None:
        id = block.needed("id", maximum=256)
        if id in self._pending:
            refuse(
                block.name("id"),
                f"Two tool_use blocks have the id {id[:100]!r} and no tool_result between them.",
                "Make the ids different.",
            )
        given = block.object("input", required=True)
        assert given is not None
        item: FunctionCall = {
            "id": new_id("fc"),
            "type": "function_call",
            "status": "completed",
            "call_id": id,
            "name": block.needed("name", maximum=256),
            "arguments": dumps(given.value),
        }
        self._pending.add(id)
        self._add(item, block.path)

    def _command(self, block: Fields) -> None:
        name = block.needed("name", choices=(HOSTED_NAME, SEARCH_NAME))
        id = block.needed("id", maximum=256)
        given = block.object("input", required=True)
        assert given is not None
        if name == SEARCH_NAME:
            self._searched[id] = given.string("query") or ""
            return
        self._ran.add(id)
        item: ShellCall = {
            "id": new_id("sh"),
            "type": "shell_call",
            "status": "completed",
            "call_id": id,
            "action": {"commands": [given.needed("command")], "timeout_ms": None, "max_output_length": None},
            "environment": {"type": "container_reference", "container_id": self._container_id},
        }
        self._add(item, block.path)

    def _search_result(self, block: Fields) -> None:
        """A search and what it found, as one item; a result of another server's search is sealed and stays so."""
        id = block.needed("tool_use_id", maximum=256)
        if id not in self._searched:
            refuse(block.name("tool_use_id"), f"'{block.path}' has no server_tool_use {id[:100]!r} before it.")
        query = self._searched.pop(id)
        results: list[Found] = []
        found = isinstance(block.value.get("content"), list)
        for entry in block.objects("content") if found else ():
            text = unseal(entry.string("encrypted_content") or "")
            results.append({"url": entry.needed("url"), "title": entry.string("title") or "", "text": text})
        item: WebCallItem = {
            "id": new_id("ws"),
            "type": "web_search_call",
            "status": "completed" if found else "failed",
            "action": {"type": "search", "query": query, "queries": [query]},
            "results": results,
        }
        self._add(item, block.path)

    def _command_output(self, block: Fields) -> None:
        id = block.needed("tool_use_id", maximum=256)
        if id not in self._ran:
            refuse(block.name("tool_use_id"), f"'{block.path}' has no server_tool_use {id[:100]!r} before it.")
        self._ran.discard(id)
        result = block.object("content", required=True)
        assert result is not None
        entry: CommandOutput
        if result.needed("type") == "bash_code_execution_tool_result_error":
            error = result.string("error_code") or "unavailable"
            entry = {"stdout": "", "stderr": error, "outcome": {"type": "exit", "exit_code": 1}}
        else:
            code = result.integer("return_code", required=True) or 0
            stdout, stderr = (result.string(name, required=True) or "" for name in ("stdout", "stderr"))
            entry = {"stdout": stdout, "stderr": stderr, "outcome": {"type": "exit", "exit_code": code}}
        item: ShellOutput = {
            "id": new_id("sho"),
            "type": "shell_call_output",
            "status": "completed",
            "call_id": id,
            "output": [entry],
            "max_output_length": None,
        }
        self._add(item, block.path)


def _place(block: Fields) -> str:
    """Where a part's own fields stand."""
    return block.name("source") if block.value.get("type") in ("image", "document") else block.path


def dumps(value: Any) -> str:
    """JSON as models write it."""
    return json.dumps(value, ensure_ascii=False)


def _reference(block: Fields) -> Part | None:
    """A tool that a client's own search found; it is declared already, as every deferred one."""
    if block.value.get("type") != "tool_reference":
        return None
    return {"type": "input_text", "text": f"found: {block.needed('tool_name', maximum=256)}"}


def blocks(holder: Fields, field: str) -> list[Fields]:
    """Blocks, or a string that stands for one text block."""
    value = holder.value.get(field)
    if isinstance(value, str):
        return [Fields({"type": "text", "text": holder.string(field)}, holder.name(field))]
    return holder.objects(field, required=True)


def texts(holder: Fields, field: str) -> str | None:
    """Text blocks as one text; None when there are none."""
    if holder.value.get(field) is None:
        return None
    found = []
    for block in blocks(holder, field):
        block.needed("type", choices=("text",))
        found.append(block.string("text", required=True) or "")
    return "\n\n".join(found)


def content_part(block: Fields) -> Part:
    """One block of user content, as a part of an input item."""
    type = block.needed("type", choices=CONTENT)
    if type == "text":
        return {"type": "input_text", "text": block.string("text", required=True) or ""}
    if type == "container_upload":
        return {"type": "input_file", "file_id": block.needed("file_id", maximum=256)}
    if type == "search_result":
        head = f"{block.needed('title')} ({block.needed('source')}):"
        return {"type": "input_text", "text": f"{head}\n{texts(block, 'content') or ''}"}
    source = block.object("source", required=True)
    assert source is not None
    return _image(source) if type == "image" else _document(block, source)


def _image(source: Fields) -> Part:
    match source.needed("type", choices=("base64", "url", "file")):
        case "file":
            return {"type": "input_image", "detail": "auto", "file_id": source.needed("file_id", maximum=256)}
        case "url":
            return image_part(source, "url")
    media = source.needed("media_type", choices=("image/jpeg", "image/png", "image/gif", "image/webp"))
    data = source.needed("data")
    decode_file_data(data, source.name("data"))
    return {"type": "input_image", "detail": "auto", "image_url": f"data:{media};base64,{data}"}


def _document(block: Fields, source: Fields) -> Part:
    citations = block.object("citations")
    if citations is not None and citations.boolean("enabled"):
        refuse(citations.name("enabled"), "Citations of documents are not supported.", "Leave 'citations' out.")
    title = block.string("title", maximum=255)
    context = block.string("context")
    part: Part = {"type": "input_file"}
    match source.needed("type", choices=("base64", "text", "content", "url", "file")):
        case "file":
            part["file_id"] = source.needed("file_id", maximum=256)
        case "url":
            part["file_url"] = source.needed("url")
        case "base64":
            media, data = source.needed("media_type", maximum=256), source.needed("data")
            decode_file_data(data, source.name("data"))
            part["file_data"] = f"data:{media};base64,{data}"
            title = title or ("document.pdf" if media == "application/pdf" else None)
        case kind:
            text = (source.string("data", required=True) if kind == "text" else texts(source, "content")) or ""
            text = f"{context}\n\n{text}" if context else text
            part["file_data"] = f"data:text/plain;base64,{base64.b64encode(text.encode()).decode()}"
            title, context = title or "document.txt", None
    if context:
        refuse(block.name("context"), f"'{block.name('context')}' is only supported with text.", "Send it as text.")
    return {**part, "filename": title} if title else part

"""Items of histories that other servers made and this one never makes: read as what they mean to the model.

Calls of hosted tools that are not here become calls of functions of their names, which the history keeps; what was
made elsewhere and cannot be shown (images, searches of files) becomes a short note of the assistant's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from skilldeck_daemon.store.run_records import Part
from skilldeck_daemon.wire.fields import Fields, item_id
from skilldeck_daemon.wire.item_kinds import Answer, FunctionCall, Item, ItemKind


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _call(fields: Fields, name: str, arguments: Any) -> Item:
    # A server's own call may have no call_id; its output follows it, and they have one name.
    call: FunctionCall = {
        "id": item_id(fields, "fc"),
        "type": "function_call",
        "status": "completed",
        "call_id": fields.string("call_id", maximum=256) or name,
        "name": name,
        "arguments": _dumps(arguments),
    }
    return call


def _output(fields: Fields, call_id: str, text: str) -> Item:
    id = item_id(fields, "fco")
    output: Answer = {
        "id": id,
        "type": "function_call_output",
        "status": "completed",
        "call_id": call_id,
        "output": text,
    }
    return output


def _note(fields: Fields, text: str) -> Item:
    part: Part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    id = item_id(fields, "msg")
    return {"id": id, "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def _local_shell_call(fields: Fields) -> Item:
    action = fields.object("action", required=True)
    assert action is not None
    given = {name: value for name, value in action.value.items() if name != "type" and value not in (None, {})}
    return _call(fields, "local_shell", given)


def _local_shell_output(fields: Fields) -> Item:
    call_id = fields.string("call_id", maximum=256) or fields.needed("id", maximum=256)
    return _output(Fields({}, fields.path), call_id, fields.string("output", required=True) or "")


def _tool_search_call(fields: Fields) -> Item:
    return _call(fields, "tool_search", fields.value.get("arguments") or {})


def _tool_search_output(fields: Fields) -> Item:
    names = [tool.string("name") or tool.string("type") or "" for tool in fields.objects("tools")]
    call_id = fields.string("call_id", maximum=256) or "tool_search"
    return _output(fields, call_id, f"found: {', '.join(names)}" if names else "found nothing")


def _file_search(fields: Fields) -> Item:
    return _note(fields, f"(files were searched for: {'; '.join(fields.strings('queries'))})")


def _image(fields: Fields) -> Item:
    return _note(fields, "(an image was made)")


class ForeignKind(ItemKind[Item]):
    """A type that is read as an item of another type."""

    def __init__(self, type: str, read: Callable[[Fields], Item]) -> None:
        self.type = type
        self._read = read

    def read(self, fields: Fields) -> Item:
        return self._read(fields)


_READERS: dict[str, Callable[[Fields], Item]] = {
    "local_shell_call": _local_shell_call,
    "local_shell_call_output": _local_shell_output,
    "tool_search_call": _tool_search_call,
    "tool_search_output": _tool_search_output,
    "file_search_call": _file_search,
    "image_generation_call": _image,
}
FOREIGN_KINDS = tuple(ForeignKind(type, read) for type, read in _READERS.items())

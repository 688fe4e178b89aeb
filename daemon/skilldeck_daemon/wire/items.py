"""The `input` of a request: what OpenAI accepts, read into canonical items.

A canonical item has an `id` and all fields its stored form needs (`GET …/input_items` returns it as it is). Content
of messages is always a list of parts. References (`item_reference`) stay references until the run starts. Each type is
read by its kind (`item_kinds.py`): those of calls and outputs belong to the tools, the others are here.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Sequence
from typing import Any

from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.store.run_records import Event, Part
from skilldeck_daemon.wire.fields import Fields, item_id, kind, refuse
from skilldeck_daemon.wire.item_kinds import KINDS, Answer, ItemKind, register
from skilldeck_daemon.wire.item_kinds import Item as Item
from skilldeck_daemon.wire.items_foreign import FOREIGN_KINDS
from skilldeck_daemon.wire.output_text import annotation, logprob
from skilldeck_daemon.wire.sealed import seal, unseal
from skilldeck_shared.characters import clean

MAX_ITEMS = 10_000
REASONING = "reasoning.encrypted_content"
DETAILS = ("auto", "low", "high", "original")
STATUSES = ("in_progress", "completed", "incomplete")


def parse_input(value: Any) -> list[Item]:
    """A string or a list of items; absent means none."""
    if value is None:
        return []
    if isinstance(value, str):
        return [message_item("user", [{"type": "input_text", "text": clean(value)}])]
    if not isinstance(value, list):
        refuse("input", f"'input' must be a string or an array of items, not {kind(value)}.", code="invalid_type")
    if len(value) > MAX_ITEMS:
        refuse("input", f"'input' has {len(value)} items.", f"At most {MAX_ITEMS} are allowed.")
    return parse_items(value, "input")


def parse_items(values: list[Any], path: str) -> list[Item]:
    """A list of input items at `path` (also the body of a conversation's items)."""
    items = [parse_item(Fields(value, f"{path}[{index}]")) for index, value in enumerate(values)]
    seen: set[str] = set()
    for index, item in enumerate(items):
        if item["id"] in seen and item["type"] != "item_reference":
            hint = "Send each item once, or leave the ids out."
            refuse(f"{path}[{index}].id", f"Two items have the id {item['id'][:100]!r}.", hint, "duplicate_item")
        seen.add(item["id"])
    return items


def parse_item(fields: Fields) -> Item:
    """One input item; an object with a role and no type is a message."""
    given = fields.string("type")
    if given is None and "role" not in fields.value and "id" in fields.value:
        given = "item_reference"  # the type of a reference is optional
    type = given or "message"
    found = KINDS.get(type)
    if found is None:
        accepted = ", ".join(sorted(KINDS))
        refuse(
            fields.name("type"),
            f"Input items of type {type[:64]!r} are not supported.",
            f"Accepted: {accepted}.",
            "invalid_value",
        )
    item: Item = found.read(fields)
    return item


def message_item(role: str, content: list[Part]) -> Item:
    return {"id": new_id("msg"), "type": "message", "role": role, "status": "completed", "content": content}


# ------------------------------------------------------------------ messages


def _message(fields: Fields) -> Item:
    role = fields.needed("role", choices=("user", "assistant", "system", "developer"))
    phase = fields.string("phase", choices=("commentary", "final_answer"))
    content = fields.value.get("content")
    part_type = "output_text" if role == "assistant" else "input_text"
    parts: list[Part]
    if isinstance(content, str):
        parts = [_text_part(part_type, clean(content))]
    elif content is None and role == "assistant":
        parts = []  # an empty turn, as programs keep it of an answer that was stopped
    elif content is None:
        refuse(
            fields.name("content"),
            f"Missing required parameter: '{fields.name('content')}'.",
            code="missing_required_parameter",
        )
    else:
        parts = [_part(part, role) for part in fields.objects("content")]
    item: Item = {
        "id": item_id(fields, "msg"),
        "type": "message",
        "role": role,
        "status": fields.string("status", choices=STATUSES) or "completed",
        "content": parts,
    }
    if phase and role == "assistant":
        item["phase"] = phase
    return item


def _text_part(type: str, text: str) -> Part:
    if type == "output_text":
        return {"type": type, "text": text, "annotations": [], "logprobs": []}
    return {"type": type, "text": text}


def _part(fields: Fields, role: str) -> Part:
    allowed = ("output_text", "refusal") if role == "assistant" else ("input_text", "input_image", "input_file")
    type = fields.needed("type", choices=(*allowed, "text"))
    match type:
        case "refusal":
            return {"type": type, "refusal": fields.string("refusal", required=True) or ""}
        case "input_image":
            return _image(fields)
        case "input_file":
            return _file(fields)
        case "output_text":
            text = fields.string("text", required=True) or ""
            annotations = [annotation(entry) for entry in fields.objects("annotations")]
            logprobs = [logprob(entry) for entry in fields.objects("logprobs")]
            return {**_text_part(type, text), "annotations": annotations, "logprobs": logprobs}
        case _:
            fallback = "output_text" if role == "assistant" else "input_text"
            return _text_part(fallback if type == "text" else type, fields.string("text", required=True) or "")


def _image(fields: Fields) -> Part:
    url, file_id = fields.string("image_url"), fields.string("file_id", maximum=256)
    if bool(url) == bool(file_id):
        refuse(fields.path, f"'{fields.path}' needs exactly one of 'image_url' and 'file_id'.")
    if url and not url.startswith(("data:", "https://", "http://")):
        refuse(
            fields.name("image_url"),
            f"'{fields.name('image_url')}' must be a data: or http(s) URL.",
            code="invalid_value",
        )
    return {
        "type": "input_image",
        "detail": fields.string("detail", choices=DETAILS) or "auto",
        "image_url": url or None,
        "file_id": file_id or None,
    }


def _file(fields: Fields) -> Part:
    """One of file_id, file_data (a data URL or base64), file_url; base64 is decoded once, here, to prove it is."""
    sources = {name: fields.string(name) for name in ("file_id", "file_data", "file_url")}
    given = [name for name, value in sources.items() if value]
    if len(given) != 1:
        refuse(fields.path, f"'{fields.path}' needs exactly one of 'file_id', 'file_data' and 'file_url'.")
    fields.string("detail", choices=DETAILS)
    source: Any = {given[0]: sources[given[0]]}
    part: Part = {"type": "input_file"}
    part.update(source)
    if given[0] == "file_data":
        decode_file_data(str(sources["file_data"]), fields.name("file_data"))
    filename = fields.string("filename", maximum=255)
    if filename:
        part["filename"] = filename
    return part


def decode_file_data(data: str, param: str) -> tuple[bytes, str]:
    """`data:TYPE;base64,…` or bare base64 → (bytes, media type or empty)."""
    media = ""
    if data.startswith("data:"):
        head, comma, data = data.partition(",")
        if not comma or not head.endswith(";base64"):
            refuse(param, f"'{param}' is a data URL without ';base64,'.", code="invalid_value")
        media = head[len("data:") : -len(";base64")]
    try:
        return base64.b64decode(data, validate=True), media
    except (binascii.Error, ValueError):
        refuse(
            param, f"'{param}' is not valid base64.", "Send a data URL or the base64 text of the file.", "invalid_value"
        )


# ------------------------------------------------------------------ for the kinds of calls and outputs


def read_common(fields: Fields, prefix: str) -> Item:
    """id, type and status; `prefix` is of ids that are made here."""
    return {
        "id": item_id(fields, prefix),
        "type": fields.value["type"],
        "status": fields.string("status", choices=STATUSES) or "completed",
    }


def read_call_id(fields: Fields) -> str:
    return fields.needed("call_id", maximum=256)


def read_output(fields: Fields) -> str | list[Part]:
    """`output`: a text, or parts as a user's message has them."""
    if isinstance(fields.value.get("output"), list):
        return [_part(part, "user") for part in fields.objects("output")]
    return fields.string("output", required=True) or ""


# ------------------------------------------------------------------ kinds that are no tool's


class MessageKind(ItemKind[Item]):
    type = "message"
    deltas = ("response.output_text.delta", "response.refusal.delta")

    def read(self, fields: Fields) -> Item:
        return _message(fields)

    def so_far(self, item: Item, events: Sequence[Event]) -> Item:
        text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        return item if item["content"] or not text else {**item, "content": [_text_part("output_text", text)]}


class ReasoningKind(ItemKind[Item]):
    """Its text is sealed for those who ask for `reasoning.encrypted_content`."""

    type = "reasoning"
    deltas = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")
    includes = (REASONING,)

    def read(self, fields: Fields) -> Item:
        item: Item = {
            "id": item_id(fields, "rs"),
            "type": "reasoning",
            "summary": [
                {"type": "summary_text", "text": part.string("text", required=True) or ""}
                for part in fields.objects("summary")
            ],
            "content": [
                {"type": "reasoning_text", "text": part.string("text", required=True) or ""}
                for part in fields.objects("content")
            ],
        }
        encrypted = fields.string("encrypted_content")
        if encrypted:
            item["encrypted_content"] = encrypted
            if not item["content"] and unseal(encrypted):
                item["content"] = [{"type": "reasoning_text", "text": unseal(encrypted)}]
        return item

    def included(self, item: Item, include: Collection[str], answer: Answer | None) -> Item:
        if REASONING not in include or item.get("encrypted_content"):
            return item
        text = "".join(part["text"] for part in item.get("content") or [])
        return {**item, "encrypted_content": seal(text)} if text else item


class CompactionKind(ItemKind[Item]):
    type = "compaction"

    def read(self, fields: Fields) -> Item:
        content = fields.needed("encrypted_content", maximum=20_971_520)
        try:
            content_read = json.loads(unseal(content))
            valid = isinstance(content_read["summary"], str) and all(
                message["role"] in ("user", "system", "developer") and isinstance(message["content"], str)
                for message in content_read["messages"]
            )
        except (ValueError, KeyError, TypeError):
            valid = False
        if not valid:
            refuse(
                fields.name("encrypted_content"), f"'{fields.name('encrypted_content')}' was not made by this server."
            )
        return {"id": item_id(fields, "cmp"), "type": "compaction", "encrypted_content": content}


class ReferenceKind(ItemKind[Item]):
    type = "item_reference"

    def read(self, fields: Fields) -> Item:
        return {"type": "item_reference", "id": fields.needed("id", maximum=256)}


register(MessageKind(), ReasoningKind(), CompactionKind(), ReferenceKind(), *FOREIGN_KINDS)

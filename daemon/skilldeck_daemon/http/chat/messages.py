"""The `messages` of a Chat Completions request as input items of a run.

Roles system, developer, user, assistant and tool; text, images and files. What an earlier answer held under
`message.skilldeck.output` (the commands that were run here and what they gave) is read back when the client returns the
message as it got it, so the model remembers its own work and its container is used again.
"""

from __future__ import annotations

from typing import Any

from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.store.run_records import Part
from skilldeck_daemon.tools.function import CustomCall
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_daemon.wire.item_kinds import KINDS, Answer, FunctionCall
from skilldeck_daemon.wire.items import MAX_ITEMS, Item, decode_file_data, message_item, parse_items
from skilldeck_shared.characters import clean

EXTRA = "skilldeck"
"""The one field of ours on messages and choices; SDKs keep fields they do not know."""


class MessageReader:
    """Collects `items`, and in `places` where each stood."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.places: list[str] = []
        self._pending: dict[str, str] = {}  # ids of calls not yet answered → type

    def read(self, fields: Fields) -> None:
        """Read the whole list. Raises BadRequest naming the field."""
        messages = fields.objects("messages", required=True, minimum=1, maximum=MAX_ITEMS)
        for message in messages:
            role = message.needed("role", choices=("system", "developer", "user", "assistant", "tool", "function"))
            if role == "function":
                hint = "Send tool calls and messages of role 'tool'."
                refuse(message.name("role"), "Messages of role 'function' are not supported.", hint, "invalid_value")
            if role == "assistant":
                self._assistant(message)
            elif role == "tool":
                self._tool(message)
            else:
                self._add(message_item(role, self._parts(message, role)), message.path)
        self._settled()

    def _add(self, item: Item, place: str) -> None:
        self.items.append(item)
        self.places.append(place)

    def _settled(self) -> None:
        """Every call has its answer. What stands between the two does no harm: it is put in order for the model."""
        if self._pending:
            id = next(iter(self._pending))
            refuse(
                "messages",
                f"The tool call {id[:100]!r} has no answer in 'messages'.",
                "After an assistant message with 'tool_calls' send one message of role 'tool' for each of them.",
            )

    # -- by role

    def _parts(self, message: Fields, role: str) -> list[Part]:
        content = message.value.get("content")
        if isinstance(content, str):
            parts: list[Part] = [{"type": "input_text", "text": message.string("content") or ""}]
        elif content is None:
            refuse(
                message.name("content"),
                f"Missing required parameter: '{message.name('content')}'.",
                code="missing_required_parameter",
            )
        else:
            parts = [content_part(part, role) for part in message.objects("content", minimum=1)]
        name = message.string("name", maximum=64)
        if name and role == "user":
            # Templates know no names: the model reads who speaks at the beginning of the text.
            parts = [{"type": "input_text", "text": f"{name}: "}, *parts]
            if parts[1]["type"] == "input_text":
                parts[:2] = [{"type": "input_text", "text": parts[0]["text"] + parts[1]["text"]}]
        return parts

    def _assistant(self, message: Fields) -> None:
        message.refuse("audio", why="This server has no audio.")
        message.refuse("function_call", why="Send 'tool_calls'.")
        # One without content or calls is an empty turn, as programs keep it of an answer that was stopped.
        text = _assistant_text(message)
        calls = message.objects("tool_calls")
        # vLLM and Ollama call it `reasoning`; what else has that name (OpenRouter's switches) is no text.
        bare = message.value.get("reasoning")
        reasoning = message.string("reasoning_content") or (clean(bare) if isinstance(bare, str) else "")
        if reasoning:
            content: list[Part] = [{"type": "reasoning_text", "text": reasoning}]
            self._add({"id": new_id("rs"), "type": "reasoning", "summary": [], "content": content}, message.path)
        extra = message.object(EXTRA)
        if extra is not None:
            place = extra.name("output")
            for index, item in enumerate(parse_items(extra.array("output"), place)):
                if not KINDS[item["type"]].hosted:
                    refuse(
                        f"{place}[{index}].type", f"'{place}[{index}].type' is {item['type']!r}.", code="invalid_value"
                    )
                self._add(item, f"{place}[{index}]")
        if text is not None:
            part: Part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
            self._add(message_item("assistant", [part]), message.path)
        for call in calls:
            self._call(call)

    def _call(self, call: Fields) -> None:
        type = call.string("type", choices=("function", "custom")) or "function"
        id = call.needed("id", maximum=256)
        if id in self._pending:
            refuse(
                call.name("id"),
                f"Two tool calls have the id {id[:100]!r} and no answer between them.",
                "Make the ids different.",
            )
        body = call.object(type, required=True)
        assert body is not None
        name = body.needed("name", maximum=256)
        if type == "function":
            function: FunctionCall = {
                "id": new_id("fc"),
                "type": "function_call",
                "status": "completed",
                "call_id": id,
                "name": name,
                "arguments": body.string("arguments", required=True) or "",
            }
            item: Item = function
        else:
            custom: CustomCall = {
                "id": new_id("ctc"),
                "type": "custom_tool_call",
                "status": "completed",
                "call_id": id,
                "name": name,
                "input": body.string("input", required=True) or "",
            }
            item = custom
        self._pending[id] = item["type"]
        self._add(item, call.path)

    def _tool(self, message: Fields) -> None:
        id = message.needed("tool_call_id", maximum=256)
        type = self._pending.pop(id, None)
        if type is None:
            refuse(
                message.name("tool_call_id"),
                f"'{message.path}' answers {id[:100]!r}, which no assistant message before it called.",
                "Send the assistant message with its 'tool_calls' first, and answer each call once.",
            )
        # Tools that return nothing are sent as null by some programs, as an empty list by others.
        parts = self._parts(message, "tool") if message.value.get("content") not in (None, []) else []
        plain = all(part["type"] == "input_text" for part in parts)
        item: Answer = {
            "id": new_id("fco"),
            "type": f"{type}_output",
            "status": "completed",
            "call_id": id,
            "output": "".join(part["text"] for part in parts) if plain else parts,
        }
        self._add(item, message.path)


def _assistant_text(message: Fields) -> str | None:
    content = message.value.get("content")
    refusal = message.string("refusal")
    if content is None:
        return refusal
    if isinstance(content, str):
        return message.string("content")
    texts = []
    for part in message.objects("content"):
        type = part.needed("type", choices=("text", "refusal"))
        texts.append(part.string(type, required=True) or "")
    return "".join(texts)


def content_part(part: Fields, role: str) -> Part:
    """One part of a message's content, as a part of an input item."""
    accepted = ("text", "image_url", "file") if role in ("user", "tool") else ("text",)
    type = part.needed("type", choices=(*accepted, *(("input_audio",) if role == "user" else ())))
    if type == "text":
        return {"type": "input_text", "text": part.string("text", required=True) or ""}
    if type == "input_audio":
        refuse(part.name("type"), "Audio is not supported.", "Send its transcript as text.", "unsupported_value")
    holder = part.object("image_url" if type == "image_url" else "file", required=True)
    assert holder is not None
    return image_part(holder, "url") if type == "image_url" else file_part(holder)


def image_part(holder: Fields, field: str) -> Part:
    url = holder.needed(field)
    if not url.startswith(("data:", "https://", "http://")):
        refuse(holder.name(field), f"'{holder.name(field)}' must be a data: or http(s) URL.", code="invalid_value")
    detail = holder.string("detail", choices=("auto", "low", "high", "original")) or "auto"
    return {"type": "input_image", "detail": detail, "image_url": url}


def file_part(holder: Fields) -> Part:
    """{file_id} or {file_data, filename}; file_url is taken too, as in Responses."""
    sources = {name: holder.string(name) for name in ("file_id", "file_data", "file_url")}
    given = [name for name, value in sources.items() if value]
    if len(given) != 1:
        refuse(holder.path, f"'{holder.path}' needs exactly one of 'file_id' and 'file_data'.")
    if given[0] == "file_data":
        decode_file_data(str(sources["file_data"]), holder.name("file_data"))
    source: Any = {given[0]: sources[given[0]]}
    part: Part = {"type": "input_file"}
    part.update(source)
    filename = holder.string("filename", maximum=255)
    return {**part, "filename": filename} if filename else part

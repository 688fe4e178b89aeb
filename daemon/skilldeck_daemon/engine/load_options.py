"""Options of a load that are the daemon's own: taken out before the engine sees the rest, which it checks itself. Those
of a remote model are all of them, and it is made here."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from skilldeck_daemon.engine.base import ChatModel
from skilldeck_daemon.engine.engines import REMOTE
from skilldeck_daemon.engine.families import AUTO, GENERIC, known
from skilldeck_daemon.engine.models.registry import TINY
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.json_types import JsonObject


def take_flag(options: JsonObject, name: str, default: bool) -> bool:
    """Take a yes or no out of the options."""
    value = options.pop(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"Option {name} is {value!r}, neither true nor false.", param=name)
    return value


def take_tool_text(options: JsonObject) -> bool:
    """Take out of the options whether calls in the text are read: auto (yes) or off."""
    value = options.pop("tool_text", "auto")
    if value not in ("auto", "off"):
        raise BadRequest(f"Option tool_text is {value!r}, neither auto nor off.", param="tool_text")
    return bool(value == "auto")


class Calls(TypedDict):
    """How a local model's calls are read and written, as `TokenChatModel` takes it."""

    tool_text: bool
    call_style: str
    family_name: str | None


def take_calls(options: JsonObject) -> Calls:
    """Take out of the options how the model's calls are read and written."""
    style, parser = options.pop("call_style", "auto"), options.pop("tool_parser", AUTO)
    if style not in ("auto", "json", "bash"):
        raise BadRequest(f"Option call_style is {style!r}, none of auto, json and bash.", param="call_style")
    families = (AUTO, *known(), GENERIC)
    if parser not in families:
        raise BadRequest(f"Option tool_parser is {parser!r}, none of {', '.join(families)}.", param="tool_parser")
    family = None if parser == AUTO else str(parser)
    return {"tool_text": take_tool_text(options), "call_style": str(style), "family_name": family}


def take_template(options: JsonObject) -> str | None:
    """Take out of the options the text of the chat template that stands in for the model's own; blocks on the disk."""
    file = options.pop("chat_template", None)
    if not file:
        return None
    try:
        return Path(str(file)).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(
            f"The chat template {file} cannot be read: {error}.", "Give a Jinja file.", param="chat_template"
        ) from None


async def remote_model(model: str, served: str | None, options: JsonObject) -> ChatModel:
    """The model of another server that the options name, connected to."""
    from skilldeck_daemon.engine.remote import replicas

    url = options.get("remote_url")
    if not url:
        raise BadRequest("The remote engine needs the URL of its server.", "Give --remote-url.", param="remote_url")
    if options.get("chat_template"):
        raise BadRequest(
            "A remote model is rendered by its own server.",
            "Give that server the chat template.",
            param="chat_template",
        )
    upstream = str(options.get("remote_model") or ("" if model in (TINY, "", REMOTE) else model))
    key = options.get("remote_api_key") or None
    images = take_flag(options, "remote_images", False)
    tool_text = take_tool_text(options)
    return await replicas.connect(str(url), upstream, key, name=served, images=images, tool_text=tool_text)

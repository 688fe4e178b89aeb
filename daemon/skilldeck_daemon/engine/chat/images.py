"""Where images stand in a prompt: a mark in its text, the id `IMAGE` among its ids.

The mark is of this process alone, so no text that somebody writes can be taken for one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from skilldeck_daemon.engine.messages import Message, MessagePart

MARK = f"<image {secrets.token_hex(16)}>"


def as_text(content: Sequence[MessagePart]) -> str:
    """The parts of a message as one text with the marks of its images. Nothing stands between an image and its text: so
    llama.cpp joins them, and so models were taught."""
    text, after = "", ""
    for part in content:
        image = part.get("type") == "image_url"
        text += MARK if image else after + part.get("text", "")
        after = "" if image else "\n"
    return text


def urls(messages: Sequence[Message]) -> Iterable[str]:
    """The data URLs of a request's images, in order."""
    for message in messages:
        if isinstance(message.get("content"), list):
            yield from (part["image_url"]["url"] for part in message["content"] if part.get("type") == "image_url")

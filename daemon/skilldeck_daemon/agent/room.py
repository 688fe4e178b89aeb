"""Room in a model's context: what took it, and how a run goes on when its own commands printed too much.

A run that has worked for an hour must not end because one more output does not fit: the longest outputs of this run
are cut, the longest first, before anything else gives way. With truncation "auto" what was before the run gives way as
well, before the context is full (`ANSWER`): its outputs first, then its oldest turns. A prompt that cannot fit says
what took the room.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from skilldeck_daemon.agent.prompt import Message, shorten
from skilldeck_daemon.agent.response import text_bytes
from skilldeck_daemon.engine.base import ChatModel, ChatRequest

ANSWER = 512
"""Tokens that are left for an answer, of a small context an eighth, before the history is as long as it may be."""

LEAST = 800
"""Characters of an output that are left in any case."""
_PARTS = (
    ("skills", re.compile(r"<skill name=.*?\n</skill>", re.DOTALL)),
    ("files", re.compile(r"<file [^>\n]*(?:/>|>\n.*?\n</file>)", re.DOTALL)),
)


async def tight(model: ChatModel, chat: ChatRequest) -> bool:
    """Whether the prompt leaves too little for an answer. It is counted only where it may be so, as a token is at least
    a byte."""
    context = model.info.context
    most = context - min(ANSWER, context // 8, chat.max_tokens or ANSWER)
    if not context or text_bytes(chat) <= most:
        return False
    tokens, counted = await model.measure(chat)
    return counted and tokens > most


def shorter_history(messages: Sequence[Message]) -> list[Message] | None:
    """With the longest older output cut to half, or without the oldest turns; None when there is neither. Outputs that
    nothing was said to yet are not old."""
    last = len(messages)
    while last and messages[last - 1]["role"] == "tool":
        last -= 1
    return shorter_outputs(messages, 0, last) or shorten(messages)


def shorter_outputs(messages: Sequence[Message], first: int, last: int | None = None) -> list[Message] | None:
    """With the longest output from `first` on (and before `last`) cut to half; None when none of them is long."""
    places = [place for place, message in enumerate(messages[:last]) if place >= first and message["role"] == "tool"]
    longest = max(places, key=lambda place: len(_text(messages[place])), default=None)
    if longest is None or len(_text(messages[longest])) <= LEAST:
        return None
    text = _text(messages[longest])
    room = max(LEAST // 2, len(text) // 2)
    head, tail = room * 2 // 3, room // 3
    note = f"\n[{len(text) - head - tail} characters left out to make room]\n"
    if len(note) + room >= len(text):
        return None
    cut = {**messages[longest], "content": text[:head] + note + text[-tail:]}
    return [*messages[:longest], cut, *messages[longest + 1 :]]


def took_room(messages: Sequence[Message]) -> str:
    """What a prompt is made of, largest first, in characters: a sentence for an error; "" when it says nothing."""
    sizes: dict[str, int] = {}
    for message in messages:
        text = _text(message)
        if message["role"] == "user":
            for name, pattern in _PARTS:
                left = pattern.sub("", text)
                sizes[name] = sizes.get(name, 0) + len(text) - len(left)
                text = left
        what = {"system": "instructions and lists", "tool": "outputs of calls"}.get(message["role"], "what was said")
        sizes[what] = sizes.get(what, 0) + len(text)
    parts = [f"{name} {size:,}" for name, size in sorted(sizes.items(), key=lambda item: -item[1]) if size]
    return f"Characters of it: {', '.join(parts)}." if len(parts) > 1 else ""


def _text(message: Message) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)

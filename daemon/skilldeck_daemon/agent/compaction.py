"""Compaction: a long conversation as a short one.

The user's own messages stay word for word (the newest ones, within a budget); all the rest becomes a summary that the
model writes. Both are in one `compaction` item, whose content is opaque to clients (OpenAI lists the messages beside
it, which its own SDK's types do not allow). Sent back as input, the item stands for the model in place of all before
it. POST /responses/compact stores nothing; a run that compacts (`context_management`) has the item in its output.
"""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

from skilldeck_daemon.agent.plan import Plan
from skilldeck_daemon.agent.prompt import Message, unfold
from skilldeck_daemon.agent.request import ResponseRequest
from skilldeck_daemon.engine.base import ChatFinished, ChatRequest, TextDelta, Usage
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.wire.fields import Fields
from skilldeck_daemon.wire.items import Item
from skilldeck_daemon.wire.sealed import seal, unseal
from skilldeck_shared.errors import SkilldeckError

KEPT_CHARS = 80_000
"""Characters of the user's newest messages that stay as they are."""
SUMMARY_TOKENS = 2_048
PROMPT = (
    "Summarise our conversation so far for somebody who has to go on with it and sees only your summary and the user's"
    " own messages: what was asked, what was done and found (with names, paths, numbers and results), what was decided,"
    " and what is still to be done. Write only the summary."
)


def parse(body: Any) -> ResponseRequest:
    """The body of POST /responses/compact as the request it continues."""
    fields = Fields(body)
    fields.needed("model")
    taken = ("model", "input", "instructions", "previous_response_id", "prompt_cache_key", "service_tier")
    return ResponseRequest.parse({name: fields.value.get(name) for name in taken})


async def summarise(plan: Plan, messages: list[Message]) -> tuple[str, Usage]:
    """The model's own summary of the messages. Raises the error of the engine."""
    asked = [*messages, {"role": "user", "content": plan.request.compact_prompt or PROMPT}]
    chat = ChatRequest(asked, max_tokens=SUMMARY_TOKENS, cache_key=plan.cache_key, cache_salt=plan.cache_salt)
    pieces: list[str] = []
    finished: ChatFinished | None = None
    async with aclosing(plan.model.stream(chat)) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, TextDelta):
                pieces.append(event.text)
            elif isinstance(event, ChatFinished):
                finished = event
    summary = "".join(pieces).strip()
    if finished is None or finished.reason == "error" or not summary:
        error = finished.error if finished is not None else None
        raise (
            error if isinstance(error, SkilldeckError) else SkilldeckError("The model wrote no summary.", "Try again.")
        )
    return summary, finished.usage


def compaction_item(items: list[Item], summary: str) -> Item:
    """The item that stands for the items from now on."""
    content = {"messages": _kept(unfold(items)), "summary": summary}
    return {"id": new_id("cmp"), "type": "compaction", "encrypted_content": seal(json.dumps(content))}


def compaction_text(item: Item) -> str:
    """The summary in a compaction item of this daemon's."""
    return str(json.loads(unseal(item["encrypted_content"]))["summary"])


def told_compaction(summary: str) -> Item:
    """The item for a summary that another server wrote: nothing but it is known of what was before."""
    content = {"messages": [], "summary": summary}
    return {"id": new_id("cmp"), "type": "compaction", "encrypted_content": seal(json.dumps(content))}


def _kept(items: list[Item]) -> list[dict[str, str]]:
    """Role and text of the newest messages that are not the model's, in order, within the budget."""
    kept: list[dict[str, str]] = []
    room = KEPT_CHARS
    for item in reversed(items):
        if item.get("type") != "message" or item.get("role") == "assistant":
            continue
        text = "\n".join(part["text"] for part in item["content"] if part.get("text"))
        room -= len(text)
        if room < 0:
            break
        kept.append({"role": item["role"], "content": text})
    return kept[::-1]

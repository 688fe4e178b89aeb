"""Compaction: a long conversation as a short one.

The user's own messages stay word for word (the newest ones, within a budget); all the rest becomes a summary that the
model writes. Both are in one `compaction` item, whose content is opaque to clients (OpenAI lists the messages beside
it, which its own SDK's types do not allow). Sent back as input, the item stands for the model in place of all before
it. POST /responses/compact stores nothing; a run that compacts (`context_management`) has the item in its output; and a
conversation is compacted by a run of its own, whose output is nothing else (`compact`).
"""

from __future__ import annotations

import json
import time
from contextlib import aclosing
from typing import Any, NamedTuple

from skilldeck_daemon.agent.accounts.account import turn_entry
from skilldeck_daemon.agent.planning.plan import Plan, render
from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.agent.prompt import Message, shorten, unfold
from skilldeck_daemon.agent.response import CompactedResponse, text_bytes, usage_of
from skilldeck_daemon.agent.room import shorter_outputs
from skilldeck_daemon.engine.base import ChatFinished, ChatRequest, TextDelta
from skilldeck_daemon.engine.families import begins_with_call
from skilldeck_daemon.events.log import EventLog
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.store.run_records import StoredResponse, TurnEntry, public_response
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


class Compacted(NamedTuple):
    """A run that compacted its conversation and did nothing else: its Response, its log, and what is kept beside."""

    response: StoredResponse
    log: EventLog
    timeline: list[TurnEntry]


def of_conversation(conversation: str, model: str) -> ResponseRequest:
    """The request of such a run."""
    return ResponseRequest.parse({"model": model or "default", "conversation": conversation, "input": []})


async def as_object(plan: Plan) -> CompactedResponse:
    """The response.compaction object of the plan's conversation. Raises the error of the engine."""
    summary, finished = await summarise(plan, plan.opening)
    return {
        "id": new_id("resp"),
        "object": "response.compaction",
        "created_at": int(time.time()),
        "output": [compaction_item(plan.items, summary)],
        "usage": usage_of(finished.usage),
    }


async def compact(plan: Plan) -> Compacted:
    """Summarise the plan's conversation, as a run that has ended. Raises the error of the engine."""
    response, log = plan.response.copy(), EventLog()
    output, begun = Output(log), time.time()
    log.append("response.created", response=public_response(response))
    log.append("response.in_progress", response=public_response(response))
    summary, finished = await summarise(plan, plan.opening)
    item = compaction_item(plan.items, summary)
    output.done(output.add(item))
    entry = turn_entry(begun, finished)
    place = plan.context.place.around
    rendered = render([item], plan.request.instructions or "", place, {}, plan.files, context=plan.model.info.context)
    entry["context_tokens"] = (await plan.model.measure(plan.chat(rendered, tool_choice="none", max_tokens=None)))[0]
    response["status"], response["output"] = "completed", output.items
    response["completed_at"], response["usage"] = int(time.time()), usage_of(finished.usage)
    log.append("response.completed", response=public_response(response))
    return Compacted(response, log, [entry])


async def summarise(plan: Plan, messages: list[Message]) -> tuple[str, ChatFinished]:
    """The model's own summary of the messages, of the newest where not all fit. Raises the error of the engine, and a
    SkilldeckError where there is none: all that was said would be lost for it."""
    if plan.model.info.places_skills:  # trained on skills and nothing else: asked for a summary, it says anything
        name = plan.model.info.name
        raise SkilldeckError(f"{name} follows skills and cannot summarise.", "Load a larger model.")
    messages = await _with_room(plan, messages)
    chat = _chat(plan, messages)
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
    if begins_with_call(summary):
        raise SkilldeckError("The model wrote a call instead of a summary.", "A larger model can summarise.")
    return summary, finished


def _chat(plan: Plan, messages: list[Message]) -> ChatRequest:
    asked = [*messages, {"role": "user", "content": plan.request.compact_prompt or PROMPT}]
    return ChatRequest(asked, max_tokens=SUMMARY_TOKENS, cache_key=plan.cache_key, cache_salt=plan.cache_salt)


async def _with_room(plan: Plan, messages: list[Message]) -> list[Message]:
    """The messages, shorter where they leave no room for a summary: who compacts late is who needs it."""
    context = plan.model.info.context
    most = context - min(SUMMARY_TOKENS, context // 4)
    while context:
        chat = _chat(plan, messages)
        if text_bytes(chat) <= most or (await plan.model.measure(chat))[0] <= most:
            break
        shorter = shorter_outputs(messages, 0) or shorten(messages)
        if shorter is None:
            break  # the engine says what is too long
        messages = shorter
    return messages


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


class OpenedCompaction(Item, total=False):
    """A compaction with what a person may read of it: the summary, and how many messages stand beside it."""

    text: str
    kept: int


def opened(items: list[Item]) -> list[Item]:
    """The items with what their compactions say."""
    return [_opened(item) if item.get("type") == "compaction" else item for item in items]


def _opened(item: Item) -> Item:
    try:
        content = json.loads(unseal(item["encrypted_content"]))
    except ValueError:  # of another daemon
        return item
    opened: OpenedCompaction = {**item, "text": content["summary"], "kept": len(content["messages"])}
    return opened


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

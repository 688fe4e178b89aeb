"""The Response object: complete from its first moment, changed only in status, output, usage and error."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, TypedDict

from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.engine.base import ChatRequest, Sampling, Usage
from skilldeck_daemon.engine.errors import TooLong
from skilldeck_daemon.store.run_records import (
    CallEntry,
    Extra,
    ResponseError,
    ResponseObject,
    ResponseUsage,
    RunSummary,
    StoredResponse,
    TurnEntry,
)
from skilldeck_daemon.tools import echo_tools
from skilldeck_daemon.wire.caller import CLIENT
from skilldeck_daemon.wire.items import Item
from skilldeck_shared.errors import BadRequest, Busy, SkilldeckError

TITLE_CHARS = 80


Ending = Literal["completed", "incomplete", "failed", "cancelled"]


class End(TypedDict):
    """What the end of a run changes in its response."""

    status: Ending
    error: ResponseError | None
    completed_at: int | None


class Timeline(TypedDict):
    """Of each event its time, what turns and calls took (`accounts/account.py`), and the skills that were opened."""

    times: list[float]
    spans: list[TurnEntry | CallEntry]
    opened: list[str]


class Detail(TypedDict):
    """A run with what it was asked and where its time went."""

    response: ResponseObject
    input: list[Item]
    timeline: Timeline


class CompactedResponse(TypedDict):
    """The response.compaction object."""

    id: str
    object: Literal["response.compaction"]
    created_at: int
    output: list[Item]
    usage: ResponseUsage


def new_response(id: str, request: ResponseRequest, model: str, sampling: Sampling) -> StoredResponse:
    """A Response that has not begun. `model` is the served name, `sampling` what is really used."""
    response: StoredResponse = {
        "id": id,
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "queued" if request.background else "in_progress",
        "background": request.background,
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "model": model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls,
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {"effort": request.effort, "summary": request.summary},
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "store": request.store,
        "temperature": sampling.temperature,
        "text": {"format": request.text_format, "verbosity": request.verbosity},
        "tool_choice": request.tool_choice.echo,
        "tools": echo_tools(request.tools),
        "top_logprobs": request.top_logprobs,
        "top_p": sampling.top_p,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "truncation": request.truncation,
        # So far; the published schema has no null here.
        "usage": usage_of(Usage()),
        "metadata": request.metadata,
        "conversation": {"id": request.conversation} if request.conversation else None,
        "title": title(request.input),
        "origin": CLIENT.get(),
    }
    if request.user is not None:  # null would break the schema
        response["user"] = request.user
    return response


def summary(response: StoredResponse) -> RunSummary:
    """What lists of runs show of a Response."""
    return {
        "id": response["id"],
        "object": response["object"],
        "created_at": response["created_at"],
        "completed_at": response.get("completed_at"),
        "status": response["status"],
        "model": response["model"],
        "background": response["background"],
        "conversation": response.get("conversation"),
        "previous_response_id": response.get("previous_response_id"),
        "error": response.get("error"),
        "incomplete_details": response.get("incomplete_details"),
        "usage": response.get("usage"),
        "metadata": response["metadata"],
        "title": response.get("title", ""),
        "origin": response.get("origin", ""),
    }


def title(items: Sequence[Item]) -> str:
    """The beginning of the first thing the user says."""
    for item in items:
        if item.get("type") == "message" and item.get("role") == "user":
            text = " ".join(part.get("text", "") for part in item["content"]).split()
            return " ".join(text)[:TITLE_CHARS]
    return ""


def timeline(extra: Extra) -> Timeline:
    """What is kept of a run beside its log, as far as it shows where the time went; copies."""
    return {
        "times": list(extra.get("times", [])),
        "spans": list(extra.get("timeline", [])),
        "opened": list(extra.get("opened", [])),
    }


def usage_of(total: Usage) -> ResponseUsage:
    return {
        "input_tokens": total.input_tokens,
        "input_tokens_details": {"cached_tokens": total.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": total.output_tokens,
        "output_tokens_details": {"reasoning_tokens": total.reasoning_tokens},
        "total_tokens": total.input_tokens + total.output_tokens,
    }


def add_usage(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.input_tokens + other.input_tokens,
        one.cached_tokens + other.cached_tokens,
        one.output_tokens + other.output_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
    )


def error_of(error: SkilldeckError) -> ResponseError:
    """The error of a failed Response: its code is one of OpenAI's short list, or says that the prompt is too long."""
    code = "server_error"
    if isinstance(error, Busy):
        code = "rate_limit_exceeded"
    elif isinstance(error, TooLong):
        code = "context_length_exceeded"  # not in OpenAI's list, but agents know a prompt that is too long by it
    elif isinstance(error, BadRequest):
        code = "invalid_prompt"
    return {"code": code, "message": error.message}


def text_bytes(chat: ChatRequest) -> int:
    """Bytes of the conversation's text, and a guess of what a template adds."""
    size = 0
    for message in chat.messages:
        content = message.get("content")
        if isinstance(content, str):
            size += len(content.encode())
        elif content:
            size += sum(len(part.get("text", "").encode()) for part in content)
        size += len(str(message.get("tool_calls", ""))) + len(message.get("reasoning_content", "")) + 16
    return size + len(str(chat.tools))

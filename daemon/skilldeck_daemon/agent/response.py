"""The Response object: complete from its first moment, changed only in status, output, usage and error."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from skilldeck_daemon.agent.request import ResponseRequest
from skilldeck_daemon.engine.base import ChatRequest, Sampling, Usage
from skilldeck_daemon.engine.errors import TooLong
from skilldeck_daemon.tools import echo_tools
from skilldeck_daemon.wire.caller import CLIENT
from skilldeck_daemon.wire.items import Item
from skilldeck_shared.errors import BadRequest, Busy, SkilldeckError

TITLE_CHARS = 80
SUMMARY_FIELDS = (
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "model",
    "background",
    "conversation",
    "previous_response_id",
    "error",
    "incomplete_details",
    "usage",
    "metadata",
)


def new_response(id: str, request: ResponseRequest, model: str, sampling: Sampling) -> dict[str, Any]:
    """A Response that has not begun. `model` is the served name, `sampling` what is really used."""
    response = {
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
        "_title": title(request.input),
        "_origin": CLIENT.get(),
    }
    if request.user is not None:  # null would break the schema
        response["user"] = request.user
    return response


def public(response: dict[str, Any]) -> dict[str, Any]:
    """Without what stays inside."""
    return {name: value for name, value in response.items() if not name.startswith("_")}


def summary(response: dict[str, Any]) -> dict[str, Any]:
    """A Response without its input and output, with a `title` and its `origin`, for lists of runs."""
    own = {name: response.get(f"_{name}", "") for name in ("title", "origin")}
    return {**{name: response.get(name) for name in SUMMARY_FIELDS}, **own}


def title(items: Sequence[Item]) -> str:
    """The beginning of the first thing the user says."""
    for item in items:
        if item.get("type") == "message" and item.get("role") == "user":
            text = " ".join(part.get("text", "") for part in item["content"]).split()
            return " ".join(text)[:TITLE_CHARS]
    return ""


def usage_of(total: Usage) -> dict[str, Any]:
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


def error_of(error: SkilldeckError) -> dict[str, Any]:
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

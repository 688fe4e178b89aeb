"""The top-level fields that each API has here, so that a misspelt one is not lost without a word.

Responses refuse a field they do not know, as OpenAI's do. On Chat Completions and Messages programs send fields of many
servers: there it is ignored, which the log and a response header say.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from difflib import get_close_matches

from skilldeck_daemon.wire.fields import Fields, refuse

log = logging.getLogger(__name__)

SAMPLING = {
    *("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"),
    *("seed", "logit_bias", "stop", "dry_multiplier", "dry_base", "dry_allowed_length", "chat_template_kwargs"),
}
COMMON = {
    *("model", "metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_options", "moderation"),
    *("prompt_cache_retention", "safety_identifier", "service_tier", "store", "stream", "stream_options"),
    *("tool_choice", "tools", "top_logprobs", "user", "verify"),
}
RESPONSES = (
    SAMPLING
    | COMMON
    | {
        *("background", "context_management", "conversation", "include", "input", "instructions", "max_output_tokens"),
        *("max_tool_calls", "previous_response_id", "prompt", "reasoning", "text", "truncation"),
    }
)
SENT = {
    "client_metadata": "Codex sends its session's id in it",
    "personality": "OpenAI's SDKs count tokens with it; it is a style of OpenAI's own models",
}
"""What known clients send to Responses beside these, and why: nothing here depends on it."""
CHAT = (
    SAMPLING
    | COMMON
    | {
        *("audio", "function_call", "functions", "logprobs", "max_completion_tokens", "max_tokens", "messages"),
        *("modalities", "n", "prediction", "reasoning_effort", "response_format", "verbosity", "web_search_options"),
        *("continue_final_message", "add_generation_prompt"),
    }
)
MESSAGES = {
    *("model", "messages", "max_tokens", "system", "metadata", "stop_sequences", "stream", "temperature", "top_k"),
    *("top_p", "tools", "tool_choice", "thinking", "output_config", "output_format", "container", "mcp_servers"),
    *("context_management", "cache_control", "service_tier", "speed", "thread", "diagnostics", "inference_geo"),
    *("betas", "chat_template_kwargs", "fallbacks", "verify"),
}


def unknown(fields: Fields, known: Collection[str]) -> list[str]:
    """Fields that are there and mean nothing, but for those that ask for nothing (null)."""
    return [name for name, value in fields.value.items() if name not in known and value is not None]


def refuse_unknown(fields: Fields, foreign: Collection[str] = ()) -> None:
    """Refuse what Responses do not know, by its name and with the nearest one they do. `foreign`: fields of other APIs
    that were looked at already, and ask for nothing (`n: 1`)."""
    for name in unknown(fields, {*RESPONSES, *SENT, *foreign}):
        near = get_close_matches(name, sorted(RESPONSES), 1, 0.7)
        refuse(
            name[:64],
            f"Unknown parameter: {name[:64]!r}.",
            f"Did you mean {near[0]!r}?" if near else "Leave it out.",
            "unknown_parameter",
        )


def ignored(fields: Fields, known: Collection[str]) -> tuple[str, ...]:
    """What Chat Completions or Messages do without, at most as many names as a header may hold."""
    found = [name[:64] for name in unknown(fields, known)[:16]]
    if found:
        log.warning("fields that are not known here were ignored: %s", ", ".join(found))
    return tuple(found)

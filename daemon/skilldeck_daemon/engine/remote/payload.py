"""A `ChatRequest` as the body of another server's /v1/chat/completions."""

from __future__ import annotations

from typing import Any

from skilldeck_daemon.engine.base import ChatRequest
from skilldeck_daemon.engine.checks import ToolPlan, wrap_custom
from skilldeck_daemon.engine.remote.stream import write_response_format
from skilldeck_shared.json_types import JsonObject


def payload(model: str, request: ChatRequest, plan: ToolPlan) -> JsonObject:
    """The upstream request's body; options at their defaults are left out: some servers refuse unknown ones."""
    sampling = request.sampling
    body: JsonObject = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    options: dict[str, tuple[Any, Any]] = {
        "presence_penalty": (sampling.presence_penalty, 0.0),
        "frequency_penalty": (sampling.frequency_penalty, 0.0),
        "repetition_penalty": (sampling.repetition_penalty, 1.0),
        "top_k": (sampling.top_k, 0),
        "min_p": (sampling.min_p, 0.0),
        "dry_multiplier": (sampling.dry_multiplier, 0.0),
        "seed": (sampling.seed, None),
        "max_tokens": (request.max_tokens, None),
        "reasoning_effort": (request.reasoning_effort, None),
        "stop": (list(request.stop), []),
        "logit_bias": ({str(token): bias for token, bias in sampling.logit_bias.items()}, {}),
    }
    body |= {name: value for name, (value, default) in options.items() if value != default}
    if request.template:
        body["chat_template_kwargs"] = dict(request.template)
    if request.continues:  # as vLLM and SGLang call it; llama.cpp and Ollama do it anyway
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    if sampling.dry_multiplier:
        body |= {"dry_base": sampling.dry_base, "dry_allowed_length": sampling.dry_allowed_length}
    if request.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.logprobs}
    if plan.tools:
        offered = plan.tools
        strict = {tool.name for tool in offered if tool.strict}
        body["tools"] = [tool.as_function() for tool in offered]
        for entry in body["tools"]:
            if entry["function"]["name"] in strict:
                entry["function"]["strict"] = True
        named = {"type": "function", "function": {"name": plan.named}}
        body["tool_choice"] = named if plan.named else plan.mode
        if not request.parallel_tool_calls:
            body["parallel_tool_calls"] = False
    if request.response_format:
        body["response_format"] = write_response_format(request.response_format)
    return body


def _message(message: JsonObject) -> JsonObject:
    if not message.get("tool_calls"):
        return {name: value for name, value in message.items() if name != "tool_calls"}
    return {"content": None, **message, "tool_calls": [wrap_custom(call) for call in message["tool_calls"]]}

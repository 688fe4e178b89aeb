"""The event stream of `/v1/chat/completions` turned into `ChatEvent`s, whatever dialect the server speaks.

Forgiving where servers differ (calls without an index or id, `reasoning` or `reasoning_content`, usage in the last
chunk or in one of its own, comments and blank lines), strict where something would be lost: a line that is not JSON
is an error, and a call whose arguments are not JSON ends in a `ToolCallDone` with its problem.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from skilldeck_daemon.engine.base import (
    ChatEvent,
    EngineDead,
    ReasoningDelta,
    TextDelta,
    TextLogprob,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from skilldeck_daemon.engine.checks import InputField, ToolPlan, call_problem

Reason = Literal["stop", "length", "tool_calls", "content_filter"]
REASONS: dict[str, Reason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


@dataclass
class _Call:
    """The call being received."""

    index: int
    key: object
    id: str
    name: str
    kind: Literal["function", "custom"]
    arguments: str = ""
    unwrap: InputField = field(default_factory=InputField)


class StreamReader:
    """Feed it the lines of one stream; `close` at the end gives what is still open.

    `reason` is None until the upstream gave one, `error` is set by an error inside the stream, `ended` at `[DONE]`.
    """

    def __init__(self, plan: ToolPlan) -> None:
        self.usage = Usage()
        self.reason: Reason | None = None
        self.error: Exception | None = None
        self.stop_sequence: str | None = None
        self.ended = False
        self._plan = plan
        self._call: _Call | None = None
        self._calls = 0

    def completion(self, line: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """A line of a /v1/completions stream: (text, logprobs) of its first choice."""
        chunk = self._chunk(line)
        for choice in ((chunk or {}).get("choices") or [])[:1]:
            self._finish(choice)
            if choice.get("text") or choice.get("logprobs"):
                yield choice.get("text") or "", choice.get("logprobs")

    def line(self, line: str) -> Iterator[ChatEvent]:
        chunk = self._chunk(line)
        for choice in ((chunk or {}).get("choices") or [])[:1]:
            yield from self._delta(choice.get("delta") or {}, choice.get("logprobs"))
            self._finish(choice)

    def _finish(self, choice: dict[str, Any]) -> None:
        if choice.get("finish_reason"):
            self.reason = REASONS.get(choice["finish_reason"], "stop")
            # vLLM and SGLang tell which stop string it was; a number is a token id.
            matched = choice.get("stop_reason") or choice.get("matched_stop")
            self.stop_sequence = matched if isinstance(matched, str) else None

    def _chunk(self, line: str) -> dict[str, Any] | None:
        """The object of a data line; None for other lines, the end, and errors, which are kept."""
        if not line.startswith("data:") or self.ended:
            return None
        data = line[5:].strip()
        if data == "[DONE]":
            self.ended = True
            return None
        try:
            chunk = json.loads(data)
            if not isinstance(chunk, dict):
                raise ValueError("not an object")
        except ValueError:
            self.error = EngineDead(f"The model server sent something that is not JSON: {data[:200]}")
            self.ended = True
            return None
        if chunk.get("error"):
            problem = chunk["error"]
            text = problem.get("message") if isinstance(problem, dict) else problem
            self.error = EngineDead(f"The model server failed while it answered: {text}")
            self.ended = True
            return None
        if chunk.get("usage"):
            self.usage = read_usage(chunk["usage"])
        return chunk

    def _delta(self, delta: dict[str, Any], logprobs: dict[str, Any] | None) -> Iterator[ChatEvent]:
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            yield ReasoningDelta(thought)
        text = delta.get("content") or delta.get("refusal")
        entries = tuple(read_logprob(entry) for entry in (logprobs or {}).get("content") or [])
        if text or entries:
            yield TextDelta(text or "", entries)
        for entry in delta.get("tool_calls") or []:
            yield from self._tool_call(entry)

    def _tool_call(self, entry: dict[str, Any]) -> Iterator[ChatEvent]:
        function = entry.get("function") or {}
        name, arguments = function.get("name") or "", function.get("arguments") or ""
        if not isinstance(arguments, str):  # some servers send the object itself
            arguments = json.dumps(arguments, ensure_ascii=False)
        call, key = self._call, entry.get("index")
        other_id = bool(entry.get("id")) and call is not None and entry["id"] != call.id and bool(name)
        if call is None or (key is not None and key != call.key) or other_id or (key is None and name):
            yield from self._end_call()
            call_id = entry.get("id") or f"call_{uuid4().hex[:24]}"
            call = self._call = _Call(self._calls, key, call_id, name, self._plan.kind(name))
            self._calls += 1
            yield ToolCallStart(call.index, call.id, call.name, call.kind)
        if arguments:
            call.arguments += arguments
            shown = call.unwrap.feed(arguments) if call.kind == "custom" else arguments
            if shown:
                yield ToolCallDelta(call.index, shown)

    def _end_call(self) -> Iterator[ChatEvent]:
        call, self._call = self._call, None
        if call is None:
            return
        text = call.arguments
        if call.kind == "custom":
            text, rest = call.unwrap.whole()
            if rest:
                yield ToolCallDelta(call.index, rest)
        elif not text.strip():  # a call without parameters; several servers send nothing for it
            text = "{}"
            yield ToolCallDelta(call.index, text)
        yield ToolCallDone(call.index, call.name, text, call_problem(self._plan, call.name, text, call.kind))

    def close(self) -> Iterator[ChatEvent]:
        yield from self._end_call()

    def finish(self) -> Reason:
        """The reason for an answer that ended well: calls win over "stop", which some servers send after calls."""
        reason = self.reason or "stop"
        return "tool_calls" if self._calls and reason == "stop" else reason


def read_usage(raw: dict[str, Any]) -> Usage:
    prompt = raw.get("prompt_tokens_details") or {}
    completion = raw.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=int(raw.get("prompt_tokens") or 0),
        cached_tokens=int(prompt.get("cached_tokens") or 0),
        output_tokens=int(raw.get("completion_tokens") or 0),
        reasoning_tokens=int(completion.get("reasoning_tokens") or 0),
    )


def read_logprob(entry: dict[str, Any]) -> TextLogprob:
    def raw(item: dict[str, Any]) -> tuple[int, ...]:
        given = item.get("bytes")
        return tuple(given if given is not None else item["token"].encode())

    top = tuple((item["token"], float(item["logprob"]), raw(item)) for item in entry.get("top_logprobs") or [])
    return TextLogprob(entry["token"], float(entry["logprob"]), raw(entry), top)


def write_response_format(wanted: dict[str, Any]) -> dict[str, Any]:
    """`ChatRequest.response_format` in Chat Completions' shape."""
    if wanted.get("type") != "json_schema" or "json_schema" in wanted:
        return wanted
    inner = {name: wanted[name] for name in ("name", "schema", "strict") if wanted.get(name) is not None}
    return {"type": "json_schema", "json_schema": {"name": "answer", **inner}}

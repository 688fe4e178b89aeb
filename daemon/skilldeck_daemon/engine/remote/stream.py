"""The event stream of `/v1/chat/completions` turned into `ChatEvent`s, whatever dialect the server speaks.

Forgiving where servers differ (calls without an index or id, `reasoning` or `reasoning_content`, usage in the last
chunk or in one of its own, content as a list of parts, comments and blank lines, a `[DONE]` without a finish_reason),
strict where something would be lost: a line that is not JSON is an error, and a call whose arguments are not JSON ends
in a `ToolCallDone` with its problem. The halves of a surrogate pair that come in two deltas are joined; a lone half is
U+FFFD, so that whatever comes out of here can be stored and sent on.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from skilldeck_daemon.engine.base import (
    ChatEvent,
    ReasoningDelta,
    TextDelta,
    TextLogprob,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from skilldeck_daemon.engine.checks import CUT_OFF, InputField, ToolPlan, call_problem
from skilldeck_daemon.engine.errors import EngineDead
from skilldeck_daemon.engine.remote.bounds import LINE_BYTES, TooMuch
from skilldeck_shared.characters import Characters, clean
from skilldeck_shared.json_types import JsonObject

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
    arguments: list[str] = field(default_factory=list)
    unwrap: InputField = field(default_factory=InputField)
    characters: Characters = field(default_factory=Characters)


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncGenerator[list[str], None]:
    """The lines of an event stream, those that came together in one list.

    Only CR and LF end one: JSON may hold U+2028 and its like as they are. Raises TooMuch for one beyond LINE_BYTES.
    """
    begun: list[bytes] = []
    size = 0
    async for chunk in chunks:
        first, *further = chunk.split(b"\n")
        begun.append(first)
        size += len(first)
        if size > LINE_BYTES:
            raise TooMuch(f"it sent a line of more than {LINE_BYTES >> 20} MiB")
        if further:
            lines = [b"".join(begun), *further[:-1]]
            begun, size = [further[-1]], len(further[-1])
            yield [_text(line.rstrip(b"\r")) for line in lines]
    if size:
        yield [_text(b"".join(begun).rstrip(b"\r"))]


def _text(line: bytes) -> str:
    """A line's text; halves of surrogate pairs that were written as if they were characters are kept."""
    try:
        return line.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return line.decode("utf-8", "replace")


class StreamReader:
    """Feed it the lines of one stream; `close` at the end gives what is still open.

    `reason` is None until the upstream gave one, `error` is set by an error inside the stream, `ended` at `[DONE]`.
    `complete`: the upstream said that this is all, by a reason or by `[DONE]` after some answer.
    """

    def __init__(self, plan: ToolPlan) -> None:
        self.usage = Usage()
        self.reason: Reason | None = None
        self.error: Exception | None = None
        self.stop_sequence: str | None = None
        self.reports_stops = False  # the server says what ended an answer, if only that no stop string did
        self.ended = False
        self._plan = plan
        self._call: _Call | None = None
        self._calls = 0
        self._begun = False  # something of an answer came
        self._text = Characters()
        self._thought = Characters()

    @property
    def complete(self) -> bool:
        return self.error is None and (self.reason is not None or (self.ended and self._begun))

    def completion(self, line: str) -> Iterator[tuple[str, JsonObject | None]]:
        """A line of a /v1/completions stream: (text, logprobs) of its first choice."""
        for choice in self._choices(line):
            if choice.get("text") or choice.get("logprobs"):
                yield self._text.feed(choice.get("text") or ""), choice.get("logprobs")

    def line(self, line: str) -> Iterator[ChatEvent]:
        try:
            for choice in self._choices(line):
                yield from self._delta(choice.get("delta") or {}, choice.get("logprobs"))
        except (AttributeError, KeyError, TypeError, ValueError) as err:
            self._fail(f"The model server sent a chunk that cannot be read ({type(err).__name__}: {err}).")

    def _choices(self, line: str) -> Iterator[JsonObject]:
        """The first choice of a data line, if there is one; then the reason it gives is noted."""
        chunk = self._chunk(line)
        choice = next(iter((chunk or {}).get("choices") or []), None)
        if not isinstance(choice, dict):
            return
        self._begun = True
        yield choice
        if choice.get("finish_reason"):
            self.reason = REASONS.get(str(choice["finish_reason"]), "stop")
            # vLLM and SGLang say which stop string it was; a number is a token id.
            self.reports_stops = self.reports_stops or "stop_reason" in choice or "matched_stop" in choice
            matched = choice.get("stop_reason") or choice.get("matched_stop")
            self.stop_sequence = clean(matched) if isinstance(matched, str) else None

    def _fail(self, message: str) -> None:
        self.error = EngineDead(clean(message))
        self.ended = True

    def _chunk(self, line: str) -> JsonObject | None:
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
            self._fail(f"The model server sent something that is not JSON: {data[:200]}")
            return None
        if chunk.get("error"):
            problem = chunk["error"]
            text = problem.get("message") if isinstance(problem, dict) else problem
            self._fail(f"The model server failed while it answered: {text}")
            return None
        if chunk.get("usage"):
            self.usage = read_usage(chunk["usage"])
        return chunk

    def _delta(self, delta: JsonObject, logprobs: JsonObject | None) -> Iterator[ChatEvent]:
        said = delta.get("content") or delta.get("refusal") or ""
        entries = tuple(read_logprob(entry) for entry in (logprobs or {}).get("content") or [])
        for thinks, piece in [(True, delta.get("reasoning_content") or delta.get("reasoning") or ""), *_parts(said)]:
            if not isinstance(piece, str) or not piece:
                continue
            if thinks:
                yield from self._flush(self._text)
                if thought := self._thought.feed(piece):
                    yield ReasoningDelta(thought)
            else:
                yield from self._flush(self._thought)
                if text := self._text.feed(piece):
                    yield TextDelta(text, entries)
                    entries = ()
        if entries:
            yield TextDelta("", entries)
        for entry in delta.get("tool_calls") or []:
            yield from self._tool_call(entry)

    def _flush(self, *ended: Characters) -> Iterator[ChatEvent]:
        """Half a character that is held back where its kind of text ends."""
        for characters in ended:
            if rest := characters.flush():
                yield TextDelta(rest) if characters is self._text else ReasoningDelta(rest)

    def _tool_call(self, entry: JsonObject) -> Iterator[ChatEvent]:
        function = entry.get("function") or {}
        name, arguments = clean(function.get("name") or ""), function.get("arguments") or ""
        given = clean(str(entry.get("id") or ""))
        if not isinstance(arguments, str):  # some servers send the object itself
            arguments = json.dumps(arguments, ensure_ascii=False)
        call, key = self._call, entry.get("index")
        other_id = bool(given) and call is not None and given != call.id and bool(name)
        if call is None or (key is not None and key != call.key) or other_id or (key is None and name):
            yield from self._flush(self._thought, self._text)
            yield from self._end_call()
            call_id = given or f"call_{uuid4().hex[:24]}"
            call = self._call = _Call(self._calls, key, call_id, name, self._plan.kind(name))
            self._calls += 1
            yield ToolCallStart(call.index, call.id, call.name, call.kind)
        yield from self._grow(call, call.characters.feed(arguments))

    def _grow(self, call: _Call, arguments: str) -> Iterator[ChatEvent]:
        if not arguments:
            return
        call.arguments.append(arguments)
        shown = call.unwrap.feed(arguments) if call.kind == "custom" else arguments
        if shown:
            yield ToolCallDelta(call.index, shown)

    def _end_call(self) -> Iterator[ChatEvent]:
        call, self._call = self._call, None
        if call is None:
            return
        yield from self._grow(call, call.characters.flush())
        text = "".join(call.arguments)
        # Complete JSON is a complete call, wherever the limit was reached.
        cut_off = self.reason == "length" and not _is_json(text)
        if call.kind == "custom":
            text, rest = call.unwrap.whole()
            if rest:
                yield ToolCallDelta(call.index, rest)
        elif not text.strip() and not cut_off:  # a call without parameters; several servers send nothing for it
            text = "{}"
            yield ToolCallDelta(call.index, text)
        problem = CUT_OFF if cut_off else call_problem(self._plan, call.name, text, call.kind)
        yield ToolCallDone(call.index, call.name, text, problem, cut_off)

    def close(self) -> Iterator[ChatEvent]:
        """What is held back, and the end of the open call. A call that an error cut off stays open."""
        yield from self._flush(self._thought, self._text)
        call = self._call
        if (
            call is not None
            and not self.complete
            and call_problem(self._plan, call.name, "".join(call.arguments)) is not None
        ):
            return
        yield from self._end_call()

    def finish(self) -> Reason:
        """The reason for an answer that ended well: calls win over "stop", which some servers send after calls."""
        reason = self.reason or "stop"
        return "tool_calls" if self._calls and reason == "stop" else reason


def _parts(content: Any) -> Iterator[tuple[bool, str]]:
    """The pieces of a delta's content, which may be a list of parts: whether it is reasoning, and its text."""
    if isinstance(content, str):
        yield False, content
        return
    for part in content:
        thought = part.get("thinking") or part.get("reasoning")
        if isinstance(thought, list):  # Mistral's: parts within the part
            thought = "".join(inner.get("text") or "" for inner in thought)
        if thought:
            yield True, thought
        elif isinstance(part.get("text"), str):
            yield part.get("type") in ("thinking", "reasoning"), part["text"]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def read_usage(raw: JsonObject) -> Usage:
    prompt = raw.get("prompt_tokens_details") or {}
    completion = raw.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=int(raw.get("prompt_tokens") or 0),
        cached_tokens=int(prompt.get("cached_tokens") or 0),
        output_tokens=int(raw.get("completion_tokens") or 0),
        reasoning_tokens=int(completion.get("reasoning_tokens") or 0),
    )


def read_logprob(entry: JsonObject) -> TextLogprob:
    def raw(item: JsonObject) -> tuple[int, ...]:
        given = item.get("bytes")
        return tuple(given if given is not None else clean(item["token"]).encode())

    top = tuple((clean(item["token"]), float(item["logprob"]), raw(item)) for item in entry.get("top_logprobs") or [])
    return TextLogprob(clean(entry["token"]), float(entry["logprob"]), raw(entry), top)


def write_response_format(wanted: JsonObject) -> JsonObject:
    """`ChatRequest.response_format` in Chat Completions' shape."""
    if wanted.get("type") != "json_schema" or "json_schema" in wanted:
        return wanted
    inner = {name: wanted[name] for name in ("name", "schema", "strict") if wanted.get(name) is not None}
    return {"type": "json_schema", "json_schema": {"name": "answer", **inner}}

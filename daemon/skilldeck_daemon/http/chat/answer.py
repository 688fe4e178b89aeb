"""A run's output as Chat Completions show it: one choice whole (`choice_of`) or in chunks (`Choice`).

What the model wrote around the commands that were run here is joined with blank lines, whole and streamed alike; with a
`response_format` only the last text counts, since two JSON documents are none. Calls of the client's tools are
`tool_calls`; calls that were carried out here, their outputs and the citations stand under `skilldeck`, and, to a
request that says `verify`, what of the text nothing holds that was read.
Reasoning is returned as `reasoning_content`, as most servers of open models do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, cast

from skilldeck_daemon.agent.run import Run
from skilldeck_daemon.engine.messages import MessageCall
from skilldeck_daemon.events.log import Event
from skilldeck_daemon.http.chat.messages import EXTRA
from skilldeck_daemon.store.run_records import Item, Part
from skilldeck_daemon.tools.base import is_clients
from skilldeck_daemon.tools.namespaces import Member
from skilldeck_daemon.wire.item_kinds import CALLS, OUTPUTS
from skilldeck_shared.errors import SkilldeckError, Unavailable
from skilldeck_shared.json_types import JsonObject

GAP = "\n\n"
STREAMED = ("function_call", "custom_tool_call")
"""Types of calls whose arguments are sent while they are written; Chat knows the others only whole."""


def ended_badly(run: Run) -> SkilldeckError | None:
    """Why a run that has ended has no answer; None when it has one."""
    response = run.response
    if response["status"] == "failed":
        error = response["error"]
        return run.error or SkilldeckError((error and error["message"]) or "The run failed.")
    if response["status"] == "cancelled":
        return Unavailable("The answer was cancelled before it was complete.", "Ask again.")
    return None


def clients_calls(run: Run) -> list[Item]:
    """The items of calls that the client has to carry out, in order."""
    answered = {item["call_id"] for item in run.output.items if item["type"] in OUTPUTS}
    calls = [item for item in run.output.items if is_clients(item, run.request.tools)]
    return [call for call in calls if call["call_id"] not in answered]


def hosted_items(run: Run) -> list[Item]:
    """What was carried out here: calls and their outputs, in order."""
    asked = {item["id"] for item in clients_calls(run)}
    return [
        item for item in run.output.items if item["id"] not in asked and item["type"] not in ("message", "reasoning")
    ]


def tool_call(item: Item, run: Run) -> MessageCall:
    """A call of the client's as an entry of `tool_calls`: as the model made it."""
    made = CALLS[item["type"]].render(item, run.output.raw)
    assert made is not None
    return made


def finish_reason(run: Run) -> str:
    details = run.response["incomplete_details"]
    if details is not None:
        return "length" if details["reason"] == "max_output_tokens" else "content_filter"
    return "tool_calls" if clients_calls(run) else "stop"


def only_last(run: Run) -> bool:
    """Whether the texts between commands are left out."""
    return bool(run.request.text_format["type"] != "text")


def choice_of(run: Run, index: int) -> JsonObject:
    """A finished run as a choice of `chat.completion`."""
    parts = [part for item in run.output.items if item["type"] == "message" for part in item["content"]]
    if only_last(run):
        parts = parts[-1:]
    calls = [tool_call(item, run) for item in clients_calls(run)]
    text, annotations, cited = _joined(parts)
    thoughts = [part["text"] for item in run.output.items if item["type"] == "reasoning" for part in item["content"]]
    message: JsonObject = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
    message["annotations"] = annotations
    if calls:
        message["tool_calls"] = calls
    if any(thoughts):
        message["reasoning_content"] = GAP.join(thought for thought in thoughts if thought)
    extra = _extra(run, cited)
    if extra:
        message[EXTRA] = extra
    logprobs = None
    if run.request.logprobs:
        entries = [entry for part in parts for entry in part["logprobs"]]
        logprobs = {"content": entries, "refusal": None}
    return {"index": index, "message": message, "finish_reason": finish_reason(run), "logprobs": logprobs}


def _joined(parts: Iterable[Part]) -> tuple[str, list[JsonObject], list[JsonObject]]:
    """(text, url citations in Chat's shape, other citations), offsets shifted to the whole text."""
    text = ""
    urls: list[JsonObject] = []
    others: list[JsonObject] = []
    for part in parts:
        if not part["text"]:
            continue
        offset = len(text) + len(GAP) if text else 0
        text = f"{text}{GAP}{part['text']}" if text else part["text"]
        for annotation in part["annotations"]:
            moved: JsonObject = dict(annotation)
            for edge in ("start_index", "end_index"):
                if edge in moved:
                    moved[edge] += offset
            if moved.pop("type") == "url_citation":
                urls.append({"type": "url_citation", "url_citation": moved})
            else:
                others.append({"type": annotation["type"], **moved})
    return text, urls, others


def _extra(run: Run, cited: list[JsonObject]) -> JsonObject:
    """What Chat has no field for."""
    items = hosted_items(run)
    extra: JsonObject = {}
    if items:
        extra["output"] = items
    if cited:
        extra["annotations"] = cited
    places = _ungrounded(run)
    if places:
        extra["ungrounded"] = places
    return extra


def _ungrounded(run: Run) -> list[JsonObject]:
    """What nothing holds that was read, with its place in the whole text; for requests that say `verify`."""
    places = run.response.get("skilldeck", {}).get("ungrounded", []) if run.request.verify else []
    if not places:
        return []
    where = [
        (index, number, part["text"])
        for index, item in enumerate(run.output.items)
        if item["type"] == "message"
        for number, part in enumerate(item["content"])
    ]
    begins: dict[tuple[int, int], int] = {}
    length = 0
    for index, number, text in where[-1:] if only_last(run) else where:
        if text:
            begins[index, number] = length = length + len(GAP) if length else 0
            length += len(text)
    return [
        {
            "text": place["text"],
            "start_index": place["start_index"] + begins[key],
            "end_index": place["end_index"] + begins[key],
        }
        for place in places
        if (key := (place["output_index"], place["content_index"])) in begins
    ]


def usage_of(runs: Iterable[Run]) -> JsonObject:
    """The runs' tokens, all rounds counted."""
    totals = [run.usage for run in runs]
    prompt, completion = (sum(getattr(one, f"{side}_tokens") for one in totals) for side in ("input", "output"))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": sum(one.cached_tokens for one in totals)},
        "completion_tokens_details": {
            "reasoning_tokens": sum(one.reasoning_tokens for one in totals),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


class Choice:
    """One run in chunks. `follow` gives (delta, finish_reason, logprobs, extra) until the run has ended."""

    def __init__(self, run: Run, index: int) -> None:
        self.run = run
        self.index = index
        self._clients = {name for tool in run.request.tools if not tool.hosted for name in tool.names}
        self._numbers: dict[int, int] = {}  # output_index → index among tool_calls
        self._begun: dict[str, bool] = {"content": False, "reasoning_content": False}
        self._gap: dict[str, bool] = {"content": False, "reasoning_content": False}
        self._held: list[JsonObject] | None = (
            [] if only_last(run) and any(tool.hosted for tool in run.request.tools) else None
        )

    def chunk(self, delta: JsonObject, finish: str | None = None, logprobs: JsonObject | None = None) -> JsonObject:
        """A choice of `chat.completion.chunk`."""
        return {"index": self.index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    def opening(self) -> JsonObject:
        return self.chunk({"role": "assistant", "content": "", "refusal": None})

    async def follow(self) -> AsyncIterator[JsonObject]:
        """The choice's chunks after the opening and before the closing."""
        async for event in self.run.events():
            for chunk in self._event(event):
                yield chunk
        for chunk in self._held or ():
            yield chunk

    def closing(self) -> JsonObject:
        """The last chunk; the run has ended well."""
        parts = [part for item in self.run.output.items if item["type"] == "message" for part in item["content"]]
        _, urls, cited = _joined(parts[-1:] if only_last(self.run) else parts)
        extra = _extra(self.run, cited)
        delta = {**({"annotations": urls} if urls else {}), **({EXTRA: extra} if extra else {})}
        return self.chunk(delta, finish_reason(self.run))

    def _event(self, event: Event) -> Iterator[JsonObject]:
        match event["type"]:
            case "response.output_item.added":
                yield from self._added(event["item"], event["output_index"])
            case "response.output_text.delta":
                entries: list[JsonObject] = []
                for entry in event["logprobs"]:
                    top = [{**other, "bytes": _bytes(other["token"])} for other in entry["top_logprobs"]]
                    entries.append({**entry, "bytes": _bytes(entry["token"]), "top_logprobs": top})
                logprobs = {"content": entries, "refusal": None} if entries else None
                chunk = self._text("content", event["delta"], logprobs)
                if self._held is None:
                    yield chunk
                else:
                    self._held.append(chunk)
            case "response.reasoning_text.delta":
                yield self._text("reasoning_content", event["delta"])
            case "response.function_call_arguments.delta" if event["output_index"] in self._numbers:
                yield self._call(event["output_index"], {"function": {"arguments": event["delta"]}})
            case "response.custom_tool_call_input.delta" if event["output_index"] in self._numbers:
                yield self._call(event["output_index"], {"custom": {"input": event["delta"]}})
            case "response.output_item.done":
                yield from self._done(event["item"], event["output_index"])

    def _text(self, field: str, text: str, logprobs: JsonObject | None = None) -> JsonObject:
        gap = GAP if self._gap[field] and self._begun[field] else ""
        self._gap[field] = False
        self._begun[field] = True
        return self.chunk({field: gap + text}, logprobs=logprobs)

    def _added(self, item: Item, index: int) -> Iterator[JsonObject]:
        type = item["type"]
        if type == "message":
            self._gap["content"] = self._held is None
            if self._held is not None:
                self._held.clear()
        elif type == "reasoning":
            self._gap["reasoning_content"] = True
        elif type in STREAMED:
            name = cast(Member, item)["name"]
            if type == "custom_tool_call":
                # The published chunk knows no type "custom"; its field says what it is.
                yield self._call(index, {"id": item["call_id"], "custom": {"name": name, "input": ""}})
            elif name in self._clients:
                function = {"name": name, "arguments": ""}
                yield self._call(index, {"id": item["call_id"], "type": "function", "function": function})

    def _done(self, item: Item, index: int) -> Iterator[JsonObject]:
        if index in self._numbers:
            return
        if item["type"] not in STREAMED and is_clients(item, self.run.request.tools):
            yield self._call(index, tool_call(item, self.run))
        elif item["type"] not in ("message", "reasoning"):
            yield {**self.chunk({}), EXTRA: {"item": item}}

    def _call(self, index: int, delta: Mapping[str, Any]) -> JsonObject:
        number = self._numbers.setdefault(index, len(self._numbers))
        return self.chunk({"tool_calls": [{"index": number, **delta}]})


def _bytes(token: str) -> list[int] | None:
    """The bytes a token stands for; None for a part of a character, which text cannot hold."""
    return None if "\ufffd" in token else list(token.encode())

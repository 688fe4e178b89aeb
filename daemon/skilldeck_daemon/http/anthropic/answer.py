"""A run's output as Anthropic Messages show it: content blocks, whole (`content`) or as stream events (`stream`).

Text, thinking (when it was asked for), tool_use for the client's tools; commands that were run here as server_tool_use
and bash_code_execution_tool_result, one pair a call, which names the files the call made or changed (their content is
at /v1/files/{id}/content for Anthropic's SDK). Files that answers cite stand under the extra field `skilldeck` of the
message as well, since Messages have no citation of a container's file; so does, for a request that says `verify`, what
of the text nothing holds that was read.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

from skilldeck_daemon.agent.compaction import compaction_text
from skilldeck_daemon.agent.run import Run
from skilldeck_daemon.events.log import Event
from skilldeck_daemon.http.anthropic.blocks import HOSTED_NAME, SEARCH_NAME
from skilldeck_daemon.http.chat.answer import clients_calls
from skilldeck_daemon.libraries.containers.environments import Environments
from skilldeck_daemon.store.run_records import Item
from skilldeck_daemon.tools.shell_items import ShellCall, ShellOutput
from skilldeck_daemon.tools.web.items import WebCallItem
from skilldeck_daemon.wire.item_kinds import FunctionCall
from skilldeck_daemon.wire.item_kinds import container_of as item_container
from skilldeck_daemon.wire.sealed import seal
from skilldeck_shared.errors import NotFound
from skilldeck_shared.json_types import JsonObject

TIMEOUT_CODE = 124
"""What `timeout` exits with."""
Doc = JsonObject


def message_id(run: Run) -> str:
    return f"msg_{run.id.removeprefix('resp_')}"


def usage_of(run: Run) -> Doc:
    """The run's tokens, all rounds counted; cached ones apart, as Messages do."""
    used = run.usage
    return {
        "input_tokens": used.input_tokens - used.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": used.cached_tokens,
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"thinking_tokens": used.reasoning_tokens},
        "server_tool_use": _searches(run),
    }


def _searches(run: Run) -> Doc | None:
    made = sum(_is_search(item) for item in run.output.items)
    return {"web_search_requests": made, "web_fetch_requests": 0} if made else None


def message_usage(run: Run) -> Doc:
    """The same as whole messages have it; the delta of a stream has no more than `usage_of`."""
    written = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}
    return {**usage_of(run), "cache_creation": written, "inference_geo": None, "service_tier": "standard"}


def stop_reason(run: Run) -> str:
    details = run.response["incomplete_details"]
    if details is not None:
        return "max_tokens" if details["reason"] == "max_output_tokens" else "refusal"
    if clients_calls(run):
        return "tool_use"
    if run.output.items and run.output.items[-1]["type"] == "compaction":
        return "compaction"  # the request wanted to go on by itself from there
    return "stop_sequence" if run.stop_sequence is not None else "end_turn"


def content(run: Run, thinking: bool) -> list[Doc]:
    """The content blocks of a run that has ended."""
    asked = {item["id"] for item in clients_calls(run)}
    blocks: list[Doc] = []
    for item in run.output.items:
        block: Doc | None = None
        match item["type"]:
            case "message":
                text = "".join(part["text"] for part in item["content"])
                # An empty list: the published schema has the field, and the Vercel AI SDK takes no null for it.
                block = {"type": "text", "text": text, "citations": []} if text else None
            case "reasoning" if thinking:
                text = "".join(part["text"] for part in item["content"])
                block = {"type": "thinking", "thinking": text, "signature": seal(text)} if text else None
            case "function_call" if item["id"] in asked:
                call = cast(FunctionCall, item)
                block = {**tool_use(call), "input": arguments(call["arguments"])}
            case "shell_call":
                block = {**command(item), "input": _commands(item)}
            case "shell_call_output":
                block = command_result(cast(ShellOutput, item), run)
            case "compaction":
                block = compaction(item)
            case "web_search_call" if _is_search(item):
                blocks.append({**search(item), "input": _query(item)})
                block = search_result(cast(WebCallItem, item))
        if block is not None:
            blocks.append(block)
    return blocks


def compaction(item: Item) -> Doc:
    """The summary, and sealed beside it the user's own messages that stay word for word."""
    return {"type": "compaction", "content": compaction_text(item), "encrypted_content": item["encrypted_content"]}


def tool_use(item: FunctionCall) -> Doc:
    return {"type": "tool_use", "id": item["call_id"], "name": item["name"], "input": {}}


def arguments(text: str) -> Doc:
    """The call's input; what is no JSON object is handed over under INVALID_JSON, as Anthropic advises."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"INVALID_JSON": text}


def command(item: Item) -> Doc:
    return {"type": "server_tool_use", "id": item["call_id"], "name": HOSTED_NAME, "input": {}}


def _commands(item: Item) -> Doc:
    return {"command": "\n".join(cast(ShellCall, item)["action"]["commands"])}


def _is_search(item: Item) -> bool:
    """Pages that were opened have no block: those would be of a tool that the request did not name."""
    return item["type"] == "web_search_call" and cast(WebCallItem, item)["action"]["type"] == "search"


def _query(item: Item) -> Doc:
    return {"query": cast(WebCallItem, item)["action"]["query"]}


def search(item: Item) -> Doc:
    return {"type": "server_tool_use", "id": item["id"], "name": SEARCH_NAME, "input": {}}


def search_result(item: WebCallItem) -> Doc:
    """What a search found; the text is sealed, as Anthropic's is, and read when the block comes back."""
    content: Any = [
        {
            "type": "web_search_result",
            "url": found["url"],
            "title": found["title"],
            "encrypted_content": seal(found["text"]),
            "page_age": None,
        }
        for found in item.get("results") or ()
    ]
    if item["status"] == "failed":
        content = {"type": "web_search_tool_result_error", "error_code": "unavailable"}
    return {"type": "web_search_tool_result", "tool_use_id": item["id"], "content": content}


def command_result(item: ShellOutput, run: Run) -> Doc:
    """The outputs of one call's commands as one result: texts joined, the first failure's code."""
    entries = item["output"]
    made = sorted(file["id"] for file in run.made_by(item["call_id"]))
    codes = [entry["outcome"].get("exit_code", TIMEOUT_CODE) for entry in entries]
    result: Doc = {
        "type": "bash_code_execution_result",
        "stdout": "".join(entry["stdout"] for entry in entries),
        "stderr": "".join(entry["stderr"] for entry in entries),
        "return_code": next((code for code in codes if code != 0), 0),
        "content": [{"type": "bash_code_execution_output", "file_id": id} for id in made],
    }
    return {"type": "bash_code_execution_tool_result", "tool_use_id": item["call_id"], "content": result}


def extra(run: Run) -> Doc:
    """The files that the answer cites, when it does, and what of it nothing holds."""
    parts = [part for item in run.output.items if item["type"] == "message" for part in item["content"]]
    cited = [annotation for part in parts for annotation in part["annotations"]]
    places = run.response.get("skilldeck", {}).get("ungrounded", []) if run.request.verify else []
    beside = {"annotations": cited, "ungrounded": [place["text"] for place in places]}
    found = {name: value for name, value in beside.items() if value}
    return {"skilldeck": found} if found else {}


async def container_of(run: Run, environments: Environments, named: str) -> Doc | None:
    """The container the run used (or was given), None when there is none."""
    used = [item_container(item) for item in run.output.items if item["type"] == "shell_call"]
    id = next((id for id in reversed(used) if id), named)
    if not id:
        return None
    try:
        record = await environments.record(id)
    except NotFound:  # not made: its start failed
        return None
    expires = record["last_active_at"] + record["expires_after"]["minutes"] * 60
    mounts = [mount for mount in record["mounts"] if mount.get("skill_id")]
    skills = [{"type": "custom", "skill_id": mount["skill_id"], "version": mount["version"]} for mount in mounts]
    return {"id": id, "expires_at": datetime.fromtimestamp(expires, UTC).isoformat(), "skills": skills or None}


def message(run: Run, thinking: bool, container: Doc | None, more: Doc) -> Doc:
    """The Message of a run that has ended; `more` are fields that the request asked for."""
    return {
        "id": message_id(run),
        "type": "message",
        "role": "assistant",
        "model": run.response["model"],
        "content": content(run, thinking),
        "stop_reason": stop_reason(run),
        "stop_sequence": run.stop_sequence if stop_reason(run) == "stop_sequence" else None,
        "stop_details": None,
        "container": container,
        "usage": message_usage(run),
        **more,
        **extra(run),
    }


class BlockStream:
    """The events of a run's content blocks, from content_block_start of the first to content_block_stop of the last."""

    def __init__(self, run: Run, thinking: bool) -> None:
        self._run = run
        self._thinking = thinking
        self._clients = {name for tool in run.request.tools if not tool.hosted for name in tool.names}
        self._count = 0
        self._open: dict[int, int] = {}  # output_index → index of its block

    async def follow(self) -> AsyncIterator[Doc]:
        async for event in self._run.events():
            for made in self._event(event):
                yield made

    def _event(self, event: Event) -> Iterable[Doc]:
        index = event.get("output_index", -1)
        match event["type"]:
            case "response.output_text.delta" if event["delta"]:
                yield from self._start(index, {"type": "text", "text": ""})
                yield self._delta(index, "text_delta", text=event["delta"])
            case "response.reasoning_text.delta" if self._thinking and event["delta"]:
                yield from self._start(index, {"type": "thinking", "thinking": "", "signature": ""})
                yield self._delta(index, "thinking_delta", thinking=event["delta"])
            case "response.output_item.added" if event["item"]["type"] == "function_call":
                call = cast(FunctionCall, event["item"])
                if call["name"] in self._clients:
                    yield from self._start(index, tool_use(call))
            case "response.function_call_arguments.delta" if index in self._open:
                yield self._delta(index, "input_json_delta", partial_json=event["delta"])
            case "response.output_item.done":
                yield from self._done(event["item"], index)

    def _done(self, item: Item, index: int) -> Iterator[Doc]:
        if item["type"] == "shell_call":
            yield from self._start(index, command(item))
            text = json.dumps(_commands(item), ensure_ascii=False)
            yield self._delta(index, "input_json_delta", partial_json=text)
        elif item["type"] == "shell_call_output":
            yield from self._start(index, command_result(cast(ShellOutput, item), self._run))
        elif item["type"] == "compaction":
            yield from self._start(index, {"type": "compaction", "content": None, "encrypted_content": None})
            whole = compaction(item)
            yield self._delta(index, "compaction_delta", **{name: whole[name] for name in whole if name != "type"})
        elif _is_search(item):
            yield from self._start(index, search(item))
            text = json.dumps(_query(item), ensure_ascii=False)
            yield self._delta(index, "input_json_delta", partial_json=text)
            yield {"type": "content_block_stop", "index": self._open.pop(index)}
            yield from self._start(index, search_result(cast(WebCallItem, item)))
        if index not in self._open:
            return
        if item["type"] == "reasoning":
            text = "".join(part["text"] for part in item["content"])
            yield self._delta(index, "signature_delta", signature=seal(text))
        yield {"type": "content_block_stop", "index": self._open.pop(index)}

    def _start(self, index: int, block: Doc) -> Iterator[Doc]:
        if index not in self._open:
            self._open[index] = self._count
            self._count += 1
            yield {"type": "content_block_start", "index": self._open[index], "content_block": block}

    def _delta(self, index: int, type: str, **fields: str) -> Doc:
        return {"type": "content_block_delta", "index": self._open[index], "delta": {"type": type, **fields}}

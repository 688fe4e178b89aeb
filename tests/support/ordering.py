"""The one validator of event streams: what the SDKs enforce, and what this project promises on top.

`check_stream(events)` takes the events of a whole stream (from sequence 0) as dicts and raises AssertionError with the
place. Every event is also held against the published schema.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from support.contract import check_event

TERMINAL = {"response.completed", "response.failed", "response.incomplete"}
RUNNING = {"response.created", "response.queued", "response.in_progress"}
Event = dict[str, Any]


def check_stream(events: list[Event]) -> dict[str, Any]:
    """Returns the response of the terminal event."""
    assert events, "an empty stream"
    checker = _Checker()
    for position, event in enumerate(events):
        try:
            checker.event(position, event)
        except AssertionError as error:
            raise AssertionError(f"event {position} ({event.get('type')}): {error}") from error
    assert checker.final is not None, "no terminal event"
    return checker.final


class _Checker:
    def __init__(self) -> None:
        self.response_id = ""
        self.final: dict[str, Any] | None = None
        self.added: list[dict[str, Any]] = []
        self.done: dict[int, dict[str, Any]] = {}
        self.parts: dict[int, list[bool]] = defaultdict(list)  # by item: whether each part is done
        self.text: dict[tuple[int, int], str] = defaultdict(str)
        self.texts_done: set[tuple[int, int]] = set()
        self.arguments: dict[int, str] = defaultdict(str)
        self.commands: dict[int, list[str]] = defaultdict(list)
        self.commands_done: dict[int, list[str]] = defaultdict(list)
        self.streams: dict[tuple[int, int, str], str] = defaultdict(str)
        self.entries: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.stages: dict[int, int] = defaultdict(int)  # of calls with events of their own: how far
        self.annotations: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)

    def event(self, position: int, event: Event) -> None:
        check_event(event)
        kind = event["type"]
        assert event["sequence_number"] == position, f"sequence_number {event['sequence_number']}"
        assert self.final is None, "an event after the terminal event"
        assert (kind == "response.created") == (position == 0), "response.created is the first event, once"
        if "response" in event:
            self._response(kind, event["response"])
        elif kind == "response.output_item.added":
            assert event["output_index"] == len(self.added), f"output_index {event['output_index']}"
            self.added.append(event["item"])
            begun = (None, "in_progress")
            if event["item"]["type"] == "apply_patch_call_output":  # it has no such status
                begun = ("completed", "failed")
            assert event["item"].get("status") in begun, event["item"]
        else:
            self._about_item(kind, event)

    def _response(self, kind: str, response: dict[str, Any]) -> None:
        self.response_id = self.response_id or response["id"]
        assert response["id"] == self.response_id, "the response's id changed"
        if kind in RUNNING:
            assert response["status"] in ("queued", "in_progress"), response["status"]
            assert response["output"] == [], "output before there is any"
            return
        assert kind in TERMINAL, kind
        expected = {"response.completed": ("completed",), "response.failed": ("failed",)}
        assert response["status"] in expected.get(kind, ("incomplete", "cancelled")), response["status"]
        assert (response["error"] is not None) == (kind == "response.failed"), response["error"]
        assert len(self.done) == len(self.added), "an item was added and not done"
        assert response["output"] == [self.done[index] for index in range(len(self.added))], (
            "output differs from the items"
        )
        assert response["usage"] is not None, "no usage"
        assert (response["completed_at"] is not None) == (response["status"] == "completed"), "completed_at"
        self.final = response

    def _about_item(self, kind: str, event: Event) -> None:
        index = event["output_index"]
        assert 0 <= index < len(self.added), f"output_index {index} was never added"
        assert index not in self.done, "an event for an item that is done"
        item = self.added[index]
        if "item_id" in event:
            assert event["item_id"] == item["id"], "item_id differs from the added item's"
        if kind == "response.output_item.done":
            return self._item_done(index, item, event["item"])
        if "content_index" in event:
            return self._content(kind, index, event)
        handler = getattr(self, "_" + kind.removeprefix("response.").replace(".", "_"), None)
        assert handler is not None, f"the validator does not know {kind}"
        handler(index, event)

    # -- messages and reasoning

    def _content(self, kind: str, index: int, event: Event) -> None:
        number = event["content_index"]
        key = (index, number)
        if kind == "response.content_part.added":
            assert number == len(self.parts[index]), f"content_index {number}"
            self.parts[index].append(False)
            return
        assert number < len(self.parts[index]), "a part that was never added"
        assert not self.parts[index][number], "an event for a part that is done"
        if kind == "response.content_part.done":
            assert event["part"]["text"] == self.text[key], "the part's text differs from its deltas"
            assert key in self.texts_done, "a part done before its text"
            self.parts[index][number] = True
        elif kind in ("response.output_text.delta", "response.reasoning_text.delta"):
            assert key not in self.texts_done, "a delta after the text was done"
            self.text[key] += event["delta"]
        elif kind in ("response.output_text.done", "response.reasoning_text.done"):
            assert event["text"] == self.text[key], "the text differs from its deltas"
            self.texts_done.add(key)
        elif kind == "response.output_text.annotation.added":
            assert event["annotation_index"] == len(self.annotations[key]), "annotation_index"
            self.annotations[key].append(event["annotation"])
        else:
            raise AssertionError(f"the validator does not know {kind}")

    # -- calls

    def _function_call_arguments_delta(self, index: int, event: Event) -> None:
        self.arguments[index] += event["delta"]

    def _function_call_arguments_done(self, index: int, event: Event) -> None:
        assert event["arguments"] == self.arguments[index], "the arguments differ from their deltas"

    def _custom_tool_call_input_delta(self, index: int, event: Event) -> None:
        self.arguments[index] += event["delta"]

    def _custom_tool_call_input_done(self, index: int, event: Event) -> None:
        assert event["input"] == self.arguments[index], "the input differs from its deltas"

    def _code_interpreter_call_in_progress(self, index: int, event: Event) -> None:
        self._stage(index, 0)

    def _code_interpreter_call_code_delta(self, index: int, event: Event) -> None:
        assert self.stages[index] == 1, "code out of turn"
        assert event["delta"], "an empty delta"
        self.arguments[index] += event["delta"]

    def _code_interpreter_call_code_done(self, index: int, event: Event) -> None:
        self._stage(index, 1)
        assert event["code"] == self.arguments[index], "the code differs from its deltas"

    def _code_interpreter_call_interpreting(self, index: int, event: Event) -> None:
        self._stage(index, 2)

    def _code_interpreter_call_completed(self, index: int, event: Event) -> None:
        self._stage(index, 3)

    def _web_search_call_in_progress(self, index: int, event: Event) -> None:
        self._stage(index, 0, "web_search_call")

    def _web_search_call_searching(self, index: int, event: Event) -> None:
        self._stage(index, 1, "web_search_call")

    def _web_search_call_completed(self, index: int, event: Event) -> None:
        self._stage(index, 2, "web_search_call")

    def _mcp_list_tools_in_progress(self, index: int, event: Event) -> None:
        self._stage(index, 0, "mcp_list_tools")

    def _mcp_list_tools_completed(self, index: int, event: Event) -> None:
        self._stage(index, 1, "mcp_list_tools")

    def _mcp_list_tools_failed(self, index: int, event: Event) -> None:
        self._stage(index, 1, "mcp_list_tools")

    def _mcp_call_in_progress(self, index: int, event: Event) -> None:
        self._stage(index, 0, "mcp_call")

    def _mcp_call_arguments_delta(self, index: int, event: Event) -> None:
        assert self.stages[index] == 1, "arguments out of turn"
        assert event["delta"], "an empty delta"
        self.arguments[index] += event["delta"]

    def _mcp_call_arguments_done(self, index: int, event: Event) -> None:
        self._stage(index, 1, "mcp_call")
        assert event["arguments"] == self.arguments[index], "the arguments differ from their deltas"

    def _mcp_call_completed(self, index: int, event: Event) -> None:
        self._stage(index, 2, "mcp_call")

    def _mcp_call_failed(self, index: int, event: Event) -> None:
        self._stage(index, 2, "mcp_call")

    def _stage(self, index: int, number: int, type: str = "code_interpreter_call") -> None:
        assert self.added[index]["type"] == type, "another item's event"
        assert self.stages[index] == number, f"stage {number} after stage {self.stages[index]}"
        self.stages[index] += 1

    def _shell_call_command_added(self, index: int, event: Event) -> None:
        assert event["command_index"] == len(self.commands[index]), f"command_index {event['command_index']}"
        self.commands[index].append(event["command"])

    def _shell_call_command_delta(self, index: int, event: Event) -> None:
        assert event["command_index"] == len(self.commands[index]) - 1, "a delta for another command"
        self.commands[index][-1] += event["delta"]

    def _shell_call_command_done(self, index: int, event: Event) -> None:
        number = event["command_index"]
        assert number == len(self.commands_done[index]), f"command_index {number}"
        assert event["command"] == self.commands[index][number], "the command differs from its deltas"
        self.commands_done[index].append(event["command"])

    # -- outputs

    def _shell_call_output_content_delta(self, index: int, event: Event) -> None:
        self._command_exists(index, event["command_index"])
        assert event["command_index"] == len(self.entries[index]), "output of a command out of turn"
        for stream, text in event["delta"].items():
            assert text, "an empty delta"
            self.streams[(index, event["command_index"], stream)] += text

    def _shell_call_output_content_done(self, index: int, event: Event) -> None:
        number = event["command_index"]
        self._command_exists(index, number)
        assert number == len(self.entries[index]), f"command_index {number}"
        assert len(event["output"]) == 1, "one entry a command"
        for stream in ("stdout", "stderr"):
            assert event["output"][0][stream] == self.streams[(index, number, stream)], (
                f"{stream} differs from its deltas"
            )
        self.entries[index].append(event["output"][0])

    def _command_exists(self, index: int, number: int) -> None:
        call_id = self.added[index]["call_id"]
        calls = [item for item in self.done.values() if item["type"] == "shell_call" and item["call_id"] == call_id]
        assert calls, "output before its call was done"
        assert number < len(calls[0]["action"]["commands"]), "output of a command the call does not have"

    # -- ends

    def _item_done(self, index: int, added: dict[str, Any], item: dict[str, Any]) -> None:
        for name in ("type", "id", "call_id", "role", "name"):
            assert item.get(name) == added.get(name), f"{name} changed"
        ended = (None, "completed", "incomplete")
        if item["type"] in ("code_interpreter_call", "apply_patch_call_output", "web_search_call", "mcp_call"):
            ended += ("failed",)
        assert item.get("status") in ended, item.get("status")
        assert all(self.parts[index]), "an item done before its parts"
        kind = item["type"]
        if kind in ("message", "reasoning"):
            assert len(item["content"]) == len(self.parts[index]), "parts"
            for number, part in enumerate(item["content"]):
                assert part["text"] == self.text[(index, number)], "text"
                assert part.get("annotations", []) == self.annotations[(index, number)], "annotations"
                for note in part.get("annotations", []):
                    assert 0 <= note["start_index"] <= note["end_index"] <= len(part["text"]), note
        elif kind == "function_call":
            assert item["arguments"] == self.arguments[index], "arguments"
        elif kind == "custom_tool_call":
            assert item["input"] == self.arguments[index], "input"
        elif kind == "code_interpreter_call":
            assert item["code"] == self.arguments[index], "code"
            assert item["status"] != "completed" or self.stages[index] == 4, "completed without its events"
        elif kind == "web_search_call":
            assert item["status"] != "completed" or self.stages[index] == 3, "completed without its events"
        elif kind == "mcp_call":
            assert item["arguments"] == self.arguments[index], "arguments"
            assert item["status"] not in ("completed", "failed") or self.stages[index] == 3, "an end without its event"
            assert (item["error"] is None) == (item["status"] == "completed"), "error"
        elif kind == "mcp_list_tools":
            assert item["error"] is not None or self.stages[index] == 2, "listed without its events"
        elif kind == "shell_call":
            if item["status"] == "completed":
                assert item["action"]["commands"] == self.commands_done[index], "commands"
        elif kind == "shell_call_output":
            assert item["output"] == self.entries[index], "output"
        self.done[index] = item

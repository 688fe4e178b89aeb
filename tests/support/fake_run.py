"""A scripted run for tests of the client side: emits the events of the wire in their order, and keeps the response.

run.text("Looking at the file.")
call = run.shell(["wc -l orders.csv"])
call.output(0, stdout="12 orders.csv\\n")
call.exit([0])
run.text("There are 12 lines.")
run.complete()
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.fake_daemon import FakeDaemon

Object = dict[str, Any]


class FakeRun:
    def __init__(self, daemon: FakeDaemon, run_id: str, request: Object, origin: str = "") -> None:
        self.daemon = daemon
        self.origin = origin
        self.id = run_id
        self.request = request
        self.log: list[tuple[Object, float]] = []
        self.grown = asyncio.Event()
        self.done = False
        self.leaving = asyncio.Event()  # it was asked to end after this turn
        self._ids = 0
        conversation = request.get("conversation")
        self.session_id: str | None = conversation.get("id") if isinstance(conversation, dict) else conversation
        self.response: Object = {
            "id": run_id, "object": "response", "created_at": int(time.time()), "completed_at": None,
            "status": "in_progress", "error": None, "incomplete_details": None,
            "model": request.get("model", "default"),
            "output": [], "usage": None, "metadata": {}, "instructions": None, "tools": request.get("tools", []),
            "conversation": {"id": self.session_id} if self.session_id else None,
            "previous_response_id": request.get("previous_response_id"),
        }  # fmt: skip
        self.emit("response.created", response=dict(self.response))
        self.emit("response.in_progress", response=dict(self.response))

    def emit(self, type_: str, **fields: Any) -> Object:
        """Append any event; the sequence number is added."""
        event = {"type": type_, "sequence_number": len(self.log), **fields}
        self.log.append((event, time.time()))
        self.grown.set()
        self.grown = asyncio.Event()
        return event

    def new_id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}_{self.id}_{self._ids}"

    # ------------------------------------------------------------ items

    def text(self, text: str, *, pieces: int = 3) -> Object:
        """A whole message item, streamed in about `pieces` deltas."""
        message = self.begin_text()
        size = max(1, -(-len(text) // pieces))
        for start in range(0, len(text), size):
            message.delta(text[start : start + size])
        return message.finish()

    def begin_text(self) -> FakeMessage:
        return FakeMessage(self)

    def shell(self, commands: Sequence[str], *, container: str = "cntr_1", limit: int | None = None) -> FakeCall:
        """A shell call, complete; its output item is begun and goes on through the returned call."""
        return FakeCall(self, list(commands), container, limit)

    # ------------------------------------------------------------ ends

    def complete(self) -> None:
        self._end("completed", "response.completed")

    def fail(self, message: str, code: str = "server_error") -> None:
        self.response["error"] = {"code": code, "message": message}
        self._end("failed", "response.failed")

    def incomplete(self, reason: str = "max_output_tokens") -> None:
        self.response["incomplete_details"] = {"reason": reason}
        self._end("incomplete", "response.incomplete")

    def cancel(self) -> None:
        self._end("cancelled", "response.incomplete")

    def _end(self, status: str, type_: str) -> None:
        if self.done:
            return
        self.response |= {
            "status": status,
            "completed_at": int(time.time()),
            "usage": {
                "input_tokens": 120, "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 56},
                "output_tokens": 40, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 160,
            },
        }  # fmt: skip
        self.done = True
        self.emit(type_, response=json.loads(json.dumps(self.response)))
        self.daemon.put("run", self.summary())

    def summary(self) -> Object:
        """The run object of the control socket."""
        text = self.request.get("input", "")
        if isinstance(text, list):
            parts = [part for item in text for part in item.get("content", []) if isinstance(part, dict)]
            text = next((part["text"] for part in parts if part.get("type") == "input_text"), "")
        names = ("id", "object", "created_at", "completed_at", "status", "model", "conversation", "error",
                 "incomplete_details", "usage", "metadata", "previous_response_id")  # fmt: skip
        return {
            **{name: self.response[name] for name in names}, "background": False,
            "title": text.splitlines()[0] if text else "", "origin": self.origin,
        }  # fmt: skip

    def begin_item(self, item: Object) -> int:
        index = len(self.response["output"])
        self.response["output"].append(item)
        self.emit("response.output_item.added", output_index=index, item=json.loads(json.dumps(item)))
        return index

    def end_item(self, index: int) -> None:
        item = self.response["output"][index]
        self.emit("response.output_item.done", output_index=index, item=json.loads(json.dumps(item)))


class FakeMessage:
    def __init__(self, run: FakeRun) -> None:
        self.run = run
        self.item: Object = {
            "id": run.new_id("msg"), "type": "message", "role": "assistant", "status": "in_progress", "content": []
        }  # fmt: skip
        self.index = run.begin_item(self.item)
        self.part: Object = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self.where = {"item_id": self.item["id"], "output_index": self.index, "content_index": 0}
        run.emit("response.content_part.added", **self.where, part=dict(self.part))
        self.item["content"].append(self.part)

    def delta(self, text: str) -> None:
        self.part["text"] += text
        self.run.emit("response.output_text.delta", **self.where, delta=text, logprobs=[])

    def finish(self) -> Object:
        self.run.emit("response.output_text.done", **self.where, text=self.part["text"], logprobs=[])
        self.run.emit("response.content_part.done", **self.where, part=dict(self.part))
        self.item["status"] = "completed"
        self.run.end_item(self.index)
        return self.item


class FakeCall:
    def __init__(self, run: FakeRun, commands: list[str], container: str, limit: int | None) -> None:
        self.run = run
        call_id = run.new_id("call")
        environment = {"type": "container_reference", "container_id": container}
        item: Object = {
            "id": run.new_id("sh"), "type": "shell_call", "call_id": call_id, "status": "in_progress",
            "action": {"commands": [], "timeout_ms": None, "max_output_length": limit}, "environment": environment,
        }  # fmt: skip
        index = run.begin_item(item)
        for number, command in enumerate(commands):
            where = {"output_index": index, "command_index": number}
            item["action"]["commands"].append(command)
            run.emit("response.shell_call_command.added", **where, command="")
            run.emit("response.shell_call_command.delta", **where, delta=command)
            run.emit("response.shell_call_command.done", **where, command=command)
        item["status"] = "completed"
        run.end_item(index)
        self.call = item
        self.contents: list[Object] = [{"stdout": "", "stderr": "", "outcome": None} for _ in commands]
        self.item: Object = {
            "id": run.new_id("sho"), "type": "shell_call_output", "call_id": call_id, "status": "in_progress",
            "max_output_length": None, "output": [],
        }  # fmt: skip
        self.index = run.begin_item(self.item)

    def output(self, command: int = 0, *, stdout: str = "", stderr: str = "") -> None:
        """What the process wrote just now."""
        self.contents[command]["stdout"] += stdout
        self.contents[command]["stderr"] += stderr
        delta = {name: text for name, text in (("stdout", stdout), ("stderr", stderr)) if text}
        self.run.emit(
            "response.shell_call_output_content.delta",
            item_id=self.item["id"], output_index=self.index, command_index=command, delta=delta,
        )  # fmt: skip

    def exit(self, codes: Sequence[int | None] = (0,)) -> Object:
        """Every command has ended; None is a timeout."""
        for number, code in enumerate(codes):
            content = self.contents[number]
            content["outcome"] = {"type": "timeout"} if code is None else {"type": "exit", "exit_code": code}
            self.item["output"].append(content)
            self.run.emit(
                "response.shell_call_output_content.done",
                item_id=self.item["id"], output_index=self.index, command_index=number, output=[dict(content)],
            )  # fmt: skip
        self.item["status"] = "completed"
        self.run.end_item(self.index)
        return self.item

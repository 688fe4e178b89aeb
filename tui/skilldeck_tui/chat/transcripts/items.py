"""The items of a transcript: what is kept of each, as it grows and when it is done. Nothing here draws.

Every item carries a `revision` that rises with each change; a widget compares it with the one it has painted, so any
number of events between two frames cost one paint. Text is kept in pieces: a widget takes those it has not seen.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from skilldeck_shared.output_limits import DEFAULT_MAX_OUTPUT, effective, live_part
from skilldeck_tui.chat.transcripts.fences import Block, fences
from skilldeck_tui.chat.transcripts.output import OutputBuffer

Object = dict[str, Any]
_OMITTED = re.compile(
    r"\[[^\[\]\n]{0,40}?([\d,]+) bytes[^\[\]\n]{0,60}?(?:omitted|left out|truncated)[^\[\]\n]{0,40}\]"
)


@dataclass
class Item:
    """One entry of a turn. `raw` is the OpenAI item as last output; `waiting`: for a person's yes."""

    kind: ClassVar[str] = "item"
    joins: ClassVar[tuple[str, ...]] = ()
    """Types of the outputs that are shown with the call, not as items of their own."""
    id: str = ""
    raw: Object = field(default_factory=dict)
    revision: int = 0
    done: bool = False
    waiting: bool = field(default=False, kw_only=True)

    @classmethod
    def begun(cls, raw: Object, at: float) -> Self:
        """The item as it is first heard of."""
        return cls(str(raw.get("id") or ""), raw)

    @property
    def shown_as(self) -> str:
        """What its view is registered for (`widgets/transcript/views.py`)."""
        return self.kind

    @property
    def call_id(self) -> str:
        return str(self.raw.get("call_id") or "")

    @property
    def container(self) -> str:
        """The container it was made in."""
        return ""

    def touch(self) -> None:
        self.revision += 1

    def apply(self, name: str, data: Object, at: float) -> None:
        """Take an event about it; `name` is without "response."."""

    def finish(self, raw: Object, at: float = 0.0) -> None:
        self.raw, self.done = raw, True
        self.touch()

    def begin_output(self, raw: Object, at: float) -> None:
        """An output that it joins has begun."""

    def finish_output(self, raw: Object, at: float) -> None:
        """That output is complete."""

    def took(self, start: float, end: float) -> None:
        """When the call ran, by the daemon's account."""

    def stop(self, at: float) -> None:
        """The run is over; what has not ended never will."""

    def plain(self) -> str:
        """Its text, for finding and copying."""
        return ""

    def blocks(self) -> list[Block]:
        """Parts of it that are copied one by one."""
        return []


@dataclass
class UserItem(Item):
    """What a person sent: text and the names of attached files."""

    kind: ClassVar[str] = "user"
    text: str = ""
    files: list[str] = field(default_factory=list)
    role: str = "user"

    def plain(self) -> str:
        return self.text


@dataclass
class TextItem(Item):
    """The assistant's message, growing."""

    kind: ClassVar[str] = "text"
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def write(self, delta: str) -> None:
        self.pieces.append(delta)
        self.touch()

    def apply(self, name: str, data: Object, at: float) -> None:
        if name in ("output_text.delta", "refusal.delta", "reasoning_text.delta", "reasoning_summary_text.delta"):
            self.write(data["delta"])

    def finish(self, raw: Object, at: float = 0.0) -> None:
        text = message_text(raw)
        if text and text != self.text:
            self.pieces = [text]
        super().finish(raw, at)

    def plain(self) -> str:
        return self.text

    def blocks(self) -> list[Block]:
        return fences(self.text)


@dataclass
class ReasoningItem(TextItem):
    """The model's reasoning; shown folded."""

    kind: ClassVar[str] = "reasoning"
    started: float = 0.0
    ended: float = 0.0

    @classmethod
    def begun(cls, raw: Object, at: float) -> Self:
        return cls(str(raw.get("id") or ""), raw, started=at)

    def finish(self, raw: Object, at: float = 0.0) -> None:
        self.ended = at or self.ended
        if not self.pieces:
            parts = [*(raw.get("summary") or []), *(raw.get("content") or [])]
            self.pieces = ["\n\n".join(str(part.get("text", "")) for part in parts)]
        self.raw, self.done = raw, True
        self.touch()


@dataclass
class Command:
    """One command of a shell call. `outcome` is an exit code, "timeout", or None while it runs or waits."""

    text: str = ""
    output: OutputBuffer = field(default_factory=OutputBuffer)
    started: float = 0.0
    ended: float = 0.0
    outcome: int | str | None = None
    omitted: int = 0  # bytes that were kept from the model
    printed: int = 0  # bytes in all, those that were not shown live included
    limit: int = DEFAULT_MAX_OUTPUT  # characters of output, as the call has it

    @property
    def running(self) -> bool:
        return bool(self.started) and not self.ended and self.outcome is None

    @property
    def silent(self) -> bool:
        """Whether it may go on printing, of which nothing comes before it ends."""
        return self.running and self.output.characters >= live_part(self.limit)

    def seconds(self, now: float) -> float:
        return (self.ended or now) - self.started if self.started else 0.0


@dataclass
class ShellItem(Item):
    """A shell call with its output, both live."""

    kind: ClassVar[str] = "shell"
    joins = ("shell_call_output",)
    commands: list[Command] = field(default_factory=list)
    output_raw: Object = field(default_factory=dict)
    running: bool = False
    stopped: bool = False

    @property
    def container(self) -> str:
        return str((self.raw.get("environment") or {}).get("container_id") or "")

    def command(self, index: int) -> Command:
        limit = (self.raw.get("action") or {}).get("max_output_length")
        while len(self.commands) <= index:
            self.commands.append(Command(limit=effective(limit)))
        return self.commands[index]

    def apply(self, name: str, data: Object, at: float) -> None:
        number = data.get("command_index", 0)
        match name:
            case "shell_call_command.added":
                self.command(number)
            case "shell_call_command.delta":
                self.command(number).text += data["delta"]
            case "shell_call_command.done":
                self.command(number).text = data["command"]
            case "shell_call_output_content.delta":
                for stream in ("stdout", "stderr"):
                    self.command(number).output.write(stream, data["delta"].get(stream) or "")
            case "shell_call_output_content.done":
                for offset, entry in enumerate(data["output"]):
                    _outcome(self.command(number + offset), entry, at)
                following = number + len(data["output"])
                if self.running and following < len(self.commands):
                    self.commands[following].started = at
            case _:
                return
        self.touch()

    def finish(self, raw: Object, at: float = 0.0) -> None:
        action = raw.get("action") or {}
        for position, text in enumerate(action.get("commands") or []):
            command = self.command(position)
            command.text, command.limit = str(text), effective(action.get("max_output_length"))
        super().finish(raw, at)

    def begin_output(self, raw: Object, at: float) -> None:
        self.running = True
        self.command(0).started = at
        self.touch()

    def finish_output(self, raw: Object, at: float) -> None:
        self.output_raw, self.running = raw, False
        for position, entry in enumerate(raw.get("output") or []):
            command = self.command(position)
            if command.outcome is None:
                _outcome(command, entry, at)
        self.touch()

    def took(self, start: float, end: float) -> None:
        # The account knows calls, not commands: only a call of one command gets its time.
        if len(self.commands) == 1 and not self.commands[0].started:
            self.commands[0].started, self.commands[0].ended = start, end
            self.touch()

    def stop(self, at: float) -> None:
        if any(command.outcome is None for command in self.commands):
            self.stopped, self.running = True, False
            for command in self.commands:
                command.ended = command.ended or (at if command.started else 0.0)
            self.touch()

    def plain(self) -> str:
        return "\n".join(f"$ {c.text}\n{c.output.text()}".rstrip() for c in self.commands)

    def blocks(self) -> list[Block]:
        found = []
        for command in self.commands:
            found.append(Block(command.text, "command"))
            if printed := command.output.text():
                found.append(Block(printed, "output"))
        return found


@dataclass
class OtherItem(Item):
    """An item of any other type: the item itself, and the text that came of it while it was written."""

    kind: ClassVar[str] = "other"
    pieces: list[str] = field(default_factory=list)

    @property
    def shown_as(self) -> str:
        return str(self.raw.get("type") or self.kind)

    def apply(self, name: str, data: Object, at: float) -> None:
        if name.endswith(".delta") and isinstance(data.get("delta"), str):
            self.pieces.append(data["delta"])
            self.touch()

    def plain(self) -> str:
        raw = self.raw
        given = raw.get("arguments") or raw.get("output") or raw.get("text")
        text = given or "".join(self.pieces) or raw.get("type") or ""
        return text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)


@dataclass
class AnsweredItem(OtherItem):
    """A call whose output is an item of its own, shown with it."""

    output_raw: Object = field(default_factory=dict)

    def finish_output(self, raw: Object, at: float) -> None:
        self.output_raw = raw
        self.touch()

    def plain(self) -> str:
        output = self.output_raw.get("output")
        output = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False) if output else ""
        return "\n".join(part for part in (super().plain(), output) if part)


@dataclass
class PatchItem(AnsweredItem):
    """An apply_patch_call."""

    joins = ("apply_patch_call_output",)

    def plain(self) -> str:
        operation = self.raw.get("operation") or {}
        parts = (operation.get("path"), operation.get("diff") or "".join(self.pieces), self.output_raw.get("output"))
        return "\n".join(str(part) for part in parts if part)

    def blocks(self) -> list[Block]:
        diff = (self.raw.get("operation") or {}).get("diff") or "".join(self.pieces)
        return [Block(str(diff), "diff")] if diff else []


@dataclass
class FunctionItem(AnsweredItem):
    joins = ("function_call_output",)


@dataclass
class CustomItem(AnsweredItem):
    joins = ("custom_tool_call_output",)


@dataclass
class CodeItem(OtherItem):
    """A code_interpreter_call: code, then what it printed."""

    @property
    def container(self) -> str:
        return str(self.raw.get("container_id") or "")

    def plain(self) -> str:
        return "\n".join(block.text for block in self.blocks())

    def blocks(self) -> list[Block]:
        code = str(self.raw.get("code") or "".join(self.pieces))
        printed = "".join(str(entry.get("logs") or "") for entry in self.raw.get("outputs") or [])
        return [Block(text, what) for text, what in ((code, "python"), (printed, "output")) if text]


ITEMS: dict[str, type[Item]] = {
    "message": TextItem, "reasoning": ReasoningItem, "shell_call": ShellItem, "apply_patch_call": PatchItem,
    "function_call": FunctionItem, "custom_tool_call": CustomItem, "code_interpreter_call": CodeItem,
}  # fmt: skip
"""By type on the wire: items that keep more than themselves. All others are `OtherItem`s."""


def item_class(type: str) -> tuple[type[Item], bool]:
    """The class of items of a type, and whether it is of the call that such an item joins."""
    owner = next((known for known in ITEMS.values() if type in known.joins), None)
    return (owner, True) if owner is not None else (ITEMS.get(type, OtherItem), False)


def _outcome(command: Command, entry: Object, at: float) -> None:
    """The final word on one command: `{stdout, stderr, outcome}`."""
    stdout, stderr = str(entry.get("stdout") or ""), str(entry.get("stderr") or "")
    if not command.output.total:
        command.output.set(stdout, stderr)
    command.output.close()
    outcome = entry.get("outcome") or {}
    code = outcome.get("exit_code")
    command.outcome = "timeout" if outcome.get("type") == "timeout" else (code if isinstance(code, int) else -1)
    command.ended = at
    command.omitted = sum(int(n.replace(",", "")) for n in _OMITTED.findall(f"{stdout}\n{stderr}"))
    command.printed = command.omitted + len(_OMITTED.sub("", stdout + stderr).encode("utf-8", "replace"))


def message_text(raw: Object) -> str:
    """The text of an output message."""
    return "".join(str(part.get("text") or part.get("refusal") or "") for part in raw.get("content") or [])

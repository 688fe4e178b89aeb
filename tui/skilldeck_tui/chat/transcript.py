"""What a run did, as items to show, built from its events or from its stored response.

    turn = Turn(run_id)
    turn.apply(event)            # RunEvent, in order
    turn = Turn.stored(detail)   # a run that has ended

Nothing here draws. Every item carries a `revision` that rises with each change; a widget compares it with the one it
has painted, so any number of events between two frames cost one paint. Text is kept in pieces: a widget takes those it
has not seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from skilldeck_shared.output_limits import DEFAULT_MAX_OUTPUT, effective, live_part
from skilldeck_tui.chat.output import OutputBuffer
from skilldeck_tui.client.types import RunDetail, RunEvent

Object = dict[str, Any]
_OMITTED = re.compile(
    r"\[[^\[\]\n]{0,40}?([\d,]+) bytes[^\[\]\n]{0,60}?(?:omitted|left out|truncated)[^\[\]\n]{0,40}\]"
)


@dataclass
class Item:
    """One entry of a turn. `raw` is the OpenAI item as last told."""

    kind: ClassVar[str] = "item"
    id: str = ""
    raw: Object = field(default_factory=dict)
    revision: int = 0
    done: bool = False

    def touch(self) -> None:
        self.revision += 1

    def finish(self, raw: Object) -> None:
        self.raw, self.done = raw, True
        self.touch()

    def plain(self) -> str:
        """Its text, for finding and copying."""
        return ""


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

    def finish(self, raw: Object) -> None:
        text = message_text(raw)
        if text and text != self.text:
            self.pieces = [text]
        super().finish(raw)

    def plain(self) -> str:
        return self.text


@dataclass
class ReasoningItem(TextItem):
    """The model's reasoning; shown folded."""

    kind: ClassVar[str] = "reasoning"
    started: float = 0.0
    ended: float = 0.0

    def finish(self, raw: Object) -> None:
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
    """A shell call with its output, both live. `waiting`: for a person's yes."""

    kind: ClassVar[str] = "shell"
    call_id: str = ""
    commands: list[Command] = field(default_factory=list)
    output_raw: Object = field(default_factory=dict)
    running: bool = False
    stopped: bool = False
    waiting: bool = False

    def command(self, index: int) -> Command:
        limit = (self.raw.get("action") or {}).get("max_output_length")
        while len(self.commands) <= index:
            self.commands.append(Command(limit=effective(limit)))
        return self.commands[index]

    def plain(self) -> str:
        return "\n".join(f"$ {c.text}\n{c.output.text()}".rstrip() for c in self.commands)


@dataclass
class OtherItem(Item):
    """An item this client has no special view for: its type and its JSON."""

    kind: ClassVar[str] = "other"

    def plain(self) -> str:
        return str(self.raw.get("arguments") or self.raw.get("output") or self.raw.get("type") or "")


@dataclass(frozen=True)
class Span:
    """What a run did from `start` to `end` (unix seconds): wait, prefill, generate or call."""

    kind: str
    start: float
    end: float
    call_id: str = ""


@dataclass
class Usage:
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0


@dataclass
class Turn:
    """One run: what was asked, what it did, how it ended."""

    run_id: str
    asked: list[UserItem] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    status: str = "queued"
    model: str = ""
    error: str = ""
    usage: Usage | None = None
    timeline: list[Span] = field(default_factory=list)
    started: float = 0.0
    ended: float = 0.0
    response: Object = field(default_factory=dict)
    sequence: int = -1
    revision: int = 0
    container: str = ""
    _by_index: dict[int, Item] = field(default_factory=dict)
    _by_call: dict[str, ShellItem] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        return self.status in ("queued", "in_progress")

    @property
    def all_items(self) -> list[Item]:
        return [*self.asked, *self.items]

    # ------------------------------------------------------------ from storage

    @classmethod
    def stored(cls, detail: RunDetail) -> Turn:
        """A turn from the response object; durations come from the timeline."""
        turn = cls(str(detail.response.get("id", "")))
        turn.ask(detail.input)
        if detail.response.get("status") not in ("queued", "in_progress"):
            for index, raw in enumerate(detail.response.get("output") or []):
                turn._add(index, raw, 0.0)
                turn._end(index, raw, 0.0)
        turn.close(detail.response, 0.0)
        turn.time(detail.timeline)
        return turn

    def ask(self, items: list[Object]) -> None:
        """Show the messages of a request's input; results that a client sent back are shown as other items."""
        self.asked = []
        for raw in items:
            if raw.get("type", "message") == "message" and raw.get("role") != "assistant":
                text, files = input_text(raw)
                item = UserItem(str(raw.get("id") or ""), raw, 1, True, text, files, str(raw.get("role") or "user"))
                self.asked.append(item)
        self.revision += 1

    def time(self, timeline: Object) -> None:
        """Take the daemon's account of where time went (`RunDetail.timeline`)."""
        self.timeline = spans(timeline)
        times = [float(at) for at in timeline.get("times") or []]
        if times and not self.live:
            # The response itself knows whole seconds only.
            self.started, self.ended = times[0], times[-1]
        calls = {entry.call_id: entry for entry in self.timeline if entry.call_id}
        for item in self.items:
            entry = calls.get(item.call_id) if isinstance(item, ShellItem) else None
            # The account knows calls, not commands: only a call of one command gets its time.
            if entry is not None and isinstance(item, ShellItem) and len(item.commands) == 1:
                command = item.commands[0]
                if not command.started:
                    command.started, command.ended = entry.start, entry.end
                    item.touch()
        self.revision += 1

    # ------------------------------------------------------------ from events

    def apply(self, event: RunEvent) -> Item | None:
        """Take one event; returns the item it changed, if any."""
        if event.sequence <= self.sequence:
            return None
        self.sequence = event.sequence
        data, name = event.data, event.type.removeprefix("response.")
        index = data.get("output_index", -1)
        match name:
            case "output_item.added":
                return self._add(index, data["item"], event.time)
            case "output_item.done":
                return self._end(index, data["item"], event.time)
            case "output_text.delta" | "refusal.delta" | "reasoning_text.delta" | "reasoning_summary_text.delta":
                item = self._by_index.get(index)
                if isinstance(item, TextItem):
                    item.write(data["delta"])
                return item
            case "error":
                self.error = str(data.get("message") or "The run failed.")
                self.status, self.ended = "failed", event.time
                self.revision += 1
            case "created" | "in_progress" | "queued":
                self._began(data["response"], event.time)
            case "completed" | "failed" | "incomplete" | "cancelled":
                self.close(data["response"], event.time)
            case _ if name.startswith("shell_call"):
                return self._shell(name, data, event.time)
        return None

    def _shell(self, name: str, data: Object, at: float) -> Item | None:
        item = self._by_index.get(data.get("output_index", -1))
        if not isinstance(item, ShellItem):
            return item
        command = item.command(data.get("command_index", 0))
        match name:
            case "shell_call_command.delta":
                command.text += data["delta"]
            case "shell_call_command.done":
                command.text = data["command"]
            case "shell_call_output_content.delta":
                for stream in ("stdout", "stderr"):
                    command.output.write(stream, data["delta"].get(stream) or "")
            case "shell_call_output_content.done":
                number = data.get("command_index", 0)
                for offset, entry in enumerate(data["output"]):
                    _outcome(item.command(number + offset), entry, at)
                following = number + len(data["output"])
                if item.running and following < len(item.commands):
                    item.commands[following].started = at
        item.touch()
        return item

    def _began(self, response: Object, at: float) -> None:
        self.response = response
        self.status, self.model = str(response.get("status") or "in_progress"), str(response.get("model") or "")
        self.started = self.started or at
        self.revision += 1

    def close(self, response: Object, at: float) -> None:
        """The terminal state of the response."""
        self.response = response
        self.status, self.model = str(response.get("status") or ""), str(response.get("model") or "")
        self.started = self.started or float(response.get("created_at") or 0)
        if not self.live:
            self.ended = at or float(response.get("completed_at") or 0) or self.started
        if response.get("error"):
            self.error = str(response["error"].get("message") or "The run failed.")
        elif response.get("incomplete_details"):
            self.error = str(response["incomplete_details"].get("reason") or "")
        usage = response.get("usage") or {}
        if usage:
            self.usage = Usage(
                int(usage.get("input_tokens") or 0),
                int((usage.get("input_tokens_details") or {}).get("cached_tokens") or 0),
                int(usage.get("output_tokens") or 0),
                int((usage.get("output_tokens_details") or {}).get("reasoning_tokens") or 0),
            )
        if not self.live:
            for item in self.items:
                if isinstance(item, ShellItem) and any(c.outcome is None for c in item.commands):
                    item.stopped, item.running = True, False
                    for command in item.commands:
                        command.ended = command.ended or (at if command.started else 0.0)
                    item.touch()
                if not item.done:
                    item.finish(item.raw)
        self.revision += 1

    def _add(self, index: int, raw: Object, at: float) -> Item:
        kind = raw.get("type")
        if kind == "shell_call_output":
            shell = self._by_call.get(str(raw.get("call_id")))
            if shell is None:
                shell = ShellItem(str(raw.get("id") or ""), raw, 1, call_id=str(raw.get("call_id")))
                self.items.append(shell)
                self.revision += 1
            shell.running = True
            shell.command(0).started = at
            self._by_index[index] = shell
            shell.touch()
            return shell
        item: Item
        if kind == "message":
            item = TextItem(str(raw.get("id") or ""), raw)
        elif kind == "reasoning":
            item = ReasoningItem(str(raw.get("id") or ""), raw, started=at)
        elif kind == "shell_call":
            item = ShellItem(str(raw.get("id") or ""), raw, call_id=str(raw.get("call_id")))
            self._by_call[item.call_id] = item
            self._environment(raw)
        else:
            item = OtherItem(str(raw.get("id") or ""), raw)
        item.touch()
        self._by_index[index] = item
        self.items.append(item)
        self.revision += 1
        return item

    def _end(self, index: int, raw: Object, at: float) -> Item | None:
        if (item := self._by_index.get(index)) is None:
            return None
        if isinstance(item, ShellItem) and raw.get("type") == "shell_call_output":
            item.output_raw, item.running = raw, False
            for position, entry in enumerate(raw.get("output") or []):
                command = item.command(position)
                if command.outcome is None:
                    _outcome(command, entry, at)
            item.touch()
            return item
        if isinstance(item, ReasoningItem):
            item.ended = at
        if isinstance(item, ShellItem):
            action = raw.get("action") or {}
            for position, text in enumerate(action.get("commands") or []):
                command = item.command(position)
                command.text, command.limit = str(text), effective(action.get("max_output_length"))
            self._environment(raw)
        item.finish(raw)
        return item

    def _environment(self, raw: Object) -> None:
        self.container = str((raw.get("environment") or {}).get("container_id") or "") or self.container


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


def input_text(raw: Object) -> tuple[str, list[str]]:
    """Text and file names of an input message."""
    content = raw.get("content")
    if isinstance(content, str):
        return content, []
    texts, files = [], []
    for part in content or []:
        if part.get("type") in ("input_text", "output_text", "text"):
            texts.append(str(part.get("text") or ""))
        elif part.get("type") in ("input_file", "input_image"):
            files.append(str(part.get("filename") or part.get("file_id") or part.get("file_url") or "file"))
    return "\n".join(texts), files


def spans(timeline: Object) -> list[Span]:
    """The daemon's account as spans in order; what is between them was waiting (for a slot, a load, an approval)."""
    known = []
    for entry in timeline.get("spans") or []:
        end = float(entry.get("end") or 0)
        if entry.get("kind") == "turn":
            decode, prefill = float(entry.get("decode_s") or 0), float(entry.get("prefill_s") or 0)
            known.append(Span("prefill", end - decode - prefill, end - decode))
            known.append(Span("generate", end - decode, end))
        elif entry.get("kind") == "call":
            known.append(Span("call", float(entry.get("start") or end), end, str(entry.get("call_id") or "")))
    times = [float(at) for at in timeline.get("times") or []]
    found: list[Span] = []
    at = times[0] if times else (known[0].start if known else 0.0)
    for span in sorted(known, key=lambda span: span.start):
        if span.start - at > 0.005:
            found.append(Span("wait", at, span.start))
        found.append(span)
        at = max(at, span.end)
    return found

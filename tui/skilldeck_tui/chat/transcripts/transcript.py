"""What a run did, as items to show, built from its events or from its stored response.

    turn = ShownRun(run_id)
    turn.apply(event)            # RunEvent, in order
    turn = ShownRun.stored(detail)   # a run that has ended

Nothing here draws. What is kept of each item is `items.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from skilldeck_tui.chat.transcripts.items import Item, Object, TextItem, UserItem, item_class
from skilldeck_tui.client.types import RunDetail, RunEvent, unsupported


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


@dataclass(eq=False)
class ShownRun:
    """One run: what was asked, what it did, how it ended. A session that is read anew has others of the same ids."""

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
    preparing: str = ""
    """What it waits for before its commands, in a line."""
    branch: str = ""  # title of the session that this run, the first of its own, branches off
    context_tokens: int = 0  # of the last prompt and its answer: what the next one begins with
    _by_index: dict[int, Item] = field(default_factory=dict)
    _by_call: dict[str, Item] = field(default_factory=dict)
    _outputs: set[int] = field(default_factory=set)  # of `_by_index`: outputs that joined their call

    @property
    def unsupported(self) -> list[str]:
        """Figures and names of the answer that nothing the model read holds."""
        return unsupported(self.response)

    @property
    def says_something(self) -> bool:
        """Whether it wrote or did anything but reason."""
        return any(not isinstance(item, TextItem) or (item.text.strip() and item.kind == "text") for item in self.items)

    @property
    def live(self) -> bool:
        return self.status in ("queued", "in_progress")

    @property
    def all_items(self) -> list[Item]:
        return [*self.asked, *self.items]

    # ------------------------------------------------------------ from storage

    @classmethod
    def stored(cls, detail: RunDetail) -> ShownRun:
        """A turn from the response object; durations come from the timeline."""
        turn = cls(str(detail.response.get("id", "")))
        turn.ask(detail.input)
        turn.settle(detail.response)
        turn.time(detail.timeline)
        return turn

    def settle(self, response: Object) -> None:
        """Take the stored response: its state, and once it is over its items, those that are shown already included."""
        if response.get("status") not in ("queued", "in_progress"):
            for index, raw in enumerate(response.get("output") or []):
                if index not in self._by_index:
                    self._add(index, raw, 0.0)
                self._end(index, raw, 0.0)
        self.close(response, 0.0)

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
        last: Object = next((span for span in reversed(timeline.get("spans") or []) if span.get("kind") == "turn"), {})
        counted = int(last.get("input_tokens") or 0) + int(last.get("output_tokens") or 0)
        self.context_tokens = int(last.get("context_tokens") or counted)
        calls = {entry.call_id: entry for entry in self.timeline if entry.call_id}
        for item in self.items:
            if (entry := calls.get(item.call_id)) is not None:
                item.took(entry.start, entry.end)
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
            case "error":
                self.error = str(data.get("message") or "The run failed.")
                self.status, self.ended = "failed", event.time
                self.revision += 1
            case "created" | "in_progress" | "queued":
                self._began(data["response"], event.time)
            case "completed" | "failed" | "incomplete" | "cancelled":
                self.close(data["response"], event.time)
            case _ if (item := self._by_index.get(index)) is not None:
                item.apply(name, data, event.time)
                return item
        return None

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
                item.stop(at)
                if not item.done:
                    item.finish(item.raw)
        self.revision += 1

    def fill(self, output: list[Object]) -> None:
        """Take what the stored items hold beyond the events: what a call printed, what a search found."""
        for index, raw in enumerate(output):
            item = self._by_index.get(index)
            if item is not None and item.kind == "other" and index not in self._outputs and item.raw != raw:
                item.finish(raw)

    def _add(self, index: int, raw: Object, at: float) -> Item:
        made, joins = item_class(str(raw.get("type")))
        item = self._by_call.get(str(raw.get("call_id"))) if joins else None
        if item is None:
            item = made.begun(raw, at)
            if made.joins and not joins:
                self._by_call[item.call_id] = item
            self.container = item.container or self.container
            self.items.append(item)
            self.revision += 1
        if joins:
            item.begin_output(raw, at)
            self._outputs.add(index)
        item.touch()
        self._by_index[index] = item
        return item

    def _end(self, index: int, raw: Object, at: float) -> Item | None:
        if (item := self._by_index.get(index)) is None:
            return None
        if index in self._outputs:
            item.finish_output(raw, at)
        else:
            item.finish(raw, at)
        self.container = item.container or self.container
        return item


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

"""The output of a response while it is being written: its items in the order they began, and their events.

Every item goes through `Output.add` … `Output.done`, so that what is streamed, what is stored and what the terminal
event holds cannot differ. Events hold copies: a reader never sees an item change under its hands.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from skilldeck_daemon.engine.base import TextLogprob
from skilldeck_daemon.events.log import EventLog
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.store.run_records import Annotation, Item, Logprob, Part, TopLogprob
from skilldeck_daemon.wire.sealed import seal


class Output:
    """The items of one response.

    `raw` keeps each call's arguments as the model wrote them, by call id. `hidden` are items that only the model
    reads, each with the number of items before it.
    """

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.items: list[Item] = []
        self.raw: dict[str, str] = {}
        self.hidden: list[tuple[int, Item]] = []
        self._forgotten: list[Item] = []
        self._open: dict[int, Callable[[], None] | None] = {}

    def add(self, item: Item, abandon: Callable[[], None] | None = None) -> int:
        """Begin an item; returns its output_index. `abandon` ends it as incomplete when the run stops midway."""
        index = len(self.items)
        self.items.append(item)
        self._open[index] = abandon
        self.log.append("response.output_item.added", output_index=index, item=copy.deepcopy(item))
        return index

    def emit(self, type: str, index: int, **fields: Any) -> None:
        """An event about the item at `index`, addressed by its id."""
        self.log.append(type, item_id=self.items[index]["id"], output_index=index, **fields)

    def done(self, index: int, **changes: Any) -> None:
        """End an item, with its last changes."""
        item: Any = self.items[index]
        item.update(changes)  # fields of the item's own type
        self._open.pop(index, None)
        self.log.append("response.output_item.done", output_index=index, item=copy.deepcopy(item))

    def hide(self, item: Item) -> None:
        """Add an item that only the model reads."""
        self.hidden.append((len(self.items), item))

    @property
    def for_model(self) -> list[Item]:
        """The items as the model reads them, hidden ones among them."""
        return [item for item in woven(self.items, self.hidden) if not any(item is gone for gone in self._forgotten)]

    def forget(self, first: int) -> None:
        """The items from `first` on are kept from the model: they would lead it astray."""
        self._forgotten += self.items[first:]

    def abandon(self) -> None:
        """End every open item as incomplete: the run stops here."""
        for index in sorted(self._open):
            abandon = self._open[index]
            if abandon is not None:
                abandon()
            else:
                self.done(index, status="incomplete")


def woven(items: Sequence[Item], hidden: Iterable[tuple[int, Item]]) -> list[Item]:
    """The items with the hidden ones where they belong: pairs of (how many items stand before it, item), in order."""
    result: list[Item] = []
    at = 0
    for place, item in hidden:
        result += items[at:place]
        at = max(at, place)
        result.append(item)
    return result + list(items[at:])


class TextWriter:
    """One assistant message with one text part, growing."""

    def __init__(self, output: Output, logprobs: bool) -> None:
        self._output = output
        self._wants_logprobs = logprobs
        self._pieces: list[str] = []
        self._logprobs: list[Logprob] = []
        item: Item = {
            "id": new_id("msg"),
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        self._index = output.add(item, lambda: self.close(status="incomplete"))
        output.emit("response.content_part.added", self._index, content_index=0, part=text_part(""))

    def write(self, delta: str, logprobs: tuple[TextLogprob, ...]) -> None:
        self._pieces.append(delta)
        tokens = [logprob_entry(entry) for entry in logprobs] if self._wants_logprobs else []
        self._logprobs += tokens
        self._output.emit(
            "response.output_text.delta",
            self._index,
            content_index=0,
            delta=delta,
            logprobs=[event_logprob(entry) for entry in tokens],
        )

    @property
    def so_far(self) -> str:
        return "".join(self._pieces)

    def close(self, annotations: list[Annotation] | None = None, status: str = "completed") -> None:
        """End the message; citations are published before the text is done."""
        text = self.so_far
        for number, annotation in enumerate(annotations or []):
            self._output.emit(
                "response.output_text.annotation.added",
                self._index,
                content_index=0,
                annotation_index=number,
                annotation=annotation,
            )
        logprobs = [event_logprob(entry) for entry in self._logprobs]
        self._output.emit("response.output_text.done", self._index, content_index=0, text=text, logprobs=logprobs)
        part = text_part(text, annotations, self._logprobs)
        self._output.emit("response.content_part.done", self._index, content_index=0, part=part)
        self._output.done(self._index, status=status, content=[part])


class ReasoningWriter:
    """One reasoning item with one text part, growing."""

    def __init__(self, output: Output, encrypted: bool) -> None:
        self._output = output
        self._encrypted = encrypted
        self._pieces: list[str] = []
        item: Item = {
            "id": new_id("rs"),
            "type": "reasoning",
            "status": "in_progress",
            "summary": [],
            "content": [],
        }
        self._index = output.add(item, lambda: self.close(status="incomplete"))
        part: Part = {"type": "reasoning_text", "text": ""}
        output.emit("response.content_part.added", self._index, content_index=0, part=part)

    def write(self, delta: str) -> None:
        self._pieces.append(delta)
        self._output.emit("response.reasoning_text.delta", self._index, content_index=0, delta=delta)

    def close(self, status: str = "completed") -> None:
        text = "".join(self._pieces)
        part: Part = {"type": "reasoning_text", "text": text}
        self._output.emit("response.reasoning_text.done", self._index, content_index=0, text=text)
        self._output.emit("response.content_part.done", self._index, content_index=0, part=part)
        extra = {"encrypted_content": seal(text)} if self._encrypted else {}
        self._output.done(self._index, status=status, content=[part], **extra)


def text_part(text: str, annotations: list[Annotation] | None = None, logprobs: list[Logprob] | None = None) -> Part:
    return {"type": "output_text", "text": text, "annotations": annotations or [], "logprobs": list(logprobs or [])}


def logprob_entry(entry: TextLogprob) -> Logprob:
    """A token's probabilities as items hold them."""
    return {
        "token": entry.token,
        "logprob": entry.logprob,
        "bytes": list(entry.bytes),
        "top_logprobs": [{"token": token, "logprob": logprob, "bytes": list(raw)} for token, logprob, raw in entry.top],
    }


def event_logprob(entry: Logprob) -> Logprob:
    """The same as events hold it: without bytes."""
    top: list[TopLogprob] = [{"token": other["token"], "logprob": other["logprob"]} for other in entry["top_logprobs"]]
    return {"token": entry["token"], "logprob": entry["logprob"], "top_logprobs": top}

"""What the daemon knows of each type of item, in one registry that the owners of the items fill.

A kind says how its items are read from a request, rendered for the model, streamed, included, handed to a client and
accounted for. A tool defines those of its call and of its output (`Tool.items`); `tools/__init__.py` registers them
with the tool. Messages, reasoning, references and compactions belong to `wire/items.py`. What needs to know something
of an item by its type asks the item's kind, so a new type of item needs no other table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, NotRequired, Protocol, TypedDict, TypeVar

from skilldeck_daemon.engine.messages import Content as Content
from skilldeck_daemon.engine.messages import MessageCall
from skilldeck_daemon.store.run_records import Event, Part
from skilldeck_daemon.store.run_records import Item as Item
from skilldeck_daemon.wire.fields import Fields
from skilldeck_shared.json_types import JsonObject

R = TypeVar("R", bound=Item)
"""The items of a kind: `Item` with the fields that only they have."""
NO_OUTPUT = "(no output)"
NOT_SENT = "(its output was not sent)"


class Found(TypedDict):
    """A page that was found or read."""

    url: str
    title: str
    text: str


class FunctionCall(Item):
    """A function_call; `namespace` is that of the tool's, where it has one."""

    name: str
    arguments: str
    namespace: NotRequired[str]


class Answer(Item):
    """A function_call_output; `results` are those of a search that only the model was shown."""

    output: str | list[Part]
    results: NotRequired[list[Found]]


class Outcome(TypedDict):
    """How a command ended: exit (with its code) or timeout."""

    type: str
    exit_code: NotRequired[int]


class CommandOutput(TypedDict):
    """What one command of a shell printed."""

    stdout: str
    stderr: str
    outcome: Outcome


class Renderer(Protocol):
    """What a kind may use to render an item."""

    def content(self, item: Item) -> Content:
        """The parts of a message or an output: text with its files appended, and images."""

    def written_out(self, output: str, command: str) -> str:
        """What a command printed, the paths of skills' instructions in it written out."""

    def shown(self, entry: CommandOutput, command: str) -> CommandOutput:
        """An entry of a shell's output as the model reads it: paths written out, within its share, with help."""


class ItemKind(Generic[R]):
    """One type of item; `ItemKind[ShellCall]` has items of that record."""

    type: str
    deltas: tuple[str, ...] = ()
    """Types of the events that bring text of it in pieces; a terminal is sent neighbouring pieces as one event."""
    includes: tuple[str, ...] = ()
    """Values of `include` that concern it."""
    hosted: bool = False
    """Calls and outputs of the daemon's own work: Chat's clients send them back as they got them."""

    def read(self, fields: Fields) -> R:
        """The item of a request, with all fields its stored form needs. Raises BadRequest naming the field."""
        raise NotImplementedError

    def included(self, item: R, include: Collection[str], answer: Answer | None) -> Item:
        """The item with what is asked for; a copy where something is added.

        Args:
            answer: the output of the call that the model was given and no item shows.
        """
        return item

    def container(self, item: R) -> str:
        """The container it was made in, empty when in none."""
        return ""

    def so_far(self, item: R, events: Sequence[Event]) -> R:
        """An item in progress as it would be if its run ended now: a copy with what was streamed of it.

        Args:
            events: all events of the item so far.
        """
        return item

    def check(self, item: R, param: str, items: Sequence[Item], tools: Sequence[Any]) -> None:
        """Refuse, by the field's name, an item of the input that means nothing here.

        Args:
            param: the item's own name.
            items: the whole conversation.
            tools: those of the request.
        """

    def decides(self, item: R) -> tuple[str, str] | None:
        """Of an item that decides about an earlier call: the id of that call, and its answer for the model."""
        return None

    def account(self, item: R) -> JsonObject:
        """What the timeline holds of a call that ended with this item: an `outcome` if it did not just complete, and
        the tool's own figures, no text."""
        return {}


class CallKind(ItemKind[R]):
    """A call. Its answer is the output item with its `call_id`, or in the item itself."""

    def render(self, item: R, raw: Mapping[str, str]) -> MessageCall | None:
        """The call as an entry of `tool_calls`; None for one that the model never made.

        Args:
            raw: calls' arguments as the model wrote them, by `call_key`; others are written out anew.
        """
        raise NotImplementedError

    def answer(self, item: R) -> str | None:
        """The answer that the item holds itself, as the model reads it; None where an output item brings it."""
        return None

    def clients(self, item: R) -> bool:
        """Whether its client has to answer it."""
        return self.answer(item) is None

    def program(self, item: R) -> str:
        """The program it ran, when paths in its answer are to be written out."""
        return ""

    def commands(self, item: R) -> Sequence[str]:
        """The shell commands it asks for, of a kind whose output says how they ended."""
        return ()

    def emptied(self, item: R) -> R:
        """The call without its arguments, where a client clears its history of them."""
        return item


class OutputKind(ItemKind[R]):
    """The output of a call, which has its `call_id`."""

    def render(self, item: R, call: Item, renderer: Renderer) -> Content:
        """The answer to `call` as the model reads it; the client decides which type of call it answers."""
        raise NotImplementedError

    def well(self, item: R) -> bool:
        """Whether all that was called ended well, as far as the item says."""
        return True

    def printed(self, item: R) -> str:
        """What commands printed, of a kind that has it."""
        return ""

    def replaced(self, item: R, text: str) -> R:
        """The output with a text in the place of all it says, where a client clears its history of it."""
        cleared: Any = {**item, "output": text}
        output: R = cleared
        return output


KINDS: dict[str, ItemKind[Any]] = {}
CALLS: dict[str, CallKind[Any]] = {}
OUTPUTS: dict[str, OutputKind[Any]] = {}
DELTAS: set[str] = set()


def register(*kinds: ItemKind[Any]) -> None:
    """Add kinds; each type has one."""
    for kind in kinds:
        if kind.type in KINDS:
            raise ValueError(f"Items of type {kind.type!r} have a kind already.")
    for kind in kinds:
        KINDS[kind.type] = kind
        DELTAS.update(kind.deltas)
        if isinstance(kind, CallKind):
            CALLS[kind.type] = kind
        elif isinstance(kind, OutputKind):
            OUTPUTS[kind.type] = kind


def unregister(*kinds: ItemKind[Any]) -> None:
    """Take kinds out again."""
    for kind in kinds:
        DELTAS.difference_update(kind.deltas)
        for table in (KINDS, CALLS, OUTPUTS):
            table.pop(kind.type, None)


def call_key(item: Item) -> str:
    """What a call's output names it by: its call_id, or its id where OpenAI gives it no other."""
    return str(item.get("call_id") or item["id"])


def function_call(item: Item, name: str, arguments: str) -> MessageCall:
    """A call of a function as an entry of `tool_calls`."""
    return {"id": call_key(item), "type": "function", "function": {"name": name, "arguments": arguments}}


def container_of(item: Item) -> str:
    """The container that an item of a history was made in; empty for others."""
    kind = KINDS.get(item.get("type", "message"))
    return "" if kind is None else kind.container(item)


def check_input(items: Sequence[Item], first_input: int, tools: Sequence[Any]) -> None:
    """Check the items of the new input, which begins at `first_input`, beside the conversation and the tools."""
    for position, item in enumerate(items[first_input:]):
        kind = KINDS.get(item.get("type", "message"))
        if kind is not None:
            kind.check(item, f"input[{position}]", items, tools)


def decisions(items: Iterable[Item]) -> dict[str, str]:
    """What was decided about calls by items that came later: the answer of each, by its `call_key`."""
    found: dict[str, str] = {}
    for item in items:
        kind = KINDS.get(item.get("type", "message"))
        decided = None if kind is None else kind.decides(item)
        if decided is not None:
            found[decided[0]] = decided[1]
    return found

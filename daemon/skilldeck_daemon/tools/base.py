"""What a tool is. Adding one means one module here and one line in the registry (`tools/__init__.py`).

A tool owns its items: `items` are the kinds of its call and its output (`wire/item_kinds.py`), which say all that
anybody has to know of them. An item of a kind that the TUI has no view for is shown as its type and JSON.

A `Tool` is one entry of a request's `tools`, already validated. The model sees it as one or more functions
(`declare`); when the model calls one, `begin` opens the item and returns a `CallWriter` that follows the model's
writing; a hosted call is then executed here and writes its output items itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from skilldeck_daemon.engine.checks import CUT_OFF
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.tools.context import Offer, ToolContext
from skilldeck_daemon.wire.environment import EnvironmentSpec
from skilldeck_daemon.wire.fields import Fields
from skilldeck_daemon.wire.item_kinds import CALLS, Item, ItemKind
from skilldeck_shared.json_types import JsonObject

Runs = Literal["", "commands", "python"]
"""What calls of a tool hold that is run where files and skills lie; `agent/prompt.py` describes that to the model."""


@dataclass(frozen=True)
class Call:
    """A complete call. `arguments` is the model's own text; `problem` says why it cannot be carried out."""

    tool: Tool
    call_id: str
    name: str
    arguments: str
    hosted: bool
    problem: str | None = None
    commands: tuple[str, ...] = ()
    timeout_ms: int | None = None
    max_output_length: int | None = None


class CallWriter(ABC):
    """The item of one call while the model writes it."""

    def __init__(self) -> None:
        self._written: list[str] = []

    def write(self, delta: str) -> None:
        """More of the arguments."""
        self._written.append(delta)
        self.show(delta)

    @abstractmethod
    def show(self, delta: str) -> None:
        """Publish it."""

    @abstractmethod
    def close(self, arguments: str, problem: str | None) -> Call:
        """The whole text; ends the item."""

    def cut(self, arguments: str) -> None:
        """The output limit ended the call here, and with it the run: its item stays incomplete."""
        self.close(arguments, CUT_OFF)

    def close_unfinished(self) -> Call:
        """The engine ended without the whole text."""
        return self.close("".join(self._written), None)


class Tool(ABC):
    """One tool of a request. `type` is its name on the wire; `hosted`: whether its calls are executed here."""

    type: str
    items: ClassVar[tuple[ItemKind[Any], ...]] = ()  # the kinds of items that its calls make
    hosted: bool = False
    internal: bool = False  # no item of the response shows its calls, no limit counts them
    runs: ClassVar[Runs] = ""
    chosen_by: ClassVar[tuple[str, ...]] = ()  # what an entry of tool_choice names it by, beside its type
    dispensable: bool = False  # a request that has others goes on without it where `require` refuses it
    fault: str | None = None  # why no call of it can be carried out

    @classmethod
    def parse(cls, fields: Fields) -> Tool:
        """The tool of a request's `tools`. Raises BadRequest naming the field."""
        raise NotImplementedError

    @abstractmethod
    def echo(self) -> JsonObject:
        """The tool as the Response shows it."""

    @abstractmethod
    def declare(self) -> list[JsonObject]:
        """The functions the model sees, in Chat Completions shapes."""

    @abstractmethod
    def begin(self, output: Output, context: ToolContext, call_id: str, name: str) -> CallWriter:
        """The model begins to call function `name`."""

    def require(self, offer: Offer) -> None:  # noqa: B027
        """Refuse, by the field's name, what this daemon does not offer."""

    async def open(self, output: Output, context: ToolContext) -> Sequence[Call]:
        """Get ready, before the model's first turn. Returns calls of earlier turns that are to be carried out now."""
        return ()

    def beside(self, tools: Sequence[Tool]) -> Tool:
        """The tool as it is among all tools of its request; refuses what contradicts another."""
        return self

    def where(self) -> EnvironmentSpec | None:
        """Where what it runs lies, of tools that run something; the hosted ones of a request share one container."""
        return None

    def matches(self, choice: JsonObject) -> bool:
        """Whether a tool_choice entry means this tool."""
        return bool(choice.get("type") == self.type)

    def choice_name(self, choice: Fields) -> str | None:
        """Of a tool_choice entry that means this tool: the name of the one function that is meant, None: all."""
        return None

    def choice_echo(self, choice: JsonObject) -> JsonObject:
        """A tool_choice entry that means this tool, as the Response shows it."""
        return {name: choice[name] for name in ("type", *self.chosen_by, "name") if name in choice}

    def named(self, name: str) -> list[str]:
        """Those of its functions that a tool_choice with this name means."""
        return [name] if name in self.names else []

    async def execute(self, call: Call, output: Output, context: ToolContext) -> None:
        """Carry out a hosted call and write its output items. Cancelling stops what it started."""
        raise NotImplementedError(f"{self.type} calls are the client's to carry out")

    @property
    def names(self) -> list[str]:
        """The names of its functions."""
        return [entry[entry["type"]]["name"] for entry in self.declare()]


def is_clients(item: Item, tools: Sequence[Tool]) -> bool:
    """Whether an item of a run's output is a call that the client has to carry out."""
    kind = CALLS.get(item["type"])
    return kind is not None and any(not tool.hosted and kind in tool.items for tool in tools)

"""A tool that no daemon has: dice, thrown in the daemon. What the next developer writes for a tool, in one module.

    with serving():            # one registration, taken back at the end
        ...                    # {"type": "dice", "sides": 6} is a tool of every surface

Its calls are `dice_call` items, its outputs `dice_call_output` items. `serving` tells the validators of the tests about
them as well, since no published schema knows them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NotRequired

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from skilldeck_daemon.engine.messages import MessageCall
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.tools import Call, CallWriter, Tool, register, unregister
from skilldeck_daemon.tools.context import ToolContext
from skilldeck_daemon.wire.fields import Fields
from skilldeck_daemon.wire.item_kinds import CallKind, Item, OutputKind, Renderer, function_call
from skilldeck_daemon.wire.items import read_call_id, read_common
from skilldeck_shared.json_types import JsonObject
from skilldeck_tui.widgets.transcript.item_view import ItemView
from support import contract, ordering

ODDS = "dice_call.odds"
MAX_DICE = 100


class DiceCall(Item):
    """What an item of the call has beside what every call has."""

    sides: int
    arguments: str
    odds: NotRequired[str]


class DiceOutput(Item):
    throws: list[int]


class DiceCallKind(CallKind[DiceCall]):
    type = "dice_call"
    deltas = ("response.dice_call_arguments.delta",)
    includes = (ODDS,)
    hosted = True

    def read(self, fields: Fields) -> DiceCall:
        return {
            **read_common(fields, "dice"),
            "call_id": read_call_id(fields),
            "sides": fields.integer("sides", required=True, minimum=2, maximum=100) or 6,
            "arguments": fields.needed("arguments"),
        }

    def render(self, item: DiceCall, raw: Mapping[str, str]) -> MessageCall:
        return function_call(item, "throw_dice", raw.get(item["call_id"]) or item["arguments"])

    def clients(self, item: DiceCall) -> bool:
        return False

    def included(self, item: DiceCall, include: Collection[str], answer: Item | None) -> DiceCall:
        return {**item, "odds": f"1 in {item['sides']} each"} if ODDS in include else item


class DiceOutputKind(OutputKind[DiceOutput]):
    type = "dice_call_output"
    deltas = ("response.dice_call_output_throws.delta",)
    hosted = True

    def read(self, fields: Fields) -> DiceOutput:
        throws = fields.integers("throws", minimum=1, maximum=100)
        return {**read_common(fields, "diceo"), "call_id": read_call_id(fields), "throws": throws}

    def render(self, item: DiceOutput, call: Item, renderer: Renderer) -> str:
        return f"thrown: {' '.join(map(str, item['throws']))}" if item["throws"] else "nothing was thrown"

    def account(self, item: DiceOutput) -> JsonObject:
        return {"throws": len(item["throws"])}


@dataclass(frozen=True)
class DiceTool(Tool):
    sides: int

    type = "dice"
    hosted = True
    items = (DiceCallKind(), DiceOutputKind())

    @classmethod
    def parse(cls, fields: Fields) -> DiceTool:
        return cls(fields.integer("sides", minimum=2, maximum=100) or 6)

    def echo(self) -> JsonObject:
        return {"type": "dice", "sides": self.sides}

    def declare(self) -> list[JsonObject]:
        count = {"type": "integer", "description": "How many."}
        parameters = {"type": "object", "properties": {"count": count}, "required": ["count"]}
        about = f"Throw dice of {self.sides} sides."
        function = {"name": "throw_dice", "description": about, "parameters": parameters}
        return [{"type": "function", "function": function}]

    def begin(self, output: Output, context: ToolContext, call_id: str, name: str) -> CallWriter:
        return DiceWriter(self, output, call_id)

    async def execute(self, call: Call, output: Output, context: ToolContext) -> None:
        refusal = call.problem or await context.approve(self.type, [f"throw {call.arguments}"], call.call_id)
        item: DiceOutput = {
            "id": new_id("diceo"),
            "type": "dice_call_output",
            "status": "in_progress",
            "call_id": call.call_id,
            "throws": [],
        }
        index = output.add(item)
        count = 0 if refusal else json.loads(call.arguments)["count"]
        throws = [number * 5 % self.sides + 1 for number in range(count)]
        for throw in throws:
            output.emit("response.dice_call_output_throws.delta", index, delta=f"{throw} ")
        output.done(index, status="completed", throws=throws)


class DiceWriter(CallWriter):
    def __init__(self, tool: DiceTool, output: Output, call_id: str) -> None:
        super().__init__()
        self._tool, self._output, self._call_id = tool, output, call_id
        item: DiceCall = {
            "id": new_id("dice"),
            "type": "dice_call",
            "status": "in_progress",
            "call_id": call_id,
            "sides": tool.sides,
            "arguments": "",
        }
        self._index = output.add(item)

    def show(self, delta: str) -> None:
        self._output.emit("response.dice_call_arguments.delta", self._index, delta=delta)

    def close(self, arguments: str, problem: str | None) -> Call:
        try:
            valid = 0 < json.loads(arguments)["count"] <= MAX_DICE
        except (ValueError, KeyError, TypeError):
            valid = False
        self._output.raw[self._call_id] = arguments
        self._output.done(self._index, status="completed", arguments=arguments)
        problem = problem or (None if valid else f"'count' must be 1 to {MAX_DICE}.")
        return Call(self._tool, self._call_id, "throw_dice", arguments, hosted=True, problem=problem)


class DiceView(ItemView):
    """A throw as a person sees it, before and after it lies."""

    def compose(self) -> ComposeResult:
        yield Static(Content(""), markup=False)

    def on_mount(self) -> None:
        self.repaint()

    def paint(self, now: float) -> None:
        if not self.children:
            self.painted = -1
            return
        raw = self.item.raw
        lies = f"they show {raw['throws']}" if "throws" in raw else f"dice of {raw['sides']} sides {raw['arguments']}"
        self.query_one(Static).update(Content(lies + (" (may they?)" if self.item.waiting else "")))


# ------------------------------------------------------------------ what the tests' validators have to know


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Every daemon of this process has the tool until the block ends."""
    register(DiceTool, "dice")
    try:
        with _published():
            yield
    finally:
        unregister(DiceTool)


@contextlib.contextmanager
def _published() -> Iterator[None]:
    """As if the specification had the tool, its items and their events."""
    schemas = contract.spec()["components"]["schemas"]
    own = {
        "DiceTool": _schema("dice", sides="integer"),
        "DiceCall": _schema("dice_call", call_id="string", sides="integer", arguments="string"),
        "DiceCallOutput": _schema("dice_call_output", call_id="string", throws="array"),
        **{
            name: _schema(event, item_id="string", output_index="integer", delta="string", sequence_number="integer")
            for name, event in (
                ("DiceArgumentsDeltaEvent", "response.dice_call_arguments.delta"),
                ("DiceThrowsDeltaEvent", "response.dice_call_output_throws.delta"),
            )
        },
    }
    items = ["DiceCall", "DiceCallOutput"]
    unions = {
        "Tool": ["DiceTool"],
        "Item": items,
        "OutputItem": items,
        "ItemResource": items,
        "ConversationItem": items,
    }
    schemas.update(own)
    for union, names in unions.items():
        schemas[union]["anyOf"] += [{"$ref": f"#/components/schemas/{name}"} for name in names]
    streamed = ("_dice_call_arguments_delta", "_dice_call_output_throws_delta")
    for handler in streamed:
        setattr(ordering._Checker, handler, lambda checker, index, event: None)
    contract._event_schemas.cache_clear()
    try:
        yield
    finally:
        for handler in streamed:
            delattr(ordering._Checker, handler)
        for union, names in unions.items():
            del schemas[union]["anyOf"][-len(names) :]
        for name in own:
            del schemas[name]
        contract._event_schemas.cache_clear()


def _schema(type: str, **properties: str) -> JsonObject:
    fields: JsonObject = {name: {"type": kind} for name, kind in properties.items()}
    return {"type": "object", "required": ["type", *fields], "properties": {"type": {"enum": [type]}, **fields}}

"""`context_management` of a Messages request: what it clears out of the history before the model reads it.

`clear_thinking_…` takes the reasoning out of all but the newest assistant turns that have some. `clear_tool_uses_…`
takes the results out of all but the newest tool calls (their arguments too, where that is asked for), once the input is
as long or has as many calls as its trigger says. Edits are applied in the order given, and what each cleared is
reported (`applied`). Items are replaced, never moved, so that errors still name where each stood. `compact_…` is done
by the run itself, before a turn (`parse_compaction`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import cast

from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_daemon.wire.item_kinds import CALLS, OUTPUTS, FunctionCall, Item, call_key
from skilldeck_shared.json_types import JsonObject

Count = Callable[[list[Item]], Awaitable[int]]
THINKING = "clear_thinking_20251015"
TOOL_USES = "clear_tool_uses_20250919"
COMPACT = "compact_"
TRIGGER_TOKENS = 100_000
KEPT_USES = 3
KEPT_TURNS = 1
CLEARED = "[cleared to make room]"


@dataclass(frozen=True)
class ClearThinking:
    keep: int | None  # turns; None: all

    async def apply(self, items: list[Item], count: Count) -> JsonObject | None:
        """Clear in place; what to report, None when there was nothing to clear."""
        if self.keep is None:
            return None
        thoughts = _thoughts(items)
        old = list(thoughts.values())[: max(0, len(thoughts) - self.keep)]
        if not old:
            return None
        before = await count(items)
        for place in (place for places in old for place in places):
            items[place] = {**items[place], "content": [], "summary": []}
        cleared = {"cleared_thinking_turns": len(old), "cleared_input_tokens": max(0, before - await count(items))}
        return {"type": THINKING, **cleared}


@dataclass(frozen=True)
class ClearToolUses:
    trigger: tuple[str, int] = ("input_tokens", TRIGGER_TOKENS)
    keep: int = KEPT_USES
    at_least: int = 0  # tokens: what would clear less is not done
    excluded: tuple[str, ...] = ()
    inputs: bool | tuple[str, ...] = False  # of which tools the arguments go too; True: of all

    async def apply(self, items: list[Item], count: Count) -> JsonObject | None:
        """Clear in place; what to report, None when nothing was cleared."""
        calls = {call_key(item): item for item in items if _is_use(item)}
        old = {id for id in list(calls)[: max(0, len(calls) - self.keep)] if _name(calls[id]) not in self.excluded}
        kind, value = self.trigger
        if not old or (kind == "tool_uses" and len(calls) <= value):
            return None
        before = await count(items)
        if kind == "input_tokens" and before <= value:
            return None
        cleared = [self._cleared(item) if item.get("call_id") in old else item for item in items]
        saved = before - await count(cleared)
        if self.at_least and saved < self.at_least:
            return None
        items[:] = cleared
        return {"type": TOOL_USES, "cleared_tool_uses": len(old), "cleared_input_tokens": max(0, saved)}

    def _cleared(self, item: Item) -> Item:
        type = item["type"]
        if type in OUTPUTS:
            output: Item = OUTPUTS[type].replaced(item, CLEARED)
            return output
        if self.inputs is True or (self.inputs and _name(item) in self.inputs):
            call: Item = CALLS[type].emptied(item)
            return call
        return item


Edit = ClearThinking | ClearToolUses


def parse_edits(fields: Fields) -> tuple[Edit, ...]:
    """Read `context_management`; an edit that is not known here is refused by name."""
    holder = fields.object("context_management")
    if holder is None:
        return ()
    found: list[Edit] = []
    for entry in holder.objects("edits", maximum=16):
        type = entry.needed("type")
        if type.startswith("clear_thinking_"):
            found.append(ClearThinking(_turns(entry)))
        elif type.startswith("clear_tool_uses_"):
            found.append(_tool_uses(entry))
        elif not type.startswith(COMPACT):
            hint = "Supported: clear_thinking_…, clear_tool_uses_…, compact_…."
            refuse(entry.name("type"), f"The edit {type[:64]!r} is not supported.", hint, "unsupported_value")
    return tuple(found)


def parse_compaction(fields: Fields) -> JsonObject:
    """What a `compact_…` edit asks of the run, as fields of its request; empty when there is none.

    Without a trigger the conversation is compacted when it fills most of the model's context: the 150,000 tokens of
    Anthropic's models would be never.
    """
    holder = fields.object("context_management")
    for entry in holder.objects("edits") if holder is not None else ():
        if not entry.needed("type").startswith(COMPACT):
            continue
        trigger = entry.object("trigger")
        if trigger is not None:
            trigger.needed("type", choices=("input_tokens",))
        return {
            "compacts": True,
            "compact_threshold": trigger and trigger.integer("value", required=True, minimum=1),
            "compact_prompt": entry.string("instructions"),
            "compact_pauses": entry.boolean("pause_after_compaction"),
        }
    return {}


async def apply_edits(edits: Sequence[Edit], items: list[Item], count: Count) -> tuple[list[Item], list[JsonObject]]:
    """(the items that are left to read, what was cleared). `count` counts the tokens of a request with items."""
    items = list(items)
    applied = [done for edit in edits if (done := await edit.apply(items, count)) is not None]
    return items, applied


def _turns(entry: Fields) -> int | None:
    keep = entry.value.get("keep")
    if keep is None:
        return KEPT_TURNS
    if keep == "all":
        return None
    holder = entry.object("keep")
    assert holder is not None
    if holder.needed("type", choices=("thinking_turns", "all")) == "all":
        return None
    return holder.integer("value", required=True, minimum=1)


def _tool_uses(entry: Fields) -> ClearToolUses:
    trigger = entry.object("trigger")
    keep, least = entry.object("keep"), entry.object("clear_at_least")
    inputs = entry.value.get("clear_tool_inputs")
    when = ("input_tokens", TRIGGER_TOKENS)
    if trigger is not None:
        kind = trigger.needed("type", choices=("input_tokens", "tool_uses"))
        when = (kind, trigger.integer("value", required=True, minimum=1) or 0)
    if keep is not None:
        keep.needed("type", choices=("tool_uses",))
    if least is not None:
        least.needed("type", choices=("input_tokens",))
    return ClearToolUses(
        when,
        KEPT_USES if keep is None else keep.integer("value", required=True, minimum=0) or 0,
        0 if least is None else least.integer("value", required=True, minimum=0) or 0,
        tuple(entry.strings("exclude_tools")),
        tuple(entry.strings("clear_tool_inputs")) if isinstance(inputs, list) else entry.boolean("clear_tool_inputs"),
    )


def _thoughts(items: Sequence[Item]) -> dict[int, list[int]]:
    """Where reasoning stands, by turn: all between two messages of the user is one turn of the assistant's."""
    found: dict[int, list[int]] = {}
    turn = 0
    for place, item in enumerate(items):
        if item["type"] == "message" and item["role"] == "user":
            turn += 1
        elif item["type"] == "reasoning":
            found.setdefault(turn, []).append(place)
    return found


def _is_use(item: Item) -> bool:
    """Whether it is a call that an output follows."""
    kind = CALLS.get(item["type"])
    return kind is not None and kind.answer(item) is None


def _name(call: Item) -> str:
    return cast(FunctionCall, call).get("name") or "bash_code_execution"

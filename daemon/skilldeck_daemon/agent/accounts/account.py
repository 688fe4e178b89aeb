"""What became of a run, without a word of its text: for those who count (`metrics.py`) and trace (`traces.py`).

The entries of a run's timeline are made here, one when a model turn ends and one when a hosted call does:

    {"kind": "turn", "start", "end", "finish", "prefill_s", "decode_s", "input_tokens", "cached_tokens",
     "output_tokens"}
    {"kind": "call", "call_id", "tool", "outcome", "start", "end", "output_index" or "name", "asked_s"?, …}

Times are unix seconds. A call's outcome is completed, failed, timeout, denied (by permission), invalid (the model wrote
it wrong) or cancelled. `asked_s` is how long permission took. A call that was carried out has what its item's kind adds
(`ItemKind.account`): a shell's `exit_codes`, null where it was killed for its time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from skilldeck_daemon.engine.base import ChatFinished, Usage
from skilldeck_daemon.store.run_records import CallEntry, ResponseObject, TurnEntry
from skilldeck_daemon.wire.item_kinds import KINDS, Item
from skilldeck_shared.errors import SkilldeckError

if TYPE_CHECKING:
    from skilldeck_daemon.tools.base import Call
    from skilldeck_daemon.tools.context import ToolContext, Verdict

Entry = TurnEntry | CallEntry
Stopped = Literal["cancelled", "failed"]


@dataclass(frozen=True)
class Account:
    """One run that has ended. `skills` are the library's, (name, version); `error` is the code of what failed it."""

    id: str
    model: str
    status: str
    background: bool
    session: str
    started: float
    ended: float
    usage: Usage
    error: str | None = None
    container_id: str = ""
    skills: tuple[tuple[str, str], ...] = ()
    timeline: tuple[Entry, ...] = ()

    @classmethod
    def of(
        cls,
        response: ResponseObject,
        usage: Usage,
        error: SkilldeckError | None,
        times: Sequence[float],
        timeline: Sequence[Entry],
        context: ToolContext,
    ) -> Account:
        return cls(
            response["id"],
            response["model"],
            response["status"],
            response["background"],
            context.session,
            times[0],
            times[-1],
            usage,
            None if error is None else error.code or type(error).__name__,
            context.container_id,
            tuple((mount.name, mount.version) for mount in context.place.mounted if mount.skill_id),
            tuple(timeline),
        )

    @property
    def turns(self) -> list[TurnEntry]:
        """Those of the model."""
        return [entry for entry in self.timeline if entry["kind"] == "turn"]

    @property
    def rounds(self) -> list[list[Entry]]:
        """The timeline by rounds: each a turn of the model and the calls it made."""
        found: list[list[Entry]] = []
        for entry in self.timeline:
            if entry["kind"] == "turn" or not found:
                found.append([])
            found[-1].append(entry)
        return found


def turn_entry(begun: float, finished: ChatFinished) -> TurnEntry:
    return {
        "kind": "turn",
        "start": begun,
        "end": time.time(),
        "finish": finished.reason,
        "prefill_s": finished.prefill_s,
        "decode_s": finished.decode_s,
        "input_tokens": finished.usage.input_tokens,
        "cached_tokens": finished.usage.cached_tokens,
        "output_tokens": finished.usage.output_tokens,
    }


def call_entry(
    call: Call, index: int, begun: float, verdict: Verdict | None, item: Item | None, stopped: Stopped | None
) -> CallEntry:
    """
    Args:
        index: of its output item, for tools whose calls are shown.
        item: the one its execution ended with, if any.
        stopped: how it ended before its time.
    """
    kind = KINDS.get(item["type"]) if item else None
    figures = {} if not item or kind is None else kind.account(item)
    outcome: str = figures.pop("outcome", "completed")
    carried_out = False
    if stopped is not None:
        outcome = stopped
    elif call.problem is not None:
        outcome = "invalid"
    elif verdict is not None and not verdict.allowed:
        outcome = "denied"
    elif item and item.get("status") in ("failed", "incomplete"):
        outcome = "failed"
    else:
        carried_out = True
    shown = {"name": call.name} if call.tool.internal else {"output_index": index}
    asked = {"asked_s": verdict.asked_s} if verdict is not None and verdict.asked_s is not None else {}
    entry: Any = {
        "kind": "call",
        "call_id": call.call_id,
        **shown,
        "tool": call.name if call.tool.internal else call.tool.type,
        "outcome": outcome,
        "start": begun,
        "end": time.time(),
        **asked,
        **(figures if carried_out else {}),  # whatever the tool counts
    }
    made: CallEntry = entry
    return made

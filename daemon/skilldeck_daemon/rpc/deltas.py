"""Which events of a run may be merged on their way to a terminal, and how.

Only neighbouring deltas of one place (item, content, command, stream) become one, whose text is theirs in order and
whose sequence number is the last one's: a reader that resumes behind it misses nothing. All other events pass as they
are. Which events are deltas is said by the kinds of items (`wire/item_kinds.py`).
"""

from __future__ import annotations

from collections.abc import Hashable

from skilldeck_daemon.events.log import Event
from skilldeck_daemon.wire.item_kinds import DELTAS

_PLACE = ("content_index", "summary_index", "command_index")


def place(event: Event) -> Hashable | None:
    """Equal for deltas that may be merged; None for an event that may not."""
    kind = event["type"]
    if kind not in DELTAS:
        return None
    get = event.get
    where = (kind, get("item_id"), get("output_index"), *map(get, _PLACE))
    delta = event["delta"]
    # Texts of several streams stay apart, so that their order remains what the process wrote.
    return where if isinstance(delta, str) else (*where, *sorted(delta))


def merged(events: list[Event]) -> Event:
    """One event for neighbours of one `place`."""
    last = events[-1]
    if isinstance(last["delta"], dict):
        return {**last, "delta": {name: "".join(event["delta"][name] for event in events) for name in last["delta"]}}
    whole: Event = {**last, "delta": "".join(event["delta"] for event in events)}
    if isinstance(last.get("logprobs"), list):
        whole["logprobs"] = [logprob for event in events for logprob in event["logprobs"]]
    return whole

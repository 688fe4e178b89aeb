"""The output of a live run as it would be if the run ended now: unfinished items with what was streamed of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from skilldeck_daemon.events.log import Event
from skilldeck_daemon.store.run_records import Item
from skilldeck_daemon.wire.item_kinds import KINDS


def so_far(items: Sequence[Item], events: Sequence[Event]) -> list[Item]:
    """Copies of the items in progress hold what was streamed of them until now; the others are as they are.

    Args:
        events: the log of the run that writes the items.
    """
    found = list(items)
    wanted = {index for index, item in enumerate(items) if item.get("status") == "in_progress"}
    streamed: dict[int, list[Event]] = defaultdict(list)
    for event in reversed(events):
        if not wanted:
            break
        index = event.get("output_index", -1)
        if index not in wanted:
            continue
        streamed[index].append(event)
        if event["type"] == "response.output_item.added":
            wanted.discard(index)
            found[index] = KINDS[items[index]["type"]].so_far(items[index], streamed[index][::-1])
    return found

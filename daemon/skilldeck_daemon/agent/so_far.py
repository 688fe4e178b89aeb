"""The output of a live run as it would be if the run ended now: unfinished items with what was streamed of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from skilldeck_daemon.events.log import Event
from skilldeck_daemon.events.output import Item, text_part
from skilldeck_daemon.tools.shell import KILLED_EXIT


def so_far(items: Sequence[Item], events: Sequence[Event]) -> list[Item]:
    """Copies of the items in progress hold their text and their command's output until now; the others are as they are.

    Args:
        events: the log of the run that writes the items.
    """
    wanted = {index for index, item in enumerate(items) if item.get("status") == "in_progress"}
    texts: dict[int, list[str]] = defaultdict(list)
    streams: dict[int, dict[str, list[str]]] = defaultdict(lambda: {"stdout": [], "stderr": []})
    for event in reversed(events):
        if not wanted:
            break
        index = event.get("output_index", -1)
        if index not in wanted:
            continue
        match event["type"]:
            case "response.output_item.added":
                wanted.discard(index)
            case "response.output_text.delta":
                texts[index].append(event["delta"])
            case "response.shell_call_output_content.delta":
                if event["command_index"] == len(items[index]["output"]):  # of the command that has not ended
                    for name, text in event["delta"].items():
                        streams[index][name].append(text)
    return [_whole(item, texts.get(index), streams.get(index)) for index, item in enumerate(items)]


def _whole(item: Item, text: list[str] | None, streams: dict[str, list[str]] | None) -> Item:
    if text and not item["content"]:
        return {**item, "content": [text_part("".join(reversed(text)))]}
    if item.get("type") == "shell_call_output" and item.get("status") == "in_progress":
        written = {name: "".join(reversed((streams or {}).get(name, []))) for name in ("stdout", "stderr")}
        entry = {**written, "outcome": {"type": "exit", "exit_code": KILLED_EXIT}}
        return {**item, "output": [*item["output"], entry]}
    return item

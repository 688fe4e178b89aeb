"""Which events of a run may be merged on their way to a terminal, and how.

Only neighbouring deltas of one place (item, content, command, stream) become one, whose text is theirs in order and
whose sequence number is the last one's: a reader that resumes behind it misses nothing. All other events pass as they
are.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

Event = dict[str, Any]

_TEXT = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
        "response.shell_call_command.delta",
        "response.code_interpreter_call_code.delta",
        "response.mcp_call_arguments.delta",
        "response.apply_patch_call_operation_diff.delta",
    }
)
_OUTPUT = "response.shell_call_output_content.delta"
_PLACE = ("item_id", "output_index", "content_index", "summary_index", "command_index")


def place(event: Event) -> Hashable | None:
    """Equal for deltas that may be merged; None for an event that may not."""
    kind = event["type"]
    if kind in _TEXT:
        return (kind, *(event.get(name) for name in _PLACE))
    if kind == _OUTPUT:
        # stdout and stderr stay apart, so that their order remains what the process wrote.
        return (kind, *(event.get(name) for name in _PLACE), *sorted(event["delta"]))
    return None


def merged(events: list[Event]) -> Event:
    """One event for neighbours of one `place`."""
    last = events[-1]
    if last["type"] == _OUTPUT:
        names = list(last["delta"])
        return {**last, "delta": {name: "".join(event["delta"][name] for event in events) for name in names}}
    whole = {**last, "delta": "".join(event["delta"] for event in events)}
    if isinstance(last.get("logprobs"), list):
        whole["logprobs"] = [logprob for event in events for logprob in event["logprobs"]]
    return whole

"""`include` when something is read back: what an item holds only for those who ask for it.

Reasoning is sealed (`reasoning.encrypted_content`), the results of a search are listed (`web_search_call.results`),
and an interpreter's outputs are shown as far as they were text (`code_interpreter_call.outputs`), whether or not the
request that made them asked. The other values name tools that are not served here, or what items hold anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from skilldeck_daemon.wire.fields import refuse
from skilldeck_daemon.wire.sealed import seal

Item = dict[str, Any]
REASONING = "reasoning.encrypted_content"
OUTPUTS = "code_interpreter_call.outputs"
RESULTS = "web_search_call.results"
INCLUDES = (
    "file_search_call.results",
    RESULTS,
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    OUTPUTS,
    REASONING,
    "message.output_text.logprobs",
)


def check_includes(values: Sequence[str], param: str = "include") -> frozenset[str]:
    """The values as a set; refuses one that the API does not have, by its place below `param`."""
    for index, value in enumerate(values):
        if value not in INCLUDES:
            place, hint = f"{param}[{index}]", f"Use one of: {', '.join(INCLUDES)}."
            refuse(place, f"'{place}' is {value[:64]!r}.", hint, "invalid_value")
    return frozenset(values)


def with_included(items: Iterable[Item], include: Collection[str], hidden: Iterable[Sequence[Any]] = ()) -> list[Item]:
    """The items with what is asked for; copies where something is added.

    Args:
        hidden: of `Output.hidden`: where the outputs are that the items do not show.
    """
    told = {item["call_id"]: item for _, item in hidden if item["type"] == "function_call_output"}
    return [_with(item, include, told.get(item.get("id", ""), {})) for item in items]


def _with(item: Item, include: Collection[str], told: Item) -> Item:
    """The item; `told` is what the model was told of the call."""
    if item.get("type") == "reasoning" and REASONING in include and not item.get("encrypted_content"):
        text = "".join(part["text"] for part in item.get("content") or [])
        return {**item, "encrypted_content": seal(text)} if text else item
    if item.get("type") == "code_interpreter_call" and OUTPUTS in include and item["outputs"] is None and told:
        return {**item, "outputs": [{"type": "logs", "logs": told["output"]}]}
    if item.get("type") == "web_search_call" and RESULTS in include and "results" in told:
        return {**item, "results": told["results"]}
    return item

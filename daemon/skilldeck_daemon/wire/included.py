"""`include` when something is read back: what an item holds only for those who ask for it.

Each kind of item knows its values (`ItemKind.includes`): reasoning is sealed, the results of a search are listed, an
interpreter's outputs are shown as far as they were text, whether or not the request that made them asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import cast

from skilldeck_daemon.wire.fields import refuse
from skilldeck_daemon.wire.item_kinds import CALLS, KINDS, OUTPUTS, Answer, Item

NOTHING_MORE = (
    "file_search_call.results",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "message.output_text.logprobs",
)
"""Values of OpenAI's that name tools not served here, or what items hold anyway."""


def check_includes(values: Sequence[str], param: str = "include") -> frozenset[str]:
    """The values as a set; refuses one that the API does not have, by its place below `param`."""
    known = (*NOTHING_MORE, *(value for kind in KINDS.values() for value in kind.includes))
    for index, value in enumerate(values):
        if value not in known:
            place, hint = f"{param}[{index}]", f"Use one of: {', '.join(known)}."
            refuse(place, f"'{place}' is {value[:64]!r}.", hint, "invalid_value")
    return frozenset(values)


def of_calls() -> frozenset[str]:
    """All values that concern calls: with these an item holds everything that came of its call."""
    return frozenset(value for kind in CALLS.values() for value in kind.includes)


def with_included(
    items: Iterable[Item], include: Collection[str], hidden: Iterable[tuple[int, Item]] = ()
) -> list[Item]:
    """The items with what is asked for; copies where something is added.

    Args:
        hidden: of `Output.hidden`: where the outputs are that the items do not show.
    """
    answers = {item["call_id"]: cast(Answer, item) for _, item in hidden if item["type"] in OUTPUTS}
    return [_with(item, include, answers) for item in items]


def _with(item: Item, include: Collection[str], answers: dict[str, Answer]) -> Item:
    kind = KINDS.get(item.get("type", "message"))
    return item if kind is None else kind.included(item, include, answers.get(item.get("id", "")))

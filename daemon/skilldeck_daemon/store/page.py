"""One page of a list, and how a caller asks for it. Cut by key, never by offset: depth costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from skilldeck_shared.errors import BadRequest

Record = TypeVar("Record")
Row = TypeVar("Row", bound=Mapping[str, Any])
Other = TypeVar("Other")


@dataclass(slots=True)
class Page(Generic[Record]):
    """`data` in the asked order; `has_more`: whether the same question after `data[-1]` finds more."""

    data: list[Record] = field(default_factory=list)
    has_more: bool = False

    def map(self, change: Callable[[Record], Other]) -> Page[Other]:
        """The same page with every object changed."""
        return Page([change(item) for item in self.data], self.has_more)


def page_of(rows: Sequence[Row], limit: int, order: str, after: str, what: str) -> Page[Row]:
    """A page of rows that are all here, oldest first. Raises BadRequest when none of them has the id `after`.

    Args:
        what: names a row in the error.
    """
    ordered = list(rows if order == "asc" else rows[::-1])
    if after:
        places = [place for place, row in enumerate(ordered) if row.get("id") == after]
        if not places:
            hint = "Pass the last_id of the page before."
            raise BadRequest(f"`after` names no {what} of this list.", hint, param="after")
        ordered = ordered[places[0] + 1 :]
    return Page(ordered[:limit], len(ordered) > limit)

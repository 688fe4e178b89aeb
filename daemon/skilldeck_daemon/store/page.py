"""One page of a list, and how a caller asks for it. Cut by key, never by offset: depth costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Record = TypeVar("Record")
Other = TypeVar("Other")


@dataclass(slots=True)
class Page(Generic[Record]):
    """`data` in the asked order; `has_more`: whether the same question after `data[-1]` finds more."""

    data: list[Record] = field(default_factory=list)
    has_more: bool = False

    def map(self, change: Callable[[Record], Other]) -> Page[Other]:
        """The same page with every object changed."""
        return Page([change(item) for item in self.data], self.has_more)

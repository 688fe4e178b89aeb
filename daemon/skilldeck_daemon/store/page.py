"""One page of a list, and how a caller asks for it. Cut by key, never by offset: depth costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Page:
    """`data` in the asked order; `has_more`: whether the same question after `data[-1]` finds more."""

    data: list[dict[str, Any]] = field(default_factory=list)
    has_more: bool = False

    def map(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Page:
        """The same page with every object changed."""
        return Page([change(item) for item in self.data], self.has_more)

"""A number with its last two minutes."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Sparkline, Static


class Gauge(Vertical):
    DEFAULT_CSS = """
    Gauge { width: 1fr; height: 4; padding: 0 1; }
    Gauge Static { height: 1; }
    Gauge Sparkline { height: 2; width: 1fr; }
    Gauge Sparkline > .sparkline--max-color { color: $accent; }
    Gauge Sparkline > .sparkline--min-color { color: $primary 45%; }
    """

    def __init__(self, label: str, **kwargs: str) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.label = label

    def compose(self) -> ComposeResult:
        yield Static(Content(""), markup=False)
        yield Sparkline([], summary_function=max)

    def show(self, value: str, history: Sequence[float], of: str = "") -> None:
        """`of`: what the value is a part of, told where there is room for it."""
        whole = f" of {of}" if of and len(f"{self.label} {value} of {of}") <= self.content_size.width else ""
        self.query_one(Static).update(
            Content.assemble((f"{self.label} ", "$faint"), (value, "bold"), (whole, "$faint")), layout=False
        )
        # A line needs two points, and a flat zero should be drawn as one.
        self.query_one(Sparkline).data = [*history, 0.0][: len(history)] if len(history) > 1 else [0.0, 0.0]

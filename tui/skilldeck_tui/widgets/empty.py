"""What is shown where nothing is yet: what this place is for, and the next step with its key."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from textual.content import Content

from skilldeck_tui.widgets.text_block import TextBlock

Steps = Sequence[tuple[str, str]]


class EmptyState(TextBlock):
    """`steps` are (key, what it does)."""

    DEFAULT_CSS = """
    EmptyState {
        width: 1fr; height: 1fr; content-align: center middle; text-align: center; color: $muted;
        padding: 1 2;
    }
    """

    def __init__(self, title: str, text: str, steps: Steps = (), **options: Any) -> None:
        super().__init__(**options)
        self._said: tuple[str, str, Steps] = (title, text, steps)

    def say(self, title: str, text: str, steps: Steps = ()) -> None:
        self._said = (title, text, steps)
        self.on_resize()

    def on_resize(self) -> None:
        self.write(empty(*self._said, self.content_size.width or 80))


def empty(title: str, text: str, steps: Steps, width: int = 80) -> Content:
    """Lines to be centred. Those of the steps have one length, so that they stay two columns however they wrap."""
    parts: list[Content | str | tuple[str, str]] = [(title, "bold $foreground")]
    for line in text.split("\n"):
        parts += [(f"\n{row}", "$muted") for row in wrap(line, max(16, width))]
    parts += ["\n"] if steps else []
    keys = max((len(key) for key, _ in steps), default=0)
    rows = [(key, wrap(what, max(12, width - keys - 4))) for key, what in steps]
    longest = max((len(row) for _, wrapped in rows for row in wrapped), default=0)
    for key, wrapped in rows:
        for at, row in enumerate(wrapped):
            chip = f" {key:<{keys}} " if at == 0 else " " * (keys + 2)
            parts += ["\n", (chip, "bold $accent on $panel" if at == 0 else ""), (f"  {row:<{longest}}", "$muted")]
    return Content.assemble(*parts)

"""What is shown where nothing is yet: what this place is for, and the next step with its key."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static


class EmptyState(Static):
    """`steps` are (key, what it does)."""

    DEFAULT_CSS = """
    EmptyState {
        width: 1fr; height: 1fr; content-align: center middle; text-align: center; color: $muted;
        padding: 1 2;
    }
    """

    def __init__(self, title: str, text: str, steps: Sequence[tuple[str, str]] = (), **kwargs: str) -> None:
        super().__init__(empty(title, text, steps), markup=False, **kwargs)  # type: ignore[arg-type]

    def say(self, title: str, text: str, steps: Sequence[tuple[str, str]] = ()) -> None:
        self.update(empty(title, text, steps))


def empty(title: str, text: str, steps: Sequence[tuple[str, str]]) -> Content:
    parts: list[Content | str | tuple[str, str]] = [(f"{title}\n", "bold $foreground"), (f"{text}\n", "$muted")]
    # Lines of one length stay two columns when they are centred.
    keys, texts = (max((len(step[column]) for step in steps), default=0) for column in (0, 1))
    for key, what in steps:
        parts += ["\n", f"{'':>{keys - len(key)}}", (f" {key} ", "bold $accent on $panel"),
                  (f"  {what:<{texts}}", "$muted")]  # fmt: skip
    return Content.assemble(*parts)

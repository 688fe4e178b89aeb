"""A line to type what to find."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static


class FindBar(Horizontal):
    """`Changed` on every key, `Step` on enter, `Closed` on escape.

    It keeps the focus until escape: where the matches are, letters are commands. What was looked for stays for the next
    time, selected, so that typing replaces it.
    """

    BINDINGS = [
        Binding("escape", "close", "Close", show=False, priority=True),
        Binding("down", "step(1)", "Next", show=False),
        Binding("up", "step(-1)", "Previous", show=False),
    ]
    DEFAULT_CSS = """
    FindBar { display: none; height: 1; background: $panel; padding: 0 1; }
    FindBar.-open { display: block; }
    FindBar Input { width: 1fr; border: none; height: 1; padding: 0; background: $panel; }
    FindBar .sign { width: 2; color: $accent; }
    FindBar .count { width: auto; color: $muted; }
    """

    class Changed(Message):
        def __init__(self, pattern: str) -> None:
            super().__init__()
            self.pattern = pattern

    class Step(Message):
        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    class Closed(Message):
        pass

    def compose(self) -> ComposeResult:
        yield Static("/", classes="sign")
        yield Input(placeholder="find · enter next · esc closes, then n and N", compact=True)
        yield Static("", classes="count", markup=False)

    def open(self) -> None:
        line = self.query_one(Input)
        if line.value and not self.has_class("-open"):
            line.select_all()
            self.post_message(self.Changed(line.value))  # there may be more to find than the last time
        self.add_class("-open")
        line.focus()

    @property
    def pattern(self) -> str:
        return self.query_one(Input).value

    def found(self, position: int, total: int) -> None:
        """`position` counts from 1; 0: none of the matches is shown yet."""
        at = f"{position}/{total}" if position else f"{total} found"
        self.query_one(".count", Static).update(at if total else "nothing found" if self.pattern else "")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Step(-1))

    def action_step(self, step: int) -> None:
        self.post_message(self.Step(step))

    def action_close(self) -> None:
        self.remove_class("-open")
        self.post_message(self.Closed())

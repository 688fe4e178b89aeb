"""A shell call, live: each command with its state and its output as it is written.

$ python3 summary.py orders.csv                ● 3.2s     running
$ python3 summary.py orders.csv               ✓ 0 · 3.2s  ended
$ ls missing                                  ✗ 2 · 12 ms  failed
"""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from skilldeck_shared.terminal import clean
from skilldeck_tui.chat.transcripts.items import Command, ShellItem
from skilldeck_tui.text.format import duration, size
from skilldeck_tui.widgets.text_block import TextBlock
from skilldeck_tui.widgets.transcript.item_view import ItemView, Stack
from skilldeck_tui.widgets.transcript.output_view import OutputView

COMMAND_LINES = 8
COMMAND_CHARACTERS = 600
"""A small model can fall into repeating itself inside a command."""

KILLED = 137
"""The exit code of a command that its run, or the daemon, took along when it ended."""


class CommandView(Stack):
    DEFAULT_CSS = """
    CommandView > Horizontal { height: auto; }
    CommandView .command { width: 1fr; height: auto; }
    CommandView .state { width: auto; height: 1; padding: 0 0 0 2; }
    CommandView OutputView { padding: 0 0 0 2; }
    CommandView .note { color: $faint; padding: 0 0 0 2; height: auto; }
    """

    class Ready(Message):
        """It can paint."""

    def __init__(self, item: ShellItem, command: Command, lines: int) -> None:
        super().__init__()
        self.item = item
        self.command = command
        self.output = OutputView(command, lines)
        # Kept, not looked up: an event may come between this widget's composition and that of the row inside.
        self.text, self._state, self._note = (TextBlock(classes=name) for name in ("command", "state", "note"))

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield self.text
            yield self._state
        yield self.output
        yield self._note

    def on_mount(self) -> None:
        self.post_message(self.Ready())

    def paint(self, now: float, waiting: bool, unfolded: bool) -> None:
        whole = clean(self.command.text).strip()
        lines = (whole if unfolded else whole[:COMMAND_CHARACTERS]).split("\n")
        if len(lines) > COMMAND_LINES and not unfolded:
            lines = [*lines[: COMMAND_LINES - 1], f"⋯ {len(lines) - COMMAND_LINES + 1} more lines"]
        text = "\n  ".join(lines)
        if not unfolded and len(whole) > COMMAND_CHARACTERS:
            text += f" ⋯ {len(whole) - COMMAND_CHARACTERS:,} more characters"
        self.text.write(Content.assemble(("$ ", "$muted"), (text, "bold")))
        self.clock(now, waiting)
        self.output.sync(force=self.command.outcome is not None)
        omitted = self.command.omitted
        self._note.display = bool(omitted) or self.command.silent
        if self.command.silent:
            # Else it would look as if the command did nothing any more.
            shown = f"{self.command.output.characters:,} of at most {self.command.limit:,} characters"
            self._note.write(Content(f"… {shown} shown live; if it prints more, the end comes when it ends"))
        elif omitted:
            self._note.write(Content(f"✂ {size(omitted)} kept from the model, of {size(self.command.printed)}"))

    def clock(self, now: float, waiting: bool) -> None:
        self._state.write(self._condition(now, waiting))

    def _condition(self, now: float, waiting: bool) -> Content:
        command, outcome = self.command, self.command.outcome
        spent = duration(command.seconds(now)) if command.started and (command.ended or not outcome) else ""
        took = f" · {spent}" if spent and command.ended else ""
        if waiting and outcome is None:
            return Content.styled("? waits for approval", "$warning")
        if outcome == 0:
            return Content.assemble(("✓ 0", "$success"), (took, "$faint"))
        if outcome == "timeout":
            return Content.assemble(("✗ timed out", "$error"), (took, "$faint"))
        if outcome == KILLED and self.item.output_raw.get("status") == "incomplete":
            return Content.styled("■ interrupted", "$muted")
        if outcome is not None:
            return Content.assemble((f"✗ {outcome}", "$error"), (took, "$faint"))
        if self.item.stopped:
            return Content.styled("■ stopped", "$muted")
        if command.started:
            return Content.assemble(("● ", "$accent"), (spent, "$muted"))
        if self.item.done and not self.item.running:
            # Answered outside (a client that runs its own shell), or not begun yet.
            return Content.styled("○", "$faint")
        return Content.styled("…", "$faint")


class ShellCallView(ItemView):
    DEFAULT_CSS = """
    ShellCallView { border-left: wide $border; padding: 0 1; background: $surface; }
    ShellCallView.-running { border-left: wide $accent; }
    ShellCallView.-failed { border-left: wide $error 60%; }
    ShellCallView.-asking { border-left: wide $warning; }
    """

    def __init__(self, item: ShellItem, lines: int = 12) -> None:
        super().__init__(item)
        self.shell = item
        self.lines = lines
        self.unfolded = False
        self._views: list[CommandView] = []

    def on_mount(self) -> None:
        self.painted = -1
        self.sync(self.now)

    def paint(self, now: float) -> None:
        if not self.is_attached:
            self.painted = -1
            return
        new = [CommandView(self.shell, c, self.lines) for c in self.shell.commands[len(self._views) :]]
        if new:
            self._views += new
            # Each paints itself once it is there.
            self.mount_all(new)
        commands = self.shell.commands
        self.set_class(any(c.running for c in commands), "-running")
        self.set_class(any(c.outcome not in (None, 0) for c in commands), "-failed")
        self.set_class(self.shell.waiting, "-asking")
        for view in self._views:
            if view.children:
                view.paint(now, self.shell.waiting, self.unfolded)

    def on_command_view_ready(self, event: CommandView.Ready) -> None:
        event.stop()
        self.repaint()

    def tick(self, now: float) -> None:
        for view in self._views:
            if view.command.running and view.children:
                view.clock(now, self.shell.waiting)

    def toggle(self) -> None:
        self.unfolded = not self.unfolded
        for view in self._views:
            if view.output.folded == self.unfolded:
                view.output.toggle()
        self.repaint()

    def texts(self) -> Iterable[Static]:
        return [view.text for view in self._views]

    def mark(self, pattern: str) -> None:
        super().mark(pattern)
        for view in self._views:
            if view.output.pattern != pattern:
                view.output.pattern = pattern
                view.output.refresh()

    def target(self, line: int) -> tuple[Widget, int]:
        for view in self._views:
            # As in `ShellItem.plain`: the command's own lines, then its output.
            output, own = view.command.output, view.command.text.count("\n") + 1
            if line < own:
                return view, 0
            if line < own + len(output.lines):
                if view.output.folded and view.output.foldable:
                    self.toggle()
                return view.output, view.output.row_of(output.first + line - own)
            line -= own + len(output.lines)
        return self, 0

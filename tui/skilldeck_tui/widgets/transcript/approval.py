"""A command that waits for a person's yes: shown above the composer, one at a time, answered with one key.

What is to hold always is shown before it is stored, and can be made wider or narrower there.
"""

from __future__ import annotations

import time

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Input, Static

from skilldeck_shared.terminal import clean
from skilldeck_tui import actions
from skilldeck_tui.chat.transcripts.items import Object

GUARD_SECONDS = 0.4
"""Keys are ignored this long after the question took the focus by itself: they were meant for something else."""
CHOICES = (("y", "once"), ("s", "session"), ("a", "always"), ("n", "deny"), ("d", "note"))
LABELS = {"once": "once", "session": "session", "always": "always", "deny": "deny", "note": "note"}


class Choice(Static):
    def __init__(self, key: str, decision: str) -> None:
        super().__init__(Content.assemble((f" {key} ", "bold $warning"), f"{LABELS[decision]}  "), markup=False)
        self.decision = decision

    def on_click(self, event: Click) -> None:
        event.stop()
        self.post_message(ApprovalBox.Chosen(self.decision))


class ApprovalBox(Vertical, can_focus=True):
    BINDINGS = [
        *actions.bindings("approval"),
        Binding("enter", "store", "Store", show=False),
        Binding("escape", "later", "Later", show=False),
    ]
    BINDING_GROUP_TITLE = "Approval"
    DEFAULT_CSS = """
    ApprovalBox {
        display: none; height: auto; max-height: 14; margin: 0 1; padding: 0 1; border: round $warning 50%;
        border-title-color: $warning;
    }
    ApprovalBox.-open { display: block; }
    ApprovalBox:focus, ApprovalBox:focus-within { border: round $warning; }
    ApprovalBox .commands { height: auto; max-height: 8; }
    ApprovalBox .choices { layout: horizontal; height: auto; }
    ApprovalBox .choices Choice { width: auto; }
    ApprovalBox Input, ApprovalBox #covers { display: none; }
    ApprovalBox #covers { height: auto; color: $muted; }
    ApprovalBox.-note #note, ApprovalBox.-rule #covers, ApprovalBox.-rule.-one #rule { display: block; }
    ApprovalBox.-note .choices, ApprovalBox.-rule .choices { display: none; }
    """

    class Chosen(Message):
        def __init__(self, decision: str) -> None:
            super().__init__()
            self.decision = decision

    class Decided(Message):
        """`decision` is once, session, always or deny; `note` goes to the model, `prefix` is remembered instead of the
        command."""

        def __init__(self, approval: Object, decision: str, note: str = "", prefix: str = "") -> None:
            super().__init__()
            self.approval, self.decision, self.note, self.prefix = approval, decision, note, prefix

    class Left(Message):
        """Answer later."""

    def __init__(self) -> None:
        super().__init__()
        self.approval: Object | None = None
        self._guard_until = 0.0

    def compose(self) -> ComposeResult:
        yield Static(Content(""), classes="commands", markup=False)
        with Vertical(classes="choices"):
            for key, decision in CHOICES:
                yield Choice(key, decision)
        yield Input(placeholder="why not? the model reads this · enter sends", compact=True, id="note")
        yield Input(placeholder="the words a command begins with", compact=True, id="rule", select_on_focus=False)
        yield Static(Content(""), id="covers", markup=False)

    def show(self, approvals: list[Object], *, take_focus: bool) -> None:
        """Show the first of `approvals`; nothing when there are none."""
        first = approvals[0] if approvals else None
        self.set_class(first is not None, "-open")
        self.border_title = f"May this run? 1 of {len(approvals)}" if len(approvals) > 1 else "May this run?"
        if first is None or (self.approval and self.approval["id"] == first["id"]):
            self.approval = first
            return
        self.approval = first
        self.remove_class("-note", "-rule")
        lines = [line for command in first.get("commands") or [] for line in _command(str(command))]
        if len(lines) > 7:
            lines = [*lines[:6], f"⋯ {len(lines) - 6} more lines; the transcript shows all"]
        self.query_one(".commands", Static).update(Content("\n".join(lines)))
        if take_focus:
            self._guard_until = time.monotonic() + GUARD_SECONDS
            self.focus()

    def on_approval_box_chosen(self, event: Chosen) -> None:
        event.stop()
        self._guard_until = 0.0
        self.action_decide(event.decision)

    def action_decide(self, decision: str) -> None:
        if self.approval is None or time.monotonic() < self._guard_until:
            return
        if decision == "note":
            self.add_class("-note")
            self.query_one("#note").focus()
            return
        if decision == "always" and not self.has_class("-rule"):
            self._propose(self.approval)
            return
        self.post_message(self.Decided(self.approval, decision))

    def _propose(self, approval: Object) -> None:
        """Show what would be remembered; a single command of the shell can be cut to its first words."""
        commands = [str(command).strip() for command in approval.get("commands") or []]
        shell = approval.get("kind") == "shell"
        one = shell and len(commands) == 1 and "\n" not in commands[0]
        lines = [] if one else [line for command in commands for line in _command(command)][:6]
        text = "Never asked again, in any session"
        text += ", also with more plain arguments." if shell else ", for exactly this."
        names = ", ".join(str(skill.get("name")) for skill in approval.get("skills") or [])
        text += f" Asked again when {names} changes." if names else ""
        text += " enter stores it and runs · esc goes back"
        self.query_one("#covers", Static).update(Content("\n".join([*lines, text])))
        self.add_class("-rule")
        self.set_class(one, "-one")
        if one:
            line = self.query_one("#rule", Input)
            line.value = commands[0]
            line.focus()
        else:
            self.focus()

    def action_store(self) -> None:
        if self.has_class("-rule"):
            self.action_decide("always")

    def action_later(self) -> None:
        if self.has_class("-note") or self.has_class("-rule"):
            self.remove_class("-note", "-rule")
            self.focus()
        else:
            self.post_message(self.Left())

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        text = event.value.strip()
        if event.input.id == "rule" and not text:
            return
        event.input.value = ""
        self.remove_class("-note", "-rule")
        if self.approval is None:
            return
        if event.input.id == "note":
            self.post_message(self.Decided(self.approval, "deny", text))
            return
        whole = [str(command).strip() for command in self.approval.get("commands") or []]
        self.post_message(self.Decided(self.approval, "always", prefix="" if [text] == whole else text))


def _command(command: str) -> list[str]:
    first, *rest = clean(command).strip().split("\n")
    return [f"$ {first}", *(f"  {line}" for line in rest)]

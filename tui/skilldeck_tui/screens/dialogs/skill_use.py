"""What a run did with its skills, for who wrote them: what was read, what ran and how it ended, what it made."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from skilldeck_tui.cited import Made
from skilldeck_tui.screens.dialogs.dialog import Dialog
from skilldeck_tui.skills.skill_use import Step, Use
from skilldeck_tui.text.format import clean, one_line

LABELS = {"read": "read", "listed": "looked into", "ran": "ran", "used": "used"}


class SkillUse(Dialog[None]):
    """`untouched` are the names of skills that were offered and not touched."""

    BINDINGS = [Binding("escape,q,s", "leave", "Close")]
    DEFAULT_CSS = """
    SkillUse { align: center middle; background: $background 60%; }
    SkillUse > VerticalScroll {
        width: 96; max-width: 96%; height: auto; max-height: 90%; padding: 1 2; background: $surface;
        border: round $border; border-title-color: $accent; border-subtitle-color: $faint;
    }
    SkillUse Static { height: auto; }
    """

    def __init__(self, asked: str, uses: Sequence[Use], untouched: Sequence[str], made: Sequence[Made]) -> None:
        super().__init__()
        self.asked, self.uses, self.untouched, self.made = asked, uses, untouched, made

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title, box.border_subtitle = "What its skills did", "esc closes"
            yield Static(described(self.asked, self.uses, self.untouched, self.made), markup=False)

    def action_leave(self) -> None:
        self.dismiss(None)


def described(asked: str, uses: Sequence[Use], untouched: Sequence[str], made: Sequence[Made]) -> Content:
    lines = [Content.styled(f"“{one_line(asked, 120)}”", "italic $muted"), Content("")] if asked else []
    for use in uses:
        how = "its instructions were put before the model" if use.opened else "" if use.steps else "not touched"
        lines.append(
            Content.assemble(("◆ ", "$accent"), (clean(use.name), "bold"), (f"  {how}" if how else "", "$muted"))
        )
        for kind, label in LABELS.items():
            steps = [step for step in use.steps if step.kind == kind]
            lines += [_step(label if at == 0 else "", step) for at, step in enumerate(steps)]
        if use.opened and not use.steps:
            lines.append(Content.styled("  no command touched its files", "$faint"))
        lines.append(Content(""))
    if not uses:
        lines += [Content.styled("No skill was touched.", "$muted"), Content("")]
    if untouched:
        lines += [Content.styled(f"◇ offered, not touched: {clean(', '.join(untouched))}", "$faint"), Content("")]
    lines += [Content.assemble(("▤ ", "$accent"), clean(file.path)) for file in made]
    lines += [Content.styled("No file was reported as made.", "$faint")] if not made else []
    return Content("\n").join(lines)


def _step(label: str, step: Step) -> Content:
    detail = f"  {one_line(step.detail, 100)}" if step.detail else ""
    ended: tuple[str, str] = ("", "")
    if step.kind == "ran" and step.code is not None:
        ended = ("  ✓ 0", "$success") if step.code == 0 else (f"  ✗ {step.code}", "$error")
    return Content.assemble((f"  {label:<12}", "$muted"), clean(step.path), (detail, "$faint"), ended)

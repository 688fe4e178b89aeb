"""What goes with the next message: attached files and chosen skills, each removable by a click.

One text that wraps between chips, never inside one: what goes with a message must be seen before it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.message import Message
from textual.style import Style

from skilldeck_shared.terminal import clean
from skilldeck_tui.chat.composing.draft import Attachment, Draft
from skilldeck_tui.state import DaemonState
from skilldeck_tui.text.format import plural, size
from skilldeck_tui.text.lines import in_lines
from skilldeck_tui.widgets.text_block import TextBlock


class Chips(TextBlock):
    DEFAULT_CSS = "Chips { height: auto; min-height: 1; max-height: 6; padding: 0 1; color: $muted; }"

    class Removed(Message):
        """`index` within the attachments ("file") or the skills ("skill")."""

        def __init__(self, kind: str, index: int) -> None:
            super().__init__()
            self.kind, self.index = kind, index

    class ModelAsked(Message):
        """A person wants another model."""

    def __init__(self) -> None:
        super().__init__()
        self.auto_links = False
        self._chips: list[Content] = []

    def on_resize(self) -> None:
        room = self.content_size.width or 80
        lines = in_lines([chip.truncate(room, ellipsis=True) for chip in self._chips], " ", room)
        self.write(Content("\n").join(lines))

    def show(self, draft: Draft, state: DaemonState, permission: str, about: Sequence[Content] = ()) -> None:
        chips = [_model(draft, state), *about]
        chips += [_removable(_file(attachment), "file", at) for at, attachment in enumerate(draft.attachments)]
        for at, skill_id in enumerate(draft.skills):
            name = str((state.get("skill", skill_id) or {}).get("name") or skill_id)
            chips.append(_removable(Content.assemble(("◆ ", "$accent"), clean(name), (" ×", "$faint")), "skill", at))
        if not draft.skills:
            number = len(draft.chosen(state))
            text = f"all {plural(number, 'skill')}" if number > 1 else f"{number} skill" if number else "no skills yet"
            chips.append(Content.assemble(("◇ ", "$faint"), (text, "$faint")))
        if draft.allow:
            words = [*draft.allow, *(f"${name}" for name in draft.env)]
            chips.append(Content.assemble(("⇄ ", "$accent"), clean(" ".join(words))))
        if permission:
            word = "asks first" if permission == "ask" else "runs no commands"
            chips.append(Content.styled(f"⚑ {word}", "$warning"))
        self._chips = chips
        self.on_resize()

    def action_choose_model(self) -> None:
        self.post_message(self.ModelAsked())

    def action_drop(self, kind: str, index: int) -> None:
        self.post_message(self.Removed(kind, index))


def _removable(chip: Content, kind: str, index: int) -> Content:
    return chip.stylize(Style.from_meta({"@click": f"drop('{kind}',{index})"}))


def _model(draft: Draft, state: DaemonState) -> Content:
    """Which model the next message goes to."""
    name = draft.model or state.default_model
    if not name:
        chip = Content.styled("no model", "$warning")
    elif state.get("model", name) is None:
        chip = Content.styled(f"{clean(name)} is not loaded", "$warning")
    else:
        chip = Content.styled(clean(name), "" if draft.model else "$muted")
    return Content.assemble(("◈ ", "$accent"), chip).stylize(Style.from_meta({"@click": "choose_model"}))


def _file(attachment: Attachment) -> Content:
    name = clean(attachment.name)
    if attachment.error:
        return Content.assemble(("✗ ", "$error"), (f"{name}: {attachment.error}", "$error"), (" ×", "$faint"))
    if not attachment.ready:
        share = f"{attachment.sent / attachment.size:.0%}" if attachment.size else "…"
        return Content.assemble(("↑ ", "$accent"), name, (f" {share}", "$faint"))
    return Content.assemble(("▤ ", "$accent"), name, (f" {size(attachment.size)} ×", "$faint"))

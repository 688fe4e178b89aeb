"""What goes with the next message: attached files and chosen skills, each removable."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from skilldeck_tui.draft import Attachment, Draft
from skilldeck_tui.format import clean, plural, size
from skilldeck_tui.state import DaemonState


class Chip(Static):
    class Removed(Message):
        """`index` within the attachments or the skills."""

        def __init__(self, kind: str, index: int) -> None:
            super().__init__()
            self.kind, self.index = kind, index

    def __init__(self, content: Content, kind: str = "", index: int = 0) -> None:
        super().__init__(content, markup=False)
        self.kind, self.index = kind, index
        self.tooltip = "Click to remove" if kind else None

    def on_click(self, event: Click) -> None:
        event.stop()
        if self.kind:
            self.post_message(self.Removed(self.kind, self.index))


class Chips(Horizontal):
    DEFAULT_CSS = """
    Chips { height: 1; padding: 0 1; overflow-x: hidden; }
    Chips Chip { width: auto; margin: 0 1 0 0; color: $muted; }
    Chips Chip:hover { color: $foreground; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: list[tuple[Content, str, int]] = []

    def compose(self) -> ComposeResult:
        yield from ()

    async def show(self, draft: Draft, state: DaemonState, permission: str) -> None:
        chips: list[tuple[Content, str, int]] = []
        for index, attachment in enumerate(draft.attachments):
            chips.append((_file(attachment), "file", index))
        for index, skill_id in enumerate(draft.skills):
            name = str((state.get("skill", skill_id) or {}).get("name") or skill_id)
            chips.append((Content.assemble(("◆ ", "$accent"), clean(name), (" ×", "$faint")), "skill", index))
        if not draft.skills:
            number = len(draft.chosen(state))
            text = f"all {plural(number, 'skill')}" if number > 1 else f"{number} skill" if number else "no skills yet"
            chips.append((Content.assemble(("◇ ", "$faint"), (text, "$faint")), "", 0))
        if permission:
            word = "asks first" if permission == "ask" else "runs no commands"
            chips.append((Content.styled(f"⚑ {word}", "$warning"), "", 0))
        if chips != self._shown:
            self._shown = []  # until they are there: a later call may cancel this one in the middle
            await self.query(Chip).remove()
            await self.mount_all(Chip(*chip) for chip in chips)
            self._shown = chips


def _file(attachment: Attachment) -> Content:
    name = clean(attachment.name)
    if attachment.error:
        return Content.assemble(("✗ ", "$error"), (f"{name}: {attachment.error}", "$error"), (" ×", "$faint"))
    if not attachment.ready:
        share = f"{attachment.sent / attachment.size:.0%}" if attachment.size else "…"
        return Content.assemble(("↑ ", "$accent"), name, (f" {share}", "$faint"))
    return Content.assemble(("⎙ ", "$accent"), name, (f" {size(attachment.size)} ×", "$faint"))

"""What a person sent."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from skilldeck_shared.terminal import clean
from skilldeck_tui.chat.transcripts.items import UserItem
from skilldeck_tui.widgets.transcript.item_view import ItemView
from skilldeck_tui.widgets.transcript.pictures import Pictures, of_message

LONGEST = 20_000


class UserMessage(ItemView):
    DEFAULT_CSS = """
    UserMessage { background: $panel; padding: 0 1; margin: 0 0 1 0; }
    UserMessage.-cursor { border-left: outer $primary; }
    UserMessage .files { color: $muted; }
    """

    def __init__(self, item: UserItem) -> None:
        super().__init__(item)
        self.asked = item

    def compose(self) -> ComposeResult:
        yield Static(Content(""), classes="text", markup=False)
        yield Static(Content(""), classes="files", markup=False)
        yield Pictures()

    def on_mount(self) -> None:
        self.paint(0)

    def paint(self, now: float) -> None:
        if not self.children:
            return
        text = clean(self.asked.text).strip()
        if len(text) > LONGEST:
            text = f"{text[:LONGEST]}\n… {len(text) - LONGEST:,} more characters"
        sign = "›" if self.asked.role == "user" else self.asked.role
        self.query_one(".text", Static).update(Content.assemble((f"{sign} ", "bold $accent"), text))
        files = self.query_one(".files", Static)
        files.display = bool(self.asked.files)
        self.query_one(Pictures).show(of_message(self.asked.raw, self.asked.files))
        files.update(Content("  " + "  ".join(f"▤ {clean(name)}" for name in self.asked.files)))

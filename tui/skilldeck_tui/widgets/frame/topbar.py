"""The first line: the four modes, what waits for a person, and whether the daemon is there."""

from __future__ import annotations

from collections.abc import Mapping

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from skilldeck_tui.modes import MODES
from skilldeck_tui.state import DaemonState
from skilldeck_tui.widgets.text_block import TextBlock


class Tab(TextBlock):
    class Chosen(Message):
        def __init__(self, mode: str) -> None:
            super().__init__()
            self.mode = mode

    def __init__(self, mode: str, label: str, key: str) -> None:
        super().__init__(classes="tab")
        self.mode, self.label, self.key = mode, label, key

    def show(self, badge: str, narrow: bool) -> None:
        parts: list[str | tuple[str, str]] = [] if narrow or not self.key else [(f"{self.key} ", "$faint")]
        parts += [self.label]
        if badge:
            parts += [(f" {badge}", "bold $warning")]
        self.write(Content.assemble(*parts))

    def on_click(self, event: Click) -> None:
        event.stop()
        self.post_message(self.Chosen(self.mode))


class TopBar(Horizontal):
    DEFAULT_CSS = """
    TopBar { height: 1; background: $panel; padding: 0 1; }
    TopBar .brand { width: auto; color: $accent; text-style: bold; padding: 0 2 0 0; }
    TopBar .tab { width: auto; padding: 0 1; color: $muted; }
    TopBar .tab.-active { color: $foreground; text-style: bold; background: $background; }
    TopBar .tab:hover { color: $foreground; }
    TopBar .link { width: 1fr; text-align: right; }
    """

    def __init__(self, mode: str, keys: Mapping[str, str]) -> None:
        """`keys` by mode: those that work wherever the focus is."""
        super().__init__()
        self.mode, self.keys = mode, keys

    def compose(self) -> ComposeResult:
        yield Static("skilldeck", classes="brand")
        for mode in MODES:
            tab = Tab(mode, mode.capitalize(), self.keys.get(mode, ""))
            tab.set_class(mode == self.mode, "-active")
            yield tab
        yield TextBlock(classes="link")

    def show(self, state: DaemonState) -> None:
        narrow = self.size.width < 70
        self.query_one(".brand").display = not narrow
        asking = len(state.approvals)
        broken = sum(1 for watch in state.watches.values() if watch.state in ("error", "gone", "unreadable"))
        badges = {"chat": f"?{asking}" if asking else "", "skills": f"✗{broken}" if broken else ""}
        for tab in self.query(Tab):
            tab.show(badges.get(tab.mode, ""), narrow)
        self.query_one(".link", TextBlock).write(link(state, narrow))


def link(state: DaemonState, narrow: bool) -> Content:
    if not state.connected:
        word = {"connecting": "connecting", "degraded": "reconnecting", "stuck": "no daemon"}[state.link]
        return Content.styled(f"◌ {word}", "$error" if state.link == "stuck" else "$warning")
    word = str(state.status.get("state") or "ready")
    if word == "starting" and state.status.get("fraction"):
        word = f"starting {float(state.status['fraction']):.0%}"
    style = {"ready": "$success", "starting": "$accent"}.get(word.split()[0], "$warning")
    return Content.assemble(("● ", style), ("" if narrow and word == "ready" else word, "$muted"))

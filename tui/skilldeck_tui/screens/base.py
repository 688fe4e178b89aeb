"""What the four modes share: the tabs, the banner, the status line, the footer, and how they hear of changes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.containers import Container
from textual.css.query import NoMatches
from textual.geometry import Offset
from textual.screen import Screen, ScreenResultType
from textual.widget import Widget

from skilldeck_tui import actions
from skilldeck_tui.modes import MODES
from skilldeck_tui.screens.deck import Deck
from skilldeck_tui.state import TOPICS, DaemonState
from skilldeck_tui.widgets.frame.banner import Banner
from skilldeck_tui.widgets.frame.key_line import KeyLine
from skilldeck_tui.widgets.frame.status_line import StatusLine
from skilldeck_tui.widgets.frame.topbar import Tab, TopBar

if TYPE_CHECKING:
    from skilldeck_tui.client.client import Client

EVERYTHING = frozenset({*TOPICS, "status", "link", "watch", "tests", "lint", "evaluation", "trial"})


def is_open(dialog: Screen[Any]) -> bool:
    """Whether a dialog is on the screen or below another.

    What its worker waited for may come while it closes: its widgets are removed before the worker is cancelled.
    """
    return dialog in dialog.app.screen_stack


class Pressable(Screen[ScreenResultType]):
    """What is removed is drawn a moment longer. A press on it is one beside everything: Textual looked for the parent
    that it no longer has, and ended the app."""

    def get_widget_and_offset_at(self, x: int, y: int) -> tuple[Widget | None, Offset | None]:
        widget, offset = super().get_widget_and_offset_at(x, y)
        return (widget, offset) if widget is None or widget.is_attached else (None, None)


class ModeScreen(Pressable[None]):
    """A mode. Subclasses give `body` and `changed`; only the visible mode hears of changes, all of them when it
    becomes visible."""

    MODE: ClassVar[str] = ""
    SCOPES: ClassVar[tuple[str, ...]] = ()
    HORIZONTAL_BREAKPOINTS = [
        (0, "-narrow"), (72, "-normal"), (110, "-wide"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    ModeScreen { layout: vertical; }
    ModeScreen > .body { height: 1fr; width: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        # Textual sets the class of the width at the first resize, and styles everything anew for it: 15 ms of a start.
        width = self.app.size.width
        fits = [name for least, name in self.HORIZONTAL_BREAKPOINTS if least <= width]
        self.set_class(True, fits[-1], update=False)

    @property
    def deck(self) -> Deck:
        return cast(Deck, self.app)

    @property
    def state(self) -> DaemonState:
        return self.deck.state

    @property
    def client(self) -> Client:
        return self.deck.client

    def compose(self) -> ComposeResult:
        yield TopBar(self.MODE, {mode: actions.key_of(f"app.{mode}", self.deck.preferences.keys) for mode in MODES})
        yield Banner()
        with Container(classes="body"):
            yield from self.body()
        yield StatusLine()
        yield KeyLine()

    def body(self) -> Iterable[Widget]:
        raise NotImplementedError

    def on_mount(self) -> None:
        self.call_after_refresh(self.show_state, EVERYTHING)

    def on_screen_resume(self) -> None:
        if self.is_mounted:
            self.call_after_refresh(self.show_state, EVERYTHING)

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_state, {"status", "link"})

    def show_state(self, topics: Iterable[str]) -> None:
        """Called at most 30 times a second with what changed."""
        if not self.is_mounted or not self.is_running:
            return
        topics = set(topics)
        # Without its parts the screen is being taken down.
        with suppress(NoMatches):
            self.query_one(TopBar).show(self.state)
            self.query_one(Banner).show(self.state)
            if topics & {"status", "link"}:
                self.query_one(StatusLine).show(self.state)
            self.changed(topics)

    def tick_second(self) -> None:
        with suppress(NoMatches):
            self.second()

    def changed(self, topics: set[str]) -> None:
        """Show what changed."""

    def second(self) -> None:
        """Once a second, while visible."""
        self.query_one(StatusLine).show(self.state)

    def on_tab_chosen(self, event: Tab.Chosen) -> None:
        self.app.switch_mode(event.mode)

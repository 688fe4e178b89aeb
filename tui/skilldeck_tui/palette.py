"""The command palette: every action of `actions.ACTIONS` that makes sense here, and the themes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.dom import DOMNode

from skilldeck_tui import actions
from skilldeck_tui.screens.base import ModeScreen
from skilldeck_tui.screens.deck import Deck
from skilldeck_tui.screens.dialogs.help import display
from skilldeck_tui.theme import NAMES
from skilldeck_tui.widgets.transcript.view import TranscriptView

NAME, KEY = 26, 10
WIDE = 72
"""Columns of a name and of its key; what it does follows, where the screen is `WIDE`."""


def row(name: Content | str, key: str, help: str = "") -> Content:
    """An entry on one line: twice as many are seen at once as with the explanation below each."""
    named = name if isinstance(name, Content) else Content(name)
    gap = " " * max(2, NAME - len(named))
    return Content.assemble(named, gap, (f"{key:<{KEY}}", "$accent not bold"), (help, "$muted not bold"))


class ActionCommands(Provider):
    """Actions of the app and of the present mode."""

    @property
    def _deck(self) -> Deck:
        return cast(Deck, self.app)

    def _entries(self) -> Iterator[tuple[str, str, str, DOMNode, str]]:
        """Name, key, explanation, where it acts, and the action."""
        screen, wide = self._deck.mode_screen(), self.app.size.width >= WIDE
        targets: list[tuple[str, DOMNode]] = [("app", self.app)]
        if isinstance(screen, ModeScreen):
            targets.insert(0, (screen.MODE, screen))
            targets[1:1] = [("transcript", view) for view in screen.query(TranscriptView)]
        wished = actions.keymap(self._deck.preferences.keys)
        for scope, target in targets:
            for action in actions.of(scope):
                if action.palette:
                    keys = wished.get(action.id, action.keys).split(",")[0]
                    name = f"{actions.SCOPES[scope]}: {action.title}" if scope != "app" else action.title
                    yield name, display(keys), action.help if wide else "", target, action.action
        for theme in NAMES:
            yield f"Theme: {theme}", "", "", self.app, f"use_theme('{theme}')"

    async def _run(self, target: DOMNode, action: str) -> None:
        if action.startswith("use_theme"):
            self.app.theme = self._deck.memory.theme = action.split("'")[1]
            self._deck.memory.write()
        else:
            await self.app.run_action(action, target)

    async def discover(self) -> Hits:
        for name, key, help_, target, action in self._entries():
            if not name.startswith("Theme:"):
                yield DiscoveryHit(row(name, key, help_), partial(self._run, target, action), text=name)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, key, help_, target, action in self._entries():
            if (score := matcher.match(name)) > 0:
                shown = row(matcher.highlight(name), key, help_)
                yield Hit(score, shown, partial(self._run, target, action), text=name)

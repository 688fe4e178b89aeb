"""The command palette: every action of `actions.ACTIONS` that makes sense here, and the themes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.dom import DOMNode

from skilldeck_tui import actions
from skilldeck_tui.screens.base import ModeScreen
from skilldeck_tui.theme import NAMES
from skilldeck_tui.widgets.transcript_view import TranscriptView

if TYPE_CHECKING:
    from skilldeck_tui.app import SkilldeckApp


class ActionCommands(Provider):
    """Actions of the app and of the present mode."""

    @property
    def _app(self) -> SkilldeckApp:
        return cast("SkilldeckApp", self.app)

    def _entries(self) -> Iterator[tuple[str, str, DOMNode, str]]:
        screen = self._app.mode_screen()
        targets: list[tuple[str, DOMNode]] = [("app", self.app)]
        if isinstance(screen, ModeScreen):
            targets.insert(0, (screen.MODE, screen))
            targets[1:1] = [("transcript", view) for view in screen.query(TranscriptView)]
        for scope, target in targets:
            for action in actions.of(scope):
                if action.palette:
                    keys = self._app.preferences.keys.get(action.id, action.keys).split(",")[0]
                    name = f"{actions.SCOPES[scope]}: {action.title}" if scope != "app" else action.title
                    yield f"{name}  ({keys})" if keys else name, action.help, target, action.action
        for theme in NAMES:
            yield f"Theme: {theme}", "Use this theme.", self.app, f"use_theme('{theme}')"

    async def _run(self, target: DOMNode, action: str) -> None:
        if action.startswith("use_theme"):
            self._app.theme = self._app.memory.theme = action.split("'")[1]
            self._app.memory.write()
        else:
            await self.app.run_action(action, target)

    async def discover(self) -> Hits:
        for name, text, target, action in self._entries():
            if not name.startswith("Theme:"):
                yield DiscoveryHit(name, partial(self._run, target, action), help=text)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, text, target, action in self._entries():
            if (score := matcher.match(name)) > 0:
                yield Hit(score, matcher.highlight(name), partial(self._run, target, action), help=text)

"""Driving the TUI in tests: an app on a scripted daemon, waiting for what a person would see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from textual import events
from textual.pilot import Pilot

from skilldeck_tui.app import SkilldeckApp
from skilldeck_tui.preferences import Memory, Preferences
from skilldeck_tui.screens.chat import ChatScreen
from support.fake_daemon import FakeDaemon

T = TypeVar("T")
KEYS = {" ": "space", "/": "slash", "-": "minus", ".": "full_stop", "_": "underscore", "?": "question_mark", "@": "at"}
CHARACTERS = {name: character for character, name in KEYS.items()}


class Deck:
    """The app under test with its pilot and its daemon."""

    def __init__(self, app: SkilldeckApp, pilot: Pilot[None], fake: FakeDaemon) -> None:
        self.app, self.pilot, self.fake = app, pilot, fake

    @property
    def chat(self) -> ChatScreen:
        screen = self.app.mode_screen("chat")
        assert isinstance(screen, ChatScreen)
        return screen

    async def press(self, *keys: str) -> None:
        """Press keys as a terminal sends them; each is handled before the next.

        The pilot's own way waits for the processor to be idle, which on a busy machine takes a second a key.
        """
        for key in keys:
            await self._send(events.Key(key, CHARACTERS.get(key, key if len(key) == 1 else None)))

    async def burst(self, *keys: str) -> None:
        """Keys that a terminal sends at once: they lie in the queue together, however fast the app is."""
        driver = self.app._driver
        assert driver is not None
        for key in keys:
            event = events.Key(key, CHARACTERS.get(key, key if len(key) == 1 else None))
            event.set_sender(self.app)
            driver.send_message(event)
        await self.handled()

    async def paste(self, text: str) -> None:
        await self._send(events.Paste(text))

    async def _send(self, event: events.Event) -> None:
        driver = self.app._driver
        assert driver is not None
        event.set_sender(self.app)
        driver.send_message(event)
        await self.handled()

    async def type(self, text: str) -> None:
        await self.press(*(KEYS.get(character, character) for character in text))

    async def handled(self) -> None:
        """Everything sent so far has gone through the app, its screen and the focused widget."""
        for _ in range(2):
            for node in (self.app, self.app.screen, self.app.screen.focused):
                if node is not None:
                    done = asyncio.Event()
                    node.call_later(done.set)
                    async with asyncio.timeout(60):
                        # A widget that is removed meanwhile handles nothing any more.
                        while not done.is_set() and node.is_running:
                            await asyncio.wait([waiting := asyncio.ensure_future(done.wait())], timeout=0.05)
                            waiting.cancel()

    async def until(self, condition: Callable[[], T], seconds: float = 60.0) -> T:
        """The first true value of `condition`; fails after `seconds`, showing the screen."""
        deadline = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s; the screen shows:\n{self.text()}")
            await asyncio.sleep(0.04)

    async def shows(self, *texts: str) -> None:
        """Wait until every text is on the screen."""
        await self.until(lambda: all(text in self.text() for text in texts))

    async def hides(self, text: str) -> None:
        await self.until(lambda: text not in self.text())

    def text(self) -> str:
        """What the screen shows, line by line."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


@asynccontextmanager
async def deck(
    fake: FakeDaemon,
    *,
    size: tuple[int, int] = (100, 30),
    clock: Callable[[], float] = time.time,
    toasts: bool = True,
    **options: Any,
) -> AsyncIterator[Deck]:
    """The app, connected, with its first snapshot shown."""
    options.setdefault("preferences", Preferences(notify=False))
    options.setdefault("memory", Memory())
    async with fake.client() as client:
        app = SkilldeckApp(lambda: client, clock=clock, **options)
        async with app.run_test(size=size, notifications=toasts) as pilot:
            made = Deck(app, pilot, fake)
            await made.until(lambda: app.state.loaded and app.mode_screen() is not None and app.state.connected)
            await pilot.pause()
            yield made

"""`skilldeck --screenshot out.svg`: what the TUI shows, without a terminal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.screens.chat import ChatScreen

if TYPE_CHECKING:
    from skilldeck_tui.app import SkilldeckApp

PATIENCE = 20.0


async def take(app: SkilldeckApp, path: Path, *, size: tuple[int, int] = (120, 40)) -> None:
    """Draw `app` at `size`, wait until what it was asked to open is loaded, and write the SVG.

    Raises SkilldeckError when it is not loaded in `PATIENCE` seconds, or the file cannot be written.
    """
    async with app.run_test(size=size, notifications=False) as pilot:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not _settled(app):
            if app.state.link == "stuck" and app.state.link_error is not None:
                raise app.state.link_error
            if asyncio.get_running_loop().time() > deadline:
                raise SkilldeckError("The screen was not complete in time.", "`skilldeck status` may say why.")
            await pilot.pause(0.05)
        for _ in range(4):
            # Markdown is parsed and laid out in steps.
            await pilot.pause(0.1)
        picture = app.export_screenshot(title="skilldeck")
    try:
        path.write_text(picture, "utf-8")
    except OSError as error:
        raise SkilldeckError(f"{path} cannot be written: {error.strerror}.") from error


def _settled(app: SkilldeckApp) -> bool:
    chat = app.mode_screen("chat")
    if not app.state.loaded or not isinstance(chat, ChatScreen):
        return app.state.loaded and app.current_mode != "chat"
    return not app.opening or (chat.current == app.opening and not chat.loading_session)

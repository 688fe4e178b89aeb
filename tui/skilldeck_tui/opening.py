"""How the TUI is opened: by the command line's parser, or past it.

`Opening.read` knows the options that a start of the TUI has (`cli.root` declares them, and says what is wrong with
others), so that the usual start imports neither the parser nor the commands.
"""

from __future__ import annotations

import asyncio
import os
import socket as socketlib
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from skilldeck_shared import paths
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.paths import expanded
from skilldeck_tui.modes import MODES

if TYPE_CHECKING:
    from skilldeck_tui.client.client import Client


class Opening(NamedTuple):
    """What to open the TUI on.

    Attributes:
        start: a daemon is started when none listens; else the TUI shows that there is none and waits for it.
        run_id: what Chat shows first.
        screenshot: nothing is opened: the screen is drawn at `size` and saved there as an SVG once all is loaded.
    """

    socket: Path
    start: bool = True
    run_id: str = ""
    screenshot: Path | None = None
    mode: str = "chat"
    size: tuple[int, int] = (120, 40)

    @classmethod
    def read(cls, arguments: Sequence[str]) -> Opening | None:
        """The opening that `arguments` ask for, None where the parser has to look: a command, a mistake, help."""
        values = {"--socket": "", "--run": "", "--mode": "chat"}
        start, rest = True, list(arguments)
        while rest:
            name, given, value = rest.pop(0).partition("=")
            if name == "--no-start" and not given:
                start = False
            elif name in values and (given or rest):
                values[name] = value if given else rest.pop(0)
            else:
                return None
        if values["--mode"] not in MODES or any(value.startswith("-") for value in values.values()):
            return None
        if "_SKILLDECK_COMPLETE" in os.environ:  # the shell asks for completions
            return None
        return cls(at(Path(values["--socket"]) if values["--socket"] else None), start, values["--run"], None,
                   values["--mode"])  # fmt: skip


def at(socket: Path | None) -> Path:
    """The control socket that was asked for, else where it is usually."""
    return expanded(socket or paths.socket_path()).absolute()


def opens(opening: Opening) -> int:
    """Open the TUI until it ends; returns the exit status. An error goes to stderr."""
    # Textual draws at the next tick of a clock: of its own, 60 a second, an event waits 8 ms in the mean. How much is
    # drawn under load is decided by `app.FRAME`, and the clock stands still while there is nothing to draw.
    os.environ.setdefault("TEXTUAL_FPS", "500")
    try:
        return asyncio.run(_open(opening))
    except SkilldeckError as error:
        from skilldeck_tui.cli.output import explain

        return explain(error)
    except KeyboardInterrupt:  # while a daemon was started
        from skilldeck_tui.cli.output import INTERRUPTED

        return INTERRUPTED


async def _open(opening: Opening) -> int:
    """Raises SkilldeckError: the configuration is wrong, the daemon did not start, or there is no picture."""
    from skilldeck_tui.app import SkilldeckApp
    from skilldeck_tui.preferences import Memory, Preferences

    preferences, memory, path = Preferences.read(), Memory.read(), opening.socket

    # Textual reads keys from stdin and draws on stderr; stdout may go elsewhere.
    if opening.screenshot is None and not (sys.stdin.isatty() and sys.stderr.isatty()):
        from skilldeck_tui.cli.output import USAGE, note

        note("error: The terminal UI needs a terminal.")
        note("  The commands need none, such as `skilldeck run PROMPT`; `skilldeck --help` lists them.")
        return USAGE

    @cache
    def client() -> Client:
        from skilldeck_tui.client.client import Client
        from skilldeck_tui.client.transport import SocketChannel

        # Without a handshake: the app shows a daemon that is away, or of another release, and waits for it.
        return Client(SocketChannel(path), path)

    if opening.start and not _listens(path):
        await _start(path)
    app = SkilldeckApp(client, preferences=preferences, memory=memory, open_run=opening.run_id, mode=opening.mode)
    try:
        if opening.screenshot is not None:
            from skilldeck_tui.terminal.screenshot import take

            await client().hello()
            await take(app, opening.screenshot, size=opening.size)
            return 0
        from skilldeck_tui.terminal.terminal_end import ends_with_terminal

        with ends_with_terminal(app):
            await app.run_async()
        return app.return_code or 0
    finally:
        await client().close()


def _listens(path: Path) -> bool:
    """Whether somebody accepts connections there; a daemon that does need not be waited for before the first paint."""
    with socketlib.socket(socketlib.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


async def _start(path: Path) -> None:
    from skilldeck_tui.cli import output as cli_output
    from skilldeck_tui.client.connect import connect

    try:
        started = await connect(path, start=True, report=cli_output.waiting)
    finally:
        cli_output.progress_off()
    await started.close()

"""How the TUI is opened: by the command line's parser, or past it.

`Opening.read` knows the options that a start of the TUI has (`cli.root` declares them, and says what is wrong with
others), so that the usual start imports neither the parser nor the commands.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from skilldeck_shared import paths
from skilldeck_shared.errors import SkilldeckError

MODES = ("chat", "skills", "files", "daemon")
INTERRUPTED = 130


class Opening(NamedTuple):
    """What to open the TUI on; see `app.open_tui`."""

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
    return (socket or paths.socket_path()).expanduser().absolute()


def opens(opening: Opening) -> int:
    """Open the TUI until it ends; returns the exit status. An error is told on stderr."""
    # Textual draws at the next tick of a clock: of its own, 60 a second, an event waits 8 ms in the mean. How much is
    # drawn under load is decided by `app.FRAME`, and the clock stands still while there is nothing to draw.
    os.environ.setdefault("TEXTUAL_FPS", "500")
    from skilldeck_tui.app import open_tui

    try:
        return open_tui(opening)
    except SkilldeckError as error:
        from skilldeck_tui.cli_output import explain

        return explain(error)
    except KeyboardInterrupt:  # while a daemon was started
        return INTERRUPTED

"""Which editor to open, how to give it the line, and a text written in it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from textual.app import App, SuspendNotSupported

_PLUS = ("vi", "vim", "nvim", "nano", "emacs", "emacsclient", "kak", "joe", "mg", "ne", "gvim", "vis", "jed")
_COLON = ("hx", "helix", "micro", "subl", "zed")


def command(path: Path, line: int | None = None, column: int | None = None) -> list[str]:
    """The command that opens `path` there: `$VISUAL`, `$EDITOR`, or the first usual one that is installed.

    Empty when there is no editor.
    """
    given = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    words = shlex.split(given) if given else []
    if not words:
        found = next((name for name in ("nano", "vim", "vi") if shutil.which(name)), "")
        words = [found] if found else []
    if not words or line is None:
        return [*words, str(path)] if words else []
    name = Path(words[0]).name
    if name in ("code", "codium", "code-insiders", "cursor"):
        wait = [] if "--wait" in words or "-w" in words else ["--wait"]
        return [*words, *wait, "--goto", f"{path}:{line}:{column or 1}"]
    if name in _COLON:
        return [*words, f"{path}:{line}:{column or 1}"]
    if name in ("nano", "kak"):
        return [*words, f"+{line},{column or 1}" if name == "nano" else f"+{line}:{column or 1}", str(path)]
    return [*words, f"+{line}", str(path)] if name in _PLUS else [*words, str(path)]


def opened(app: App[Any], path: Path, line: int | None = None, column: int | None = None) -> bool:
    """Open `path` in the editor, which has the terminal until it ends, or say why not. False: there is none."""
    words = command(path, line, column)
    if not words:
        app.notify("No editor found; set $EDITOR.", severity="warning")
        return False
    try:
        with app.suspend():
            subprocess.call(words)
    except SuspendNotSupported:
        app.notify("An editor cannot be opened here.", severity="warning")
    except OSError as error:
        app.notify(f"{words[0]} cannot be started: {error.strerror}.", severity="error", markup=False)
    return True


def edited(text: str, suspend: Callable[[], AbstractContextManager[None]]) -> str | None:
    """The text as it left the editor, for which `suspend` gives up the terminal; None when that ended with an error.

    Raises: OSError, also when there is no editor.
    """
    folder = Path(tempfile.mkdtemp(prefix="skilldeck-"))
    path = folder / "message.md"
    try:
        path.write_text(text, "utf-8")
        words = command(path)
        if not words:
            raise OSError("none is installed; set $EDITOR.")
        with suspend():
            ended = subprocess.run(words, check=False).returncode
        return path.read_text("utf-8", "replace").rstrip("\n") if ended == 0 else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)

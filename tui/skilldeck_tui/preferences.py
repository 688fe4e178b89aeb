"""What the TUI remembers and what a person may configure.

`Preferences` comes from the `[tui]` table of config.toml and is never written. `Memory` (theme, watched folders) is a
JSON file in the state directory, replaced as a whole; losing it costs a choice, never data.
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from skilldeck_shared import paths, private
from skilldeck_shared.errors import BadRequest
from skilldeck_tui.actions import BY_ID
from skilldeck_tui.theme import NAMES


@dataclass(frozen=True)
class Preferences:
    """`keys` maps action ids to keys; `notify` allows notices of the operating system."""

    theme: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    notify: bool = True
    shell_lines: int = 12

    @classmethod
    def read(cls, path: Path | None = None) -> Preferences:
        """Raises BadRequest naming the field when `[tui]` cannot be used; a missing file is no error."""
        path = path or paths.config_file()
        try:
            table = tomllib.loads(path.read_text("utf-8")).get("tui", {})
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise BadRequest(f"{path} cannot be read: {error}.", "Mend the file or remove it.") from error
        if not isinstance(table, dict):
            raise BadRequest(f"[tui] in {path} is no table.", param="tui")
        theme, keys = table.get("theme", ""), table.get("keys", {})
        if theme and theme not in NAMES:
            raise BadRequest(f"tui.theme is {theme!r}.", f"Use one of: {', '.join(NAMES)}.", param="tui.theme")
        if not isinstance(keys, dict) or not all(isinstance(value, str) for value in keys.values()):
            raise BadRequest(
                "tui.keys must map actions to keys.", 'For instance: "chat.new" = "ctrl+n".', param="tui.keys"
            )
        unknown = sorted(set(keys) - set(BY_ID))
        if unknown:
            raise BadRequest(
                f"tui.keys names no action {unknown[0]!r}.", "F1 shows the actions of each screen.", param="tui.keys"
            )
        lines = table.get("shell_lines", 12)
        if not isinstance(lines, int) or not 4 <= lines <= 1000:
            raise BadRequest("tui.shell_lines must be a number from 4 to 1000.", param="tui.shell_lines")
        return cls(theme, dict(keys), bool(table.get("notify", True)), lines)


@dataclass
class Memory:
    """`watched` are absolute paths of skill folders, `tested` those whose tests run after every save.

    `draft` is what was being written.
    """

    theme: str = ""
    watched: list[str] = field(default_factory=list)
    tested: list[str] = field(default_factory=list)
    draft: str = ""
    path: Path | None = None

    @classmethod
    def read(cls, path: Path | None = None) -> Memory:
        path = path or paths.state_dir() / "tui.json"
        try:
            kept = json.loads(path.read_text("utf-8"))
            theme, draft = kept.get("theme", ""), str(kept.get("draft") or "")
            watched, tested = ([str(folder) for folder in kept.get(name, [])] for name in ("watched", "tested"))
        except (OSError, ValueError, AttributeError, TypeError):
            return cls(path=path)
        return cls(theme if theme in NAMES else "", watched, tested, draft, path)

    def remember(self, name: Literal["watched", "tested"], folder: Path, on: bool) -> None:
        """Put a folder on one of the lists, or take it off."""
        folders = [kept for kept in getattr(self, name) if kept != str(folder)]
        setattr(self, name, [*folders, str(folder)] if on else folders)
        self.write()

    def write(self) -> None:
        """Best effort: a read-only home directory must not stop the TUI."""
        if self.path is None:
            return
        kept = asdict(self)
        del kept["path"]
        try:
            private.folder(self.path.parent)
            partial = self.path.with_suffix(".part")
            private.file(partial)
            partial.write_text(json.dumps(kept), "utf-8")
            os.replace(partial, self.path)
        except OSError:
            pass

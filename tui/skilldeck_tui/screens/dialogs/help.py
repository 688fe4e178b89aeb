"""Every key of the place where the focus is, then of its screen, then of everywhere."""

from __future__ import annotations

from textwrap import wrap

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from skilldeck_tui import actions
from skilldeck_tui.screens.dialogs.dialog import Dialog

KEYS = 18
NARROW = 60
WIDTH = 84


class Help(Dialog[None]):
    BINDINGS = [Binding("escape,q,f1", "leave", "Close")]
    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > VerticalScroll {
        width: 84; max-width: 96%; height: auto; max-height: 90%; padding: 1 2; background: $surface;
        border: round $border; border-title-color: $accent;
        border-subtitle-color: $faint;
    }
    """

    def __init__(self, scopes: list[str], keymap: dict[str, str]) -> None:
        super().__init__()
        self.scopes, self.keymap = scopes, keymap

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title, box.border_subtitle = "Keys", "esc closes"
            yield Static(self._text(), markup=False)

    def on_resize(self) -> None:
        self.query_one(Static).update(self._text())

    def _text(self) -> Content:
        room = self._room()
        column = KEYS if room >= NARROW else KEYS - 5
        parts: list[str | tuple[str, str]] = []
        for scope in self.scopes:
            parts.append((f"{actions.SCOPES[scope]}\n", "bold $accent"))
            for action in actions.of(scope):
                keys = self.keymap.get(action.id, action.keys)
                both = "  ".join(display(key) for key in keys.split(",")[:2]) if keys else "palette"
                shown = both if len(both) <= column - 2 else display(keys.split(",")[0])
                parts.append((f"  {shown:<{column}}", "bold"))
                indent = f"\n{'':{2 + column}}"
                lines = wrap(action.help, max(16, room - 2 - column))
                parts.append((indent.join(lines), "$muted"))
                # Where the name does not fit behind the text it has a line of its own.
                fits = 2 + column + len(lines[-1]) + 2 + len(action.id) <= room
                parts += [("  " if fits else indent, ""), (f"{action.id}\n", "$faint")]
            parts.append("\n")
        parts.append(("The names are for config.toml, where each key can be changed:\n", "$faint"))
        parts.append(('[tui.keys]\n"chat.new" = "ctrl+n"', "$muted"))
        return Content.assemble(*parts)

    def _room(self) -> int:
        """Columns of text: the box without its border, padding and scrollbar."""
        return min(WIDTH, int(self.app.size.width * 0.96)) - 8

    def action_leave(self) -> None:
        self.dismiss()


NAMES = {"slash": "/", "left_square_bracket": "[", "right_square_bracket": "]", "escape": "esc"}


def display(key: str) -> str:
    key = key.strip()
    return "+".join(NAMES.get(part, part) for part in key.split("+"))

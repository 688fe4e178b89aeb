"""Every key of the place where the focus is, then of its screen, then of everywhere."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from skilldeck_tui import actions

KEYS = 18
WIDTH = 84


class Help(ModalScreen[None]):
    BINDINGS = [Binding("escape,q,f1", "leave", "Close")]
    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > VerticalScroll {
        width: 84; max-width: 96%; height: auto; max-height: 90%; padding: 1 2; background: $surface;
        border: round $border; border-title-color: $accent;
    }
    """

    def __init__(self, scopes: list[str], keymap: dict[str, str]) -> None:
        super().__init__()
        self.scopes, self.keymap = scopes, keymap

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = "Keys"
            yield Static(self._text(), markup=False)

    def _text(self) -> Content:
        parts: list[str | tuple[str, str]] = []
        for scope in self.scopes:
            parts.append((f"{actions.SCOPES[scope]}\n", "bold $accent"))
            for action in actions.of(scope):
                keys = self.keymap.get(action.id, action.keys)
                both = "  ".join(display(key) for key in keys.split(",")[:2]) if keys else "palette"
                shown = both if len(both) <= KEYS - 2 else display(keys.split(",")[0])
                # Where both do not fit on a line the name has one of its own.
                fits = 2 + KEYS + len(action.help) + 2 + len(action.id) <= self._room()
                parts += [(f"  {shown:<{KEYS}}", "bold"), (action.help, "$muted")]
                parts += [("  " if fits else f"\n{'':{2 + KEYS}}", ""), (f"{action.id}\n", "$faint")]
            parts.append("\n")
        parts.append(("The name at the end of a line is for config.toml, where each key can be changed:\n", "$faint"))
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

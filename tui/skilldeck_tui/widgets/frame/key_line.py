"""The last line: keys of what has the focus. What does not fit goes whole, and never the way to all the others.

Help and the palette are kept at any width: a narrow terminal shows fewer keys, so they are what a person needs there.
One widget draws all of them: with a widget for each, as in Textual's Footer, their making and styling took 60 ms at the
start and whenever the focus moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from textual.content import Content
from textual.events import Leave, MouseDown, MouseMove
from textual.reactive import reactive
from textual.screen import Screen
from textual.widget import Widget

KEPT = ("app.help", "app.palette")
GAPS = (2, 1)


class Key(NamedTuple):
    """A key as it is shown from column `at` on, `width` columns wide."""

    key: str
    display: str
    description: str
    enabled: bool
    tooltip: str
    at: int
    width: int


class KeyLine(Widget):
    ALLOW_SELECT = False
    DEFAULT_CSS = """
    KeyLine {
        dock: bottom; height: 1; padding: 0 0 0 1; text-wrap: nowrap; background: $background;
        color: $footer-description-foreground;
    }
    """
    keys: reactive[tuple[Key, ...]] = reactive(())
    hovered: reactive[int] = reactive(-1)

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def on_resize(self) -> None:
        self.keys = self._keys()

    def _changed(self, screen: Screen[object]) -> None:
        if screen.app.app_focus and screen is self.screen:
            self.call_after_refresh(self._update)

    def _update(self) -> None:
        if self.is_attached:
            self.keys = self._keys()

    def _keys(self) -> tuple[Key, ...]:
        # An action with several keys has a binding for each; the first is shown.
        shown: dict[str, Key] = {}
        kept: set[str] = set()
        for _, binding, enabled, tooltip in self.screen.active_bindings.values():
            if binding.show and binding.action not in shown:
                display = self.app.get_key_display(binding)
                width = cell_len(display) + 1 + cell_len(binding.description)
                shown[binding.action] = Key(binding.key, display, binding.description, enabled, tooltip, 0, width)
                if binding.id in KEPT:
                    kept.add(binding.action)
        entries = [shown[action] for action in sorted(shown, key=lambda action: action in kept)]
        last = set(range(len(entries) - len(kept), len(entries)))
        chosen, gap = fitting([entry.width for entry in entries], last, self.app.size.width - 1)
        placed, at = [], 0
        for number in chosen:
            placed.append(entries[number]._replace(at=at))
            at += entries[number].width + gap
        return tuple(placed)

    def render(self) -> Content:
        parts: list[Content | str] = []
        end = 0
        for number, key in enumerate(self.keys):
            style = "" if key.enabled else " dim"
            on = " on $block-hover-background" if number == self.hovered else ""
            colors = ("$footer-key-foreground", "$footer-key-foreground" if on else "$footer-description-foreground")
            parts += [
                " " * (key.at - end),
                Content.styled(key.display, f"bold {colors[0]}{on}{style}"),
                Content.styled(f" {key.description}", f"{colors[1]}{on}{style}"),
            ]
            end = key.at + key.width
        return Content.assemble(*parts)

    def _under(self, x: int) -> int:
        """The key at column `x` of the widget, -1 for none."""
        column = x - self.gutter.left
        return next((n for n, key in enumerate(self.keys) if key.at <= column < key.at + key.width), -1)

    def on_mouse_move(self, event: MouseMove) -> None:
        self.hovered = self._under(event.x)
        self.styles.pointer = "pointer" if self.hovered >= 0 else "default"
        self.tooltip = self.keys[self.hovered].tooltip or None if self.hovered >= 0 else None

    def on_leave(self, _event: Leave) -> None:
        self.hovered = -1

    def on_mouse_down(self, event: MouseDown) -> None:
        number = self._under(event.x)
        if number < 0:
            return
        if self.keys[number].enabled:
            self.app.simulate_key(self.keys[number].key)
        else:
            self.app.bell()


def fitting(sizes: Sequence[int], kept: set[int], room: int) -> tuple[list[int], int]:
    """Which entries fit into `room` columns and the gap between them; `kept` go last, whatever the others need."""
    chosen = list(range(len(sizes)))
    for gap in GAPS:
        if sum(sizes) + gap * (len(sizes) - 1) <= room:
            return chosen, gap
    while sum(sizes[at] + 1 for at in chosen) - 1 > room:
        last = next((at for at in reversed(chosen) if at not in kept), None)
        if last is None:
            break
        chosen.remove(last)
    return chosen, GAPS[-1]

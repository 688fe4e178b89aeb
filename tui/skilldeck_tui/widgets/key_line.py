"""The last line: keys of what has the focus. What does not fit goes whole, and never the way to all the others.

Help and the palette are kept at any width: a narrow terminal shows fewer keys, so they are what a person needs there.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

KEPT = ("app.help", "app.palette")
GAPS = (2, 1)


class KeyLine(Footer):
    DEFAULT_CSS = """
    KeyLine { background: $background; padding: 0 0 0 1; }
    KeyLine.-airy FooterKey { margin-right: 2; }
    """

    def __init__(self) -> None:
        super().__init__(show_command_palette=False, compact=True)
        self._width = 0

    def on_resize(self) -> None:
        if self.size.width != self._width:
            self._width = self.size.width
            self.call_after_refresh(self.recompose)

    def compose(self) -> ComposeResult:
        if not self._bindings_ready:
            return
        # An action with several keys has a binding for each; the first is shown.
        shown: dict[str, tuple[Binding, bool, str]] = {}
        for _, binding, enabled, tooltip in self.screen.active_bindings.values():
            if binding.show:
                shown.setdefault(binding.action, (binding, enabled, tooltip))
        entries = sorted(shown.values(), key=lambda entry: entry[0].id in KEPT)
        sizes = [
            cell_len(self.app.get_key_display(binding)) + 1 + cell_len(binding.description) for binding, *_ in entries
        ]
        kept = {at for at, (binding, *_) in enumerate(entries) if binding.id in KEPT}
        chosen, gap = fitting(sizes, kept, self.app.size.width - 1)
        self.set_class(gap == GAPS[0], "-airy")
        for at in chosen:
            binding, enabled, tooltip = entries[at]
            yield FooterKey(
                binding.key, self.app.get_key_display(binding), binding.description, binding.action,
                disabled=not enabled, tooltip=tooltip,
            ).data_bind(compact=Footer.compact)  # fmt: skip


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

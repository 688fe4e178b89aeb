"""The sections of a screen that is too small to show them beside each other: one line, one of them chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual.content import Content
from textual.message import Message
from textual.style import Style

from skilldeck_tui.widgets.text_block import TextBlock


class Sections(TextBlock):
    """`NAMES` are what is written, by the section."""

    NAMES: ClassVar[dict[str, str]] = {
        "models": "Models", "containers": "Containers", "rules": "Always allowed", "log": "Log"
    }  # fmt: skip
    DEFAULT_CSS = "Sections { height: 2; padding: 0 0 1 0; color: $muted; }"

    class Chosen(Message):
        def __init__(self, section: str) -> None:
            super().__init__()
            self.section = section

    def show(self, chosen: str, numbers: Mapping[str, int]) -> None:
        """`numbers`: how many there are of what a section lists."""
        parts = []
        for section, name in self.NAMES.items():
            label = Content.assemble(f" {name}", (f" {numbers[section]}" if section in numbers else "", "$faint"), " ")
            if section == chosen:
                label = label.stylize("bold $accent on $panel")
            parts.append(label.stylize(Style.from_meta({"@click": f"choose('{section}')"})))
        self.write(Content(" ").join([*parts, Content.styled(" [ ]", "$faint")]))

    def action_choose(self, section: str) -> None:
        self.post_message(self.Chosen(section))

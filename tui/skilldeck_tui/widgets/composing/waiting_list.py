"""Messages that wait for the run: a line each, taken back into the composer with a click, the last one with up."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.message import Message
from textual.style import Style

from skilldeck_tui.chat.composing.draft import Outgoing
from skilldeck_tui.text.format import one_line
from skilldeck_tui.widgets.text_block import TextBlock

MOST = 4
WHEN = {True: "next turn", False: "at the end"}


class WaitingList(TextBlock):
    DEFAULT_CSS = "WaitingList { height: auto; padding: 0 2; display: none; } WaitingList.-some { display: block; }"

    class Taken(Message):
        """A person wants to change the message at `index`."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self) -> None:
        super().__init__()
        self.auto_links = False
        self._messages: Sequence[Outgoing] = ()

    def show(self, messages: Sequence[Outgoing]) -> None:
        self._messages = list(messages)
        self.set_class(bool(messages), "-some")
        self.on_resize()

    def on_resize(self) -> None:
        room = self.content_size.width or 80
        first = max(0, len(self._messages) - MOST)
        lines = [Content.styled(f"⋯ {first} more", "$faint")] if first else []
        for index, message in enumerate(self._messages[first:], first):
            files = "".join(f" ▤ {attachment.name}" for attachment in message.draft.attachments)
            line = Content.assemble(
                (f"{WHEN[message.steers]}  ", "$accent" if message.steers else "$muted"),
                (one_line(message.text + files), "$foreground"),
                ("  up edits", "$faint") if index == len(self._messages) - 1 else "",
            )
            lines.append(line.truncate(room, ellipsis=True).stylize(Style.from_meta({"@click": f"take({index})"})))
        self.write(Content("\n").join(lines))

    def action_take(self, index: int) -> None:
        self.post_message(self.Taken(index))

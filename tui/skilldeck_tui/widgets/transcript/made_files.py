"""What a run made, below it: each file with its size, opened by a click, and the first pictures themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.style import Style

from skilldeck_tui.cited import Made
from skilldeck_tui.text.format import clean, size
from skilldeck_tui.text.lines import in_lines
from skilldeck_tui.widgets.files.picture import Picture, decode
from skilldeck_tui.widgets.text_block import TextBlock
from skilldeck_tui.widgets.transcript.item_view import Stack

PICTURES = 2
PICTURE_BYTES = 8 * 1024 * 1024
ROWS = 12


class FileLine(TextBlock):
    def __init__(self) -> None:
        super().__init__(classes="files")
        self.auto_links = False

    def action_look(self, index: int) -> None:
        parent = self.parent
        assert isinstance(parent, MadeFiles)
        parent.post_message(MadeFiles.Opened(parent.files[index]))


class MadeFiles(Stack):
    DEFAULT_CSS = """
    MadeFiles { display: none; padding: 0 2; }
    MadeFiles.-some { display: block; margin: 0 0 1 0; }
    MadeFiles Picture { margin: 1 0 0 0; }
    """

    class Asked(Message):
        """The sizes of the files and their pictures are wanted: `widget.show_size`, `widget.picture`."""

        def __init__(self, widget: MadeFiles, files: Sequence[Made]) -> None:
            super().__init__()
            self.widget, self.files = widget, files

    class Opened(Message):
        def __init__(self, file: Made) -> None:
            super().__init__()
            self.file = file

    def __init__(self) -> None:
        super().__init__()
        self.files: Sequence[Made] = ()
        self._sizes: dict[Made, int | None] = {}

    def compose(self) -> ComposeResult:
        yield FileLine()

    def show(self, files: Sequence[Made]) -> None:
        """What the run has made; asks once for what is to be known of it."""
        if files and not self.files:
            self.files = files
            self.add_class("-some")
            self._write()
            # In its own name: what its parent caused Textual posts to the parent and to nobody above.
            self.post_message(self.Asked(self, files).set_sender(self))

    def show_size(self, file: Made, size: int | None) -> None:
        """Its size in bytes; None: the container has it no more."""
        self._sizes[file] = size
        self._write()

    async def picture(self, data: bytes) -> None:
        if self.is_mounted:
            await self.mount(Picture(await asyncio.to_thread(decode, data), ROWS))

    def on_resize(self) -> None:
        self._write()

    def _write(self) -> None:
        parts = []
        for at, file in enumerate(self.files):
            known = self._sizes.get(file, 0)
            note = " gone" if known is None else f" {size(known)}" if file in self._sizes else ""
            part = Content.assemble(("▤ ", "$accent"), (clean(file.name), "$foreground"), (note, "$faint"))
            parts.append(part.stylize(Style.from_meta({"@click": f"look({at})"})))
        lines = in_lines(parts, "   ", (self.content_size.width or 80))
        for line in self.query(FileLine):
            line.write(Content("\n").join([*lines, Content.styled("f looks at one", "$faint")][: len(lines) + 1]))

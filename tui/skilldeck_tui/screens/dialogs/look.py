"""A file that a run made: its text, its table or its picture; saved, opened or attached with one key."""

from __future__ import annotations

import asyncio
import csv
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from io import StringIO
from pathlib import Path

from textual import work
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui import editor
from skilldeck_tui.chat.transcripts.export import save_bytes
from skilldeck_tui.cited import Made
from skilldeck_tui.client.client import Client, read_all
from skilldeck_tui.screens.base import is_open
from skilldeck_tui.screens.dialogs.dialog import Dialog
from skilldeck_tui.text.format import clean, plural, size
from skilldeck_tui.widgets.data_rows import DataRows
from skilldeck_tui.widgets.files.picture import Picture, decode
from skilldeck_tui.widgets.files.preview import LIMIT, Preview, as_text

MOST = 64 * 1024 * 1024
"""Bytes of a file that are fetched to be looked at."""
ROWS, COLUMNS = 1000, 30


@cache
def _copies() -> tempfile.TemporaryDirectory[str]:
    """Where files lie that are opened elsewhere or attached; removed with what is in it when this process ends."""
    return tempfile.TemporaryDirectory(prefix="skilldeck-")


class Look(Dialog[None]):
    """`attach` takes a path, for the next message."""

    BINDINGS = [
        Binding("escape,q", "leave", "Close"),
        Binding("s", "save", "Save here"),
        Binding("o", "open", "Open"),
        Binding("t", "attach", "Attach"),
    ]
    DEFAULT_CSS = """
    Look { align: center middle; background: $background 60%; }
    Look > Vertical { width: 96%; height: 92%; background: $surface; border: round $border; padding: 0 1; }
    Look .about { height: 1; color: $muted; }
    Look .keys { height: 1; color: $faint; }
    Look #place { height: 1fr; }
    """

    def __init__(self, file: Made, client: Client, attach: Callable[[Path], None]) -> None:
        super().__init__()
        self.file, self.client, self.attach_to = file, client, attach
        self.data: bytes | None = None

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(clean(self.file.name)), classes="about", markup=False)
            yield VerticalScroll(id="place")
            yield Static("s saves here · o opens · t attaches · esc closes", classes="keys", markup=False)

    def on_mount(self) -> None:
        self._fetch()

    @work(exclusive=True, group="look")
    async def _fetch(self) -> None:
        place = self.query_one("#place")
        try:
            data = await read_all(self.client.read_container_file(*self.file.place), MOST)
        except SkilldeckError as error:
            await place.mount(Static(Content.styled(f"{error.title} {error.hint}".strip(), "$error")))
            return
        if not is_open(self):
            return
        self.data = data
        about = [clean(self.file.path), size(len(data))]
        table = await asyncio.to_thread(rows, self.file.name, data)
        if self.file.is_picture:
            decoded = await asyncio.to_thread(decode, data)
            await place.mount(Picture(decoded, max(4, self.size.height - 6)))
        elif table:
            about.append(plural(len(table) - 1, "row"))
            shown = DataRows(tuple(unique(table[0])))
            await place.mount(shown)
            shown.show([(str(at), line) for at, line in enumerate(table[1 : ROWS + 1])])
            shown.focus()
        else:
            preview = Preview()
            await place.mount(preview)
            preview.show(self.file.name, data[:LIMIT], len(data))
            preview.focus()
        self.query_one(".about", Static).update(Content(" · ".join(about)))

    def action_save(self) -> None:
        if self.data is None:
            return
        try:
            path = save_bytes(self.file.name, self.data, Path.cwd())
        except OSError as error:
            self.notify(f"The file cannot be written: {error.strerror}.", severity="error")
        else:
            self.notify(f"Saved as {path}", markup=False)

    def _copy(self) -> Path | None:
        """The file in a folder of its own, which goes when the terminal ends."""
        if self.data is None:
            return None
        return save_bytes(self.file.name, self.data, Path(tempfile.mkdtemp(dir=_copies().name)))

    def action_attach(self) -> None:
        if (path := self._copy()) is not None:
            self.attach_to(path)
            self.dismiss(None)

    def action_open(self) -> None:
        path = self._copy()
        if path is None:
            return
        opener = "open" if sys.platform == "darwin" else "xdg-open"
        seen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if seen and shutil.which(opener):
            subprocess.Popen([opener, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return
        words = editor.command(path) if as_text((self.data or b"")[:LIMIT]) is not None else []
        if not words:
            self.notify(f"Nothing here opens it; it lies at {path}.", severity="warning", markup=False)
            return
        try:
            with self.app.suspend():
                subprocess.run(words, check=False)
        except (SuspendNotSupported, OSError) as error:
            self.notify(f"The editor did not open: {error}", severity="error", markup=False)

    def action_leave(self) -> None:
        self.dismiss(None)


def rows(name: str, data: bytes) -> list[list[str]]:
    """The lines of a CSV or TSV file, each as wide as the first; none when it is no table."""
    if not name.lower().endswith((".csv", ".tsv")) or (text := as_text(data[: 16 * LIMIT])) is None:
        return []
    delimiter = "\t" if name.lower().endswith(".tsv") else max(",;\t", key=text.split("\n", 1)[0].count)
    try:
        found = [line[:COLUMNS] for line in csv.reader(StringIO(text, newline=""), delimiter=delimiter) if line]
    except csv.Error:
        return []
    if len(found) < 2 or len(found[0]) < 2:
        return []
    width = len(found[0])
    return [[clean(cell).replace("\n", " ⏎ ")[:80] for cell in (line + [""] * width)[:width]] for line in found]


def unique(names: list[str]) -> list[str]:
    """The names of columns, made different from each other."""
    return [
        name if name and names.index(name) == at else f"{name or 'column'} {at + 1}" for at, name in enumerate(names)
    ]

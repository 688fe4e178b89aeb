"""The pictures of an item, below it: those that came with a message, those that code drew."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from pathlib import PurePosixPath

from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from skilldeck_tui.chat.transcripts.items import Object
from skilldeck_tui.cited import PICTURES as SUFFIXES
from skilldeck_tui.text.format import plural
from skilldeck_tui.widgets.files.picture import Picture, decode
from skilldeck_tui.widgets.transcript.item_view import Stack

MOST = 4
"""Pictures of one item that are shown."""
BYTES = 8 * 1024 * 1024
ROWS = 12
FILE = "file:"


class Pictures(Stack):
    DEFAULT_CSS = """
    Pictures { display: none; padding: 0 0 0 2; }
    Pictures.-some { display: block; }
    Pictures Picture { margin: 1 0 0 0; }
    Pictures Static { height: auto; color: $faint; }
    """

    class Wanted(Message):
        """A file of the daemon is to be given to `widget.add`."""

        def __init__(self, widget: Pictures, file_id: str) -> None:
            super().__init__()
            self.widget, self.file_id = widget, file_id

    def __init__(self) -> None:
        super().__init__()
        self._places: Sequence[str] = ()

    def show(self, places: Sequence[str]) -> None:
        """Show the pictures at these places, once: data: URLs, and `file:ID` of files that the daemon has."""
        if not places or self._places:
            return
        self._places = places
        self.run_worker(self._show(places[:MOST]), group="pictures", exclusive=True)

    async def _show(self, places: Sequence[str]) -> None:
        for place in places:
            if place.startswith(FILE):
                # In its own name: what its parent caused Textual posts to the parent and to nobody above.
                self.post_message(self.Wanted(self, place.removeprefix(FILE)).set_sender(self))
            elif (data := of_url(place)) is not None:
                await self.add(data)
        if len(self._places) > MOST:
            await self.mount(Static(Content(f"⋯ {plural(len(self._places) - MOST, 'more picture')}"), markup=False))

    async def add(self, data: bytes) -> None:
        decoded = await asyncio.to_thread(decode, data)
        if self.is_attached:
            self.add_class("-some")
            await self.mount(Picture(decoded, ROWS))


def of_url(url: str) -> bytes | None:
    """What a data: URL holds; None for one of another kind, a broken one, and one beyond `BYTES`."""
    head, _, data = url.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64") or len(data) > BYTES * 4 // 3:
        return None
    try:
        return base64.b64decode(data)
    except binascii.Error:
        return None


def of_message(raw: Object, names: Sequence[str] = ()) -> list[str]:
    """Where the pictures of an input message are. `names` are those of its files, in order."""
    content = raw.get("content")
    parts = [p for p in content if p.get("type") in ("input_image", "input_file")] if isinstance(content, list) else []
    found = []
    for at, part in enumerate(parts):
        name = str(part.get("filename") or (names[at] if at < len(names) else ""))
        if part["type"] == "input_file" and PurePosixPath(name).suffix.lower() not in SUFFIXES:
            continue
        url = str(part.get("image_url") or part.get("file_data") or "")
        if part.get("file_id"):
            found.append(f"{FILE}{part['file_id']}")
        elif url.startswith("data:"):
            found.append(url)
    return found

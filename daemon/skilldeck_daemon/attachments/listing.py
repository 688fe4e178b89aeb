"""The files that messages bring, as the model reads of them: named apart, and previewed within a budget.

Base64 never reaches the prompt: text and documents show the beginning of their text, others only what they are. Every
file is also put into the run's container under its own name, when there is one. The order of items decides names and
what is left of the budget, so a longer history renders its beginning exactly as before. `gather.py` finds the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import quoteattr

from skilldeck_daemon.attachments.url_files import Page
from skilldeck_daemon.store.run_records import Part
from skilldeck_daemon.wire.item_kinds import Item

FILE_CHARS = 4_096
"""Characters of preview for one file."""
REQUEST_CHARS = 32_768
"""Characters of preview for all files of a request."""

NAME_BYTES = 200
"""Of a file's name: file systems take 255, and a number may be added."""

PartId = tuple[str, str, str]
"""What a part of an item is known by: the item's id, its place there, and what it names. Some clients number their
items anew in every request, so that the first two do not suffice."""

_SOURCES = ("file_id", "file_data", "file_url", "image_url")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]+")


@dataclass
class Attachment:
    """One file of the request. `key` is the same for the same content; `path` is set once it lies in a container."""

    key: str
    name: str
    source: Path | bytes
    size: int
    media_type: str
    text: str | None = None  # the beginning, None when it has no text
    path: str = ""
    cut: bool = False  # its text goes on after `text`
    body: Path | bytes | str | None = None  # where all of its text is: in a file, in bytes, or here (a document's)
    encoding: str = "utf-8"  # of a body that is no str
    note: str = ""  # why a document has no text
    document: str = ""  # SHA-256 of a document that is to be converted
    text_path: str = ""  # a document's text in the container

    def block(self, room: int) -> str:
        """What the model sees of it, with at most `room` characters of its text."""
        given = {"path": self.path, "text": self.text_path, "note": self.note}
        more = "".join(f" {name}={quoteattr(value)}" for name, value in given.items() if value)
        head = f'\n\n<file name={quoteattr(self.name)}{more} bytes="{self.size}" type={quoteattr(self.media_type)}'
        if self.text is None:
            return f"{head}/>"
        shown = self.text[: min(room, FILE_CHARS)]
        cut = ' truncated="true"' if self.cut or len(shown) < len(self.text) else ""
        return f"{head}{cut}>\n{shown.removesuffix(chr(10))}\n</file>"


@dataclass
class Attachments:
    """All files of a request's items, in order of first appearance, and its images as data URLs.

    `unsaved` holds what was fetched from URLs, by the id it is stored under (see `url_files.py`).
    """

    files: dict[str, Attachment] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    unsaved: dict[str, Page] = field(default_factory=dict)
    _unshown: set[PartId] = field(default_factory=set)
    _parts: dict[PartId, Attachment] = field(default_factory=dict)

    def of(self, part: PartId) -> Attachment | None:
        """The attachment of an input_file part."""
        return self._parts.get(part)

    def image(self, part: Part) -> str:
        """URL of an input_image part, as the model takes it; empty when the image is gone."""
        source = part.get("file_id") or part.get("image_url") or ""
        return self.images.get(source, source)

    def hide(self, part: PartId) -> None:
        """A note stands in the place of an input_image part: the model reads text only, and it is no new question."""
        self._unshown.add(part)

    def shown(self, part: PartId) -> bool:
        """Whether an input_image part is for the model to see, or to refuse."""
        return part not in self._unshown

    @property
    def cut(self) -> bool:
        """Whether some file has more text than the model is shown."""
        shown = 0
        for attachment in self._parts.values():
            if attachment.body is not None and attachment.text is not None:
                shown += len(attachment.text)
                if attachment.cut or shown > REQUEST_CHARS:
                    return True
        return False

    def remember(self, part: PartId, attachment: Attachment) -> None:
        """The attachment of a part; of two with the same content the first stays, under its name."""
        self._parts[part] = self._add(attachment)

    def _add(self, attachment: Attachment) -> Attachment:
        first = self.files.setdefault(attachment.key, attachment)
        if first is attachment:
            first.name = self._free_name(attachment)
        return first

    def add_texts(self) -> None:
        """Put the text of each document that is not shown whole beside it, for commands (report.pdf.txt)."""
        for document in list(self.files.values()):
            if isinstance(document.body, str) and document.cut and not document.text_path:
                data = document.body.encode()
                beside = Attachment(f"text-{document.key}", f"{document.name}.txt", data, len(data), "text/plain")
                self._add(beside)

    def text_of(self, document: Attachment) -> Attachment | None:
        """The file that `add_texts` put beside a document."""
        return self.files.get(f"text-{document.key}")

    def _free_name(self, attachment: Attachment) -> str:
        taken = {other.name for other in self.files.values() if other is not attachment}
        return free_name(attachment.name, taken)


def parts_of(item: Item) -> Iterator[tuple[PartId, Part]]:
    """The parts of a message's content, or of an output, each with what it is known by."""
    name = "content" if item.get("type", "message") == "message" else "output"
    parts: Any = item.get(name)
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        source = next((part[field] for field in _SOURCES if part.get(field)), "")
        yield (str(item.get("id", "")), f"{name}[{index}]", source), part


def free_name(name: str, taken: set[str]) -> str:
    """`name`, or `name-2.ext`, `name-3.ext` … when it is taken."""
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    number, free = 2, name
    while free in taken:
        free = f"{stem}-{number}{suffix}"
        number += 1
    return free


def safe_name(name: str, fallback: str) -> str:
    """A file name of at most `NAME_BYTES` without folders and control characters; a long one keeps its ending."""
    cleaned = _UNSAFE.sub("_", name.rsplit("/", 1)[-1].rsplit("\\", 1)[-1]).strip()
    if not cleaned or cleaned in (".", ".."):
        return fallback
    if len(cleaned.encode()) <= NAME_BYTES:
        return cleaned
    suffix = PurePosixPath(cleaned).suffix
    suffix = suffix if len(suffix.encode()) <= 20 else ""
    return cleaned.encode()[: NAME_BYTES - len(suffix.encode())].decode(errors="ignore") + suffix

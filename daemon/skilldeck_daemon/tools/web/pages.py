"""Pages as text: fetched through the address guard, converted in the documents' sandbox, never parsed in the daemon.

HTML, PDF and Office documents become Markdown (`attachments/documents.py`); plain text is decoded; of anything
else only the type is returned. Nothing is kept but converted documents, by their content.
"""

from __future__ import annotations

import codecs
import hashlib
import html
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from skilldeck_daemon.attachments import texts
from skilldeck_daemon.attachments.documents import Converted, is_document, is_html
from skilldeck_daemon.attachments.fetch import Fetched, fetch
from skilldeck_shared.errors import SkilldeckError

PAGE_BYTES = 8 * 1024 * 1024
TEXT_CHARS = 2_000_000
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{0,1000})", re.IGNORECASE)


class PageUnreadable(SkilldeckError):
    """There is no text to show, and why."""

    code = "page_unreadable"


@dataclass(frozen=True)
class PageText:
    """A page: the URL it came from after redirects, its title (the URL when it has none), its whole text."""

    url: str
    title: str
    text: str


class Converter(Protocol):
    """What `Documents` offers."""

    async def text(self, sha256: str, source: bytes, *, page: bool) -> Converted:
        """The text of a document."""


class Pages:
    """Reads pages. `exceptions` are the private hosts that may be reached."""

    def __init__(self, documents: Converter, exceptions: Collection[str] = ()) -> None:
        self._documents = documents
        self._exceptions = exceptions

    async def read(self, url: str, permit: Callable[[str], None]) -> PageText:
        """The page at `url`; `permit` is asked about each hop. Raises FetchRefused, PageUnreadable."""
        got = await fetch(url, max_bytes=PAGE_BYTES, exceptions=self._exceptions, permit=permit)
        head = got.content[: texts.SNIFF_BYTES]
        if is_document(got.filename, got.media_type, head):
            return await self._converted(got, head)
        encoding = _known(got.charset) or texts.encoding_of(head, len(got.content) > len(head))
        if encoding is None:
            raise PageUnreadable(f"{got.url} is no text ({got.media_type}).")
        text, _ = texts.read(got.content, encoding, 0, TEXT_CHARS)
        return PageText(got.url, got.url, _plain(text))

    async def _converted(self, got: Fetched, head: bytes) -> PageText:
        content, title = got.content, ""
        if is_html(got.filename, got.media_type, head):
            charset = _known(got.charset)
            if charset is not None and texts.encoding_of(head[:4], True) not in ("utf-8-sig", "utf-16", "utf-32"):
                # What the server says counts before what the page says; a mark of its own says so to the converter.
                content = codecs.BOM_UTF8 + content.decode(charset, "replace").encode("utf-8", "replace")
            found = _TITLE.search(content[:200_000].decode("utf-8", "replace"))
            title = " ".join(html.unescape(found.group(1)).split())[:300] if found else ""
        made = await self._documents.text(hashlib.sha256(content).hexdigest(), content, page=True)
        if made.text is None:
            raise PageUnreadable(f"{got.url} could not be read. {made.note}".strip())
        return PageText(got.url, title or got.url, made.text)


def _known(charset: str | None) -> str | None:
    """The encoding of text that a server named, None when there is no such."""
    try:
        b"a".decode(charset or "")
    except (LookupError, ValueError):
        return None
    return charset


def _plain(text: str) -> str:
    return "".join(char for char in text if char in "\n\t" or char >= " ").encode("utf-8", "replace").decode()

"""Finding the files and images that a request's items name: uploaded, sent along as base64, or behind a URL.

Everything is looked up before a run is acknowledged. What the request itself names and is not there is an error that
names the field; what an earlier turn brought and is gone by now is left out, and the conversation goes on.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import mimetypes
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from skilldeck_daemon.attachments import texts
from skilldeck_daemon.attachments.documents import Documents, is_document, is_html
from skilldeck_daemon.attachments.fetch import FetchRefused
from skilldeck_daemon.attachments.listing import FILE_CHARS, Attachment, Attachments, PartId, parts_of, safe_name
from skilldeck_daemon.attachments.url_files import Fetcher, Page, key_of
from skilldeck_daemon.libraries.files import FileLibrary
from skilldeck_daemon.store import Store
from skilldeck_daemon.store.records import FileRow
from skilldeck_daemon.store.run_records import Part
from skilldeck_daemon.wire.fields import refuse
from skilldeck_daemon.wire.items import Item, decode_file_data
from skilldeck_shared.errors import NotFound

URL_BYTES = 50 * 1024 * 1024
IMAGE_BYTES = 20 * 1024 * 1024
MAX_DOCUMENTS = 50
"""Documents of one request that are converted; the others give metadata."""
PATIENCE_SECONDS = 150.0
"""For the conversions of one request together; they go on for the next one that asks."""
STILL = "The document is still being read; ask again in a while."
TOO_MANY = f"Only the first {MAX_DOCUMENTS} documents of a request are read."

_IMAGES = ((b"\x89PNG\r\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
_MAGIC = (
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    *_IMAGES,
)
_UNKNOWN = ("", "application/octet-stream", "binary/octet-stream")


@dataclass(frozen=True)
class Sources:
    """Where files come from.

    `exceptions`: private hosts that URLs may lead to; `earlier`: see `Fetcher`; `images`: the model reads images (the
    URLs of images are not fetched for one that does not).
    """

    store: Store
    files: FileLibrary
    documents: Documents
    exceptions: Collection[str] = ()
    earlier: Mapping[str, Page] = field(default_factory=dict)
    images: bool = True


@dataclass(frozen=True)
class _Place:
    """One part of an item. `new`: it is the request's own; `asked`: it is in a message of the user's that nothing has
    answered yet."""

    part: Part
    id: PartId
    where: str
    new: bool
    asked: bool


async def gather(items: list[Item], sources: Sources, known: int, paths: Mapping[str, str]) -> Attachments:
    """Look up every file and image of the items.

    Args:
        known: how many of the items are history.
        paths: where each of the request's own items stood in it, by the item's id, for errors.
    Raises:
        NotFound, FetchRefused, BadRequest: about the request's own items, naming the field.
    """
    found = Attachments()
    places = list(_places(items, known, paths))
    fetcher = Fetcher(sources.store, sources.exceptions, sources.earlier)
    try:
        for place in places:
            if place.new and (url := _url_of(place.part, sources)):
                fetcher.begin(url, _limit(place.part), f"{place.where}.{_url_field(place.part)}")
        for place in places:
            if place.part["type"] == "input_image" and not sources.images and not (place.new and place.asked):
                found.hide(place.id)
                continue
            try:
                if place.part["type"] == "input_file":
                    found.remember(place.id, await _attachment(place, sources, fetcher))
                else:
                    await _image(place, sources, fetcher, found)
            except (NotFound, FetchRefused):
                if place.new:
                    raise
                if place.part["type"] == "input_image":
                    found.images[place.part.get("file_id") or place.part.get("image_url") or ""] = ""
    finally:
        await fetcher.close()
    found.unsaved.update(fetcher.pages)
    await _read_documents(found, sources.documents)
    return found


def _places(items: list[Item], known: int, paths: Mapping[str, str]) -> Iterator[_Place]:
    others = [index for index, item in enumerate(items) if item.get("role") not in ("user", "system", "developer")]
    for number, item in enumerate(items):
        asked = item.get("role") == "user" and number > (others[-1] if others else -1)
        path = paths.get(item.get("id", "")) if number >= known else None  # None: of an earlier turn
        for id, part in parts_of(item):
            if part.get("type") in ("input_file", "input_image"):
                yield _Place(part, id, f"{path or 'input'}.{id[1]}", path is not None, asked)


def _url_field(part: Part) -> str:
    return "file_url" if part["type"] == "input_file" else "image_url"


def _url_of(part: Part, sources: Sources) -> str:
    """The URL to fetch, empty when there is none."""
    if part["type"] == "input_image" and not sources.images:
        return ""
    url = (part.get("file_url") if part["type"] == "input_file" else part.get("image_url")) or ""
    return "" if url.startswith("data:") or part.get("file_id") or part.get("file_data") else url


def _limit(part: Part) -> int:
    return URL_BYTES if part["type"] == "input_file" else IMAGE_BYTES


async def _fetched(place: _Place, url: str, fetcher: Fetcher) -> Page:
    key, param = key_of(*place.id[:2], url), f"{place.where}.{_url_field(place.part)}"
    return await fetcher.get(key, url, _limit(place.part), param, new=place.new)


# ------------------------------------------------------------------ files


async def from_file_id(file_id: str, sources: Sources, param: str) -> Attachment:
    """An uploaded file; NotFound naming the field when there is none."""
    path, record = await _stored(file_id, sources, param)
    name = safe_name(record["filename"], "file")
    return await describe(file_id, name, path, record["bytes"], record["mime_type"], record["sha256"])


async def _attachment(place: _Place, sources: Sources, fetcher: Fetcher) -> Attachment:
    part = place.part
    if file_id := part.get("file_id"):
        attachment = await from_file_id(file_id, sources, f"{place.where}.file_id")
        if part.get("filename"):
            attachment.name = safe_name(part["filename"], attachment.name)
        return attachment
    if part.get("file_data"):
        return await asyncio.to_thread(_sent, part, f"{place.where}.file_data")
    page = await _fetched(place, part["file_url"], fetcher)
    digest = await asyncio.to_thread(_digest, page.content)
    name = safe_name(part.get("filename") or page.filename, "file")
    return await describe(digest, name, page.content, page.size, page.media_type, digest)


def _sent(part: Part, param: str) -> Attachment:
    data, media = decode_file_data(part["file_data"], param)
    media = _media(media, part.get("filename") or "", data)
    fallback = "file" + (mimetypes.guess_extension(media) or "")
    name = safe_name(part.get("filename") or fallback, fallback)
    digest = hashlib.sha256(data).hexdigest()
    return _described(digest, name, data, len(data), media, digest)


async def describe(key: str, name: str, source: Path | bytes, size: int, media_type: str, sha256: str) -> Attachment:
    """A file as the model reads of it; the text of a document is not there yet."""
    return await asyncio.to_thread(_described, key, name, source, size, media_type, sha256)


def _described(key: str, name: str, source: Path | bytes, size: int, media: str, sha256: str) -> Attachment:
    head = texts.head_of(source)
    attachment = Attachment(key, name, source, size, _media(media, name, head))
    if is_document(name, attachment.media_type, head):
        attachment.document = sha256
    elif (
        not attachment.media_type.startswith(("image/", "audio/", "video/", "font/")) or "svg" in attachment.media_type
    ):
        _preview(attachment, head)
    return attachment


def _preview(attachment: Attachment, head: bytes) -> None:
    """The beginning of a file that is text."""
    encoding = texts.encoding_of(head, attachment.size > len(head))
    if encoding is not None:
        attachment.encoding, attachment.body = encoding, attachment.source
        attachment.text, attachment.cut = texts.read(attachment.source, encoding, 0, FILE_CHARS)


def _media(given: str, name: str, head: bytes) -> str:
    """The media type: as given, by the name, or by the content."""
    media = given.partition(";")[0].strip().lower()
    if media not in _UNKNOWN:
        return media
    guessed = mimetypes.guess_type(name)[0]
    known = next((type for magic, type in _MAGIC if head.startswith(magic)), None)
    return guessed or known or "application/octet-stream"


def _digest(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _stored(file_id: str, sources: Sources, param: str) -> tuple[Path, FileRow]:
    try:
        await sources.files.get(file_id)
    except NotFound as error:
        raise NotFound(error.title, error.hint, param=param, code=error.code) from None
    record = await sources.store.files.get(file_id)
    if record is None:
        raise NotFound(f"No file {file_id!r}.", param=param)
    return await sources.store.blobs.fetch(record["sha256"]), record


# ------------------------------------------------------------------ documents


async def _read_documents(found: Attachments, documents: Documents) -> None:
    """Convert the documents; what is not read in time says so."""
    waiting = [attachment for attachment in found.files.values() if attachment.document]
    for attachment in waiting[MAX_DOCUMENTS:]:
        attachment.note = TOO_MANY
    waiting = waiting[:MAX_DOCUMENTS]
    if not waiting:
        return
    for attachment in waiting:
        attachment.note = STILL
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(_read_document(attachment, documents) for attachment in waiting))
    except TimeoutError:
        pass


async def _read_document(attachment: Attachment, documents: Documents) -> None:
    converted = await documents.text(attachment.document, attachment.source)
    attachment.note = converted.note
    if converted.text is not None:
        attachment.body = converted.text
        attachment.text, attachment.cut = texts.read(converted.text, "", 0, FILE_CHARS)
        attachment.cut = attachment.cut or converted.cut
        return
    head = await asyncio.to_thread(texts.head_of, attachment.source)
    if is_html(attachment.name, attachment.media_type, head):
        await asyncio.to_thread(_preview, attachment, head)


# ------------------------------------------------------------------ images


async def _image(place: _Place, sources: Sources, fetcher: Fetcher, found: Attachments) -> None:
    part = place.part
    if file_id := part.get("file_id"):
        param = f"{place.where}.file_id"
        path, record = await _stored(file_id, sources, param)
        name = f"File {file_id!r}"
        found.images[file_id] = await _data_url(path, record["bytes"], record["mime_type"], name, param)
    elif url := _url_of(part, sources):
        param = f"{place.where}.image_url"
        page = await _fetched(place, url, fetcher)
        found.images[url] = await _data_url(page.content, page.size, page.media_type, f"What '{param}' leads to", param)


async def _data_url(content: Path | bytes, size: int, media: str, what: str, param: str) -> str:
    media = _media(media, "", await asyncio.to_thread(texts.head_of, content))
    if not media.startswith("image/"):
        refuse(param, f"{what} is {media}, not an image.", "Use input_file.")
    if size > IMAGE_BYTES:
        refuse(param, f"The image has {size} bytes.", f"At most {IMAGE_BYTES} are allowed.")
    return await asyncio.to_thread(_encoded, content, media)


def _encoded(content: Path | bytes, media: str) -> str:
    data = content if isinstance(content, bytes) else content.read_bytes()
    return f"data:{media};base64,{base64.b64encode(data).decode()}"

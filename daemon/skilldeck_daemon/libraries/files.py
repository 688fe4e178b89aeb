"""Uploaded files, and uploads in parts that become files.

Takes and returns the File, Upload and UploadPart objects of the wire. A method that returns has stored its result
durably; content is streamed, never held whole in memory. `sweep` deletes what has expired; an expired file is gone
for readers from its second on, swept or not.
"""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

from skilldeck_daemon.libraries.bus import Bus
from skilldeck_daemon.libraries.records import FileObject, UploadObject, UploadPartObject
from skilldeck_daemon.skills.reader import UploadPart
from skilldeck_daemon.store import Blob, Page, Store, new_id, now
from skilldeck_daemon.store.ids import steady
from skilldeck_daemon.store.records import Deleted, FileRow, PartRow, UploadRow
from skilldeck_daemon.store.tables.files import FETCHED
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_shared.characters import clean
from skilldeck_shared.errors import BadRequest, Conflict, NotFound, TooLarge
from skilldeck_shared.skills.bundle import MIB

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
FILE_BYTES = 512 * MIB
PART_BYTES = 64 * MIB
UPLOAD_BYTES = 8192 * MIB
UPLOAD_SECONDS = 3600
EXPIRY_SECONDS = (3600, 2_592_000)
# As hosted: batch files go after 30 days when nothing else was asked for.
BATCH_SECONDS = 2_592_000
CHUNK = 1 << 20


class FileLibrary:
    """Everything the surfaces do with files."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store = store
        self._bus = bus

    # Files

    async def create(
        self,
        content: bytes | Path | UploadPart | AsyncIterable[bytes],
        *,
        filename: str,
        purpose: str = "user_data",
        expires_seconds: int | None = None,
    ) -> FileObject:
        """Store a file.

        Args:
            content: bytes, a file to copy, a staged part to take, or a stream.
            filename: as the client calls it; directories are cut off.
            purpose: one of `PURPOSES`.
            expires_seconds: life from now on, 3600 to 2,592,000; None keeps it.
        Raises:
            BadRequest: a field is wrong. TooLarge: more than 512 MiB.
        """
        check_purpose(purpose, "purpose")
        name = clean_filename(filename, "file")
        blob = await self._take(content)
        row = _row(name, purpose, blob, expires_seconds, None)
        await self._store.files.add(row)
        return self._published(row)

    async def _take(self, content: bytes | Path | UploadPart | AsyncIterable[bytes]) -> Blob:
        if isinstance(content, UploadPart):
            _check_file_size(content.size)
            sha = content.sha256 or await asyncio.to_thread(content.digest)
            await self._store.blobs.put_staged([(content.path, sha)])
            return Blob(sha, content.size)
        if isinstance(content, bytes):
            _check_file_size(len(content))
            return await self._store.blobs.put(content)
        if isinstance(content, Path):
            _check_file_size(content.stat().st_size)
            return await self._store.blobs.put(content)

        async def limited() -> AsyncIterator[bytes]:
            size = 0
            async for chunk in content:
                size += len(chunk)
                _check_file_size(size)
                yield chunk

        return await self._store.blobs.put(limited())

    async def get(self, file_id: str, param: str = "file_id") -> FileObject:
        """The File. Raises `NotFound` with `param`."""
        return _file(await self._row(file_id, param))

    async def list(
        self, limit: int = 10_000, order: str = "desc", after: str = "", *, purpose: str | None = None
    ) -> Page[FileObject]:
        """One page of Files."""
        if purpose is not None and purpose not in PURPOSES:
            # No file was ever uploaded for it; the hosted service answers an empty list, too.
            return Page()
        page = await self._store.files.list(limit, order, after, purpose)
        at = now()
        return Page([_file(row) for row in page.data if not _expired(row, at)], page.has_more)

    async def path(self, file_id: str, param: str = "file_id") -> Path:
        """Where the content lies; read-only, valid until the file is deleted."""
        return await self._store.blobs.fetch((await self._row(file_id, param))["sha256"])

    async def media_type(self, file_id: str) -> str:
        """The content's media type, by the file's name or as the upload said."""
        return str((await self._row(file_id, "file_id"))["mime_type"])

    async def delete(self, file_id: str) -> Deleted:
        """Delete it. Containers that have a copy keep it."""
        await self._row(file_id, "file_id")
        await self._store.files.delete(file_id)
        self._bus.publish("file", "delete", file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    async def sweep(self) -> int:
        """Delete expired files and close overdue uploads; returns how many files went."""
        at, swept = int(steady()), 0
        for file_id in await self._store.files.expired(at):
            if await self._store.files.delete(file_id):
                self._bus.publish("file", "delete", file_id)
                swept += 1
        for upload_id in await self._store.uploads.overdue(at):
            if await self._store.uploads.settle(upload_id, "expired"):
                await self._store.uploads.drop_parts(upload_id)
        return swept

    async def _row(self, file_id: str, param: str) -> FileRow:
        row = await self._store.files.get(file_id)
        if row is None or row["purpose"] == FETCHED or _expired(row, now()):
            raise NotFound(f"There is no file {str(file_id)[:80]!r}.", "List the files to see their ids.", param=param)
        return row

    def _published(self, row: FileRow) -> FileObject:
        file = _file(row)
        self._bus.publish("file", "put", file["id"], file)
        return file

    # Uploads in parts

    async def create_upload(self, fields: Fields) -> UploadObject:
        """A pending Upload from the body {filename, purpose, bytes, mime_type, expires_after?}."""
        filename = clean_filename(fields.needed("filename", maximum=1024), "filename")
        purpose = fields.needed("purpose", choices=PURPOSES)
        size = fields.integer("bytes", required=True, minimum=0, maximum=UPLOAD_BYTES) or 0
        mime_type = fields.needed("mime_type", maximum=255)
        upload: UploadRow = {
            "id": new_id("upload"),
            "created_at": now(),
            "expires_at": now() + UPLOAD_SECONDS,
            "filename": filename,
            "purpose": purpose,
            "bytes": size,
            "mime_type": _storable_text(mime_type),
            "status": "pending",
            "file_id": None,
            "file_expires_seconds": expiry(fields.object("expires_after")),
        }
        await self._store.uploads.add(upload)
        return _upload(upload, None)

    async def get_upload(self, upload_id: str) -> UploadObject:
        """The Upload, with its File once completed."""
        row = await self._upload_row(upload_id)
        file = await self._store.files.get(row["file_id"]) if row["file_id"] else None
        return _upload(row, file)

    async def add_part(self, upload_id: str, content: UploadPart) -> UploadPartObject:
        """Add a staged part (≤ 64 MiB)."""
        await self._pending(upload_id)
        if content.size > PART_BYTES:
            raise TooLarge(
                f"The part has {content.size:,} bytes; at most {PART_BYTES:,} are allowed.",
                "Send smaller parts.",
                param="data",
            )
        blob = await self._take(content)
        part: PartRow = {
            "id": new_id("part"),
            "upload_id": upload_id,
            "created_at": now(),
            "bytes": blob.size,
            "sha256": blob.sha256,
        }
        if not await self._store.uploads.add_part(part):
            await self._pending(upload_id)
        return {"id": part["id"], "object": "upload.part", "created_at": part["created_at"], "upload_id": upload_id}

    async def complete(self, upload_id: str, part_ids: Ids, md5: str | None = None) -> UploadObject:
        """Join the parts in this order into a File; the upload stays pending when anything is wrong."""
        upload = await self._pending(upload_id)
        parts = {part["id"]: part for part in await self._store.uploads.parts(upload_id)}
        chosen = []
        for index, part_id in enumerate(part_ids):
            if part_id not in parts:
                raise BadRequest(
                    f"The upload has no part {part_id[:80]!r}.",
                    "Send the ids of its parts.",
                    param=f"part_ids[{index}]",
                )
            chosen.append(parts[part_id])
        if len(set(part_ids)) != len(part_ids):
            raise BadRequest("A part is named twice.", "Name every part once, in order.", param="part_ids")
        total = sum(part["bytes"] for part in chosen)
        if total != upload["bytes"]:
            raise BadRequest(
                f"The parts have {total:,} bytes, the upload was created for {upload['bytes']:,}.",
                "Send all parts, or create the upload with the right number of bytes.",
                param="part_ids",
            )
        blob, found = await self._join([part["sha256"] for part in chosen])
        if md5 is not None and md5.lower() != found:
            raise BadRequest(f"The content has the MD5 {found}.", "Send the parts again.", param="md5")
        row = _row(upload["filename"], upload["purpose"], blob, upload["file_expires_seconds"], upload["mime_type"])
        if not await self._store.uploads.complete(upload_id, row):
            await self._pending(upload_id)
        await self._store.uploads.drop_parts(upload_id)
        self._published(row)
        return _upload({**upload, "status": "completed"}, row)

    async def _join(self, hashes: Ids) -> tuple[Blob, str]:
        digest = hashlib.md5(usedforsecurity=False)
        async with self._store.blobs.writer() as writer:
            for sha in hashes:
                with (await self._store.blobs.fetch(sha)).open("rb") as file:
                    while chunk := await asyncio.to_thread(file.read, CHUNK):
                        await asyncio.to_thread(digest.update, chunk)
                        await writer.write(chunk)
            return await writer.commit(), digest.hexdigest()

    async def cancel(self, upload_id: str) -> UploadObject:
        """Give an upload up; its parts go."""
        upload = await self._pending(upload_id)
        if not await self._store.uploads.settle(upload_id, "cancelled"):
            await self._pending(upload_id)
        await self._store.uploads.drop_parts(upload_id)
        return _upload({**upload, "status": "cancelled"}, None)

    async def _upload_row(self, upload_id: str) -> UploadRow:
        row = await self._store.uploads.get(upload_id)
        if row is None:
            raise NotFound(f"There is no upload {str(upload_id)[:80]!r}.", param="upload_id")
        if row["status"] == "pending" and row["expires_at"] <= now():
            row = {**row, "status": "expired"}
        return row

    async def _pending(self, upload_id: str) -> UploadRow:
        row = await self._upload_row(upload_id)
        if row["status"] != "pending":
            raise Conflict(f"The upload is {row['status']}.", "Create a new one.", param="upload_id")
        return row


# Inside the class `list` is a method.
Ids = list[str]


def check_purpose(purpose: str, param: str) -> None:
    """Raises `BadRequest` when it is none of `PURPOSES`."""
    if purpose not in PURPOSES:
        refuse(param, f"'{param}' is {purpose[:64]!r}.", f"Use one of: {', '.join(PURPOSES)}.", "invalid_value")


def expiry(fields: Fields | None) -> int | None:
    """The seconds of an `expires_after` object, None without one."""
    if fields is None:
        return None
    fields.needed("anchor", choices=("created_at",))
    low, high = EXPIRY_SECONDS
    return fields.integer("seconds", required=True, minimum=low, maximum=high)


def clean_filename(filename: str, param: str) -> str:
    """The base name of what a client calls its file; `BadRequest` when nothing of it remains."""
    name = _storable_text(clean(filename).replace("\\", "/").rsplit("/", 1)[-1]).strip()
    if name in ("", ".", ".."):
        refuse(param, "The file has no name.", "Send a file name with it.")
    if len(name.encode()) > 255:
        refuse(param, "The file's name has more than 255 bytes.", "Shorten it.")
    return name


def _storable_text(text: str) -> str:
    """Without control characters: no database takes a NUL, no terminal should see the rest."""
    return "".join(character if character.isprintable() else "_" for character in text)


def _check_file_size(size: int) -> None:
    if size > FILE_BYTES:
        raise TooLarge(
            f"The file is larger than {FILE_BYTES // MIB} MiB.",
            "Send larger files in parts, with /uploads.",
            param="file",
        )


def _row(name: str, purpose: str, blob: Blob, expires_seconds: int | None, mime_type: str | None) -> FileRow:
    at = now()
    seconds = expires_seconds if expires_seconds is not None else BATCH_SECONDS if purpose == "batch" else None
    return {
        "id": new_id("file", "-"),
        "created_at": at,
        "filename": name,
        "purpose": purpose,
        "bytes": blob.size,
        "sha256": blob.sha256,
        "status": "processed",
        "mime_type": mime_type or mimetypes.guess_type(name)[0] or "application/octet-stream",
        "expires_at": None if seconds is None else at + seconds,
    }


def _expired(row: FileRow, at: int) -> bool:
    return row["expires_at"] is not None and row["expires_at"] <= at


def _file(row: FileRow) -> FileObject:
    file: FileObject = {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": row["created_at"],
        "filename": row["filename"],
        # The File object's published enum has no `evals`, though uploads may ask for it; strict clients would raise.
        "purpose": "user_data" if row["purpose"] == "evals" else row["purpose"],
        "status": row["status"],
    }
    # Absent rather than null: the schema knows no null here.
    if row["expires_at"] is not None:
        file["expires_at"] = row["expires_at"]
    return file


def _upload(row: UploadRow, file: FileRow | None) -> UploadObject:
    upload: UploadObject = {
        "object": "upload",
        "id": row["id"],
        "created_at": row["created_at"],
        "expires_at": row["expires_at"],
        "filename": row["filename"],
        "purpose": row["purpose"],
        "bytes": row["bytes"],
        "status": row["status"],
    }
    if file is not None:
        upload["file"] = _file(file)
    return upload

"""Request bodies: forms streamed to disk, and JSON objects, both with limits that hold while reading.

Contract: no body is held in memory beyond a few megabytes (forms) or its limit (JSON); a declared length beyond the
limit is refused before anything is read; what was written lies in the caller's staging folder, which goes with the
request. Parsing and hashing happen in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from skilldeck_daemon.http.body import boundary_of, chunks
from skilldeck_daemon.http.form_names import decode, disposition_names
from skilldeck_daemon.skills.reader import ZIP_MAGIC, UploadPart
from skilldeck_daemon.wire.json_text import parse_json
from skilldeck_shared.errors import BadRequest, SkilldeckError, TooLarge
from skilldeck_shared.json_types import JsonObject
from skilldeck_shared.skills.bundle import MIB

JSON_BYTES = 128 * MIB
FIELD_BYTES = 64 * 1024
BATCH = 2 << 20
# A client that is still sending when it is refused sees a broken pipe instead of the answer; so much is read in vain.
DRAIN_BYTES = 64 * MIB
DRAIN_SECONDS = 10


@dataclass(frozen=True)
class FileField:
    """One file of a form: the field's name and the file in the staging folder."""

    name: str
    part: UploadPart


@dataclass
class Form:
    """A parsed form: text fields (the last of a name wins) and files in order."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[FileField] = field(default_factory=list)


@dataclass(frozen=True)
class FormLimits:
    """What a form may hold.

    Attributes:
        file_fields: whether a field of this name holds a file, even when the client gave no file name.
        file_bytes: of one file.
        total_bytes: of the whole body.
        parts: how many files and fields.
        param: the parameter that errors about files name.
        hash_zips: whether a zip's own SHA-256 is wanted; it costs as much as writing it. Without, `UploadPart.digest`
            computes it when somebody asks.
    """

    file_fields: Callable[[str], bool]
    file_bytes: int
    total_bytes: int
    parts: int
    param: str
    hash_zips: bool = True


async def read_form(request: Request, staging: Path, limits: FormLimits) -> Form:
    """Stream a multipart form to `staging`; a body that begins with a boundary is one, whatever its header says.

    Raises:
        BadRequest: no form, or a malformed one. TooLarge: beyond a limit.
    """
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    try:
        _check_length(request, limits.total_bytes, limits.param)
        if content_type != b"multipart/form-data" or not boundary:
            boundary = await boundary_of(request)
        if content_type != b"multipart/form-data" and not boundary:
            _no_form(content_type, limits.param)
        if not 0 < len(boundary) <= 256:
            raise BadRequest("The form's content type names no boundary.", param=limits.param)
        sink = _Sink(boundary, staging, limits)
        try:
            await _feed(request, sink, limits)
            return await asyncio.to_thread(sink.finish)
        finally:
            sink.close()
    except SkilldeckError:
        await _drain(request)
        raise


def _no_form(content_type: bytes, param: str) -> NoReturn:
    hint = f"Send the content in the form field '{param}'."
    if content_type == b"application/json":
        shape = {"files": 'files=[("skill.zip", data)], a list'}.get(param, f'{param}=("name", data)')
        hint += f" An SDK that sends JSON instead did not see a file in its argument: give it {shape}."
    shown = content_type.decode("latin-1")[:80] or "nothing"
    raise BadRequest(f"The body must be multipart/form-data, not {shown}.", hint, param=param)


async def _feed(request: Request, sink: _Sink, limits: FormLimits) -> None:
    """One piece is parsed, hashed and written in a thread while the next is received."""
    pending, total = bytearray(), 0
    writing: asyncio.Future[None] | None = None
    try:
        async for chunk in chunks(request):
            total += len(chunk)
            if total > limits.total_bytes:
                _too_large(limits.total_bytes, limits.param)
            pending += chunk
            if len(pending) >= BATCH:
                data = bytes(pending)
                pending.clear()
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(asyncio.to_thread(sink.write, data))
        if writing is not None:
            await writing
        await asyncio.to_thread(sink.write, bytes(pending))
    finally:
        if writing is not None:  # a thread that still writes must not meet a closed file
            await asyncio.wait({writing})


async def read_object(request: Request, limit: int = JSON_BYTES) -> JsonObject:
    """The body as a JSON object; an empty body is an empty object.

    Raises:
        BadRequest: what `parse_json` refuses, or no object. TooLarge: beyond `limit`.
    """
    _check_length(request, limit, None)
    data = bytearray()
    async for chunk in chunks(request):
        data += chunk
        if len(data) > limit:
            await _drain(request)
            _too_large(limit, None)
    if not data.strip():
        return {}
    value = await asyncio.to_thread(parse_json, bytes(data)) if len(data) > FIELD_BYTES else parse_json(bytes(data))
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.", "Send {…}.", code="invalid_type")
    return value


def _check_length(request: Request, limit: int, param: str | None) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:18]) > limit:
        _too_large(limit, param)


def _too_large(limit: int, param: str | None) -> NoReturn:
    shown = f"{limit // MIB} MiB" if limit >= MIB else f"{limit:,} bytes"
    raise TooLarge(f"The body is larger than {shown}.", "Send less at once.", param=param)


async def _drain(request: Request) -> None:
    """Read what the client still sends, within reason, so that it lives to read the answer."""
    seen = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in request.stream():
                seen += len(chunk)
                if seen > DRAIN_BYTES:
                    return
    except (TimeoutError, ClientDisconnect, RuntimeError):
        # RuntimeError: the stream had been read to its end.
        return


class _Sink:
    """The parser's callbacks: text fields in memory, files in the staging folder, hashed as they come."""

    def __init__(self, boundary: bytes, staging: Path, limits: FormLimits) -> None:
        self._staging = staging
        self._limits = limits
        self._form = Form()
        self._ended = False
        self._count = 0
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._name = ""
        self._filename: str | None = None
        self._text = bytearray()
        self._file: BinaryIO | None = None
        self._path = staging
        self._size = 0
        self._hash: Any = hashlib.sha256()  # None for a file that is not hashed
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_end": self._end,
            },
        )

    def write(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadRequest(f"The form is malformed: {error}.", param=self._limits.param) from error

    def finish(self) -> Form:
        if not self._ended:
            raise BadRequest("The form ends before its last boundary.", "Send it whole.", param=self._limits.param)
        return self._form

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _part_begin(self) -> None:
        self._count += 1
        if self._count > self._limits.parts:
            raise BadRequest(f"The form has more than {self._limits.parts} parts.", param=self._limits.param)
        self._disposition = b""
        self._text.clear()

    def _header_end(self) -> None:
        if bytes(self._header_name).lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _headers_finished(self) -> None:
        name, self._filename = disposition_names(self._disposition)
        if name is None:
            raise BadRequest("A part of the form has no name.", param=self._limits.param)
        self._name = name
        if self._filename is None and self._limits.file_fields(self._name):
            self._filename = "upload"
        if self._filename is not None:
            self._path = self._staging / f"part-{secrets.token_hex(8)}"
            self._file = self._path.open("xb")
            self._size = 0
            self._hash = hashlib.sha256()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        chunk = memoryview(data)[start:end]
        if self._file is None:
            self._text += chunk
            if len(self._text) > FIELD_BYTES:
                raise TooLarge(f"The form field {self._name[:64]!r} is too long.", param=self._name[:64])
            return
        self._size += len(chunk)
        if self._size > self._limits.file_bytes:
            raise TooLarge(
                f"{(self._filename or '')[:80]!r} is larger than {self._limits.file_bytes // MIB} MiB.",
                "Send smaller files.",
                param=self._limits.param,
            )
        if self._size == len(chunk) and not self._limits.hash_zips and bytes(chunk[:4]) in ZIP_MAGIC:
            self._hash = None
        self._file.write(chunk)
        if self._hash is not None:
            self._hash.update(chunk)

    def _part_end(self) -> None:
        if self._file is None:
            self._form.fields[self._name] = decode(bytes(self._text))
            return
        self.close()
        sha256 = self._hash.hexdigest() if self._hash is not None else ""
        part = UploadPart(self._filename or "", self._path, self._size, sha256)
        self._form.files.append(FileField(self._name, part))

    def _end(self) -> None:
        self._ended = True

"""What the names in a zip say, and what an archive is that is no zip.

A name without the UTF-8 flag is cp437 by the letter of the format, and UTF-8 in what macOS, Info-ZIP and many libraries
write. So a name is, in this order: what its Unicode Path field (0x7075) says where that belongs to the name; UTF-8
where its bytes are; cp437. What a person typed in cp437 is valid UTF-8 only by a rare accident. Backslashes, as some
programs of Windows write them, are slashes.
"""

from __future__ import annotations

import struct
import zlib
from zipfile import ZipInfo

UTF8_FLAG = 0x800
ENCRYPTED_FLAG = 0x1
UNICODE_PATH = 0x7075
KIND_BYTES = 262
"""As many of a file's first bytes say its kind."""

_KINDS = (
    (b"\x1f\x8b", "a gzip file (.tar.gz)"),
    (b"BZh", "a bzip2 file (.tar.bz2)"),
    (b"\xfd7zXZ\x00", "an xz file (.tar.xz)"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file (.tar.zst)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
)


def member_name(info: ZipInfo) -> str:
    """The path a member is meant to have, with slashes. Nothing of it is checked."""
    # `filename` is cut at a NUL; `orig_filename` is what the archive says.
    return _decoded(info).replace("\\", "/")


def _decoded(info: ZipInfo) -> str:
    if info.flag_bits & UTF8_FLAG:
        return info.orig_filename
    try:
        raw = info.orig_filename.encode("cp437")
    except UnicodeEncodeError:  # made by this process, not read
        return info.orig_filename
    name = _unicode_path(info.extra, raw)
    if name is not None:
        return name
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return info.orig_filename


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """The Unicode Path field, when it belongs to this name: a program that renames a member may leave it behind."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        data, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == UNICODE_PATH and len(data) > 5 and data[0] == 1:
            if struct.unpack_from("<L", data, 1)[0] != zlib.crc32(raw):
                return None
            try:
                return data[5:].decode("utf-8")
            except UnicodeDecodeError:
                return None
    return None


def other_archive(start: bytes) -> str:
    """What an archive is that is no zip, known by its first `KIND_BYTES`; empty for anything else."""
    for magic, kind in _KINDS:
        if start.startswith(magic):
            return kind
    return "a tar archive" if start[257:262] == b"ustar" else ""

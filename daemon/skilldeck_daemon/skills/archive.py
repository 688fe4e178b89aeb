"""The zip of a stored version: the same bytes every time (fixed times and modes, sorted names), made as it is sent."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from io import RawIOBase
from pathlib import Path
from typing import Any

from skilldeck_shared.skills.bundle import Entry

EPOCH = (1980, 1, 1, 0, 0, 0)
CHUNK = 1 << 18


class _Sink(RawIOBase):
    """Where zipfile writes; hands over what came since the last look. Not seekable: headers are never rewritten."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def zip_chunks(top: str, entries: list[Entry], path: Callable[[str], Path]) -> Iterator[bytes]:
    """A zip with the files below the folder `top`, deflated.

    Args:
        top: name of the one top folder.
        entries: the files, sorted by path.
        path: where the content with this SHA-256 lies.
    Yields:
        Chunks of bytes. Blocks on disk and CPU: iterate in a thread.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for entry in entries:
            info = zipfile.ZipInfo(f"{top}/{entry.path}", EPOCH)
            info.create_system = 3
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o100755 if entry.executable else 0o100644) << 16
            with archive.open(info, "w") as target, path(entry.sha256).open("rb") as source:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                    yield sink.take()
    yield sink.take()

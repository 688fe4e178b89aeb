"""Uploading a bundle over HTTP, against what no upload can avoid: copying the bytes to the disk and hashing them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Awaitable, Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from skilldeck_daemon.bench import local
from skilldeck_daemon.bench.measure import Measure, interleaved, prepared
from skilldeck_shared.errors import Unavailable

SUITE = "Uploads of 50 MB"
BUNDLE_BYTES = 50_000_000
PARTS = 4
BOUNDARY = "skilldeck-bench"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def bundle(name: str, size: int) -> bytes:
    """A stored (not compressed) zip with SKILL.md and `size` random bytes in a few files."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{name}/SKILL.md", f"---\nname: {name}\ndescription: Bytes to move.\n---\n")
        for part in range(PARTS):
            archive.writestr(f"{name}/assets/{part}.bin", os.urandom(size // PARTS))
    return data.getvalue()


async def measure(model: str, rounds: int) -> list[Measure]:
    """Seconds for one version of a 50 MB skill, and for a file of that size."""
    with local.temporary_home() as home:
        async with local.in_process(home) as (daemon, client):
            address = urlsplit(daemon.services.http_url)
            source, target = Path(home) / "source.zip", Path(home) / "copy.zip"
            data = bundle("mover", BUNDLE_BYTES)
            first = await client.post("/skills", files={"files": ("mover.zip", data, "application/zip")})
            skill = first.raise_for_status().json()["id"]

            def posting(path: str, field: str) -> Callable[[bytes], Awaitable[None]]:
                def post(data: bytes) -> None:
                    # Plain blocking sends in a thread: a client in Python would cost as much as the server.
                    with closing(HTTPConnection(address.hostname or "", address.port, timeout=600)) as connection:
                        connection.request("POST", f"/v1{path}", form(field, data), {"content-type": CONTENT_TYPE})
                        answer = connection.getresponse()
                        if answer.status != 200:
                            raise Unavailable(f"The upload was answered {answer.status}: {answer.read()!r}")

                return lambda data: asyncio.to_thread(post, data)

            async def copy(_data: bytes) -> None:
                shutil.copyfile(source, target)
                with target.open("rb+") as handle:
                    os.fsync(handle.fileno())
                    hashlib.file_digest(handle, "sha256")

            async def fresh() -> bytes:
                """New bytes: content that is there already would not be written again."""
                data = bundle("mover", BUNDLE_BYTES)
                source.write_bytes(data)
                return data

            arms = {
                "version": prepared(fresh, posting(f"/skills/{skill}/versions", "files")),
                "file": prepared(fresh, posting("/files", "file")),
                "copy": prepared(fresh, copy),
            }
            samples = await interleaved(arms, rounds)
    goal = "≤ 2"
    reference = "copy, fsync, SHA-256"
    return [
        Measure(SUITE, "skill version", "s", samples["version"], reference, samples["copy"], goal=goal),
        Measure(SUITE, "file", "s", samples["file"], reference, samples["copy"], goal=goal),
    ]


def form(field: str, data: bytes) -> bytes:
    """A multipart body with `data` as the file of `field`, and the purpose that files need."""
    head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{field}"; filename="mover.zip"\r\n\r\n'
    purpose = f'\r\n--{BOUNDARY}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data'
    return b"".join(
        [head.encode(), data, purpose.encode() if field == "file" else b"", f"\r\n--{BOUNDARY}--\r\n".encode()]
    )

"""Uploading a bundle over HTTP, against what no upload can avoid: copying the bytes to the disk and hashing them."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from skilldeck_daemon.bench import local
from skilldeck_daemon.bench.measure import Measure, interleaved, timed

SUITE = "Uploads of 48 MB"
BUNDLE_BYTES = 48_000_000
PARTS = 4


def bundle(name: str, size: int) -> bytes:
    """A stored (not compressed) zip with SKILL.md and `size` random bytes in a few files."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{name}/SKILL.md", f"---\nname: {name}\ndescription: Bytes to move.\n---\n")
        for part in range(PARTS):
            archive.writestr(f"{name}/assets/{part}.bin", os.urandom(size // PARTS))
    return data.getvalue()


async def measure(model: str, rounds: int) -> list[Measure]:
    """Seconds for one version of a 48 MB skill, and for a file of that size."""
    with local.temporary_home() as home:
        async with local.in_process(home) as (_, client):
            data = bundle("mover", BUNDLE_BYTES)
            source, target = Path(home) / "source.zip", Path(home) / "copy.zip"
            first = await client.post("/skills", files={"files": ("mover.zip", data, "application/zip")})
            first.raise_for_status()
            skill = first.json()["id"]

            async def version() -> None:
                files = {"files": ("mover.zip", data, "application/zip")}
                (await client.post(f"/skills/{skill}/versions", files=files)).raise_for_status()

            async def file() -> None:
                files = {"file": ("mover.zip", data, "application/zip")}
                (await client.post("/files", files=files, data={"purpose": "user_data"})).raise_for_status()

            async def copy() -> None:
                shutil.copyfile(source, target)
                with target.open("rb+") as handle:
                    os.fsync(handle.fileno())
                    hashlib.file_digest(handle, "sha256")

            def fresh(work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[float]]:
                """Before each sample new bytes: content that is there already would not be written again."""

                async def sample() -> float:
                    nonlocal data
                    data = bundle("mover", BUNDLE_BYTES)
                    source.write_bytes(data)
                    return await timed(work)()

                return sample

            arms = {"version": fresh(version), "file": fresh(file), "copy": fresh(copy)}
            samples = await interleaved(arms, rounds)
    goal = "≤ 2"
    reference = "copy, fsync, SHA-256"
    return [
        Measure(SUITE, "skill version", "s", samples["version"], reference, samples["copy"], goal=goal),
        Measure(SUITE, "file", "s", samples["file"], reference, samples["copy"], goal=goal),
    ]

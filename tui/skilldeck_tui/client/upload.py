"""A skill folder on its way to the daemon: scan, check SKILL.md, send as a zip, made on the way, what the
daemon lacks of it.

Nothing is sent of a folder whose SKILL.md is broken. The daemon keeps nothing of an upload that fails half-way (a file
changed, the connection broke). Disk reads happen in threads; the event loop never waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from skilldeck_shared.control import CHUNK
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.proto import control_pb2 as pb
from skilldeck_shared.skills.bundle import BundleError, ChangedWhileReading, Tree, scan, zip_stream
from skilldeck_shared.skills.manifest import Manifest, decode_manifest, parse_manifest
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.types import Progress, UploadedSkill

TRIES = 5
PAUSE_SECONDS = 0.15


@dataclass(frozen=True)
class Scanned:
    """A folder at one moment: its files and its valid manifest."""

    folder: Path
    tree: Tree
    manifest: Manifest


def read_folder(
    folder: Path, previous: Tree | None = None, *, lenient: bool = False, within: Path | None = None
) -> Scanned:
    """Scan `folder` and check its SKILL.md. Blocks on the disk.

    Args:
        lenient: read SKILL.md as other clients do, with warnings (see `parse_manifest`).
        within: links may lead to anything inside this folder.
    Raises:
        BundleError, ManifestError (with line and column) or ChangedWhileReading.
    """
    # What was fetched is what its author published, to the last file.
    tree = scan(folder, previous, within=within, ignoring=within is None)
    return Scanned(folder, tree, read_manifest(folder, tree, lenient=lenient))


def read_manifest(folder: Path, tree: Tree, *, lenient: bool = False) -> Manifest:
    """The valid SKILL.md of a scanned folder; its name is matched without regard to case."""
    found = [entry.path for entry in tree.entries if entry.path.lower() == "skill.md"]
    if not found:
        raise BundleError(
            f"{str(folder)!r} holds no SKILL.md.", "A skill is a folder with a SKILL.md at its top.", param="SKILL.md"
        )
    try:
        data = (folder / found[0]).read_bytes()
    except FileNotFoundError as error:
        raise ChangedWhileReading(f"{found[0]!r} went away while it was read.", "Try again.") from error
    except OSError as error:
        raise BundleError(f"{found[0]!r} cannot be read: {error.strerror}.", "Check its permissions.") from error
    return parse_manifest(decode_manifest(data), folder.resolve().name, lenient=lenient, any_length=True)


def left_out(tree: Tree) -> list[str]:
    """What a person should hear of files that were not taken along."""
    return [
        f"{path} was left out: it may hold secrets. To send it all the same: a line !{path} in .skillignore"
        for path in tree.secrets
    ]


async def send_folder(
    client: Client,
    scanned: Scanned,
    *,
    skill_id: str = "",
    by_name: bool = True,
    make_default: bool = False,
    watched: bool = False,
    source: str = "",
    origin: str = "",
    progress: Progress | None = None,
) -> UploadedSkill:
    """Upload a folder as it was scanned: of its contents those that the daemon lacks.

    Args:
        source: where it comes from, for display; the folder itself when empty.
        origin: "install" when it was fetched from somewhere.
    Raises:
        ChangedWhileReading: it is not as it was scanned any more.
    """
    hashes = {entry.sha256 for entry in scanned.tree.entries}
    missing = await client.missing_blobs(sorted(hashes))
    # A new skill goes as one whole zip: nothing is saved by listing its files.
    only = None if len(missing) == len(hashes) else frozenset(missing)
    archive = await asyncio.to_thread(zip_stream, scanned.folder, scanned.tree, only)
    listed = archive.listing if only is not None else []
    header = pb.UploadSkillHeader(
        skill_id=skill_id,
        by_name=by_name and not skill_id,
        make_default=make_default,
        digest=scanned.tree.digest,
        source=source or str(scanned.folder.resolve()),
        watched=watched,
        size=archive.size,
        files=[pb.SkillFile(path=e.path, sha256=e.sha256, size=e.size, executable=e.executable) for e in listed],
        origin=origin,
    )

    async def chunks() -> AsyncIterator[bytes]:
        done = 0
        iterator = iter(archive)
        while block := await asyncio.to_thread(_take, iterator):
            for start in range(0, len(block), CHUNK):
                yield block[start : start + CHUNK]
            done += len(block)
            if progress is not None:
                progress(done, archive.size)

    try:
        return await client.send_skill(header, chunks())
    except BadRequest as error:
        if error.code == ChangedWhileReading.code:  # found by the daemon: the bytes are not those that were scanned
            raise ChangedWhileReading(error.title, error.hint) from error
        raise


async def upload_folder(
    client: Client,
    folder: Path,
    *,
    skill_id: str = "",
    by_name: bool = True,
    make_default: bool = False,
    watched: bool = False,
    source: str = "",
    origin: str = "",
    within: Path | None = None,
    progress: Progress | None = None,
) -> UploadedSkill:
    """Upload a skill folder: a new version of the skill of its name (or of `skill_id`), or a new skill.

    It is scanned again when files change meanwhile, `TRIES` times at most. Raises the manifest's error (with line and
    column) before anything is sent, and `ChangedWhileReading` when the folder does not come to rest.

    Args:
        within: links may lead to anything inside this folder; without one, inside the skill's own.
    """
    tree: Tree | None = None
    for attempt in range(TRIES):
        try:
            scanned = await asyncio.to_thread(read_folder, folder, tree, lenient=not watched, within=within)
            tree = scanned.tree
            done = await send_folder(
                client,
                scanned,
                skill_id=skill_id,
                by_name=by_name,
                make_default=make_default,
                watched=watched,
                source=source,
                origin=origin,
                progress=progress,
            )
            return replace(done, left_out=tuple(left_out(tree)))
        except ChangedWhileReading:
            if attempt == TRIES - 1:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError("unreachable")


def _take(iterator: Iterator[bytes]) -> bytes:
    """Small pieces together: a zip of many little files is a thousand pieces of a hundred bytes."""
    block = bytearray()
    for piece in iterator:
        block += piece
        if len(block) >= CHUNK:
            break
    return bytes(block)

"""What a run made: listed after it, and brought to a folder with `--save DIR`.

A file is saved below DIR as it lies below `/mnt/data`. Nothing that is there is overwritten: a file whose name is
taken gets a number, unless the one there has the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.paths import expanded
from skilldeck_tui.cited import cited
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.common import everything
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.types import Object

WORKDIR = PurePosixPath("/mnt/data")
NUMBERS = 1000


def folder_to_save(given: Path | None) -> Path | None:
    """The folder of `--save`, made when it is missing. Before the run: its work would be lost after it."""
    if given is None:
        return None
    folder = expanded(given).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadRequest(f"{given} cannot be saved to: {error.strerror}.", "Name a folder.", param="save") from error
    return folder


async def show_made(client: Client, response: Object, folder: Path | None) -> int:
    """List the files that a response cites, and save them when there is a folder. Returns the exit code."""
    notes = cited(response)
    code = out.OK
    for container in dict.fromkeys(str(note["container_id"]) for note in notes):
        files: dict[str, Object] = {}
        with suppress(SkilldeckError):  # deleted or expired meanwhile: named all the same
            files = {str(file["id"]): file for file in await everything(client.container_files, container)}
        for note in notes:
            if note["container_id"] != container:
                continue
            file = files.get(str(note["file_id"]))
            name = str(file["path"]) if file else str(note["filename"])
            below = PurePosixPath(name)
            if below.is_relative_to(WORKDIR):
                below = below.relative_to(WORKDIR)
            shown = out.safe(str(below), sys.stderr)
            if folder is None:
                size = f" · {out.size(int(file['bytes']))}" if file else ""
                out.note(f"made {shown}{size}", "green")
                continue
            try:
                place = await _save(client, container, str(note["file_id"]), below, folder)
                out.note(f"saved {out.safe(str(place), sys.stderr)}", "green")
            except SkilldeckError as error:
                out.note(f"{shown} was not saved: {error.message}", "red")
                code = out.FAILED
            except OSError as error:
                out.note(f"{shown} was not saved: {error.strerror}.", "red")
                code = out.FAILED
    return code


async def _save(client: Client, container: str, file_id: str, below: PurePosixPath, folder: Path) -> Path:
    """Write one file beside its final name, then give it that; returns where it is."""
    if below.is_absolute() or ".." in below.parts:
        raise BadRequest("its path leaves the folder.")
    place = folder.joinpath(*below.parts)
    if not place.parent.resolve().is_relative_to(folder.resolve()):
        raise BadRequest("a link on its way leaves the folder.")
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.parent / f".skilldeck-{os.getpid()}-{file_id}"
    total = hashlib.sha256()
    try:
        with partial.open("xb") as target:
            async with client.read_container_file(container, file_id) as chunks:
                async for chunk in chunks:
                    total.update(chunk)
                    target.write(chunk)
        for candidate in _names(place):
            with suppress(FileExistsError):
                os.link(partial, candidate)
                return candidate
            if candidate.is_file() and _digest(candidate) == total.hexdigest():
                return candidate
        raise BadRequest(f"there are too many files called {place.name!r}.")
    finally:
        partial.unlink(missing_ok=True)


def _names(place: Path) -> Iterator[Path]:
    """report.md, report-2.md, report-3.md …"""
    yield place
    for number in range(2, NUMBERS):
        yield place.with_name(f"{place.stem}-{number}{place.suffix}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

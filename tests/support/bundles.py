"""Makes skill bundles for tests: folders, zips honest and hostile."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from skilldeck_daemon.skills.reader import UploadPart

MANIFEST = "---\nname: {name}\ndescription: {description}\n---\n\n# {name}\n\nRun `scripts/run.sh`.\n"
SCRIPT = b"#!/bin/sh\necho done\n"


def manifest(name: str = "csv-tools", description: str = "Sums the columns of a CSV file.") -> bytes:
    return MANIFEST.format(name=name, description=description).encode()


def skill_files(name: str = "csv-tools", **more: bytes) -> dict[str, bytes]:
    """Relative path → content of a small valid skill."""
    return {"SKILL.md": manifest(name), "scripts/run.sh": SCRIPT, "references/notes.txt": b"notes\n", **more}


def zip_bytes(files: dict[str, bytes], *, top: str | None = "csv-tools", modes: dict[str, int] | None = None) -> bytes:
    """A zip; `modes` gives Unix modes by path (with the top folder left out)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            info = zipfile.ZipInfo(f"{top}/{path}" if top else path, (2026, 1, 2, 3, 4, 6))
            info.create_system = 3
            info.compress_type = zipfile.ZIP_DEFLATED
            # Without a mode, the DOS archive bit, as Windows has it; zipfile would put 0600 in place of a bare zero.
            info.external_attr = (modes or {}).get(path, 0o100644) << 16 or 0x20
            archive.writestr(info, content)
    return buffer.getvalue()


def skill_zip(name: str = "csv-tools", **more: bytes) -> bytes:
    return zip_bytes(skill_files(name, **more), top=name, modes={"scripts/run.sh": 0o100755})


def write_skill(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    """The files as a folder; scripts that begin with #! are executable."""
    for path, content in (files or skill_files()).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        if content.startswith(b"#!"):
            target.chmod(0o755)
    return folder


def part(folder: Path, content: bytes, filename: str = "upload") -> UploadPart:
    """An upload part whose content lies in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{len(list(folder.iterdir()))}"
    path.write_bytes(content)
    return UploadPart(filename, path, len(content))


def raw_zip(members: dict[bytes, bytes], extras: dict[bytes, bytes] | None = None) -> bytes:
    """A zip whose member names are these very bytes, without the UTF-8 flag; `extras` are their extra fields."""
    buffer = io.BytesIO()
    places: dict[bytes, bytes] = {}
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, (name, content) in enumerate(members.items()):
            # zipfile would set the flag: a name of as many ASCII letters stands in, and is replaced in the bytes.
            place = f"{number}".rjust(len(name), "~")
            places[place.encode()] = name
            info = zipfile.ZipInfo(place)
            info.extra = (extras or {}).get(name, b"")
            archive.writestr(info, content)
    data = buffer.getvalue()
    for stand_in, name in places.items():
        assert len(stand_in) == len(name) >= 3
        data = data.replace(stand_in, name)
    return data

"""What the library of skills answers with, and its errors for what is not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from skilldeck_daemon.libraries.records import SkillObject, VersionObject
from skilldeck_daemon.skills.needs import Needs
from skilldeck_daemon.store.records import SkillRow
from skilldeck_shared.errors import NotFound

CHUNK = 1 << 18


@dataclass(frozen=True)
class ResolvedSkill:
    """A skill as a run mounts it. `version` and `skill_id` are "" for an inline skill."""

    name: str
    description: str
    version: str
    skill_id: str
    path: Path
    digest: str
    manifest_path: str
    needs: Needs


@dataclass(frozen=True)
class Uploaded:
    """The answer to `upload`: `unchanged` when the latest version already had this content."""

    skill: SkillObject
    version: VersionObject
    unchanged: bool


@dataclass(frozen=True)
class Content:
    """A download: suggested file name, bytes, and the chunks (to be read once)."""

    filename: str
    size: int
    chunks: AsyncIterator[bytes]


def no_skill(skill_id: object, param: str = "skill_id") -> NotFound:
    return NotFound(f"There is no skill {str(skill_id)[:80]!r}.", "List the skills to see their ids.", param=param)


def no_version(version: object, param: str) -> NotFound:
    hint = 'Name one of its versions by number, or "latest".'
    return NotFound(f"The skill has no version {str(version)[:40]!r}.", hint, param=param)


def version_number(skill: SkillRow, version: object, param: str) -> int:
    """The number meant by "" (default), "latest", an integer or a numeric text. Raises NotFound."""
    if version == "":
        return skill["default_version"]
    if version == "latest":
        return skill["latest_version"]
    if isinstance(version, int) and not isinstance(version, bool):
        return version
    if isinstance(version, str) and version.isascii() and version.isdigit() and len(version) < 10:
        return int(version)
    raise no_version(version, param)


def named_number(skill: SkillRow, version: object, param: str) -> int:
    """The same for changes, which must not fall on the default by an empty field."""
    if version == "":
        raise no_version(version, param)
    return version_number(skill, version, param)


async def read_chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    """What an open file holds; it is closed at the end."""
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk
